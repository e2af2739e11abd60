//! What outlives the daemon: which version wrote the pinned maps, and who looks after them.

/// [`HostState::magic`]: "egress", in memory order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"egress\0\0");

/// The one cell of `STATE`. `magic` and `abi` stay where they are in every version, so that any version can tell what it found.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`](crate::ABI_VERSION) of whoever made the maps.
    pub abi: u32,
    /// Thread-group id of the daemon, whose own file opens are not observed; 0 when there is none.
    pub daemon_tgid: u32,
    /// SHA-256 of the object that the attached programs come from.
    pub object: [u8; 32],
    /// When the programs were attached.
    pub attached_ns: u64,
    /// When the daemon last read the maps.
    pub heartbeat_ns: u64,
    /// Number of slots.
    pub slots: u32,
    /// Zero.
    pub _pad: u32,
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<HostState>() == 72);
    assert!(offset_of!(HostState, magic) == 0 && offset_of!(HostState, abi) == 8);
};

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, integers and byte arrays only, padding explicit; any bit pattern is valid.
unsafe impl aya::Pod for HostState {}
