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
/// Records taken from one ring in one go: the rest waits for the next, so that a flood cannot keep the daemon here.
const BATCH: usize = 65_536;

/// Drains the rings.
pub struct Rings {
    processes: RingBuf<MapData>,
    files: RingBuf<MapData>,
    names: RingBuf<MapData>,
    paths: PathTable,
    malformed: BTreeMap<(&'static str, &'static str), u64>,
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
        })
    }

    /// Appends what happened since the last call. Records that make no sense are counted by cause.
    pub fn drain(&mut self, observations: &mut Vec<Observation>) {
        let mut malformed = |kind, error: DecodeError| {
            *self.malformed.entry((kind, error.cause())).or_default() += 1;
        };
        for _ in 0..BATCH {
            let Some(item) = self.processes.next() else {
                break;
            };
            match decode::process_record(&item) {
                Ok(observation) => observations.push(observation),
                Err(error) => malformed("process", error),
            }
        }
        for _ in 0..BATCH {
            let Some(item) = self.files.next() else { break };
            match decode::file_record(&item) {
                Ok(mut record) => {
                    self.paths.fill(&mut record.access, record.name_id);
                    observations.push(Observation {
                        at: record.at,
                        event: Event::File(record.access),
                    });
                }
                Err(error) => malformed("file", error),
            }
        }
        for _ in 0..BATCH {
            let Some(item) = self.names.next() else { break };
            match decode::name_record(&item) {
                Ok(observation) => observations.push(observation),
                Err(error) => malformed("name", error),
            }
        }
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
