//! Which slots are in use, and which of them belong to one socket.
//!
//! In: slot numbers and cookies. Out: what is remembered of each slot. Slots are handed out from the lowest number up, so a
//! vector that grows with the highest one in use is smaller than any hash table: 40 bytes a slot, and 17 for each socket.
//! All costs are constant: a socket may reach as many destinations as there are slots, and end with all of them at once.

use std::collections::HashMap;

use crate::model::{BootTime, FlowId};

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Never a flow's.
    #[default]
    Unused,
    /// A flow's.
    Live,
    /// No longer a flow's, until the kernel side takes it for another one. A program that found it just before its end may
    /// still add to it.
    Over,
}

/// A slot in use.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// The flow.
    pub id: FlowId,
    /// When it last moved bytes; of a flow that is over, when it began.
    pub active: BootTime,
    /// When its socket closed; `BootTime::MAX` while it is open.
    closed: BootTime,
    /// Neighbours among the slots of the socket, plus one; 0 for none.
    next: u32,
    before: u32,
    state: State,
    /// A process is known.
    pub owned: bool,
    /// The end was told.
    pub told: bool,
}

impl Live {
    const UNUSED: Self = Self {
        id: FlowId(0),
        active: 0,
        closed: BootTime::MAX,
        next: 0,
        before: 0,
        state: State::Unused,
        owned: false,
        told: false,
    };

    /// When the socket closed.
    #[must_use]
    pub fn closed(&self) -> Option<BootTime> {
        (self.closed != BootTime::MAX).then_some(self.closed)
    }

    /// Notes when the socket closed.
    pub fn close(&mut self, at: BootTime) {
        self.closed = at.min(BootTime::MAX - 1);
    }
}

/// All slots that were ever in use.
#[derive(Debug, Default)]
pub struct LiveSlots {
    slots: Vec<Live>,
    /// The first slot of each socket, plus one.
    first: HashMap<u64, u32>,
    live: usize,
}

impl LiveSlots {
    /// Slots of flows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// A slot that changed, which was taken for a socket at `first`: a new flow, which `id` names, unless it is known. Of a flow that is
    /// over it stays over: what came late is still its own.
    pub fn touch(
        &mut self,
        number: u32,
        cookie: u64,
        first: BootTime,
        now: BootTime,
        id: impl FnOnce() -> FlowId,
    ) -> Option<&mut Live> {
        let index = number as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Live::UNUSED);
        }
        let before = *self.slots.get(index)?;
        if before.state == State::Unused || before.state == State::Over && before.active != first {
            let next = self.first.insert(cookie, number + 1).unwrap_or_default();
            if let Some(next) = self.linked(next) {
                next.before = number + 1;
            }
            self.live += 1;
            *self.slots.get_mut(index)? = Live {
                id: id(),
                active: now,
                next,
                state: State::Live,
                ..Live::UNUSED
            };
        }
        self.slots.get_mut(index)
    }

    /// A flow's slot.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Live> {
        let live = self.slots.get_mut(number as usize)?;
        (live.state == State::Live).then_some(live)
    }

    /// The slots of a socket, from the newest on.
    pub fn of_socket(&self, cookie: u64) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.first.get(&cookie).copied().unwrap_or_default();
        std::iter::from_fn(move || {
            let number = next.checked_sub(1)?;
            next = self.slots.get(number as usize)?.next;
            Some(number)
        })
    }

    /// Every flow's slot.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Live)> {
        let live = (0..).zip(&mut self.slots);
        live.filter(|(_, live)| live.state == State::Live)
    }

    /// Ends the flow of a slot, which was taken for a socket at `first`. Whether it had one.
    pub fn retire(&mut self, number: u32, cookie: u64, first: BootTime) -> bool {
        let Some(live) = self.get_mut(number) else {
            return false;
        };
        live.state = State::Over;
        live.active = first;
        let (next, before) = (live.next, live.before);
        if let Some(next) = self.linked(next) {
            next.before = before;
        }
        if let Some(before) = self.linked(before) {
            before.next = next;
        } else if next == 0 {
            self.first.remove(&cookie);
        } else {
            self.first.insert(cookie, next);
        }
        self.live -= 1;
        true
    }

    /// A slot by its number plus one.
    fn linked(&mut self, link: u32) -> Option<&mut Live> {
        self.slots.get_mut(link.checked_sub(1)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::{Live, LiveSlots};
    use crate::model::FlowId;

    #[test]
    fn a_slot_is_small() {
        assert_eq!(size_of::<Live>(), 40);
    }

    #[test]
    fn a_slot_that_is_over_begins_no_flow_until_it_is_taken_again() {
        let mut slots = LiveSlots::default();
        let id = slots.touch(7, 1, 10, 11, || FlowId(1)).expect("a slot").id;
        assert!(slots.retire(7, 1, 10));
        assert!(!slots.retire(7, 1, 10), "twice");
        // A program that found the slot before it was over adds to it: still the old flow's.
        assert_eq!(
            slots.touch(7, 1, 10, 12, || FlowId(2)).expect("a slot").id,
            id
        );
        assert_eq!(slots.len(), 0);
        assert!(slots.get_mut(7).is_none());
        assert_ne!(
            slots.touch(7, 2, 13, 14, || FlowId(3)).expect("a slot").id,
            id
        );
        assert_eq!(slots.of_socket(2).collect::<Vec<_>>(), [7]);
    }

    proptest! {
        /// Against a model: whatever order slots are taken and retired in, each socket has its own.
        #[test]
        fn sockets_have_their_slots(steps in prop::collection::vec((any::<bool>(), 0..20_u32, 0..4_u64), 0..200)) {
            let mut slots = LiveSlots::default();
            let mut model: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            for (at, (takes, number, cookie)) in (1..).zip(steps) {
                if takes {
                    let (cookie, first) = *model.entry(number).or_insert((cookie, at));
                    slots.touch(number, cookie, first, at, || FlowId(at));
                } else {
                    let known = model.remove(&number);
                    let (cookie, first) = known.unwrap_or((cookie, at));
                    prop_assert_eq!(slots.retire(number, cookie, first), known.is_some());
                }
                for cookie in 0..4 {
                    let told: BTreeSet<u32> = slots.of_socket(cookie).collect();
                    let expected: BTreeSet<u32> = model
                        .iter()
                        .filter(|(_, (of, _))| *of == cookie)
                        .map(|(number, _)| *number)
                        .collect();
                    prop_assert_eq!(told, expected);
                }
                prop_assert_eq!(slots.len(), model.len());
                prop_assert_eq!(slots.iter_mut().count(), slots.len());
            }
        }
    }
}
