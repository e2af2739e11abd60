//! Rings to observations.

use std::collections::BTreeMap;

use aya::maps::{MapData, RingBuf};
use egress_common::names::{MAP_FILE_RING, MAP_NAME_RING, MAP_PROCESS_RING};

use super::SensorError;
use super::decode::{self, DecodeError};
use super::keep::Maps;
use super::path_table::PathTable;
use crate::model::{Event, LostDetail, Observation};

/// Paths remembered: more than the kernel side's table of told names has, so that what it takes for known is known.
const PATHS: usize = 32_768;
/// Records taken from one ring in one go: the rest waits for the next, so that a flood costs no more memory than this.
const BATCH: usize = 4096;

/// Drains the rings.
pub struct Rings {
    processes: RingBuf<MapData>,
    files: RingBuf<MapData>,
    names: RingBuf<MapData>,
    paths: PathTable,
    malformed: BTreeMap<(&'static str, &'static str), u64>,
    /// Records that were understood.
    pub told: Told,
}

/// Records that were understood, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Fork records.
    pub forks: u64,
    /// Exec records.
    pub execs: u64,
    /// Exit records.
    pub exits: u64,
    /// File records.
    pub files: u64,
}

impl Told {
    fn count(&mut self, event: &Event) {
        match event {
            Event::Fork { .. } => self.forks += 1,
            Event::Exec(_) => self.execs += 1,
            Event::Exit { .. } => self.exits += 1,
            Event::File(_) => self.files += 1,
            Event::Blind(_)
            | Event::Name(_)
            | Event::SocketOwner(_)
            | Event::Flow(_)
            | Event::Tick => {}
        }
    }
}

impl Rings {
    /// Takes the maps.
    ///
    /// # Errors
    /// The object lacks one.
    pub fn take(maps: &mut impl Maps) -> Result<Self, SensorError> {
        let mut ring = |name| {
            maps.take_map(name)
                .and_then(|map| RingBuf::try_from(map).ok())
                .ok_or(SensorError::Object(name))
        };
        Ok(Self {
            processes: ring(MAP_PROCESS_RING)?,
            files: ring(MAP_FILE_RING)?,
            names: ring(MAP_NAME_RING)?,
            paths: PathTable::new(PATHS),
            malformed: BTreeMap::new(),
            told: Told::default(),
        })
    }

    /// Appends what happened since the last call. Records that make no sense are counted by cause. Whether there is more.
    pub fn drain(&mut self, observations: &mut Vec<Observation>) -> bool {
        let mut malformed = |kind, error: DecodeError| {
            *self.malformed.entry((kind, error.cause())).or_default() += 1;
        };
        let mut taken = [0; 3];
        while taken[0] < BATCH
            && let Some(item) = self.processes.next()
        {
            taken[0] += 1;
            match decode::process_record(&item) {
                Ok(observation) => {
                    self.told.count(&observation.event);
                    observations.push(observation);
                }
                Err(error) => malformed("process", error),
            }
        }
        while taken[1] < BATCH
            && let Some(item) = self.files.next()
        {
            taken[1] += 1;
            match decode::file_record(&item) {
                Ok(mut record) => {
                    self.paths.fill(&mut record.access, record.name_id);
                    let event = Event::File(record.access);
                    self.told.count(&event);
                    observations.push(Observation {
                        at: record.at,
                        event,
                    });
                }
                Err(error) => malformed("file", error),
            }
        }
        while taken[2] < BATCH
            && let Some(item) = self.names.next()
        {
            taken[2] += 1;
            match decode::name_record(&item) {
                Ok(observation) => observations.push(observation),
                Err(error) => malformed("name", error),
            }
        }
        taken.contains(&BATCH)
    }

    /// What could not be understood, and paths that were not known.
    pub fn lost(&self) -> impl Iterator<Item = LostDetail> + '_ {
        let malformed = self
            .malformed
            .iter()
            .map(|((kind, cause), count)| LostDetail {
                kind,
                cause,
                count: *count,
            });
        malformed.chain([
            LostDetail {
                kind: "path",
                cause: "unknown",
                count: self.paths.unknown(),
            },
            LostDetail {
                kind: "path",
                cause: "table_full",
                count: self.paths.evicted(),
            },
        ])
    }
}
