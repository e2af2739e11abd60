//! What the kernel side counts beside the slots: totals, and everything that had no place, by cause.

/// One cell of the `COUNTERS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Bytes, where the cause has bytes.
    pub bytes: u64,
    /// Packets, calls or records.
    pub events: u64,
}

/// Every byte and packet that `cgroup_skb/egress` saw.
pub const WIRE_TOTAL: u32 = 0;
/// Wire bytes of packets without a full socket.
pub const WIRE_NO_SOCKET: u32 = 1;
/// Wire bytes that found no free slot.
pub const WIRE_NO_SLOT: u32 = 2;
/// Wire bytes of sockets for which socket storage could not be had.
pub const WIRE_NO_STORAGE: u32 = 3;
/// Every byte and call that the send hook saw on a socket that can leave the host.
pub const APP_TOTAL: u32 = 4;
/// Application bytes that found no free slot.
pub const APP_NO_SLOT: u32 = 5;
/// Application bytes of sockets for which socket storage could not be had.
pub const APP_NO_STORAGE: u32 = 6;
/// Sends on sockets that cannot leave the host (`AF_UNIX`, `AF_NETLINK`, ...): seen, not counted as egress.
pub const APP_LOCAL_FAMILY: u32 = 7;
/// Insertions into `FLOWS` that failed: the flow's destination or second process may be merged.
pub const FLOWS_FULL: u32 = 8;
/// Fork records that found no place in the ring.
pub const LOST_FORK: u32 = 9;
/// Exec records that found no place in the ring.
pub const LOST_EXEC: u32 = 10;
/// Exit records that found no place in the ring.
pub const LOST_EXIT: u32 = 11;
/// File records that found no place in the ring.
pub const LOST_FILE: u32 = 12;
/// File opens not told again, because the same process had opened the same file in the same way.
pub const FILE_REPEATED: u32 = 13;
/// File opens whose kernel structures could not be read.
pub const FILE_UNREADABLE: u32 = 14;
/// Exec records whose arguments, paths or names were cut at the record's limit.
pub const EXEC_TRUNCATED: u32 = 15;
/// File records whose path was cut at the record's limit.
pub const FILE_TRUNCATED: u32 = 16;
/// Packets with an IP or transport header that could not be read.
pub const WIRE_UNPARSED: u32 = 17;
/// Unconnected sends whose destination was not told by the sendmsg hook (counted to the socket's last one).
pub const SEND_NO_DESTINATION: u32 = 18;
/// Received application bytes and calls.
pub const RX_TOTAL: u32 = 19;
/// Name records (DNS, TLS, QUIC) that found no place in the ring.
pub const LOST_NAME: u32 = 20;
/// Name records whose payload was cut at the record's limit.
pub const NAME_TRUNCATED: u32 = 21;
/// Blind-spot records that found no place in the ring.
pub const LOST_BLIND: u32 = 22;
/// Transmitted link-layer bytes of devices that found no cell in `INTERFACES`.
pub const XMIT_NO_CELL: u32 = 23;
/// Packets at a device whose kernel structures could not be read.
pub const XMIT_UNREADABLE: u32 = 24;
/// Every open call that gave a descriptor, by whatever process and of whatever file.
pub const FILE_TOTAL: u32 = 25;
/// Of those, the ones that are not told: no file that can hold data, no access to data, or the daemon's own.
pub const FILE_FILTERED: u32 = 26;
/// Every process that was made.
pub const FORK_TOTAL: u32 = 27;
/// Every program that was executed.
pub const EXEC_TOTAL: u32 = 28;
/// Every process that ended.
pub const EXIT_TOTAL: u32 = 29;
/// Number of cells.
pub const COUNTERS: u32 = 32;

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, two u64, no padding; any bit pattern is valid.
unsafe impl aya::Pod for Counter {}
