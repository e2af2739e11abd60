//! Alerts and their evidence.

use std::sync::Arc;

use serde::Serialize;

use super::{BlindKind, BootTime, Coverage, Destination, FileRef, Job, Process};

/// What an alert says happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Repeated, automated, outward transfers with at least one suspicious trait (ATT&CK T1020, DET0397).
    AutomatedExfiltration,
    /// One large transfer of sensitive files to a new place (ATT&CK T1048).
    SensitiveBulkTransfer,
}

/// A kind of signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalKind {
    /// Nobody at a terminal; the same script again; a scheduler.
    Automation,
    /// Regular gaps.
    Cadence,
    /// Episodes of one size.
    Chunking,
    /// Much more sent than received.
    Asymmetry,
    /// A destination, or a sender, not seen before.
    Novelty,
    /// Sensitive files were read.
    Source,
    /// More than usual.
    Volume,
    /// The executable hides.
    Disguise,
}

/// One signal's say.
#[derive(Clone, Debug, Serialize)]
pub struct Signal {
    /// Which.
    pub kind: SignalKind,
    /// Whether it holds.
    pub holds: bool,
    /// 0.0 (absent) to 1.0 (certain).
    pub score: f64,
    /// The measured value.
    pub value: f64,
    /// The value from which it holds.
    pub threshold: f64,
    /// What the value was compared with; `None` when there is no baseline yet.
    pub baseline: Option<f64>,
    /// One sentence, with the figures.
    pub sentence: String,
}

/// A file among the evidence.
#[derive(Clone, Debug, Serialize)]
pub struct FileEvidence {
    /// The file.
    pub file: FileRef,
    /// Labels of the configuration's globs that it matches; empty when it is not sensitive.
    pub labels: Vec<String>,
    /// When it was last opened for reading before the transfer.
    pub read_at: BootTime,
}

/// An alert.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Unique on this host until it boots again; the same on replay.
    pub id: String,
    /// When the evidence was complete.
    pub at: BootTime,
    /// What.
    pub rule: Rule,
    /// ATT&CK technique ids, the main one first.
    pub techniques: Vec<&'static str>,
    /// 0 to 100.
    pub score: u8,
    /// What runs again and again.
    pub job: Arc<Job>,
    /// The process of the last transfer.
    pub process: Arc<Process>,
    /// Where to.
    pub destination: Arc<Destination>,
    /// Every signal, also those that do not hold.
    pub signals: Vec<Signal>,
    /// Files read before and during the transfers; sensitive ones first.
    pub files: Vec<FileEvidence>,
    /// Transfers so far.
    pub episodes: u64,
    /// Median gap between starts of transfers, ns.
    pub period_ns: Option<u64>,
    /// Application bytes of all of them.
    pub app_bytes: u64,
    /// Wire bytes of all of them.
    pub wire_bytes: u64,
    /// Application bytes received by all of them.
    pub rx_bytes: u64,
    /// Start of the first.
    pub first: BootTime,
    /// End of the last.
    pub last: BootTime,
    /// What the job has used that hooks see only in part, since it is watched.
    pub blind: Vec<BlindKind>,
    /// How well we saw in that time; degraded when the job has used what hooks see only in part.
    pub coverage: Coverage,
}
