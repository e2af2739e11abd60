//! What detection counts of itself.

/// Counters since start, and the number of pairs that are held now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DetectStats {
    /// Pairs of job and destination held.
    pub pairs: u64,
    /// Transfer episodes that are going on.
    pub open_episodes: u64,
    /// Transfer episodes that ended.
    pub episodes: u64,
    /// Alerts raised.
    pub alerts: u64,
    /// Judgements left out, because the same alert was raised less than `realert` ago.
    pub suppressed: u64,
    /// Flow records that are not judged.
    pub ignored: Ignored,
    /// What was forgotten to keep within bounds.
    pub evicted: Evicted,
}

/// Flow records that are not judged, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Without a process or a job.
    pub unattributed: u64,
    /// Without an IP destination.
    pub no_destination: u64,
    /// Replies of a listening socket itself.
    pub listening: u64,
    /// To a scope that the configuration ignores.
    pub scope: u64,
}

/// What was forgotten to keep within bounds, by table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Pairs of job and destination, with their episodes.
    pub pairs: u64,
    /// Of those, with an episode going on.
    pub open_episodes: u64,
    /// Flows: their next bytes begin a new episode.
    pub flows: u64,
    /// Known destinations and executables: they would be new again.
    pub known: u64,
    /// Usual sizes of jobs.
    pub sizes: u64,
}
