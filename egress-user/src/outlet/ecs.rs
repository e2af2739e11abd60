//! JSON lines as types: Elastic Common Schema 8 names where ECS has one, everything else under `egress`.
//!
//! In: nothing. Out: [`Document`], borrowed from a record (see `convert`), and its JSON [`schema`]. What a record does
//! not have is absent from its line, never `null`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::shown::{Device, EntityId, Escaped, Harmless, Mode, Shown, TransportName};
use crate::model::{Text, WallTime};

mod egress;
mod health;
mod interfaces;

pub use egress::*;
pub use health::*;
pub use interfaces::*;

/// Version of ECS whose field names are used.
pub const ECS_VERSION: &str = "8.17.0";

/// A wall time, RFC 3339 with nanoseconds.
pub type Time = Shown<WallTime>;
/// Bytes that somebody else wrote, escaped.
pub type Bytes<'a> = Shown<&'a Text>;
/// A string that somebody else may have chosen, escaped.
pub type Name<'a> = Shown<Escaped<'a>>;

/// A unit, container or scheduler's entry, as `lineage` names it.
pub type Known<'a> = Shown<Harmless<'a>>;

/// The JSON Schema (draft 2020-12) of one line, generated from [`Document`]. `egress schema` prints it.
#[must_use]
pub fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    settings
        .into_generator()
        .into_root_schema_for::<Document<'static>>()
        .to_value()
}

/// One line of JSON: something that egress saw.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Document<'a> {
    /// When it happened.
    #[serde(rename = "@timestamp")]
    #[schemars(extend("format" = "date-time"))]
    pub timestamp: Time,
    /// Whose field names these are.
    pub ecs: Ecs,
    /// Who writes.
    pub agent: Agent,
    /// What happened.
    pub event: Event<'a>,
    /// An alert in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where.
    pub host: HostFields<'a>,
    /// Who. For an alert: the process of the last transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process<'a>>,
    /// For whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User<'a>>,
    /// For which group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// The local end of a flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Endpoint<'a>>,
    /// The remote end: where bytes go, whoever began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Endpoint<'a>>,
    /// The flow's protocols.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// The container of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container<'a>>,
    /// What manages the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestrator: Option<Orchestrator<'a>>,
    /// The file that was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<File<'a>>,
    /// The rule that raised the alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The techniques that the alert speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threat: Option<Threat<'a>>,
    /// What ECS has no name for.
    pub egress: Egress<'a>,
}

/// `ecs`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ecs {
    /// Version of the Elastic Common Schema.
    pub version: &'static str,
}

/// `agent`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Agent {
    /// Always `egress`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Version of egress.
    pub version: &'static str,
}

/// `event`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Event<'a> {
    /// `alert` for alerts, `event` for everything else.
    #[schemars(extend("enum" = ["event", "alert"]))]
    pub kind: &'static str,
    /// What kind of record this is.
    #[schemars(extend("enum" = ["flow", "exec", "file", "blind_spot", "health", "alert", "gap"]))]
    pub action: &'static str,
    /// ECS categories.
    pub category: Vec<&'static str>,
    /// ECS types.
    #[serde(rename = "type")]
    pub types: Vec<&'static str>,
    /// `egress.` and the action.
    pub dataset: &'static str,
    /// Of an alert: unique on this host until it boots again, and the same on replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// Of an alert: 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub risk_score: Option<u8>,
    /// When the flow, the first transfer of the alert, or the gap began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub start: Option<Time>,
    /// When the flow was closed, or the last transfer of the alert, or the gap ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub end: Option<Time>,
}

/// `host`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HostFields<'a> {
    /// Node name.
    pub hostname: Name<'a>,
    /// Which boot.
    pub boot: Boot<'a>,
}

/// `host.boot`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Boot<'a> {
    /// Boot id of the kernel; `process.entity_id` is unique within one.
    pub id: &'a str,
}

/// `process`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Process<'a> {
    /// Thread-group id in the initial pid namespace.
    pub pid: u32,
    /// Thread-group id and start time: unique within a boot.
    pub entity_id: Shown<EntityId>,
    /// Path of the executable; for a script, of its interpreter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<Bytes<'a>>,
    /// The kernel's name for it (`comm`), which a process can set as it likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Bytes<'a>>,
    /// Arguments, the zeroth included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Bytes<'a>>,
    /// How many `args` there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_count: Option<usize>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub start: Option<Time>,
    /// Working directory at exec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<Bytes<'a>>,
    /// Whether a terminal controls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interactive: Option<bool>,
    /// Its parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent<'a>>,
}

/// `process.parent`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Parent<'a> {
    /// Thread-group id in the initial pid namespace.
    pub pid: u32,
    /// Thread-group id and start time: unique within a boot.
    pub entity_id: Shown<EntityId>,
    /// Path of the executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<Bytes<'a>>,
    /// The kernel's name for it (`comm`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Bytes<'a>>,
    /// Arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Bytes<'a>>,
}

/// `user`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct User<'a> {
    /// Real user id in the initial user namespace.
    pub id: Shown<u32>,
    /// Its name on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name<'a>>,
    /// What it acts as, when that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
}

/// `user.effective`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Effective {
    /// Effective user id.
    pub id: Shown<u32>,
}

/// `group`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Group {
    /// Real group id in the initial user namespace.
    pub id: Shown<u32>,
}

/// `source` and `destination`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Endpoint<'a> {
    /// Address; v4-mapped IPv6 is told as IPv4.
    pub ip: IpAddr,
    /// Port, where the transport has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Name, from DNS or TLS seen on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Name<'a>>,
}

/// `network`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Network {
    /// `tcp`, `udp`, `icmp`, `ipv6-icmp`, `sctp`, `packet` (frames), `vsock` or `ip-N`.
    pub transport: Shown<TransportName>,
    /// IP version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["ipv4", "ipv6"]))]
    pub kind: Option<&'static str>,
    /// From the host's point of view, as ECS wants it of a host's own monitor: `egress` when this host began, `ingress` when the peer did.
    #[schemars(extend("enum" = ["egress", "ingress", "unknown"]))]
    pub direction: &'static str,
}

/// `container`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Container<'a> {
    /// The runtime's id.
    pub id: Known<'a>,
    /// `docker`, `containerd`, `cri-o`, `podman`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Name<'a>>,
}

/// `orchestrator`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Orchestrator<'a> {
    /// Always `kubernetes`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The pod.
    pub resource: Resource<'a>,
}

/// `orchestrator.resource`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Resource<'a> {
    /// Always `pod`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The pod's uid.
    pub id: Known<'a>,
}

/// `file`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct File<'a> {
    /// Absolute path in the mount namespace of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Bytes<'a>>,
    /// Inode number.
    pub inode: Shown<u64>,
    /// Device, `major:minor`.
    pub device: Shown<Device>,
    /// Bytes, when it was opened.
    pub size: u64,
    /// Permissions, octal.
    pub mode: Shown<Mode>,
}

/// `rule`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Rule {
    /// For machines.
    pub id: &'static str,
    /// For people.
    pub name: &'static str,
}

/// `threat`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Threat<'a> {
    /// Always `MITRE ATT&CK`.
    pub framework: &'static str,
    /// Techniques, the main one first.
    pub technique: Technique<'a>,
}

/// `threat.technique`: `id` and `name` belong together by position.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Technique<'a> {
    /// Ids, such as `T1020`.
    pub id: &'a [&'static str],
    /// Names.
    pub name: Vec<&'static str>,
}
