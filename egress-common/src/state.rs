//! What outlives the daemon: which version wrote the pinned maps, who looks after them, and what was told of them.

use crate::counters::{COUNTERS, Counter};

/// [`HostState::magic`]: "egress", in memory order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"egress\0\0");

/// The one cell of `STATE`. `magic` and `abi` stay where they are in every version, so that any version can tell what it found.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    /// [`MAGIC`], once everything is attached and pinned.
    pub magic: u64,
    /// [`ABI_VERSION`](crate::ABI_VERSION) of whoever made the maps.
    pub abi: u32,
    /// Thread-group id of the daemon, whose own file opens are not observed; 0 when there is none.
    pub daemon_tgid: u32,
    /// SHA-256 of what the attached programs and the maps were made from: object, offsets, sizes.
    pub object: [u8; 32],
    /// When the programs were attached.
    pub attached_ns: u64,
    /// When the daemon last read the maps.
    pub heartbeat_ns: u64,
    /// Number of slots.
    pub slots: u32,
    /// Inode number of the daemon's pid namespace.
    pub daemon_pidns: u32,
    /// When the daemon began, as `/proc/PID/stat` tells it (clock ticks of 10 ms, in ns).
    pub daemon_start_ns: u64,
    /// Number of the next flow.
    pub next_flow: u64,
    /// Records that daemons took from these maps' rings: forks, execs, exits, files.
    pub records: [u64; 4],
}

/// Longest path of an events file that [`Journal`] can hold, bytes.
pub const JOURNAL_PATH_MAX: usize = 1024;
/// Records in one write to the events file.
pub const INTENTS: usize = 256;
/// [`Intent::slot`]: the record tells counters, [`Journal::next`].
pub const INTENT_COUNTERS: u64 = u64::MAX;

/// A record that is about to be written: what will be told once the events file is this long.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// Length of the file when the whole record is in it, bytes.
    pub end: u64,
    /// Number of the slot, or [`INTENT_COUNTERS`].
    pub slot: u64,
    /// The slot's figures up to which the record tells, in the order of [`Taken`](crate::slot::Taken).
    pub figures: [u64; 5],
    /// Zero.
    pub _pad: u64,
}

/// The one cell of `JOURNAL`: how a daemon that comes back knows which records were written by one that was killed
/// between a write and its note of it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Journal {
    /// How many of `intents` are valid. Written after them, and cleared when they are told.
    pub count: u64,
    /// Device of the events file.
    pub dev: u64,
    /// Inode number of the events file.
    pub ino: u64,
    /// Where the first line of the write begins, bytes.
    pub from: u64,
    /// Length of `path`; 0 when it was too long.
    pub path_len: u64,
    /// Absolute path of the events file.
    pub path: [u8; JOURNAL_PATH_MAX],
    /// The counters, as far as they are told.
    pub told: [Counter; COUNTERS as usize],
    /// The counters, as a record that is about to be written tells them.
    pub next: [Counter; COUNTERS as usize],
    /// What is about to be written.
    pub intents: [Intent; INTENTS],
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<HostState>() == 120);
    assert!(offset_of!(HostState, magic) == 0 && offset_of!(HostState, abi) == 8);
    assert!(size_of::<Intent>() == 64);
    assert!(
        size_of::<Journal>() == 40 + JOURNAL_PATH_MAX + 2 * 16 * COUNTERS as usize + 64 * INTENTS
    );
};

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, integers and byte arrays only, padding explicit; any bit pattern is valid.
unsafe impl aya::Pod for HostState {}
