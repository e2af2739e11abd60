//! What a [`Blind`](crate::records::Blind) record can speak of: io_uring operations, address families and socket options that
//! other hooks see only in part. The kernel side thins by these, the user side names them.

/// io_uring operations whose effect other hooks see as well as that of the system call which does the same, by opcode
/// (Linux 6.18, `include/uapi/linux/io_uring.h`): sends and writes to sockets pass `sock_send_length`, receives
/// `sock_recv_length`, connects the cgroup hooks; and what no hook observes of a system call (reads, renames, timers) is no
/// less observed here. Not among them: those of [`IO_URING_UNSEEN`] and any that is newer than `IORING_OP_LAST` of 6.18.
pub const IO_URING_SEEN: u64 = {
    let mut seen = (1 << IO_URING_OPS) - 1;
    let mut at = 0;
    while at < IO_URING_UNSEEN.len() {
        seen &= !(1 << IO_URING_UNSEEN[at]);
        at += 1;
    }
    seen
};
/// Operations of Linux 6.18 that other hooks do not see, or only in part.
pub const IO_URING_UNSEEN: [u8; 5] = [
    IORING_OP_OPENAT,
    IORING_OP_OPENAT2,
    IORING_OP_SOCKET,
    IORING_OP_URING_CMD,
    IORING_OP_RECV_ZC,
];
/// `IORING_OP_LAST` of Linux 6.18.
pub const IO_URING_OPS: u8 = 63;
/// Opens a file.
pub const IORING_OP_OPENAT: u8 = 18;
/// Opens a file.
pub const IORING_OP_OPENAT2: u8 = 28;
/// Makes a socket.
pub const IORING_OP_SOCKET: u8 = 45;
/// A command that the file itself understands: a socket option, a request to a disk, ...
pub const IORING_OP_URING_CMD: u8 = 46;
/// Receives into memory that the network card fills.
pub const IORING_OP_RECV_ZC: u8 = 58;

/// `AF_XDP` (Linux `include/linux/socket.h`). The other families are in [`crate::slot`].
pub const AF_XDP: u16 = 44;
/// `SOCK_RAW` (Linux `include/linux/net.h`).
pub const SOCK_RAW: u16 = 3;
/// `SOCK_PACKET`: with `AF_INET`, the old name of a packet socket.
pub const SOCK_PACKET: u16 = 10;
/// `SOCK_TYPE_MASK`: above it are flags.
pub const SOCK_TYPE_MASK: u16 = 0xf;

/// `SOL_PACKET` (Linux `include/linux/socket.h`).
pub const SOL_PACKET: u32 = 263;
/// A ring to receive with (Linux `include/uapi/linux/if_packet.h`).
pub const PACKET_RX_RING: u32 = 5;
/// A ring to send with.
pub const PACKET_TX_RING: u32 = 13;
/// Frames go to the device past its queues.
pub const PACKET_QDISC_BYPASS: u32 = 20;
/// `SOL_XDP`.
pub const SOL_XDP: u32 = 283;
/// A ring to receive with (Linux `include/uapi/linux/if_xdp.h`).
pub const XDP_RX_RING: u32 = 2;
/// A ring to send with.
pub const XDP_TX_RING: u32 = 3;
