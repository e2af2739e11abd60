//! Slots to flow deltas: what each slot gained since it was last read, and when it can be used again.
//!
//! What was read is in this process; what was told is in [`Kept`], and outlives it. A slot is used again only when its
//! last figures are told, so that a daemon that takes over knows whose they are.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{HashMap as BpfHashMap, Map, MapData, stack::Stack};
use egress_common::names::{MAP_ACTIVITY, MAP_FLOWS, MAP_FREE_SLOTS, MAP_SLOTS};
use egress_common::slot::{FlowKey, KEYED_NO, Slot, SlotRef, YES};

use self::describe::{describe, key};
use super::SensorError;
use super::keep::{Kept, Maps};
use super::live::LiveSlots;
use super::mapped::Slots;
use crate::model::{BootTime, Figures, FlowDelta, FlowId, Mark};

mod describe;

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

/// How long a slot waits at most until its last figures are told: an outlet that does not move must not use up the slots.
const UNTOLD: Duration = Duration::from_secs(10);

/// Reads slots.
pub struct Flows {
    slots: Slots,
    free: Stack<MapData, u32>,
    keys: BpfHashMap<MapData, FlowKey, SlotRef>,
    // The maps behind the mapping: kept open as long as it is.
    _maps: [MapData; 2],
    /// What was read of each slot. Never reset: the slot's counters only grow.
    read: Vec<Figures>,
    kept: Arc<Kept>,
    /// To be looked at, changed or not: what was there when this daemon took over.
    found: Vec<u32>,
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
    /// Takes the maps, which are new, and hands all slots out.
    ///
    /// # Errors
    /// A map is missing, or mapping it failed.
    pub fn take(maps: &mut impl Maps, count: u32, kept: &Arc<Kept>) -> Result<Self, SensorError> {
        let mut flows = Self::open(maps, count, kept)?;
        // Highest first, so that the lowest numbers are on top of the stack.
        for number in (0..count).rev() {
            flows
                .free
                .push(number, 0)
                .map_err(|error| SensorError::Load(super::load::describe(&error)))?;
        }
        Ok(flows)
    }

    /// Takes the maps of an earlier daemon over, with what it had not told.
    ///
    /// # Errors
    /// A map is missing, or mapping it failed.
    pub fn take_over(
        maps: &mut impl Maps,
        count: u32,
        kept: &Arc<Kept>,
    ) -> Result<Self, SensorError> {
        let mut flows = Self::open(maps, count, kept)?;
        for (number, read) in (0..count).zip(&mut flows.read) {
            *read = kept.figures(number);
        }
        for number in 0..count {
            let Some(slot) = flows.slots.read(number) else {
                continue;
            };
            match kept.retired(number, slot.first_ns) {
                // Never used.
                _ if slot.first_ns == 0 => {}
                // Free, and on the stack.
                Some(true) => {}
                // On its way there.
                Some(false) => {
                    flows.found.push(number);
                    flows.closing.push_back((0, number));
                }
                None => flows.found.push(number),
            }
        }
        Ok(flows)
    }

    fn open(maps: &mut impl Maps, count: u32, kept: &Arc<Kept>) -> Result<Self, SensorError> {
        let mut array = |name: &'static str| match maps.take_map(name) {
            Some(Map::Array(data)) => Ok(data),
            _ => Err(SensorError::Object(name)),
        };
        let (slots, activity) = (array(MAP_SLOTS)?, array(MAP_ACTIVITY)?);
        let mapped =
            Slots::map(slots.fd().as_fd(), activity.fd().as_fd(), count).map_err(|source| {
                SensorError::Map {
                    map: MAP_SLOTS,
                    source,
                }
            })?;
        let free = maps
            .take_map(MAP_FREE_SLOTS)
            .ok_or(SensorError::Object(MAP_FREE_SLOTS))?;
        let free = free
            .try_into()
            .map_err(|_| SensorError::Object(MAP_FREE_SLOTS))?;
        let keys = maps
            .take_map(MAP_FLOWS)
            .ok_or(SensorError::Object(MAP_FLOWS))?;
        let keys = keys
            .try_into()
            .map_err(|_| SensorError::Object(MAP_FLOWS))?;
        Ok(Self {
            slots: mapped,
            free,
            keys,
            _maps: [slots, activity],
            read: vec![Figures::default(); count as usize],
            kept: Arc::clone(kept),
            found: Vec::new(),
            live: LiveSlots::default(),
            changed: Vec::new(),
            retired: VecDeque::new(),
            closing: VecDeque::new(),
            next_sweep: 0,
            stuck: 0,
        })
    }

    /// Wire and application bytes that earlier daemons told of all slots. To be asked before the first drain.
    #[must_use]
    pub fn told(&self) -> (u64, u64) {
        self.read.iter().fold((0, 0), |(wire, app), read| {
            (wire + read.wire_bytes, app + read.app_bytes)
        })
    }

    /// Who uses the slots that were found, as the kernel told it: with exact starts. Without figures.
    #[must_use]
    pub fn owners(&self) -> Vec<FlowDelta> {
        let slots = self
            .found
            .iter()
            .filter_map(|number| self.slots.read(*number));
        slots
            .filter(|slot| slot.owned == YES)
            .map(|slot| describe(FlowId(0), &slot))
            .collect()
    }

    /// Everything that is not told, of all slots, for the last time: no program uses them any more.
    pub fn drain_last(&mut self, now: BootTime, mut tell: impl FnMut(FlowDelta)) {
        for number in 0..u32::try_from(self.read.len()).unwrap_or(u32::MAX) {
            if let Some(slot) = self.slots.read(number)
                && slot.first_ns != 0
                && let Some(delta) = self.take_delta(number, &slot, now)
            {
                tell(delta);
            }
        }
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
            self.changed = std::mem::take(&mut self.found);
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
            let told = self.read.get(number as usize) == Some(&self.kept.figures(number));
            if !told && now < since + rest + nanos(UNTOLD) {
                break;
            }
            self.retired.pop_front();
            self.kept.free(number);
            if self.free.push(number, 0).is_err() {
                self.stuck += 1;
            }
        }
        let due = |(when, _): &(BootTime, u32)| *when <= now || self.runs_short();
        !self.changed.is_empty() || self.closing.front().is_some_and(due)
    }

    /// Whether a quarter of the slots or less is left to hand out.
    fn runs_short(&self) -> bool {
        self.live.len() + self.retired.len() > self.read.len() / 4 * 3
    }

    /// What the slot gained. `None` when that is nothing, and nothing ended.
    fn take_delta(&mut self, number: u32, slot: &Slot, now: BootTime) -> Option<FlowDelta> {
        let read = self.read.get_mut(number as usize)?;
        let figures = Figures {
            app_bytes: slot.app_bytes,
            app_calls: slot.app_calls,
            wire_bytes: slot.wire_bytes,
            wire_packets: slot.wire_packets,
            rx_bytes: slot.rx_bytes,
        };
        let gained = figures.since(*read);
        *read = figures;

        let kept = &self.kept;
        // A flow goes on under its number, also over a restart.
        let name = || {
            let known = kept.flow(number);
            if known != 0 {
                return FlowId(known);
            }
            let next = kept.next_flow();
            kept.set_next_flow(next + 1);
            kept.set_flow(number, next);
            FlowId(next)
        };
        let live = self
            .live
            .touch(number, slot.cookie, slot.first_ns, now, name)?;
        live.owned = slot.owned == YES;
        if gained != Figures::default() {
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
        if gained == Figures::default() && !tells_end {
            return None;
        }
        Some(FlowDelta {
            app_bytes: gained.app_bytes,
            app_calls: gained.app_calls,
            wire_bytes: gained.wire_bytes,
            wire_packets: gained.wire_packets,
            rx_bytes: gained.rx_bytes,
            mark: Mark {
                epoch: self.kept.epoch(),
                slot: number,
                figures,
            },
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
        self.kept.retire(number, slot.first_ns);
        if slot.keyed != KEYED_NO {
            let key = key(&slot);
            // The key may be another slot's by now.
            let own = self.keys.get(&key, 0);
            if own.is_ok_and(|reference| reference.number == number + 1) {
                let _ = self.keys.remove(&key);
            }
        }
        if self.live.retire(number, slot.cookie, slot.first_ns) {
            self.retired.push_back((now, number));
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
