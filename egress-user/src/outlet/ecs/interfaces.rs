//! `egress.interfaces`: what left through network devices.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::Bytes;

/// `egress.interfaces`. Loopback is not among the devices.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Interfaces<'a> {
    /// Those that moved the most, at most 32.
    pub devices: Vec<Interface<'a>>,
    /// How many others there are or were.
    pub others: u64,
    /// What left through these.
    pub other: Transmitted,
    /// Sum over all devices. A packet that passes two devices of this host is in it twice.
    pub total: Transmitted,
    /// Network namespaces whose devices' counters are read.
    pub namespaces: u64,
    /// Network namespaces that cannot be entered.
    pub hidden_namespaces: u64,
}

/// One of `egress.interfaces.devices`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Interface<'a> {
    /// Network namespace (inode number).
    pub netns: u32,
    /// Interface index.
    pub ifindex: u32,
    /// Name; absent when it could never be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Bytes<'a>>,
    /// What the kernel calls its kind (`veth`, `bridge`); absent for hardware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Bytes<'a>>,
    /// `compared` with its counters; `gone`: its last figures; `hidden`: its counters cannot be read, and `tx_bytes` is
    /// what the hook saw.
    #[schemars(extend("enum" = ["compared", "gone", "hidden"]))]
    pub state: &'static str,
    /// The figures.
    pub transmitted: Transmitted,
}

/// Bytes at the link layer since the start: `tx_bytes + uncounted = sum of bytes + framing + unseen`, always.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Transmitted {
    /// What the device counted.
    pub tx_bytes: u64,
    /// Packets that it counted: a segmented one once, or as its segments, as its driver has it.
    pub tx_packets: u64,
    /// What the hook before the driver saw, by what it was; every class is there.
    pub bytes: BTreeMap<&'static str, u64>,
    /// Packets, a segmented one counted as its segments.
    pub packets: BTreeMap<&'static str, u64>,
    /// What hardware adds: headers of segments, frame checksums, and up to 1 MiB that it counts late.
    pub framing: u64,
    /// What the device counted beyond that: no hook saw it.
    pub unseen: u64,
    /// What the hook saw and the device did not count: on its way, or dropped by the driver.
    pub uncounted: u64,
}
