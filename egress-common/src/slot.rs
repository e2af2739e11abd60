//! Slots: where bytes are summed. One slot is one (socket, process, destination).
//!
//! Counters only ever grow, also over reuse of a slot; user space remembers what it has taken. A
//! slot is reused only after user space has bumped its generation, so a stale reference is noticed.

/// Number of slots unless configured otherwise.
pub const DEFAULT_SLOTS: u32 = 65_536;

/// `Slot::owned`, `Slot::closed`: no.
pub const NO: u8 = 0;
/// `Slot::owned`, `Slot::closed`: yes.
pub const YES: u8 = 1;

/// `Slot::keyed`: `FLOWS` has no entry for the slot.
pub const KEYED_NO: u8 = 0;
/// `Slot::keyed`: an entry without a process, which packets find.
pub const KEYED_SHARED: u8 = 1;
/// `Slot::keyed`: an entry under the slot's owner.
pub const KEYED_OWNER: u8 = 2;

/// `Slot::addressed`: no address is known.
pub const ADDRESS_NONE: u8 = 0;
/// `Slot::addressed`: the remote address and port are valid, the local ones may be zero.
pub const ADDRESS_REMOTE: u8 = 1;
/// `Slot::addressed`: both ends are valid.
pub const ADDRESS_BOTH: u8 = 2;

/// Slots per cell of the activity map: one byte each, so that user space finds the active ones without reading all.
pub const ACTIVITY_CELL: usize = 64;

/// `Slot::direction`: not known.
pub const DIRECTION_UNKNOWN: u8 = 0;
/// `Slot::direction`: this host began (connect, or first to send).
pub const DIRECTION_INITIATED: u8 = 1;
/// `Slot::direction`: the peer began (accept, or first to be received from).
pub const DIRECTION_ACCEPTED: u8 = 2;
/// `Slot::direction`: a listening socket (its wire bytes are SYN-ACKs).
pub const DIRECTION_LISTENING: u8 = 3;

/// Linux `AF_INET`.
pub const AF_INET: u16 = 2;
/// Linux `AF_INET6`.
pub const AF_INET6: u16 = 10;
/// Linux `AF_PACKET`.
pub const AF_PACKET: u16 = 17;
/// Linux `AF_VSOCK`.
pub const AF_VSOCK: u16 = 40;

/// One (socket, process, destination). 192 bytes: counters in the first cache line, written by
/// send and wire alike with atomic adds; identity in the other two, written once.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Bytes that send calls accepted (true return values).
    pub app_bytes: u64,
    /// Send calls.
    pub app_calls: u64,
    /// Bytes at the IP layer, headers of every segment of a GSO packet included.
    pub wire_bytes: u64,
    /// Packets, a GSO packet counted as its segments.
    pub wire_packets: u64,
    /// Bytes that receive calls returned.
    pub rx_bytes: u64,
    /// When the slot was taken.
    pub first_ns: u64,
    /// When the socket closed, if `closed`.
    pub closed_ns: u64,
    /// Bumped by user space when it takes the slot back.
    pub generation: u32,
    /// Whether a process is known: `tgid`, `start_ns`, `uid`, `gid`, `loginuid`, `session_id`, `exec_id`, `cgroup_id`, `comm`
    /// are valid.
    pub owned: u8,
    /// `DIRECTION_*`.
    pub direction: u8,
    /// The socket is closed.
    pub closed: u8,
    /// `ADDRESS_*`.
    pub addressed: u8,

    /// Socket cookie (`bpf_get_socket_cookie`; the one that `SOCK_DIAG` shows).
    pub cookie: u64,
    /// Start of the owner's thread-group leader.
    pub start_ns: u64,
    /// The owner's thread-group id in the initial pid namespace.
    pub tgid: u32,
    /// The owner's real uid in the initial user namespace.
    pub uid: u32,
    /// Local address; IPv4 as v4-mapped IPv6 (RFC 4291 2.5.5.2).
    pub saddr: [u8; 16],
    /// Remote address; IPv4 as v4-mapped IPv6.
    pub daddr: [u8; 16],
    /// Local port, network byte order.
    pub sport: [u8; 2],
    /// Remote port, network byte order.
    pub dport: [u8; 2],
    /// `AF_*`.
    pub family: u16,
    /// IP protocol number (IANA).
    pub protocol: u16,

    /// The owner's cgroup v2 id (inode number in cgroupfs).
    pub cgroup_id: u64,
    /// Inode number of the socket's network namespace; 0 when unknown.
    pub netns: u32,
    /// `KEYED_*`.
    pub keyed: u8,
    /// The owner has sent application bytes, and what is known of it is of that time.
    pub sent: u8,
    /// Zero.
    pub _pad0: [u8; 2],
    /// The owner's image: low half of `task_struct.self_exec_id`, which every exec increases (Linux `fs/exec.c`).
    pub exec_id: u32,
    /// The owner's real gid, initial user namespace.
    pub gid: u32,
    /// Who logged in (`audit_get_loginuid`); `u32::MAX` when nobody did. Renewed by a login over an open socket.
    pub loginuid: u32,
    /// Audit session of that login; `u32::MAX` when none.
    pub session_id: u32,
    /// The owner's `comm`, NUL padded.
    pub comm: [u8; 16],
    /// Zero.
    pub _pad2: [u8; 16],
}

/// Key of `FLOWS`: slots that are not their socket's only one.
/// The first to reach a destination over a socket has zeros for the owner in the key, so that the wire program, which
/// knows no process, finds it. A process that changes its user or its image is another owner.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Socket cookie.
    pub cookie: u64,
    /// [`Slot::start_ns`], or 0.
    pub start_ns: u64,
    /// [`Slot::tgid`], or 0.
    pub tgid: u32,
    /// [`Slot::uid`], or 0.
    pub uid: u32,
    /// [`Slot::exec_id`], or 0.
    pub exec_id: u32,
    /// Remote port, network byte order.
    pub dport: [u8; 2],
    /// Zero.
    pub _pad: [u8; 2],
    /// Remote address, as in [`Slot::daddr`].
    pub daddr: [u8; 16],
}

/// A reference to a slot that can be told to be stale.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotRef {
    /// Slot number plus one; 0 is none.
    pub number: u32,
    /// [`Slot::generation`] when the reference was made.
    pub generation: u32,
}

/// [`SocketState::named`]: a TCP socket's first payload is told, or is no ClientHello.
pub const NAMED_DONE: u8 = u8::MAX;
/// [`SocketState::named`]: pieces of one ClientHello that are told at most.
pub const NAMED_PIECES: u8 = 4;
/// [`SocketState::named`]: datagrams to one destination that are looked at.
pub const NAMED_DATAGRAMS: u8 = 3;

/// Socket-local storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketState {
    /// The slot of the last (process, destination) that used the socket.
    pub slot: SlotRef,
    /// `DIRECTION_*`.
    pub direction: u8,
    /// Unconnected sends happen: the send program has to ask which destination.
    pub unconnected: u8,
    /// How many payloads of this socket were looked at for its name (TLS, QUIC); [`NAMED_DONE`] when that is over.
    pub named: u8,
    /// The socket sends IP fragments that it makes itself: the wire program counts their headers.
    pub fragments: u8,
    /// Inode number of the network namespace; 0 until a hook in process context has seen the socket.
    pub netns: u32,
    /// Bytes of a TLS ClientHello that are still to come.
    pub hello_left: u32,
    /// TCP sequence number of the next of them: what comes again was told.
    pub hello_next: u32,
}

/// What user space has told of a slot so far: the slot's figures less these are still to be told.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Of [`Slot::app_bytes`].
    pub app_bytes: u64,
    /// Of [`Slot::app_calls`].
    pub app_calls: u64,
    /// Of [`Slot::wire_bytes`].
    pub wire_bytes: u64,
    /// Of [`Slot::wire_packets`].
    pub wire_packets: u64,
    /// Of [`Slot::rx_bytes`].
    pub rx_bytes: u64,
    /// Number of the flow that the slot is now; 0 until user space has seen it.
    pub flow: u64,
    /// [`Slot::first_ns`] of the last flow that user space took the slot back from: while they are the same, nobody has it.
    pub retired_ns: u64,
    /// Whether the slot went back to `FREE_SLOTS` after that: 0 or 1.
    pub free: u64,
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<Slot>() == 192 && align_of::<Slot>() == 64);
    assert!(offset_of!(Slot, generation) == 56);
    assert!(offset_of!(Slot, cookie) == 64);
    assert!(offset_of!(Slot, cgroup_id) == 128);
    assert!(offset_of!(Slot, comm) == 160 && offset_of!(Slot, exec_id) == 144);
    assert!(size_of::<FlowKey>() == 48);
    assert!(size_of::<SlotRef>() == 8 && size_of::<SocketState>() == 24);
    assert!(size_of::<Taken>() == 64);
};

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, integers and byte arrays only, padding explicit; any bit pattern is valid.
unsafe impl aya::Pod for FlowKey {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl aya::Pod for SlotRef {}
