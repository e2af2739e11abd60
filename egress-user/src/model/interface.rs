//! What left through network devices, beside what the kernel counted there.

use serde::Serialize;

use super::Text;

/// What a packet was that left through a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketClass {
    /// Of an IP socket: the wire ledger says whose.
    Socket,
    /// Of a packet socket (`AF_PACKET`): the wire ledger says whose.
    Packet,
    /// Of a connection that is not yet, or no longer, a socket: SYN-ACKs, ACKs in `TIME_WAIT`.
    MiniSocket,
    /// Came in through another device: routed, bridged, or from a network namespace of this host.
    Forwarded,
    /// The kernel's own, without a socket: ARP, neighbour discovery, resets.
    Kernel,
    /// Of sockets of other families.
    Other,
}

impl PacketClass {
    /// All, in the order of the contract's `CLASS_*`.
    pub const ALL: [Self; 6] = [
        Self::Socket,
        Self::Packet,
        Self::MiniSocket,
        Self::Forwarded,
        Self::Kernel,
        Self::Other,
    ];

    /// As in metrics and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Packet => "packet",
            Self::MiniSocket => "mini_socket",
            Self::Forwarded => "forwarded",
            Self::Kernel => "kernel",
            Self::Other => "other",
        }
    }
}

/// Bytes at the link layer since the start. Always
/// `tx_bytes + uncounted == sum(bytes) + framing + unseen` (see [`Self::balances`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transmitted {
    /// What the device counted.
    pub tx_bytes: u64,
    /// Packets that the device counted: a segmented one once, or as its segments, as the driver has it.
    pub tx_packets: u64,
    /// What the hook before the driver saw, by class in the order of [`PacketClass::ALL`].
    pub bytes: [u64; 6],
    /// Packets, a segmented one counted as its segments.
    pub packets: [u64; 6],
    /// What the device counted beyond what the hook saw: headers of segments and frame checksums, which hardware adds.
    pub framing: u64,
    /// What the device counted beyond that: frames that no hook sees. Never falls.
    pub unseen: u64,
    /// What the hook saw and the device has not counted: on its way, or dropped by the driver.
    pub uncounted: u64,
}

impl Transmitted {
    /// Bytes that the hook saw.
    #[must_use]
    pub fn seen(&self) -> u64 {
        sum(&self.bytes)
    }

    /// Whether the figures add up.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.tx_bytes.checked_add(self.uncounted)
            == self
                .seen()
                .checked_add(self.framing)
                .and_then(|seen| seen.checked_add(self.unseen))
    }

    /// Adds another device's.
    pub fn add(&mut self, more: &Self) {
        for (mine, theirs) in [
            (&mut self.tx_bytes, more.tx_bytes),
            (&mut self.tx_packets, more.tx_packets),
            (&mut self.framing, more.framing),
            (&mut self.unseen, more.unseen),
            (&mut self.uncounted, more.uncounted),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in [
            (&mut self.bytes, &more.bytes),
            (&mut self.packets, &more.packets),
        ] {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine = mine.saturating_add(*theirs);
            }
        }
    }
}

/// Sum, at most `u64::MAX`.
fn sum(values: &[u64]) -> u64 {
    values
        .iter()
        .fold(0, |sum, value| sum.saturating_add(*value))
}

/// How well a device's counters are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Compared with its counters.
    Compared,
    /// It is gone; its last figures.
    Gone,
    /// Its network namespace cannot be entered: only what the hook saw is known, and `tx_bytes` is that.
    Hidden,
}

/// One device. Its name is unique in its network namespace, at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Interface index.
    pub ifindex: u32,
    /// Name; empty when hidden.
    pub name: Text,
    /// What the kernel calls its kind: `veth`, `bridge`, `vxlan`; empty for hardware, and when hidden.
    pub kind: Text,
    /// How well it is known.
    pub state: DeviceState,
    /// The figures.
    pub transmitted: Transmitted,
}

/// All devices but loopback, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Those that moved the most.
    pub devices: Vec<Interface>,
    /// How many others there are or were.
    pub others: u64,
    /// What left through these.
    pub other: Transmitted,
    /// Sum of all. A packet that passes two devices of this host (a bridge and its port) is in it twice.
    pub total: Transmitted,
    /// Network namespaces whose counters are read.
    pub namespaces: u64,
    /// Network namespaces that cannot be entered.
    pub hidden_namespaces: u64,
}
