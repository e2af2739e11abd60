//! The kernel side's counters, summed over processors.

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use egress_common::counters::{self, Counter};
use egress_common::names::MAP_COUNTERS;

use super::SensorError;
use super::rings::Told;
use crate::model::{Events, KernelTotals, LostDetail};

/// Reads them.
pub struct Counters {
    map: PerCpuArray<MapData, Counter>,
}

impl Counters {
    /// Takes the map.
    ///
    /// # Errors
    /// The object has none.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, SensorError> {
        let map = ebpf
            .take_map(MAP_COUNTERS)
            .ok_or(SensorError::Object(MAP_COUNTERS))?;
        Ok(Self {
            map: map
                .try_into()
                .map_err(|_| SensorError::Object(MAP_COUNTERS))?,
        })
    }

    /// One counter since the programs were loaded.
    fn get(&self, index: u32) -> Counter {
        let mut sum = Counter::default();
        // An index below the map's size cannot fail; if it does all the same, zero is visible in the ledger.
        for counter in self
            .map
            .get(&index, 0)
            .iter()
            .flat_map(|values| values.iter())
        {
            sum.bytes += counter.bytes;
            sum.events += counter.events;
        }
        sum
    }

    /// What the ledger needs. To be read after the slots.
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

    /// What became of the events of each kind, beside the records that were `told`.
    #[must_use]
    pub fn events(&self, told: Told) -> Vec<Events> {
        let events = |index: u32| self.get(index).events;
        let of = |kind, seen, told, lost| Events {
            kind,
            seen: events(seen),
            told,
            lost: events(lost),
            ..Events::default()
        };
        let file = of(
            "file",
            counters::FILE_TOTAL,
            told.files,
            counters::LOST_FILE,
        );
        vec![
            of(
                "fork",
                counters::FORK_TOTAL,
                told.forks,
                counters::LOST_FORK,
            ),
            of(
                "exec",
                counters::EXEC_TOTAL,
                told.execs,
                counters::LOST_EXEC,
            ),
            of(
                "exit",
                counters::EXIT_TOTAL,
                told.exits,
                counters::LOST_EXIT,
            ),
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
            ("exec", "truncated", counters::EXEC_TRUNCATED),
            ("file", "truncated", counters::FILE_TRUNCATED),
            ("file", "unreadable", counters::FILE_UNREADABLE),
            ("flow", "table_full", counters::FLOWS_FULL),
            ("flow", "no_destination", counters::SEND_NO_DESTINATION),
            ("packet", "unparsed", counters::WIRE_UNPARSED),
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
