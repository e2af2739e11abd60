//! Jobs: what runs again and again.

use std::sync::Arc;

use serde::Serialize;

use super::{FileId, Text};

/// Stable over runs: 16 hexadecimal digits of a SHA-256 over the parts of a [`Job`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct JobId(pub Arc<str>);

/// A script: what an interpreter was given to run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Script {
    /// Its path, absolute; for text given on the command line (`sh -c`), empty.
    pub path: Text,
    /// The file, when known.
    pub file: Option<FileId>,
    /// SHA-256 of its contents (of the text, for `sh -c`), hexadecimal, when it could be read.
    pub sha256: Option<Arc<str>>,
}

/// What starts a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Scheduler {
    /// cron, with the entry's command if known.
    Cron(Option<String>),
    /// at or batch.
    At,
    /// systemd timer or service, by unit.
    Systemd(String),
    /// A continuous-integration runner.
    Ci(String),
    /// A container's workload, by container id.
    Container(String),
    /// A person at a terminal.
    Interactive,
    /// None of these: a daemonised or detached process.
    None,
}

/// What runs again and again: the key on which baselines and cadence hang.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    /// Stable over runs.
    pub id: JobId,
    /// Path of the executable that moves the bytes.
    pub executable: Text,
    /// The script that it runs, or that runs it: the nearest among itself and its ancestors below the scheduler.
    pub script: Option<Arc<Script>>,
    /// What starts it.
    pub scheduler: Scheduler,
    /// For whom.
    pub uid: u32,
    /// Whether a terminal controls it.
    pub interactive: bool,
}
