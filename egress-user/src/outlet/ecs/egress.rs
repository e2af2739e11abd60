//! `egress.*`: what ECS has no name for.

use schemars::JsonSchema;
use serde::Serialize;

use super::health::{BlindSpotUses, Events, Gap, Hook, Ledgers, Lost, OutletBooks};
use super::{Bytes, Known, Name, Time};
use crate::outlet::shown::{Device, EntityId, Shown};

/// `egress`. Which fields there are follows from `event.action`.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Egress<'a> {
    /// Flow: identifies it for as long as its hooks count, also over a restart of the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u64>,
    /// Flow: bytes that send calls accepted since this flow's last record of this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_bytes: Option<u64>,
    /// Flow: send calls since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_calls: Option<u64>,
    /// Flow: bytes at the IP layer since then, headers included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire_bytes: Option<u64>,
    /// Flow: packets since then, a segmented one counted as its segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire_packets: Option<u64>,
    /// Flow: bytes that receive calls returned since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_bytes: Option<u64>,
    /// Flow: who began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["initiated", "accepted", "listening", "unknown"]))]
    pub direction: Option<&'static str>,
    /// Flow: whether this is its last record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<bool>,
    /// Flow: how sure the process is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["exact", "inherited", "inferred", "none"]))]
    pub attribution: Option<&'static str>,
    /// Flow: why there is no process.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["no_socket", "kernel", "before_start", "no_slot", "no_storage", "in_flight"]))]
    pub unattributed_reason: Option<&'static str>,
    /// Flow, alert: `loopback`, `link`, `private`, `public`, `vm` (virtual sockets), or a network's name in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Name<'a>>,
    /// Flow, alert: how `destination.domain` is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_name: Option<DestinationName<'a>>,
    /// Flow, exec, blind spot: network namespace (inode number); absent when not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// Flow, exec, blind spot, alert: what runs again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Job<'a>>,
    /// Flow, exec, file, blind spot, alert: name of who logged in, kept over sudo and su.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_user: Option<Name<'a>>,
    /// Their user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// Their audit session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<u32>,
    /// systemd unit of the process, as systemd writes it (`\x2d` included).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Known<'a>>,
    /// Exec: cgroup path below the cgroup2 root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Bytes<'a>>,
    /// Exec, file: arguments or path were cut at the record's limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
    /// File: how it was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// File: sensitivity labels of the configuration that it matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Name<'a>>,
    /// Alert: figures over all its transfers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<AlertFields<'a>>,
    /// Alert: every signal, also those that do not hold. Of rule `coverage`: what dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence<'a>>,
    /// Alert: files read before and during the transfers, sensitive ones first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileEvidence<'a>>,
    /// Alert: from what the data came through what it went to where, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Step>,
    /// Health, alert: how well we saw in that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["full", "degraded"]))]
    pub coverage: Option<&'static str>,
    /// Health: every byte's place, since start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledgers>,
    /// Health: what left through network devices since the start, beside what the kernel counted there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<super::Interfaces<'a>>,
    /// Health: what we see with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook<'a>>,
    /// Health: detail that was lost, since start; gap: in it. Totals never are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Lost>,
    /// Blind spot: what is used that hooks see only in part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blind_spot: Option<BlindSpot<'a>>,
    /// Health: blind spots in use since the last health record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blind_spots: Vec<BlindSpotUses>,
    /// Health: events of processes and files, by kind, since start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Events>,
    /// Health: records of each outlet, by kind, since start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outlets: Vec<OutletBooks>,
    /// Health: since when the daemon runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub started: Option<Time>,
    /// Health: since when the hooks count: from before `started`, when the daemon took them over from another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub counting_since: Option<Time>,
    /// Gap: time in which no daemon ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// Health: flows that are followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_flows: Option<u64>,
    /// Health: processes that are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_processes: Option<u64>,
    /// Health: names of destinations that are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_names: Option<u64>,
}

/// `egress.destination_name`. A name is a hint, never a proof: see its source.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DestinationName<'a> {
    /// `tls_sni` and `quic_sni`: what the client claimed on this very connection. `dns` and `https_hint`: the address was in
    /// a DNS answer about that name, received in the same network namespace by the same container or host.
    #[schemars(extend("enum" = ["tls_sni", "quic_sni", "dns", "https_hint"]))]
    pub source: &'static str,
    /// From DNS: whether another process than this one had asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
    /// What DNS said, where the client claimed something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Name<'a>>,
}

/// `egress.job`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Job<'a> {
    /// Stable over runs.
    pub id: &'a str,
    /// Path of the executable that moves the bytes.
    pub executable: Bytes<'a>,
    /// The script that it runs, or that runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Script<'a>>,
    /// What starts it.
    pub scheduler: Scheduler<'a>,
    /// For whom.
    pub uid: u32,
    /// Whether a terminal controls it.
    pub interactive: bool,
}

/// `egress.job.script`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Script<'a> {
    /// Absolute path; absent for text on a command line (`sh -c`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Bytes<'a>>,
    /// SHA-256 of its text, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<&'a str>,
}

/// `egress.job.scheduler`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Scheduler<'a> {
    /// Which kind.
    #[schemars(extend("enum" = ["cron", "at", "systemd", "ci", "container", "interactive", "none"]))]
    pub kind: &'static str,
    /// Its entry, unit, runner or container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Known<'a>>,
}

/// `egress.access`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Access {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// This open made the file.
    pub create: bool,
}

/// `egress.alert`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AlertFields<'a> {
    /// As `event.id`.
    pub id: &'a str,
    /// Transfers so far.
    pub episodes: u64,
    /// Median gap between starts of transfers, ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_ns: Option<u64>,
    /// Bytes that send calls accepted, all transfers.
    pub app_bytes: u64,
    /// Bytes at the IP layer, all transfers.
    pub wire_bytes: u64,
    /// Bytes received, all transfers.
    pub rx_bytes: u64,
    /// Start of the first transfer.
    #[schemars(extend("format" = "date-time"))]
    pub first: Time,
    /// End of the last transfer.
    #[schemars(extend("format" = "date-time"))]
    pub last: Time,
    /// What the job has used that hooks see only in part: kinds as in `egress.blind_spot.kind`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blind_spots: Vec<&'static str>,
    /// As `egress.coverage`.
    #[schemars(extend("enum" = ["full", "degraded"]))]
    pub coverage: &'static str,
}

/// `egress.blind_spot`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BlindSpot<'a> {
    /// Which kind.
    #[schemars(extend("enum" = ["io_uring", "packet_socket", "packet_ring", "xdp_socket", "raw_socket", "vsock", "queue_bypass"]))]
    pub kind: &'static str,
    /// What the process asked for, in the kernel's terms.
    pub operation: &'a str,
    /// What the hooks see of it, and what not.
    pub why: &'static str,
}

/// One of `egress.evidence`: a signal.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Evidence<'a> {
    /// Which signal.
    #[schemars(extend("enum" = ["automation", "cadence", "chunking", "asymmetry", "novelty", "source", "volume", "disguise", "hook", "unseen", "unattributed", "lost"]))]
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// 0 (absent) to 1 (certain).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The measured value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The value from which it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// What the value was compared with; absent when there is no baseline yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// Of rule `coverage`: start of the interval in which it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<Time>,
    /// The same for people, with the figures.
    pub sentence: &'a str,
}

/// One of `egress.files`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FileEvidence<'a> {
    /// Absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Bytes<'a>>,
    /// Sensitivity labels that it matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Name<'a>>,
    /// Bytes.
    pub size: u64,
    /// When it was last opened for reading before the transfer.
    #[schemars(extend("format" = "date-time"))]
    pub read_at: Time,
    /// Inode number.
    pub inode: Shown<u64>,
    /// Device, `major:minor`.
    pub device: Shown<Device>,
}

/// One of `egress.lineage`: a step on the way out.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Step {
    /// What it is.
    #[schemars(extend("enum" = ["scheduler", "script", "file", "process", "destination"]))]
    pub kind: &'static str,
    /// Its entry, path, executable or address.
    pub name: String,
    /// Process: as `process.entity_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_id: Option<Shown<EntityId>>,
}
