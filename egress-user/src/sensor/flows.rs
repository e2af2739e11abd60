//! Slots to flow deltas: what each slot gained since it was last read, and when it can be used again.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{HashMap as BpfHashMap, Map, MapData, stack::Stack};
use egress_common::names::{MAP_ACTIVITY, MAP_FLOWS, MAP_FREE_SLOTS, MAP_SLOTS};
use egress_common::slot::{
    ADDRESS_BOTH, ADDRESS_NONE, DIRECTION_ACCEPTED, DIRECTION_INITIATED, DIRECTION_LISTENING,
    FlowKey, KEYED_NO, KEYED_OWNER, Slot, SlotRef, YES,
};

use super::SensorError;
use super::live::LiveSlots;
use super::mapped::Slots;
use crate::model::{BootTime, Direction, FlowDelta, FlowId, ProcessKey, Text, Transport};

/// A closed slot stays this long: resets are sent after the close, and counted to it.
const LINGER: Duration = Duration::from_secs(1);
/// When slots run short, closed ones do not stay, and retired ones rest this long only: no program runs that long.
const REST: Duration = Duration::from_millis(100);
/// A silent slot of a process is taken back after this; its socket gets another when it speaks again.
const IDLE: Duration = Duration::from_mins(10);
/// A silent slot that no process claimed (the kernel's own sockets) is taken back after this.
const IDLE_UNOWNED: Duration = Duration::from_mins(1);
/// How often silent slots are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// What was taken from a slot so far. Never reset: the slot's counters only grow.
#[derive(Clone, Copy, Default)]
struct Taken {
    app_bytes: u64,
    app_calls: u64,
    wire_bytes: u64,
    wire_packets: u64,
    rx_bytes: u64,
}

/// Reads slots.
pub struct Flows {
    slots: Slots,
    free: Stack<MapData, u32>,
    keys: BpfHashMap<MapData, FlowKey, SlotRef>,
    // The maps behind the mapping: kept open as long as it is.
    _maps: [MapData; 2],
    taken: Vec<Taken>,
    live: LiveSlots,
    /// Changed, and not read yet: the next last.
    changed: Vec<u32>,
    /// Retired, and since when; they are handed out again a while later: a program that found one just before may still add to it.
    retired: VecDeque<(BootTime, u32)>,
    closing: VecDeque<(BootTime, u32)>,
    next_sweep: BootTime,
    /// Slots that could not be handed back.
    pub stuck: u64,
}

impl Flows {
    /// Takes the maps and hands all slots out.
    ///
    /// # Errors
    /// The object lacks a map, or mapping it failed.
    pub fn take(ebpf: &mut Ebpf, count: u32) -> Result<Self, SensorError> {
        let array = |ebpf: &mut Ebpf, name: &'static str| match ebpf.take_map(name) {
            Some(Map::Array(data)) => Ok(data),
            _ => Err(SensorError::Object(name)),
        };
        let (slots, activity) = (array(ebpf, MAP_SLOTS)?, array(ebpf, MAP_ACTIVITY)?);
        let mapped =
            Slots::map(slots.fd().as_fd(), activity.fd().as_fd(), count).map_err(|source| {
                SensorError::Map {
                    map: MAP_SLOTS,
                    source,
                }
            })?;
        let free = ebpf
            .take_map(MAP_FREE_SLOTS)
            .ok_or(SensorError::Object(MAP_FREE_SLOTS))?;
        let mut free: Stack<_, u32> = free
            .try_into()
            .map_err(|_| SensorError::Object(MAP_FREE_SLOTS))?;
        let keys = ebpf
            .take_map(MAP_FLOWS)
            .ok_or(SensorError::Object(MAP_FLOWS))?;
        let keys = keys
            .try_into()
            .map_err(|_| SensorError::Object(MAP_FLOWS))?;
        // Highest first, so that the lowest numbers are on top of the stack.
        for number in (0..count).rev() {
            free.push(number, 0)
                .map_err(|error| SensorError::Load(super::load::describe(&error)))?;
        }
        Ok(Self {
            slots: mapped,
            free,
            keys,
            _maps: [slots, activity],
            taken: vec![Taken::default(); count as usize],
            live: LiveSlots::default(),
            changed: Vec::new(),
            retired: VecDeque::new(),
            closing: VecDeque::new(),
            next_sweep: 0,
            stuck: 0,
        })
    }

    /// Slots in use.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Reads the slots that changed, at most `room` of them, takes closed and silent ones back, and hands the deltas to
    /// `tell`. Whether more have changed: they are next.
    pub fn drain(&mut self, now: BootTime, room: usize, mut tell: impl FnMut(FlowDelta)) -> bool {
        if self.changed.is_empty() {
            let changed = &mut self.changed;
            self.slots.drain_changed(|number| changed.push(number));
        }
        let next = self.changed.len().saturating_sub(room);
        for number in self.changed.split_off(next) {
            if let Some(slot) = self.slots.read(number)
                && let Some(delta) = self.take_delta(number, &slot, now)
            {
                tell(delta);
            }
        }
        let short = self.runs_short();
        self.retire_closed(now, short, room, &mut tell);
        if now >= self.next_sweep {
            self.next_sweep = now + nanos(SWEEP);
            self.sweep(now);
        }
        let rest = nanos(if short { REST } else { LINGER });
        while let Some((since, number)) = self.retired.front().copied()
            && now.saturating_sub(since) >= rest
        {
            self.retired.pop_front();
            if self.free.push(number, 0).is_err() {
                self.stuck += 1;
            }
        }
        let due = |(when, _): &(BootTime, u32)| *when <= now || self.runs_short();
        !self.changed.is_empty() || self.closing.front().is_some_and(due)
    }

    /// Whether a quarter of the slots or less is left to hand out.
    fn runs_short(&self) -> bool {
        self.live.len() + self.retired.len() > self.taken.len() / 4 * 3
    }

    /// What the slot gained. `None` when that is nothing, and nothing ended.
    fn take_delta(&mut self, number: u32, slot: &Slot, now: BootTime) -> Option<FlowDelta> {
        let taken = self.taken.get_mut(number as usize)?;
        let (app_bytes, app_calls) = (
            slot.app_bytes - taken.app_bytes.min(slot.app_bytes),
            slot.app_calls - taken.app_calls.min(slot.app_calls),
        );
        let (wire_bytes, wire_packets) = (
            slot.wire_bytes - taken.wire_bytes.min(slot.wire_bytes),
            slot.wire_packets - taken.wire_packets.min(slot.wire_packets),
        );
        let rx_bytes = slot.rx_bytes - taken.rx_bytes.min(slot.rx_bytes);
        *taken = Taken {
            app_bytes: slot.app_bytes,
            app_calls: slot.app_calls,
            wire_bytes: slot.wire_bytes,
            wire_packets: slot.wire_packets,
            rx_bytes: slot.rx_bytes,
        };

        let live = self.live.touch(number, slot.cookie, slot.first_ns, now)?;
        live.owned = slot.owned == YES;
        if app_bytes | app_calls | wire_bytes | wire_packets | rx_bytes != 0 {
            live.active = now;
        }
        let just_closed = slot.closed == YES && live.closed().is_none();
        if just_closed {
            live.close(slot.closed_ns);
            self.closing.push_back((now + nanos(LINGER), number));
        }
        let tells_end = live.closed().is_some() && !live.told;
        live.told |= tells_end;
        let (id, closed) = (live.id, live.closed());
        if just_closed {
            self.close_others(slot.cookie, number, slot.closed_ns, now);
        }
        if app_bytes | app_calls | wire_bytes | wire_packets | rx_bytes == 0 && !tells_end {
            return None;
        }
        Some(FlowDelta {
            app_bytes,
            app_calls,
            wire_bytes,
            wire_packets,
            rx_bytes,
            first: slot.first_ns,
            last: now,
            closed,
            ..describe(id, slot)
        })
    }

    /// The other slots of a socket that closed end with it; those taken after the close belong to its next life.
    fn close_others(&mut self, cookie: u64, closed: u32, closed_ns: BootTime, now: BootTime) {
        let others: Vec<u32> = self
            .live
            .of_socket(cookie)
            .filter(|number| *number != closed)
            .filter(|number| {
                let slot = self.slots.read(*number);
                slot.is_some_and(|slot| slot.first_ns <= closed_ns)
            })
            .collect();
        for number in others {
            if let Some(live) = self.live.get_mut(number)
                && live.closed().is_none()
            {
                live.close(closed_ns);
                self.closing.push_back((now + nanos(LINGER), number));
            }
        }
    }

    /// Takes back the slots that closed long enough ago, at most `room` of them, with their last figures.
    fn retire_closed(
        &mut self,
        now: BootTime,
        short: bool,
        room: usize,
        tell: &mut impl FnMut(FlowDelta),
    ) {
        for _ in 0..room {
            match self.closing.front().copied() {
                Some((when, number)) if when <= now || short => {
                    self.closing.pop_front();
                    self.retire(number, now, tell);
                }
                _ => break,
            }
        }
    }

    /// Looks for silent slots.
    fn sweep(&mut self, now: BootTime) {
        for (number, live) in self.live.iter_mut() {
            let limit = if live.owned { IDLE } else { IDLE_UNOWNED };
            if live.closed().is_none() && now.saturating_sub(live.active) >= nanos(limit) {
                live.close(live.active);
                self.closing.push_back((now, number));
            }
        }
    }

    fn retire(&mut self, number: u32, now: BootTime, tell: &mut impl FnMut(FlowDelta)) {
        // First stale, then read: what comes later goes to another slot, or, for a program that is in the middle of an
        // addition, still to this flow: the slot is handed out again only later.
        self.slots.retire(number);
        let Some(slot) = self.slots.read(number) else {
            return;
        };
        if let Some(delta) = self.take_delta(number, &slot, now) {
            tell(delta);
        }
        if slot.keyed != KEYED_NO {
            let _ = self.keys.remove(&key(&slot));
        }
        if self.live.retire(number, slot.cookie, slot.first_ns) {
            self.retired.push_back((now, number));
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Under which `FLOWS` has the slot.
fn key(slot: &Slot) -> FlowKey {
    let shared = FlowKey {
        cookie: slot.cookie,
        dport: slot.dport,
        daddr: slot.daddr,
        ..FlowKey::default()
    };
    if slot.keyed != KEYED_OWNER {
        return shared;
    }
    FlowKey {
        start_ns: slot.start_ns,
        tgid: slot.tgid,
        uid: slot.uid,
        exec_id: slot.exec_id,
        ..shared
    }
}

/// The parts of a delta that are not figures.
fn describe(id: FlowId, slot: &Slot) -> FlowDelta {
    let owned = slot.owned == YES;
    let comm = slot
        .comm
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let end = |addr: [u8; 16], port: [u8; 2]| {
        SocketAddr::new(
            IpAddr::V6(Ipv6Addr::from(addr)).to_canonical(),
            u16::from_be_bytes(port),
        )
    };
    let listening = slot.direction == DIRECTION_LISTENING;
    let remote =
        (slot.addressed != ADDRESS_NONE && !listening).then(|| end(slot.daddr, slot.dport));
    let local = (slot.addressed == ADDRESS_BOTH || listening).then(|| end(slot.saddr, slot.sport));
    FlowDelta {
        id,
        cookie: slot.cookie,
        owner: owned.then_some(ProcessKey {
            tgid: slot.tgid,
            start_ns: slot.start_ns,
        }),
        owner_name: if owned {
            Text::from(comm)
        } else {
            Text::default()
        },
        owner_uid: owned.then_some(slot.uid),
        owner_exec: owned.then_some(slot.exec_id),
        cgroup_id: if owned { slot.cgroup_id } else { 0 },
        netns: slot.netns,
        local,
        remote,
        transport: Transport(slot.protocol),
        family: slot.family,
        direction: match slot.direction {
            DIRECTION_INITIATED => Direction::Initiated,
            DIRECTION_ACCEPTED => Direction::Accepted,
            DIRECTION_LISTENING => Direction::Listening,
            _ => Direction::Unknown,
        },
        first: 0,
        last: 0,
        closed: None,
        app_bytes: 0,
        app_calls: 0,
        wire_bytes: 0,
        wire_packets: 0,
        rx_bytes: 0,
    }
}
