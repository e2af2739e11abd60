//! Which signals together are an alert.
//!
//! In: a pair of job and destination whose newest episode ended, or grew large. Out: an [`Alert`], or nothing.
//!
//! *Automated exfiltration* is repetition, automation, outward dominance, regularity, and at least one of source,
//! novelty, volume and disguise. Novelty and disguise alone count only when the transfers carry something (1 KiB on
//! average): a time daemon behind a closed firewall is regular, outward and sometimes new.
//!
//! Answering is not exfiltration: *accepted* flows alert only when sensitive data makes up what was sent, to a peer that is
//! new here or from an executable that hides, at a beat.
//!
//! *Sensitive bulk transfer* is one large outward episode of sensitive data to a destination that is new to the host.
//! While the host is being learnt nothing is new, so this rule is silent: everything would be.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use super::pair::{Episode, FILES, Pair, PairKey, RECENT, same_file};
use super::score::{Signals, techniques};
use super::signal::{asymmetry, automation, cadence, chunking, disguise, novelty, source, volume};
use crate::config;
use crate::model::{Alert, BootTime, Coverage, FileEvidence, Rule, Signal};

/// Average episode, bytes, from which novelty and disguise alone are enough.
const CARRIES: u64 = 1024;

/// Why no alert was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum No {
    /// The evidence is not there.
    Evidence,
    /// It was raised already, less than `realert` ago.
    Fresh,
}

/// What repetition there is, and what is needed.
struct Repetition {
    /// Distinct processes among the recent episodes.
    processes: usize,
    /// A scheduler started each.
    scheduled: bool,
    /// Episodes that are needed.
    needed: u64,
}

/// What a judgement knows beside the pair.
pub(super) struct Bench<'a> {
    pub(super) config: &'a config::Detection,
    pub(super) started: BootTime,
    pub(super) at: BootTime,
    /// Destinations known to the host.
    pub(super) known: usize,
}

impl Bench<'_> {
    /// Judges the pair's recent episodes together.
    pub(super) fn automated(&self, pair: &Pair, accepted: bool) -> Result<(u8, Vec<Signal>), No> {
        let repetition = self.repetition(pair);
        let (tx, rx) = pair.recent.iter().fold((0_u64, 0_u64), |(tx, rx), e| {
            (
                tx.saturating_add(e.moved.app),
                rx.saturating_add(e.moved.rx),
            )
        });
        // Cheap gates first: most pairs end here.
        if pair.begun < repetition.needed || !asymmetry::judge(tx, rx).holds {
            return Err(No::Evidence);
        }
        if self.fresh(pair, Rule::AutomatedExfiltration) {
            return Err(No::Fresh);
        }
        let signals = self.signals(pair, &repetition, (tx, rx));
        if !signals.automation.holds || !signals.regular() {
            return Err(No::Evidence);
        }
        let carries = tx / u64::try_from(pair.recent.len()).unwrap_or(u64::MAX).max(1) >= CARRIES;
        let suspicious = if accepted {
            signals.cadence.holds
                && signals.strong_source()
                && (signals.novelty.holds || signals.disguise.holds)
        } else {
            signals.source.holds
                || signals.volume.holds
                || carries && (signals.novelty.holds || signals.disguise.holds)
        };
        let score = signals.automated();
        if suspicious && score >= self.config.min_score {
            Ok((score, signals.list()))
        } else {
            Err(No::Evidence)
        }
    }

    /// Judges one episode by itself: `episode` ended, or is going on.
    pub(super) fn bulk(
        &self,
        pair: &Pair,
        episode: &Episode,
        accepted: bool,
    ) -> Result<(u8, Vec<Signal>), No> {
        let moved = episode.moved;
        let new = self.novelty(pair).new_to_host();
        if moved.app < self.config.bulk_bytes
            || accepted
            || !new
            || !asymmetry::judge(moved.app, moved.rx).holds
        {
            return Err(No::Evidence);
        }
        if self.fresh(pair, Rule::SensitiveBulkTransfer) {
            return Err(No::Fresh);
        }
        let mut signals = self.signals(pair, &self.repetition(pair), (moved.app, moved.rx));
        signals.source = source::judge(&episode.reading, pair.files.len());
        signals.volume = volume::judge(moved.app, pair.usual);
        let score = signals.bulk();
        if signals.strong_source() && score >= self.config.min_score {
            Ok((score, signals.list()))
        } else {
            Err(No::Evidence)
        }
    }

    fn fresh(&self, pair: &Pair, rule: Rule) -> bool {
        let realert = nanos(self.config.realert);
        let [automated, bulk] = pair.alerted;
        let (last, _) = match rule {
            Rule::AutomatedExfiltration => automated,
            Rule::SensitiveBulkTransfer => bulk,
        };
        last.is_some_and(|last| self.at.saturating_sub(last) < realert)
    }

    fn novelty(&self, pair: &Pair) -> novelty::Input {
        novelty::Input {
            seen: pair.seen,
            at: self.at,
            started: self.started,
            learning: nanos(self.config.learning),
            known: self.known,
        }
    }

    fn repetition(&self, pair: &Pair) -> Repetition {
        let processes = pair
            .recent
            .iter()
            .map(|e| e.process)
            .collect::<BTreeSet<_>>()
            .len();
        let few = self.config.min_episodes_scheduled.max(2);
        // A daemon is under systemd too; what a scheduler starts again and again is a new process each time.
        let scheduled = automation::scheduled(&pair.job.scheduler)
            && u32::try_from(processes).is_ok_and(|processes| processes >= few);
        let needed = if scheduled {
            few
        } else {
            self.config.min_episodes.max(3)
        };
        Repetition {
            processes,
            scheduled,
            needed: needed.into(),
        }
    }

    fn signals(&self, pair: &Pair, repetition: &Repetition, (tx, rx): (u64, u64)) -> Signals {
        // More than are kept cannot be looked at.
        let needed = usize::try_from(repetition.needed)
            .unwrap_or(RECENT)
            .min(RECENT);
        let starts = starts(pair);
        let sizes = pair.recent.iter().map(|e| e.moved.app).collect::<Vec<_>>();
        let cadence = cadence::judge(&cadence::Input {
            starts: &starts,
            needed,
            scheduled: repetition.scheduled,
        });
        let strongest = pair
            .recent
            .iter()
            .map(|e| e.reading)
            .reduce(|best, next| {
                if next.score() >= best.score() {
                    next
                } else {
                    best
                }
            })
            .unwrap_or_default();
        Signals {
            automation: automation::judge(&automation::Input {
                scheduler: &pair.job.scheduler,
                terminal: pair.job.interactive || pair.process.identity.tty.is_some(),
                processes: repetition.processes,
                paced: cadence.holds,
            }),
            cadence,
            chunking: chunking::judge(&sizes, needed),
            asymmetry: asymmetry::judge(tx, rx),
            novelty: novelty::judge(&self.novelty(pair)),
            source: source::judge(&strongest, pair.files.len()),
            volume: volume::judge(sizes.last().copied().unwrap_or_default(), pair.usual),
            disguise: disguise::judge(&pair.process),
        }
    }
}

fn starts(pair: &Pair) -> Vec<BootTime> {
    let mut starts = pair.recent.iter().map(|e| e.start).collect::<Vec<_>>();
    // Episodes follow each other, but a start is as exact as its flow's, and a flow can be told late.
    starts.sort_unstable();
    starts
}

/// Files without a label in an alert, at most: the context of the evidence, not the evidence.
const OTHERS: usize = 8;

/// Makes the alert, and notes that it was raised. `others`: files without a label, for context.
pub(super) fn alert(
    (key, pair): (&PairKey, &mut Pair),
    rule: Rule,
    (score, signals): (u8, Vec<Signal>),
    others: &[FileEvidence],
    (at, coverage): (BootTime, Coverage),
) -> Alert {
    let [automated, bulk] = &mut pair.alerted;
    let (last, times) = match rule {
        Rule::AutomatedExfiltration => automated,
        Rule::SensitiveBulkTransfer => bulk,
    };
    *last = Some(at);
    let id = id(rule, key, pair.first, *times);
    *times = times.saturating_add(1);
    let end = pair
        .open
        .as_ref()
        .map(|open| open.episode.end)
        .max(pair.newest().map(|episode| episode.end));
    let mut files = pair.files.clone();
    files.extend(
        others
            .iter()
            .filter(|other| {
                pair.files
                    .iter()
                    .all(|file| !same_file(&file.file, &other.file))
            })
            .take(OTHERS)
            .cloned(),
    );
    files.truncate(FILES);
    Alert {
        id,
        at,
        rule,
        techniques: match rule {
            Rule::AutomatedExfiltration => techniques(&signals, &pair.destination),
            Rule::SensitiveBulkTransfer => vec!["T1048"],
        },
        score,
        job: pair.job.clone(),
        process: pair.process.clone(),
        destination: pair.destination.clone(),
        signals,
        files,
        episodes: pair.begun,
        period_ns: cadence::period(&starts(pair)),
        app_bytes: pair.moved.app,
        wire_bytes: pair.moved.wire,
        rx_bytes: pair.moved.rx,
        first: pair.first,
        last: end.unwrap_or(at),
        blind: Vec::new(),
        coverage,
    }
}

/// 16 hexadecimal digits of a SHA-256 over rule, pair, first start, and how often it was raised before.
fn id(rule: Rule, key: &PairKey, first: BootTime, times: u32) -> String {
    let rule = match rule {
        Rule::AutomatedExfiltration => "automated",
        Rule::SensitiveBulkTransfer => "bulk",
    };
    short_hash(&format!("{rule} {} {first} {times}", key.text()))
}

/// 16 hexadecimal digits of a SHA-256.
pub(super) fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text);
    let bits = digest
        .iter()
        .take(8)
        .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    format!("{bits:016x}")
}

/// A duration in ns, at most 584 years.
pub(super) fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
