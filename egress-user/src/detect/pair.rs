//! What is kept of one job and one destination.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::signal::{novelty::FirstSeen, source::Reading, volume::Usual};
use crate::model::{
    BootTime, Destination, Direction, FileEvidence, FileRef, Flow, FlowDelta, FlowId, Job, JobId,
    Process, ProcessKey,
};

/// Episodes kept of a pair in full; totals cover all.
pub(super) const RECENT: usize = 64;
/// Sensitive files kept of a pair, and files in an alert.
pub(super) const FILES: usize = 32;
/// Parallel flows whose closing is awaited; with more, an episode ends by silence.
const PARALLEL: usize = 256;
/// A longer name is no name (RFC 1035: 255 bytes).
const NAME: usize = 255;

/// Where to, as a pair sees it: a name outlives the addresses behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Host {
    Name(Box<str>),
    Ip(IpAddr),
}

/// A destination without what changes from one connection to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    host: Host,
    /// 0 for accepted flows: the peer's port is a different one each time.
    port: u16,
    transport: u16,
}

/// A job and a place, and who began.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PairKey {
    pub(super) job: JobId,
    pub(super) place: Place,
    pub(super) accepted: bool,
}

impl PairKey {
    pub(super) fn new(job: &Job, destination: &Destination, direction: Direction) -> Self {
        let accepted = direction == Direction::Accepted;
        Self {
            job: job.id.clone(),
            place: Place {
                // What was seen on the wire is shown, but who sends could choose another name each time, and a name may
                // come only after the first bytes: the address is the identity then.
                host: match &destination.domain {
                    Some(name)
                        if destination.name.is_none() && (1..=NAME).contains(&name.len()) =>
                    {
                        Host::Name(name.to_ascii_lowercase().into())
                    }
                    _ => Host::Ip(destination.ip),
                },
                port: if accepted { 0 } else { destination.port },
                transport: destination.transport.0,
            },
            accepted,
        }
    }

    /// The same text for the same pair, for hashing.
    pub(super) fn text(&self) -> String {
        let host = match &self.place.host {
            Host::Name(name) => name.to_string(),
            Host::Ip(ip) => ip.to_string(),
        };
        let Place {
            port, transport, ..
        } = self.place;
        format!("{} {host} {port} {transport} {}", self.job.0, self.accepted)
    }
}

/// Whether it is the same file: by identity, or by path where the identity is not known.
pub(super) fn same_file(a: &FileRef, b: &FileRef) -> bool {
    a.id == b.id && (a.id.ino != 0 || a.path == b.path)
}

/// Bytes of a flow, an episode or a pair. Sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// Application bytes sent.
    pub(super) app: u64,
    /// Wire bytes sent.
    pub(super) wire: u64,
    /// Application bytes received.
    pub(super) rx: u64,
}

impl Moved {
    pub(super) fn of(delta: &FlowDelta) -> Self {
        Self {
            app: delta.app_bytes,
            wire: delta.wire_bytes,
            rx: delta.rx_bytes,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.app = self.app.saturating_add(other.app);
        self.wire = self.wire.saturating_add(other.wire);
        self.rx = self.rx.saturating_add(other.rx);
    }
}

/// The bytes of one job to one destination until all its flows closed or fell silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Episode {
    /// 1 for the pair's first.
    pub(super) number: u64,
    pub(super) start: BootTime,
    /// Of the last byte or the last close.
    pub(super) end: BootTime,
    pub(super) moved: Moved,
    /// Who moved bytes last.
    pub(super) process: ProcessKey,
    /// What it read, once that was asked.
    pub(super) reading: Reading,
}

/// An episode that is going on.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) episode: Episode,
    /// Flows that have not closed.
    flows: BTreeSet<FlowId>,
    /// More flows than are followed: only silence ends it.
    crowded: bool,
    /// When something last happened, by the drain's clock.
    active: BootTime,
    /// Judged as a bulk transfer already.
    pub(super) bulk_judged: bool,
}

impl Open {
    /// Whether it is over at `at`.
    pub(super) fn over(&self, at: BootTime, idle: u64) -> bool {
        let closed = self.flows.is_empty() && !self.crowded;
        closed || at.saturating_sub(self.active) >= idle
    }
}

/// One job and one destination.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) job: Arc<Job>,
    /// Of the last flow with bytes.
    pub(super) process: Arc<Process>,
    /// Of the last flow with bytes.
    pub(super) destination: Arc<Destination>,
    pub(super) open: Option<Open>,
    /// The last episodes that ended, oldest first.
    pub(super) recent: VecDeque<Episode>,
    /// Episodes begun.
    pub(super) begun: u64,
    /// All bytes, of the open episode too.
    pub(super) moved: Moved,
    /// Start of the first episode.
    pub(super) first: BootTime,
    pub(super) seen: FirstSeen,
    /// Usual sizes when the newest episode ended.
    pub(super) usual: Usual,
    /// Sensitive files read for any of the episodes, the first to be seen.
    pub(super) files: Vec<FileEvidence>,
    /// For each rule: when it last alerted, and how often.
    pub(super) alerted: [(Option<BootTime>, u32); 2],
}

impl Pair {
    pub(super) fn new(job: Arc<Job>, process: Arc<Process>, destination: Arc<Destination>) -> Self {
        Self {
            job,
            process,
            destination,
            open: None,
            recent: VecDeque::new(),
            begun: 0,
            moved: Moved::default(),
            first: 0,
            seen: FirstSeen::default(),
            usual: Usual::default(),
            files: Vec::new(),
            alerted: [(None, 0); 2],
        }
    }

    /// Begins an episode and gives its number.
    pub(super) fn begin(&mut self, start: BootTime, process: ProcessKey) {
        self.begun += 1;
        if self.begun == 1 {
            self.first = start;
        }
        self.first = self.first.min(start);
        self.open = Some(Open {
            episode: Episode {
                number: self.begun,
                start,
                end: start,
                moved: Moved::default(),
                process,
                reading: Reading::default(),
            },
            flows: BTreeSet::new(),
            crowded: false,
            active: start,
            bulk_judged: false,
        });
    }

    /// Adds a flow's bytes to the open episode.
    pub(super) fn add(&mut self, flow: &Flow, process: &Arc<Process>, moved: Moved) {
        let Some(open) = &mut self.open else { return };
        let delta = &flow.delta;
        self.moved.add(moved);
        open.episode.moved.add(moved);
        open.active = open.active.max(delta.last);
        // A drain comes up to an interval after the bytes; a close has its own time.
        let end = delta
            .closed
            .map_or(delta.last, |closed| closed.min(delta.last));
        open.episode.end = open.episode.end.max(end);
        if delta.closed.is_some() {
            open.flows.remove(&delta.id);
        } else if open.flows.len() < PARALLEL {
            open.flows.insert(delta.id);
        } else {
            open.crowded |= !open.flows.contains(&delta.id);
        }
        if moved.app > 0 {
            open.episode.process = process.key;
            self.process = Arc::clone(process);
            if let Some(destination) = &flow.destination {
                self.destination = Arc::clone(destination);
            }
        }
    }

    /// Bytes without application data for an episode that ended: a closing handshake, an answer that came late.
    pub(super) fn add_late(&mut self, number: u64, moved: Moved) {
        self.moved.add(moved);
        if let Some(episode) = self
            .recent
            .iter_mut()
            .find(|episode| episode.number == number)
        {
            episode.moved.add(moved);
        }
    }

    /// Ends the open episode.
    pub(super) fn end(&mut self, usual: Usual) {
        if let Some(Open { episode, .. }) = self.open.take() {
            self.usual = usual;
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(episode);
        }
    }

    /// The episode that ended last.
    pub(super) fn newest(&self) -> Option<&Episode> {
        self.recent.back()
    }

    /// Keeps sensitive files, each once.
    pub(super) fn keep(&mut self, files: impl IntoIterator<Item = FileEvidence>) {
        for file in files {
            if self.files.len() < FILES
                && self
                    .files
                    .iter()
                    .all(|known| !same_file(&known.file, &file.file))
            {
                self.files.push(file);
            }
        }
    }
}
