//! Rings to observations.

use std::collections::BTreeMap;
use std::sync::Arc;

use aya::maps::{MapData, RingBuf};
use egress_common::names::{MAP_FILE_RING, MAP_NAME_RING, MAP_PROCESS_RING};

use super::SensorError;
use super::decode::{self, DecodeError};
use super::keep::{Kept, Maps};
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
    kept: Arc<Kept>,
}

/// Which of [`Kept::records`] an event is.
fn kind(event: &Event) -> Option<usize> {
    match event {
        Event::Fork { .. } => Some(0),
        Event::Exec(_) => Some(1),
        Event::Exit { .. } => Some(2),
        Event::File(_) => Some(3),
        Event::Blind(_) | Event::Name(_) | Event::SocketOwner(_) | Event::Flow(_) | Event::Tick => {
            None
        }
    }
}

/// Notes that a record was taken, so that a daemon that comes after this one knows.
fn count(kept: &Kept, event: &Event) {
    if let Some(kind) = kind(event) {
        kept.count_record(kind);
    }
}

impl Rings {
    /// Takes the maps.
    ///
    /// # Errors
    /// The object lacks one.
    pub fn take(maps: &mut impl Maps, kept: &Arc<Kept>) -> Result<Self, SensorError> {
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
            kept: Arc::clone(kept),
        })
    }

    /// Appends what happened since the last call. Records that make no sense are counted by cause. Whether there is more.
    pub fn drain(&mut self, observations: &mut Vec<Observation>) -> bool {
        let kept = &self.kept;
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
                    count(kept, &observation.event);
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
                    count(kept, &event);
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
