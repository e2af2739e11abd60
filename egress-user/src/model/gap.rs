//! Time in which no daemon ran.

use serde::Serialize;

use super::{BootTime, LostDetail};

/// Why nobody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The daemon was killed, or was stopped and left the hooks counting.
    NotRunning,
    /// The hooks were replaced by others.
    Upgrade,
}

impl GapReason {
    /// As in metrics and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotRunning => "not_running",
            Self::Upgrade => "upgrade",
        }
    }
}

/// A gap between two daemons, written once by the later one. Bytes of hooks that went on counting are told after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// When the earlier daemon last read the kernel's memory.
    pub start: BootTime,
    /// When the later one first did.
    pub end: BootTime,
    /// Why.
    pub reason: GapReason,
    /// For how long no hook counted, ns; 0 when all went on.
    pub blind_ns: u64,
    /// Hooks that did not count all the while, though they should have.
    pub missing: Vec<&'static str>,
    /// Detail lost since the earlier daemon's last health record: its rings were not drained.
    pub lost: Vec<LostDetail>,
}
