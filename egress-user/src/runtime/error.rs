//! Why the daemon did not start, or stopped.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::outlet::http::BindError;

/// A failure of `run`, `doctor` or `unload`. Each message says what happened, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Capabilities are missing.
    #[error(
        "missing {}: eBPF programs cannot be loaded; run as root, or grant the service these capabilities (AmbientCapabilities= in its unit)",
        .missing.join(", ")
    )]
    NoPrivilege {
        /// Which, by name: `CAP_BPF`, ...
        missing: Vec<String>,
    },
    /// The kernel does not describe itself.
    #[error(
        "{}: {source}; egress reads the kernel's layout from its BTF: use a kernel built with CONFIG_DEBUG_INFO_BTF=y (5.10 or later, every major distribution's)", .path.display()
    )]
    NoBtf {
        /// Where BTF was looked for.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// No cgroup v2 hierarchy.
    #[error(
        "no cgroup2 file system is mounted: wire bytes are counted at its root; mount one: `mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )]
    NoCgroup2,
    /// Another daemon runs on the same state.
    #[error(
        "egress already runs as process {pid} with this state directory; stop it first, or give another --state-dir"
    )]
    AlreadyRunning {
        /// Its pid.
        pid: u32,
    },
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
    #[error("cannot attach {hook}: {why}; `egress doctor` shows what this kernel offers")]
    Attach {
        /// Which hook or object.
        hook: String,
        /// The kernel's answer.
        why: String,
    },
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
