//! The kernel side's counters, summed over processors.

use aya::maps::{MapData, PerCpuArray};
use egress_common::counters::{self, Counter};
use egress_common::names::MAP_COUNTERS;

use super::SensorError;
use super::keep::Maps;
use crate::model::{Counts, Events, KernelTotals, LostDetail};

/// Reads them. What earlier daemons told is taken off.
pub struct Counters {
    map: PerCpuArray<MapData, Counter>,
    /// As last read.
    read: Counts,
    /// What earlier daemons told of these maps.
    told: Counts,
    /// What was counted in the maps before these, and is told by this daemon.
    before: Counts,
}

impl Counters {
    /// Takes the map.
    ///
    /// # Errors
    /// There is none.
    pub fn take(maps: &mut impl Maps) -> Result<Self, SensorError> {
        let map = maps
            .take_map(MAP_COUNTERS)
            .ok_or(SensorError::Object(MAP_COUNTERS))?;
        Ok(Self {
            map: map
                .try_into()
                .map_err(|_| SensorError::Object(MAP_COUNTERS))?,
            read: Counts::default(),
            told: Counts::default(),
            before: Counts::default(),
        })
    }

    /// An earlier daemon told this much by reason, and these wire and application bytes by slot.
    pub fn take_over(&mut self, counters: Counts, wire_bytes: u64, app_bytes: u64) {
        self.told = counters;
        let bytes = |cells: &[u32]| {
            cells
                .iter()
                .map(|cell| at(&counters, *cell).bytes)
                .sum::<u64>()
        };
        let no_slot = bytes(&[
            counters::WIRE_NO_SOCKET,
            counters::WIRE_NO_SLOT,
            counters::WIRE_NO_STORAGE,
        ]);
        // The totals are told by their parts.
        self.tell(counters::WIRE_TOTAL, wire_bytes + no_slot);
        let no_slot = bytes(&[counters::APP_NO_SLOT, counters::APP_NO_STORAGE]);
        self.tell(counters::APP_TOTAL, app_bytes + no_slot);
    }

    fn tell(&mut self, cell: u32, bytes: u64) {
        if let Some(counter) = self.told.get_mut(cell as usize) {
            counter.bytes = bytes;
        }
    }

    /// Goes on from the maps before these, as they were read last.
    pub fn follow(&mut self, before: &Self) {
        for (cell, counter) in (0..).zip(&mut self.before) {
            *counter = before.get(cell);
        }
    }

    /// Reads all. To be called after the slots were read.
    pub fn read(&mut self) {
        for (cell, sum) in (0..).zip(&mut self.read) {
            // An index below the map's size cannot fail; if it does all the same, what it was is visible in the ledger.
            let Ok(values) = self.map.get(&cell, 0) else {
                continue;
            };
            *sum = Counter::default();
            for counter in values.iter() {
                sum.bytes += counter.bytes;
                sum.events += counter.events;
            }
        }
    }

    /// As last read, with all that was ever counted in these maps.
    #[must_use]
    pub fn counted(&self) -> Counts {
        self.read
    }

    /// One counter, as last read, since this daemon's start.
    fn get(&self, cell: u32) -> Counter {
        let (read, told, before) = (
            at(&self.read, cell),
            at(&self.told, cell),
            at(&self.before, cell),
        );
        Counter {
            bytes: before.bytes + read.bytes.saturating_sub(told.bytes),
            events: before.events + read.events.saturating_sub(told.events),
        }
    }

    /// What the ledger needs.
    #[must_use]
    pub fn totals(&self) -> KernelTotals {
        KernelTotals {
            wire_total: self.get(counters::WIRE_TOTAL).bytes,
            wire_no_socket: self.get(counters::WIRE_NO_SOCKET).bytes,
            wire_no_slot: self.get(counters::WIRE_NO_SLOT).bytes,
            wire_no_storage: self.get(counters::WIRE_NO_STORAGE).bytes,
            app_total: self.get(counters::APP_TOTAL).bytes,
            app_no_slot: self.get(counters::APP_NO_SLOT).bytes,
            app_no_storage: self.get(counters::APP_NO_STORAGE).bytes,
        }
    }

    /// What became of the events of each kind since the hooks count, whichever daemon took their records.
    #[must_use]
    pub fn events(&self, [forks, execs, exits, files]: [u64; 4]) -> Vec<Events> {
        let events = |index: u32| at(&self.read, index).events;
        let of = |kind, seen, told, lost| Events {
            kind,
            seen: events(seen),
            told,
            lost: events(lost),
            ..Events::default()
        };
        let file = of("file", counters::FILE_TOTAL, files, counters::LOST_FILE);
        vec![
            of("fork", counters::FORK_TOTAL, forks, counters::LOST_FORK),
            of("exec", counters::EXEC_TOTAL, execs, counters::LOST_EXEC),
            of("exit", counters::EXIT_TOTAL, exits, counters::LOST_EXIT),
            Events {
                repeated: events(counters::FILE_REPEATED),
                filtered: events(counters::FILE_FILTERED),
                lost: file.lost + events(counters::FILE_UNREADABLE),
                ..file
            },
        ]
    }

    /// Detail that the kernel side lost.
    #[must_use]
    pub fn lost(&self) -> Vec<LostDetail> {
        [
            ("fork", "ring_full", counters::LOST_FORK),
            ("exec", "ring_full", counters::LOST_EXEC),
            ("exit", "ring_full", counters::LOST_EXIT),
            ("file", "ring_full", counters::LOST_FILE),
            ("name", "ring_full", counters::LOST_NAME),
            ("name", "truncated", counters::NAME_TRUNCATED),
            ("blind", "ring_full", counters::LOST_BLIND),
            ("exec", "truncated", counters::EXEC_TRUNCATED),
            ("file", "truncated", counters::FILE_TRUNCATED),
            ("file", "unreadable", counters::FILE_UNREADABLE),
            ("flow", "table_full", counters::FLOWS_FULL),
            ("flow", "no_destination", counters::SEND_NO_DESTINATION),
            ("packet", "unparsed", counters::WIRE_UNPARSED),
            ("packet", "unreadable", counters::XMIT_UNREADABLE),
            ("interface", "no_cell", counters::XMIT_NO_CELL),
        ]
        .into_iter()
        .map(|(kind, cause, index)| LostDetail {
            kind,
            cause,
            count: self.get(index).events,
        })
        .collect()
    }
}

fn at(counts: &Counts, cell: u32) -> Counter {
    counts.get(cell as usize).copied().unwrap_or_default()
}
