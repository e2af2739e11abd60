//! Flows: bytes of one process over one socket to one destination.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use super::{BootTime, Destination, Job, Login, Mark, Process, ProcessKey, Scope, Text, Transport};

/// Identifies a flow for as long as its hooks count, also over a restart of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct FlowId(pub u64);

/// Who began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// This host.
    Initiated,
    /// The peer.
    Accepted,
    /// A listening socket's own replies (SYN-ACK).
    Listening,
    /// Not known.
    Unknown,
}

/// What a flow gained since it was last told.
#[derive(Clone, Debug)]
pub struct FlowDelta {
    /// Which flow.
    pub id: FlowId,
    /// Socket cookie.
    pub cookie: u64,
    /// The process that the kernel side saw using the socket.
    pub owner: Option<ProcessKey>,
    /// Its `comm` then; empty without an owner.
    pub owner_name: Text,
    /// Its real uid then.
    pub owner_uid: Option<u32>,
    /// Its real gid when the flow began.
    pub owner_gid: Option<u32>,
    /// Who had logged in then.
    pub owner_login: Option<Login>,
    /// Which of its images it was then ([`Process::exec_id`]).
    pub owner_exec: Option<u32>,
    /// Its cgroup v2 id then; 0 without an owner.
    pub cgroup_id: u64,
    /// Path of that cgroup below the cgroup2 root, empty when not known.
    pub cgroup_path: Text,
    /// Network namespace; 0 when not known.
    pub netns: u32,
    /// Local end.
    pub local: Option<SocketAddr>,
    /// Remote end.
    pub remote: Option<SocketAddr>,
    /// Transport.
    pub transport: Transport,
    /// `AF_*` of the socket.
    pub family: u16,
    /// Who began.
    pub direction: Direction,
    /// When the flow began.
    pub first: BootTime,
    /// When the bytes were read from the kernel: they moved at most one drain interval before.
    pub last: BootTime,
    /// When the socket closed.
    pub closed: Option<BootTime>,
    /// Application bytes sent since the last delta.
    pub app_bytes: u64,
    /// Send calls since.
    pub app_calls: u64,
    /// Bytes at the IP layer since.
    pub wire_bytes: u64,
    /// Packets since.
    pub wire_packets: u64,
    /// Application bytes received since.
    pub rx_bytes: u64,
    /// Where they were read, and up to where.
    pub mark: Mark,
}

/// How sure the owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribution {
    /// The kernel saw this process send.
    Exact,
    /// Opened by another process, used by this one.
    Inherited,
    /// By a join: socket diagnostics, the listener's owner, or the addresses.
    Inferred,
    /// Nobody, for this reason.
    None(Reason),
}

/// Why bytes have no process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The packet had no full socket.
    NoSocket,
    /// The kernel's own: resets, time-wait ACKs, ICMP replies.
    Kernel,
    /// The socket was there before us, and nobody was found to hold it.
    BeforeStart,
    /// No free slot.
    NoSlot,
    /// No memory for socket storage.
    NoStorage,
    /// Moved while the counters were being read: has its place in the next record.
    InFlight,
}

impl Reason {
    /// All, in order.
    pub const ALL: [Self; 6] = [
        Self::NoSocket,
        Self::Kernel,
        Self::BeforeStart,
        Self::NoSlot,
        Self::NoStorage,
        Self::InFlight,
    ];

    /// As in metrics and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSocket => "no_socket",
            Self::Kernel => "kernel",
            Self::BeforeStart => "before_start",
            Self::NoSlot => "no_slot",
            Self::NoStorage => "no_storage",
            Self::InFlight => "in_flight",
        }
    }
}

/// A delta with its place: who, for what, where to.
#[derive(Clone, Debug)]
pub struct Flow {
    /// What moved.
    pub delta: FlowDelta,
    /// Whose.
    pub process: Option<Arc<Process>>,
    /// Part of what.
    pub job: Option<Arc<Job>>,
    /// Where to; `None` until an address is known, and for families without IP.
    pub destination: Option<Arc<Destination>>,
    /// How sure.
    pub attribution: Attribution,
}

impl Flow {
    /// How far it goes. Virtual sockets have a scope without a destination: their addresses are no IP addresses.
    #[must_use]
    pub fn scope(&self) -> Option<&Scope> {
        static VM: Scope = Scope::Vm;
        match &self.destination {
            Some(destination) => Some(&destination.scope),
            None => (self.delta.transport == Transport::VSOCK).then_some(&VM),
        }
    }
}
