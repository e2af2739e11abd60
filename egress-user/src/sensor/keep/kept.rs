//! State of this host and of its slots, in memory that outlives the daemon.

use std::mem::{offset_of, size_of};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Relaxed, Release};

use aya::maps::{Map, MapData};
use egress_common::ABI_VERSION;
use egress_common::counters::{COUNTERS, Counter};
use egress_common::names::{MAP_JOURNAL, MAP_STATE, MAP_TAKEN};
use egress_common::slot::Taken;
use egress_common::state::{
    HostState, INTENT_COUNTERS, INTENTS, Intent, JOURNAL_PATH_MAX, Journal as Layout, MAGIC,
};

use super::Maps;
use super::cells::{at, get, intent, read_state, set, set_bytes, set_half};
use crate::model::{BootTime, Counts, Figures, Journal, Target, Told};
use crate::sensor::SensorError;
use crate::sensor::mapped::Words;

/// Daemon and slots, as far as they are told.
pub struct Kept {
    state: Words,
    taken: Words,
    journal: Words,
    epoch: u32,
    // The maps behind the mappings: kept open as long as they are.
    _maps: Vec<MapData>,
}

/// What is about to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Intended {
    /// Length of the file with it.
    pub end: u64,
    /// Slot and figures; counters without.
    pub flow: Option<(u32, Figures)>,
}

impl Kept {
    /// Takes the maps, which must be of this ABI and of `slots` slots. `epoch` tells the maps of one upgrade from others.
    ///
    /// # Errors
    /// A map is missing, or mapping it failed.
    pub fn take(maps: &mut impl Maps, slots: u32, epoch: u32) -> Result<Self, SensorError> {
        let mut map = |name: &'static str, length: usize| match maps.take_map(name) {
            Some(Map::Array(data)) => {
                let words = Words::map(data.fd().as_fd(), length);
                words
                    .map(|words| (words, data))
                    .map_err(|source| SensorError::Map { map: name, source })
            }
            _ => Err(SensorError::Object(name)),
        };
        let (state, a) = map(MAP_STATE, size_of::<HostState>())?;
        let (taken, b) = map(MAP_TAKEN, slots as usize * size_of::<Taken>())?;
        let (journal, c) = map(MAP_JOURNAL, size_of::<Layout>())?;
        Ok(Self {
            state,
            taken,
            journal,
            epoch,
            _maps: vec![a, b, c],
        })
    }

    /// As [`Self::take`], in files: for tests, which have no maps.
    #[cfg(test)]
    pub(super) fn in_files(dir: &Path, slots: u32, epoch: u32) -> Self {
        let map = |name: &str, length: usize| {
            let file = std::fs::File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(dir.join(name))
                .unwrap();
            file.set_len(length as u64).unwrap();
            Words::map(file, length).unwrap()
        };
        Self {
            state: map("state", size_of::<HostState>()),
            taken: map("taken", slots as usize * size_of::<Taken>()),
            journal: map("journal", size_of::<Layout>()),
            epoch,
            _maps: Vec::new(),
        }
    }

    /// See [`Mark::epoch`](crate::model::Mark::epoch).
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Says who looks after the maps from now on: this process, whose start and pid namespace `/proc` tells.
    pub fn begin(&self, tgid: u32, start_ns: BootTime, pidns: u32, now: BootTime) {
        set_half(&self.state, offset_of!(HostState, daemon_tgid), tgid);
        set_half(&self.state, offset_of!(HostState, daemon_pidns), pidns);
        set(
            &self.state,
            offset_of!(HostState, daemon_start_ns),
            start_ns,
        );
        self.beat(now);
    }

    /// Everything is attached and pinned: what is here may be taken over.
    pub fn complete(&self, digest: [u8; 32], slots: u32, attached: BootTime) {
        set_half(&self.state, offset_of!(HostState, abi), ABI_VERSION);
        set_half(&self.state, offset_of!(HostState, slots), slots);
        set_bytes(&self.state, offset_of!(HostState, object), &digest);
        set(&self.state, offset_of!(HostState, attached_ns), attached);
        if let Some(word) = self.state.word(offset_of!(HostState, magic)) {
            word.store(MAGIC, Release);
        }
    }

    /// Nothing here is to be taken over.
    pub fn forget(&self) {
        set(&self.state, offset_of!(HostState, magic), 0);
    }

    /// Nobody looks after the maps, on purpose.
    pub fn leave(&self, now: BootTime) {
        self.beat(now);
        set_half(&self.state, offset_of!(HostState, daemon_tgid), 0);
    }

    /// The maps are being read.
    pub fn beat(&self, now: BootTime) {
        set(&self.state, offset_of!(HostState, heartbeat_ns), now);
    }

    /// Number of the next flow.
    #[must_use]
    pub fn next_flow(&self) -> u64 {
        get(&self.state, offset_of!(HostState, next_flow)).max(1)
    }

    /// Sets the number of the next flow.
    pub fn set_next_flow(&self, number: u64) {
        set(&self.state, offset_of!(HostState, next_flow), number);
    }

    /// Records taken from the rings, by kind, as [`HostState::records`] has them.
    #[must_use]
    pub fn records(&self) -> [u64; 4] {
        std::array::from_fn(|kind| get(&self.state, offset_of!(HostState, records) + kind * 8))
    }

    /// One more record of a kind was taken.
    pub fn count_record(&self, kind: usize) {
        let offset = offset_of!(HostState, records) + kind * 8;
        set(&self.state, offset, get(&self.state, offset) + 1);
    }

    /// What is told of a slot.
    #[must_use]
    pub fn figures(&self, slot: u32) -> Figures {
        Figures::of(std::array::from_fn(|field| {
            get(&self.taken, at(slot) + field * 8)
        }))
    }

    /// Which flow the slot is; 0 when user space has not seen it yet.
    #[must_use]
    pub fn flow(&self, slot: u32) -> u64 {
        get(&self.taken, at(slot) + offset_of!(Taken, flow))
    }

    /// Says which flow the slot is.
    pub fn set_flow(&self, slot: u32, flow: u64) {
        set(&self.taken, at(slot) + offset_of!(Taken, flow), flow);
    }

    /// Whether user space took the slot back from the flow that began at `first`, and, if so, whether it handed it out again.
    #[must_use]
    pub fn retired(&self, slot: u32, first: BootTime) -> Option<bool> {
        (get(&self.taken, at(slot) + offset_of!(Taken, retired_ns)) == first)
            .then(|| get(&self.taken, at(slot) + offset_of!(Taken, free)) == 1)
    }

    /// The slot is taken back from the flow that began at `first`.
    pub fn retire(&self, slot: u32, first: BootTime) {
        set(&self.taken, at(slot) + offset_of!(Taken, free), 0);
        set(&self.taken, at(slot) + offset_of!(Taken, retired_ns), first);
    }

    /// The slot is about to be handed out again: noted before it is, since one that is handed out twice is used twice,
    /// and one that is not is only lost.
    pub fn free(&self, slot: u32) {
        self.set_flow(slot, 0);
        set(&self.taken, at(slot) + offset_of!(Taken, free), 1);
    }

    /// The counters, as far as they are told.
    #[must_use]
    pub fn counters(&self) -> Counts {
        self.counts(offset_of!(Layout, told))
    }

    /// The state, for what wants to know it whole.
    #[must_use]
    pub fn state(&self) -> HostState {
        read_state(&self.state)
    }

    /// Path, identity, and where the last write began; `None` when nothing was written to a file.
    pub(super) fn target(&self) -> Option<(Option<PathBuf>, (u64, u64), u64)> {
        let id = (
            get(&self.journal, offset_of!(Layout, dev)),
            get(&self.journal, offset_of!(Layout, ino)),
        );
        if id.1 == 0 {
            return None;
        }
        let length = get(&self.journal, offset_of!(Layout, path_len));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let path = (1..=JOURNAL_PATH_MAX).contains(&length).then(|| {
            let words = length.div_ceil(8);
            let bytes = (0..words).flat_map(|word| {
                get(&self.journal, offset_of!(Layout, path) + word * 8).to_ne_bytes()
            });
            let bytes: Vec<u8> = bytes.take(length).collect();
            Path::new(std::ffi::OsStr::from_bytes(&bytes)).to_path_buf()
        });
        Some((path, id, get(&self.journal, offset_of!(Layout, from))))
    }

    /// What was about to be written when the daemon ended.
    pub(super) fn intended(&self) -> Vec<Intended> {
        let count = get(&self.journal, offset_of!(Layout, count)).min(INTENTS as u64);
        (0..usize::try_from(count).unwrap_or(0))
            .map(|number| {
                let base = intent(number);
                let figures = std::array::from_fn(|field| {
                    get(
                        &self.journal,
                        base + offset_of!(Intent, figures) + field * 8,
                    )
                });
                let slot = get(&self.journal, base + offset_of!(Intent, slot));
                Intended {
                    end: get(&self.journal, base + offset_of!(Intent, end)),
                    flow: u32::try_from(slot)
                        .ok()
                        .map(|slot| (slot, Figures::of(figures))),
                }
            })
            .collect()
    }

    /// What was intended is written.
    pub(super) fn confirm(&self, intended: &Intended) {
        match intended.flow {
            Some((slot, figures)) => self.raise(slot, figures),
            None => self.raise_counters(&self.counts(offset_of!(Layout, next))),
        }
    }

    /// Figures only grow; whoever notes later may know less.
    fn raise(&self, slot: u32, figures: Figures) {
        for (field, figure) in figures.array().into_iter().enumerate() {
            if let Some(word) = self.taken.word(at(slot) + field * 8) {
                word.fetch_max(figure, Relaxed);
            }
        }
    }

    fn raise_counters(&self, counts: &Counts) {
        for (number, counter) in counts.iter().enumerate() {
            let offset = offset_of!(Layout, told) + number * size_of::<Counter>();
            for (field, value) in [counter.bytes, counter.events].into_iter().enumerate() {
                if let Some(word) = self.journal.word(offset + field * 8) {
                    word.fetch_max(value, Relaxed);
                }
            }
        }
    }

    fn counts(&self, offset: usize) -> Counts {
        let cell = |number: usize| offset + number * size_of::<Counter>();
        let mut counts = [Counter::default(); COUNTERS as usize];
        for (number, counter) in counts.iter_mut().enumerate() {
            *counter = Counter {
                bytes: get(&self.journal, cell(number)),
                events: get(&self.journal, cell(number) + 8),
            };
        }
        counts
    }
}

impl Journal for Kept {
    fn intend(&self, target: Target<'_>, lines: &mut dyn Iterator<Item = (u64, &Told)>) {
        let journal = &self.journal;
        set(journal, offset_of!(Layout, count), 0);
        let same = self.target().is_some_and(|(_, id, _)| id == target.id);
        if !same {
            // Without an identity until the path is whole.
            set(journal, offset_of!(Layout, ino), 0);
            let path = target.path.as_os_str().as_bytes();
            let length = if path.len() <= JOURNAL_PATH_MAX {
                set_bytes(journal, offset_of!(Layout, path), path);
                path.len()
            } else {
                0
            };
            set(journal, offset_of!(Layout, path_len), length as u64);
            set(journal, offset_of!(Layout, dev), target.id.0);
        }
        set(journal, offset_of!(Layout, from), target.from);
        set(journal, offset_of!(Layout, ino), target.id.1);
        let mut count = 0;
        for (end, told) in lines.take(INTENTS) {
            let (slot, figures) = match told {
                Told::Flow(mark) if mark.epoch == self.epoch => {
                    (mark.slot.into(), mark.figures.array())
                }
                Told::Counters(epoch, counts) if *epoch == self.epoch => {
                    for (number, counter) in counts.iter().enumerate() {
                        let cell = offset_of!(Layout, next) + number * size_of::<Counter>();
                        set(journal, cell, counter.bytes);
                        set(journal, cell + 8, counter.events);
                    }
                    (INTENT_COUNTERS, [0; 5])
                }
                // Of maps that are gone.
                Told::Flow(_) | Told::Counters(..) => continue,
            };
            let base = intent(count);
            set(journal, base + offset_of!(Intent, end), end);
            set(journal, base + offset_of!(Intent, slot), slot);
            for (field, figure) in figures.into_iter().enumerate() {
                set(
                    journal,
                    base + offset_of!(Intent, figures) + field * 8,
                    figure,
                );
            }
            count += 1;
        }
        if let Some(word) = journal.word(offset_of!(Layout, count)) {
            word.store(count as u64, Release);
        }
    }

    fn told(&self, what: &Told) {
        match what {
            Told::Flow(mark) if mark.epoch == self.epoch => self.raise(mark.slot, mark.figures),
            Told::Counters(epoch, counts) if *epoch == self.epoch => self.raise_counters(counts),
            Told::Flow(_) | Told::Counters(..) => {}
        }
    }

    fn done(&self) {
        if let Some(word) = self.journal.word(offset_of!(Layout, count)) {
            word.store(0, Release);
        }
    }
}
