//! Slots to flow deltas: what each slot gained since it was last read, and when it can be used again.

use std::collections::{HashMap, VecDeque};
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
use super::mapped::Slots;
use crate::model::{BootTime, Direction, FlowDelta, FlowId, Login, ProcessKey, Text, Transport};

/// A closed slot stays this long: resets are sent after the close, and counted to it.
const LINGER: Duration = Duration::from_secs(1);
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

/// A slot in use.
struct Live {
    id: FlowId,
    cookie: u64,
    first: BootTime,
    active: BootTime,
    owned: bool,
    /// When the socket closed, and whether that was told.
    closed: Option<BootTime>,
    told: bool,
}

/// Reads slots.
pub struct Flows {
    slots: Slots,
    free: Stack<MapData, u32>,
    keys: BpfHashMap<MapData, FlowKey, SlotRef>,
    // The maps behind the mapping: kept open as long as it is.
    _maps: [MapData; 2],
    taken: Vec<Taken>,
    live: HashMap<u32, Live>,
    by_cookie: HashMap<u64, Vec<u32>>,
    /// Retired, and from when on they may be handed out again: a program that found one just before may still add to it.
    retired: VecDeque<(BootTime, u32)>,
    closing: VecDeque<(BootTime, u32)>,
    next_id: u64,
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
            live: HashMap::new(),
            by_cookie: HashMap::new(),
            retired: VecDeque::new(),
            closing: VecDeque::new(),
            next_id: 1,
            next_sweep: 0,
            stuck: 0,
        })
    }

    /// Slots in use.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Reads every slot that changed, takes closed and silent ones back, and hands the deltas to `tell`.
    pub fn drain(&mut self, now: BootTime, mut tell: impl FnMut(FlowDelta)) {
        let mut changed = Vec::new();
        self.slots.drain_changed(|number| changed.push(number));
        for number in changed {
            if let Some(slot) = self.slots.read(number)
                && let Some(delta) = self.take_delta(number, &slot, now)
            {
                tell(delta);
            }
        }
        self.retire_closed(now, &mut tell);
        if now >= self.next_sweep {
            self.next_sweep = now + nanos(SWEEP);
            self.sweep(now);
        }
        while let Some((when, number)) = self.retired.front().copied()
            && when <= now
        {
            self.retired.pop_front();
            if self.free.push(number, 0).is_err() {
                self.stuck += 1;
            }
        }
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

        let live = match self.live.entry(number) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let id = FlowId(self.next_id);
                self.next_id += 1;
                self.by_cookie.entry(slot.cookie).or_default().push(number);
                entry.insert(Live {
                    id,
                    cookie: slot.cookie,
                    first: slot.first_ns,
                    active: now,
                    owned: false,
                    closed: None,
                    told: false,
                })
            }
        };
        live.owned = slot.owned == YES;
        if app_bytes | app_calls | wire_bytes | wire_packets | rx_bytes != 0 {
            live.active = now;
        }
        let just_closed = slot.closed == YES && live.closed.is_none();
        if just_closed {
            live.closed = Some(slot.closed_ns);
            self.closing.push_back((now + nanos(LINGER), number));
        }
        let tells_end = live.closed.is_some() && !live.told;
        live.told |= tells_end;
        let (id, first, closed, cookie) = (live.id, live.first, live.closed, live.cookie);
        if just_closed {
            self.close_others(cookie, number, slot.closed_ns, now);
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
            first,
            last: now,
            closed,
            ..describe(id, slot)
        })
    }

    /// The other slots of a socket that closed end with it; those taken after the close belong to its next life.
    fn close_others(&mut self, cookie: u64, closed: u32, closed_ns: BootTime, now: BootTime) {
        for number in self
            .by_cookie
            .get(&cookie)
            .into_iter()
            .flatten()
            .copied()
            .filter(|number| *number != closed)
        {
            if let Some(live) = self.live.get_mut(&number)
                && live.closed.is_none()
                && live.first <= closed_ns
            {
                live.closed = Some(closed_ns);
                self.closing.push_back((now + nanos(LINGER), number));
            }
        }
    }

    /// Takes back the slots that closed long enough ago, with their last figures.
    fn retire_closed(&mut self, now: BootTime, tell: &mut impl FnMut(FlowDelta)) {
        while let Some((when, number)) = self.closing.front().copied()
            && when <= now
        {
            self.closing.pop_front();
            self.retire(number, now, tell);
        }
    }

    /// Looks for silent slots.
    fn sweep(&mut self, now: BootTime) {
        for (number, live) in &mut self.live {
            let limit = if live.owned { IDLE } else { IDLE_UNOWNED };
            if live.closed.is_none() && now.saturating_sub(live.active) >= nanos(limit) {
                live.closed = Some(live.active);
                self.closing.push_back((now, *number));
            }
        }
    }

    fn retire(&mut self, number: u32, now: BootTime, tell: &mut impl FnMut(FlowDelta)) {
        // First stale, then read: what comes later goes to another slot, or, for a program that is in the middle of an
        // addition, to this slot's next life.
        self.slots.retire(number);
        if let Some(slot) = self.slots.read(number) {
            if let Some(delta) = self.take_delta(number, &slot, now) {
                tell(delta);
            }
            if slot.keyed != KEYED_NO {
                let _ = self.keys.remove(&key(&slot));
            }
        }
        if let Some(live) = self.live.remove(&number)
            && let std::collections::hash_map::Entry::Occupied(mut entry) =
                self.by_cookie.entry(live.cookie)
        {
            entry.get_mut().retain(|other| *other != number);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        self.retired.push_back((now + nanos(LINGER), number));
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
    let known = |id: u32| (id != u32::MAX).then_some(id);
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
        owner_gid: owned.then_some(slot.gid),
        owner_login: owned.then_some(Login {
            uid: known(slot.loginuid),
            session_id: known(slot.session_id),
        }),
        owner_exec: owned.then_some(slot.exec_id),
        cgroup_id: if owned { slot.cgroup_id } else { 0 },
        cgroup_path: Text::default(),
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
