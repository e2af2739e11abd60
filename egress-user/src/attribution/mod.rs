//! Whose bytes these are, and the ledger of all bytes.
//!
//! In: what flows gained ([`FlowDelta`]), who held sockets before us, and [`Lineage`]. Out: [`Flow`]s, each with its
//! process, job and destination or the reason why there is none; and [`Ledger`]s, whose places always add up to
//! their total.
//!
//! Bytes that come without an owner wait up to a second for the claim that usually follows (a SYN leaves before the
//! first send), then they are placed by inference or by reason. Until then the ledger shows them in flight. A place,
//! once told, is final: what becomes known later holds for later bytes.

mod books;
mod names;
mod owners;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use books::Book;
use names::Names;
use owners::Owners;
use scope::Destinations;

use crate::lineage::{Glimpse, Lineage};
use crate::model::{
    Attribution as Quality, BootTime, Event, Flow, FlowDelta, FlowId, KernelTotals, Ledger,
    Observation, Process, ProcessKey, Reason,
};

pub use names::NamesStats;

/// How long bytes wait for their owner, ns of event time: 1 second.
const HOLD_NS: u64 = 1_000_000_000;
/// Flows that wait.
const HELD_MAX: usize = 65_536;
/// How long it is remembered that a flow's owner did not come, ns: 10 minutes.
const ORPHAN_NS: u64 = 600_000_000_000;
/// How often what is old is forgotten, ns of event time: 1 second.
const SWEEP_NS: u64 = 1_000_000_000;

/// Sizes now, and counts since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributionStats {
    /// Flows that wait for their owner.
    pub held: usize,
    /// Placed flows not taken yet (see [`Attribution::next_flow`]).
    pub ready: usize,
    /// Sockets remembered.
    pub sockets: usize,
    /// Listening ports known.
    pub listeners: usize,
    /// Connections closed within the last minute.
    pub closed: usize,
    /// Destinations remembered.
    pub destinations: usize,
    /// Flows placed before their second was over, because the room was needed: their owner may have come later.
    pub released_early: u64,
    /// Sockets forgotten because the room was needed: an inherited one may be told as exact.
    pub evicted_sockets: u64,
    /// Settlements in which more bytes were placed than the kernel side counted. Should be 0.
    pub overbooked: u64,
    /// By how many wire bytes, the last time.
    pub overbooked_wire_bytes: u64,
    /// By how many application bytes, the last time.
    pub overbooked_app_bytes: u64,
    /// Names of destinations.
    pub names: NamesStats,
}

/// Gives bytes their place.
pub struct Attribution {
    destinations: Destinations,
    owners: Owners,
    names: Names,
    held: HashMap<FlowId, FlowDelta>,
    deadlines: VecDeque<(BootTime, FlowId)>,
    /// Flows whose owner did not come in time: they do not wait again.
    orphans: HashMap<FlowId, BootTime>,
    ready: VecDeque<Arc<Flow>>,
    started: Option<BootTime>,
    next_sweep: BootTime,
    wire: Book,
    app: Book,
    stats: AttributionStats,
}

impl Attribution {
    /// With names for networks, and room for so many names of destinations.
    #[must_use]
    pub fn new(networks: &crate::config::Networks, names: usize) -> Self {
        Self {
            destinations: Destinations::new(networks),
            owners: Owners::default(),
            names: Names::new(names),
            held: HashMap::new(),
            deadlines: VecDeque::new(),
            orphans: HashMap::new(),
            ready: VecDeque::new(),
            started: None,
            next_sweep: 0,
            wire: Book::default(),
            app: Book::default(),
            stats: AttributionStats::default(),
        }
    }

    /// Says since when sockets are watched, when that is longer than this has run.
    #[must_use]
    pub fn watching_since(self, attached: BootTime) -> Self {
        Self {
            started: Some(attached),
            ..self
        }
    }

    /// Takes an observation, after `lineage` has taken it. Returns a flow that has its place: usually the one that
    /// was just observed. A flow without an owner waits, and a tick may end the waiting of many: take the others
    /// with [`Self::next_flow`] until there is none.
    pub fn observe(
        &mut self,
        observation: &Observation,
        lineage: &mut Lineage,
    ) -> Option<Arc<Flow>> {
        let at = observation.at;
        self.started.get_or_insert(at);
        match &observation.event {
            Event::SocketOwner(owner) => self.owners.held(owner, at),
            Event::Name(payload) => {
                let owner = self.owners.last(payload.cookie);
                self.names.observe(payload, owner, at, lineage);
            }
            Event::Flow(delta) => self.flow(delta, at, lineage),
            Event::Tick => {
                self.release(at, lineage);
                if at >= self.next_sweep {
                    self.next_sweep = at.saturating_add(SWEEP_NS);
                    self.owners.age(at);
                    self.names.age(at);
                    self.orphans
                        .retain(|_, seen| seen.saturating_add(ORPHAN_NS) > at);
                }
            }
            Event::Fork { .. }
            | Event::Exec(_)
            | Event::Exit { .. }
            | Event::File(_)
            | Event::Blind(_) => {}
        }
        self.next_flow()
    }

    /// The next flow that has its place, in the order in which they got it.
    pub fn next_flow(&mut self) -> Option<Arc<Flow>> {
        self.ready.pop_front()
    }

    /// Ends all waiting, for the end of the run: the flows are then had from [`Self::next_flow`].
    pub fn finish(&mut self, at: BootTime, lineage: &mut Lineage) {
        while !self.deadlines.is_empty() {
            self.release_one(at, lineage);
        }
    }

    /// The ledgers since start, of wire bytes and of application bytes, beside the kernel side's own totals, which
    /// have to be read after the slots. They balance, always. If more was placed than the kernel side counted,
    /// the total is the sum of the places, and [`AttributionStats::overbooked`] says so.
    pub fn settle(&mut self, totals: KernelTotals) -> (Ledger, Ledger) {
        let (wire, wire_excess) = self.wire.settle(
            totals.wire_total,
            &[
                (Reason::NoSocket, totals.wire_no_socket),
                (Reason::NoSlot, totals.wire_no_slot),
                (Reason::NoStorage, totals.wire_no_storage),
            ],
        );
        let (app, app_excess) = self.app.settle(
            totals.app_total,
            &[
                (Reason::NoSlot, totals.app_no_slot),
                (Reason::NoStorage, totals.app_no_storage),
            ],
        );
        if wire_excess > 0 || app_excess > 0 {
            self.stats.overbooked += 1;
            self.stats.overbooked_wire_bytes = wire_excess;
            self.stats.overbooked_app_bytes = app_excess;
        }
        (wire, app)
    }

    /// Sizes and counts.
    #[must_use]
    pub fn stats(&self) -> AttributionStats {
        let (sockets, listeners, closed) = self.owners.len();
        AttributionStats {
            held: self.held.len(),
            ready: self.ready.len(),
            sockets,
            listeners,
            closed,
            destinations: self.destinations.len(),
            evicted_sockets: self.owners.evicted,
            names: self.names.stats(),
            ..self.stats
        }
    }

    fn flow(&mut self, delta: &FlowDelta, at: BootTime, lineage: &mut Lineage) {
        let before = self.held.remove(&delta.id);
        let waits = before.is_some();
        let mut delta = delta.clone();
        if let Some(before) = before {
            join(&mut delta, &before);
        }
        if delta.owner.is_some() || delta.closed.is_some() || self.orphans.contains_key(&delta.id) {
            self.place(delta, at, lineage);
            return;
        }
        if !waits {
            self.deadlines
                .push_back((at.saturating_add(HOLD_NS), delta.id));
        }
        self.held.insert(delta.id, delta);
        while self.held.len() > HELD_MAX {
            self.stats.released_early += u64::from(self.release_one(at, lineage));
        }
    }

    /// Places the flows that have waited long enough.
    fn release(&mut self, at: BootTime, lineage: &mut Lineage) {
        while self
            .deadlines
            .front()
            .is_some_and(|(deadline, _)| *deadline <= at)
        {
            self.release_one(at, lineage);
        }
    }

    /// Takes the first deadline. Returns whether its flow still waited.
    fn release_one(&mut self, at: BootTime, lineage: &mut Lineage) -> bool {
        let held = self
            .deadlines
            .pop_front()
            .and_then(|(_, id)| self.held.remove(&id));
        let Some(delta) = held else {
            return false;
        };
        self.place(delta, at, lineage);
        true
    }

    fn place(&mut self, mut delta: FlowDelta, at: BootTime, lineage: &mut Lineage) {
        delta.direction = self.owners.direction(&delta);
        let (process, attribution) = self.owner(&delta, at, lineage);
        match attribution {
            Quality::None(reason) => {
                self.wire.reason(reason, delta.wire_bytes);
                self.app.reason(reason, delta.app_bytes);
            }
            Quality::Exact | Quality::Inherited | Quality::Inferred => {
                self.wire.attribute(delta.wire_bytes);
                self.app.attribute(delta.app_bytes);
            }
        }
        if let Some(process) = &process
            && delta.closed.is_some()
        {
            self.owners.ended(&delta, process.key, at);
        }
        if delta.owner.is_some() || delta.closed.is_some() {
            self.orphans.remove(&delta.id);
        } else {
            self.orphans.insert(delta.id, at);
        }
        let job = process
            .as_ref()
            .and_then(|process| lineage.job(process.key));
        let destination = delta
            .remote
            .and_then(|remote| self.destinations.of(remote, delta.transport))
            .map(|known| self.names.name(known, &delta, process.as_deref(), at));
        self.ready.push_back(Arc::new(Flow {
            delta,
            process,
            job,
            destination,
            attribution,
        }));
    }

    fn owner(
        &mut self,
        delta: &FlowDelta,
        at: BootTime,
        lineage: &mut Lineage,
    ) -> (Option<Arc<Process>>, Quality) {
        if let Some(glimpse) = Glimpse::of(delta) {
            let process = lineage.process_or(glimpse, at);
            let quality = self.owners.used(delta, process.key, lineage, at);
            return (Some(process), quality);
        }
        if let Some(owner) = self.owners.infer(delta, lineage) {
            let process = known(owner, at, lineage);
            return (Some(process), Quality::Inferred);
        }
        let before = self.owners.was_before(delta.cookie)
            || (self.started.is_some_and(|started| delta.first <= started)
                && is_of_processes(delta));
        let reason = if before {
            Reason::BeforeStart
        } else {
            Reason::Kernel
        };
        (None, Quality::None(reason))
    }
}

/// The process of an inferred owner, whose key may be as `/proc` tells it.
fn known(key: ProcessKey, at: BootTime, lineage: &mut Lineage) -> Arc<Process> {
    if let Some(process) = lineage.process(key) {
        return process.clone();
    }
    lineage.process_or(
        Glimpse {
            key,
            ..Glimpse::default()
        },
        at,
    )
}

/// Whether processes have sockets of this transport. The kernel's own sockets are TCP's as well, but its ICMP, IGMP
/// and neighbour discovery are nobody else's.
fn is_of_processes(delta: &FlowDelta) -> bool {
    // IANA: TCP, UDP, DCCP, SCTP, UDP-Lite; Linux: MPTCP.
    matches!(delta.transport.0, 6 | 17 | 33 | 132 | 136 | 262)
}

/// Adds what waited to what came now.
fn join(now: &mut FlowDelta, before: &FlowDelta) {
    now.first = now.first.min(before.first);
    now.last = now.last.max(before.last);
    now.closed = now.closed.or(before.closed);
    now.local = now.local.or(before.local);
    now.remote = now.remote.or(before.remote);
    if now.netns == 0 {
        now.netns = before.netns;
    }
    for (sum, part) in [
        (&mut now.app_bytes, before.app_bytes),
        (&mut now.app_calls, before.app_calls),
        (&mut now.wire_bytes, before.wire_bytes),
        (&mut now.wire_packets, before.wire_packets),
        (&mut now.rx_bytes, before.rx_bytes),
    ] {
        *sum = sum.saturating_add(part);
    }
}
