//! Uses of what the hooks see only in part.

use std::borrow::Cow;

use serde::Serialize;

use super::ProcessKey;

/// A kind of blind spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlindKind {
    /// An io_uring operation that the hooks of the system call it stands for do not see.
    IoUring,
    /// `AF_PACKET`: frames, below IP.
    PacketSocket,
    /// A packet socket's ring: frames move through shared memory.
    PacketRing,
    /// `AF_XDP`: frames move between shared memory and the device.
    XdpSocket,
    /// `SOCK_RAW` of IPv4 or IPv6: packets whose headers the process writes.
    RawSocket,
    /// `AF_VSOCK`: bytes to virtual machines, or from one to its host.
    Vsock,
    /// Frames go to the device past its queues.
    QueueBypass,
}

impl BlindKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::IoUring,
        Self::PacketSocket,
        Self::PacketRing,
        Self::XdpSocket,
        Self::RawSocket,
        Self::Vsock,
        Self::QueueBypass,
    ];

    /// As records and metrics have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::PacketSocket => "packet_socket",
            Self::PacketRing => "packet_ring",
            Self::XdpSocket => "xdp_socket",
            Self::RawSocket => "raw_socket",
            Self::Vsock => "vsock",
            Self::QueueBypass => "queue_bypass",
        }
    }
}

/// A process asked the kernel for something whose effect the hooks see only in part. Whether it got it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindUse {
    /// Who.
    pub process: ProcessKey,
    /// Of which kind.
    pub kind: BlindKind,
    /// What exactly, in the kernel's own terms: `IORING_OP_OPENAT`, `socket(AF_XDP, SOCK_RAW)`.
    pub operation: Cow<'static, str>,
    /// What the hooks see of it, and what not.
    pub why: &'static str,
    /// It opens a file: no blind spot where files are observed in the kernel's own open and not in the system calls.
    pub opens_file: bool,
    /// Network namespace of the process (inode number); 0 when not known.
    pub netns: u32,
}
