//! Alerts about what can be seen on this host, not about a transfer.

use serde::Serialize;

use super::BootTime;

/// What dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CoverageLoss {
    /// A hook that worked does not any more.
    Hook,
    /// Bytes left through a device that no hook saw.
    Unseen,
    /// Much of what was sent has no process.
    Unattributed,
    /// Detail is being lost.
    Lost,
}

impl CoverageLoss {
    /// As in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Unseen => "unseen",
            Self::Unattributed => "unattributed",
            Self::Lost => "lost",
        }
    }
}

/// One thing that dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct CoverageEvidence {
    /// Which.
    pub kind: CoverageLoss,
    /// How much: bytes for [`CoverageLoss::Unseen`], share of the interval's bytes for [`CoverageLoss::Unattributed`],
    /// number of hooks, number of records.
    pub value: f64,
    /// From which value on that is told.
    pub threshold: f64,
    /// Start of the interval in which it began.
    pub since: BootTime,
    /// One sentence, with the figures.
    pub sentence: String,
}

/// An alert whose subject is this host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostAlert {
    /// Unique on this host until it boots again; the same on replay.
    pub id: String,
    /// When it was noticed.
    pub at: BootTime,
    /// 0 to 100.
    pub score: u8,
    /// ATT&CK technique ids, the main one first.
    pub techniques: Vec<&'static str>,
    /// Everything that is wrong now, the worst first.
    pub evidence: Vec<CoverageEvidence>,
}
