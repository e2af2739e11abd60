//! What has been told, so that a daemon that was killed and comes back tells every byte once.

use std::path::Path;

use egress_common::counters::{COUNTERS, Counter};

use super::Record;

/// What the kernel side counts in a slot. They only grow, also when the slot is used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Application bytes sent.
    pub app_bytes: u64,
    /// Send calls.
    pub app_calls: u64,
    /// Bytes at the IP layer.
    pub wire_bytes: u64,
    /// Packets.
    pub wire_packets: u64,
    /// Application bytes received.
    pub rx_bytes: u64,
}

impl Figures {
    /// In the order of the fields.
    #[must_use]
    pub fn array(self) -> [u64; 5] {
        [
            self.app_bytes,
            self.app_calls,
            self.wire_bytes,
            self.wire_packets,
            self.rx_bytes,
        ]
    }

    /// From the order of the fields.
    #[must_use]
    pub fn of([app_bytes, app_calls, wire_bytes, wire_packets, rx_bytes]: [u64; 5]) -> Self {
        Self {
            app_bytes,
            app_calls,
            wire_bytes,
            wire_packets,
            rx_bytes,
        }
    }

    /// What these have more than others; nothing where they have less.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let (now, before) = (self.array(), before.array());
        Self::of(std::array::from_fn(|field| {
            now[field].saturating_sub(before[field])
        }))
    }
}

/// Every kernel-side counter, by the constants of [`egress_common::counters`].
pub type Counts = [Counter; COUNTERS as usize];

/// Where a flow's bytes come from, and up to which figures they are in the flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Which maps: an upgrade makes new ones, and slots of both are told for a moment.
    pub epoch: u32,
    /// Number of the slot.
    pub slot: u32,
    /// The slot's figures.
    pub figures: Figures,
}

/// What a record tells of the kernel's memory.
#[derive(Clone, Debug)]
pub enum Told {
    /// Bytes of a slot.
    Flow(Mark),
    /// Bytes and records that have no slot.
    Counters(u32, Box<Counts>),
}

impl Told {
    /// What `record` tells; nothing for one that is not about totals.
    #[must_use]
    pub fn by(record: &Record) -> Option<Self> {
        match record {
            Record::Flow(flow) => Some(Self::Flow(flow.delta.mark)),
            Record::Health(health) => Some(Self::Counters(health.epoch, Box::new(health.counted))),
            Record::Exec { .. }
            | Record::File { .. }
            | Record::Blind { .. }
            | Record::Alert(_)
            | Record::HostAlert(_)
            | Record::Gap(_) => None,
        }
    }
}

/// A file that records are appended to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its absolute path.
    pub path: &'a Path,
    /// Device and inode number.
    pub id: (u64, u64),
    /// Where the first line of the next write begins, bytes.
    pub from: u64,
}

/// Remembers what was told. Told is what is in a file, or was lost and counted; for an outlet that is no file, what it
/// has taken.
pub trait Journal: Send + Sync {
    /// Lines are about to be appended to a file: each with the length that the file then has. At most
    /// [`egress_common::state::INTENTS`], and counters once.
    fn intend(&self, target: Target<'_>, lines: &mut dyn Iterator<Item = (u64, &Told)>);

    /// This is told.
    fn told(&self, what: &Told);

    /// All that was intended and could be written is told.
    fn done(&self);
}
