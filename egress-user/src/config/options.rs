//! What `egress run` was asked to do, resolved: arguments over configuration over defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Config;

/// Where the daemon keeps its state unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/egress";

/// Everything `runtime::run` needs.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOptions {
    /// The configuration.
    pub config: Config,
    /// Where baselines, the lock and the pid file live.
    pub state_dir: PathBuf,
    /// Where `/metrics`, `/healthz` and `/readyz` listen.
    pub listen: SocketAddr,
    /// Where JSON lines go; `None` for nowhere.
    pub events: Option<EventsTarget>,
    /// Whether the live view writes to standard output.
    pub console: bool,
    /// Stop after this long; `None` to run until a signal comes.
    pub duration: Option<Duration>,
}

/// Where JSON lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventsTarget {
    /// Standard output.
    Stdout,
    /// A file, rotated by size.
    File(PathBuf),
}

impl From<PathBuf> for EventsTarget {
    /// `-` is standard output, everything else a file.
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "-" {
            Self::Stdout
        } else {
            Self::File(path)
        }
    }
}
