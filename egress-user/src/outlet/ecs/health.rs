//! `egress.*` of the daemon's own records: how it does, and what it missed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

/// One of `egress.blind_spots`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BlindSpotUses {
    /// As `egress.blind_spot.kind`.
    #[schemars(extend("enum" = ["io_uring", "packet_socket", "packet_ring", "xdp_socket", "raw_socket", "vsock", "queue_bypass"]))]
    pub kind: &'static str,
    /// Uses that were told; one that goes on is told once a minute.
    pub uses: u64,
}

/// `egress.gap`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Gap {
    /// Why: the daemon was killed or stopped, or the hooks were replaced.
    #[schemars(extend("enum" = ["not_running", "upgrade"]))]
    pub reason: &'static str,
    /// From `event.start` to `event.end`, seconds.
    pub seconds: f64,
    /// Of those, without any hook: bytes of this time are told nowhere. 0 when the hooks went on counting.
    pub blind_seconds: f64,
    /// Hooks that did not count all the while.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<&'static str>,
}

/// `egress.ledger`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ledgers {
    /// Bytes at the IP layer.
    pub wire: Ledger,
    /// Bytes that send calls accepted.
    pub app: Ledger,
}

/// One layer's bytes: `total = attributed + sum of unattributed`, always.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ledger {
    /// Counted by the kernel side beside the flows, independently of them.
    pub total: u64,
    /// In flows with a process.
    pub attributed: u64,
    /// Without, by reason; every reason is there.
    pub unattributed: BTreeMap<&'static str, u64>,
}

/// One of `egress.hooks`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hook<'a> {
    /// The feature.
    pub hook: &'static str,
    /// How it is attached.
    pub method: &'a str,
    /// Whether it works.
    #[schemars(extend("enum" = ["ok", "unsupported", "broken", "disabled"]))]
    pub state: &'static str,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// What is lost without it.
    pub gives: &'static str,
}

/// One of `egress.events`. When all has been read, seen = told + repeated + filtered + lost.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Events {
    /// `fork`, `exec`, `exit` or `file`.
    pub kind: &'static str,
    /// Counted in the kernel, before anything else.
    pub seen: u64,
    /// Records that came through.
    pub told: u64,
    /// Opens not told again: same process, file and access.
    pub repeated: u64,
    /// Opens of what holds no data, and the daemon's own.
    pub filtered: u64,
    /// Lost; `egress.lost` has the causes.
    pub lost: u64,
}

/// One of `egress.outlets`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct OutletBooks {
    /// `jsonl`, `metrics` or `console`.
    pub outlet: &'static str,
    /// Kind of record, as `event.action`.
    pub record: &'static str,
    /// Handed to the outlet.
    pub given: u64,
    /// Of those, lost: its queue was full, or it could not write.
    pub lost: u64,
    /// Application bytes of lost flow records.
    pub lost_app_bytes: u64,
    /// Wire bytes of lost flow records.
    pub lost_wire_bytes: u64,
}

/// One of `egress.lost`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Lost {
    /// Of what.
    pub kind: &'static str,
    /// Why.
    pub cause: &'static str,
    /// How often.
    pub count: u64,
}
