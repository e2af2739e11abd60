//! What outlives the daemon.
//!
//! In: maps and links of this run, or those that an earlier one left pinned. Out: pins ([`pins`]), links that are watched
//! ([`links`]), what was told of the slots ([`Kept`]), and, at a start, what is left of an earlier daemon ([`left`]).
//!
//! While the daemon runs everything is pinned; one that is killed leaves hooks that go on counting, and the next one
//! takes them over. Told is what is in the events file: [`Kept`] notes in shared memory what is about to be written and what was
//! written, so that a kill between the two loses nothing and doubles nothing.

mod cells;
mod kept;
pub mod left;
pub mod links;
pub mod pins;
mod recover;

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{Map, MapData};

pub use kept::Kept;

/// Where maps come from: an object that was just loaded, or pins.
pub trait Maps {
    /// Takes a map out; `None` when there is none of that name.
    fn take_map(&mut self, name: &str) -> Option<Map>;
}

impl Maps for Ebpf {
    fn take_map(&mut self, name: &str) -> Option<Map> {
        Ebpf::take_map(self, name)
    }
}

impl Maps for BTreeMap<String, MapData> {
    fn take_map(&mut self, name: &str) -> Option<Map> {
        Map::from_map_data(self.remove(name)?).ok()
    }
}
