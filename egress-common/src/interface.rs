//! What leaves through a network device, by what it is.

/// Key of `INTERFACES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceKey {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Interface index in that namespace.
    pub ifindex: u32,
}

/// Packets of a full inet socket: `cgroup_skb/egress` gave their bytes to its process.
pub const CLASS_SOCKET: usize = 0;
/// Packets of a packet socket (`AF_PACKET`), which passes no cgroup hook.
pub const CLASS_PACKET: usize = 1;
/// Packets of a request or time-wait socket.
pub const CLASS_MINI_SOCKET: usize = 2;
/// Packets that came in through another device.
pub const CLASS_FORWARDED: usize = 3;
/// The kernel's own packets: no socket, and not forwarded (ARP, neighbour discovery, resets, ICMP replies).
pub const CLASS_KERNEL: usize = 4;
/// Packets of sockets of other families.
pub const CLASS_OTHER: usize = 5;
/// Number of classes.
pub const CLASSES: usize = 6;

/// Bytes and packets at the link layer, by `CLASS_*`. They only grow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCell {
    /// Bytes with the link-layer header, a GSO packet counted as it is handed to the driver: software devices count the
    /// same (Linux `drivers/net/veth.c`, `veth_xmit`).
    pub bytes: [u64; CLASSES],
    /// Packets, a GSO packet counted as its segments.
    pub packets: [u64; CLASSES],
    /// What segmentation in the device adds to `bytes`: the headers again for each further segment of a GSO packet.
    pub segment_bytes: u64,
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, integers only, no padding; any bit pattern is valid.
unsafe impl aya::Pod for InterfaceKey {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl aya::Pod for InterfaceCell {}
