//! Why the daemon did not start, or stopped.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::outlet::http::BindError;
use crate::sensor::SensorError;
use crate::sensor::cgroups::CgroupError;
use crate::sensor::fields::FieldsError;
use crate::sensor::keep::left::LeftError;

/// A failure of `run`, `doctor` or `unload`. Each message says what happened, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Capabilities are missing.
    #[error("{0}")]
    NoPrivilege(String),
    /// The kernel does not describe itself.
    #[error(transparent)]
    Fields(#[from] FieldsError),
    /// No cgroup v2 hierarchy.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Another daemon runs on this host.
    #[error(
        "an egress daemon{} already runs on this host, and two would count every byte twice; stop it first", .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    AlreadyRunning {
        /// Its pid, when it told.
        pid: Option<u32>,
    },
    /// What an earlier daemon left cannot be taken over.
    #[error(transparent)]
    Left(#[from] LeftError),
    /// The port is taken, or cannot be used.
    #[error(transparent)]
    PortTaken(#[from] BindError),
    /// The state directory cannot be used.
    #[error("state directory {}: {source}; choose one with --state-dir that root can write and nobody else", .path.display())]
    StateDir {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something cannot be loaded or attached without which nothing works.
    #[error("{0}; `egress doctor` shows what this kernel offers")]
    Sensor(SensorError),
    /// Records have nowhere to go.
    #[error("{0}; choose another target with --events")]
    Events(io::Error),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something that worked at first stopped working.
    #[error("{what}: {why}")]
    Failed {
        /// What was being done.
        what: String,
        /// Why it did not work.
        why: String,
    },
}

impl RunError {
    /// Whether nothing was begun: the host or the request has to change first. Else it failed while running.
    #[must_use]
    pub fn cannot_run(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }
}

impl From<SensorError> for RunError {
    fn from(error: SensorError) -> Self {
        match error {
            SensorError::Fields(error) => Self::Fields(error),
            SensorError::Cgroup(error) => Self::Cgroup(error),
            error => Self::Sensor(error),
        }
    }
}
