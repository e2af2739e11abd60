//! Judgement: transfers in, alerts out.
//!
//! In: [`Flow`](crate::model::Flow)s with their owner, event time, and what the lineage tells of a process
//! ([`Origins`]). Out: [`Alert`](crate::model::Alert)s with all their evidence.
//!
//! The unit is the *episode*: the bytes of one job to one destination until all its flows are closed or silent.
//! Everything is driven by event time: no wall clock, no randomness, and no hash map is ever walked, so that a
//! recording replays to the very same alerts. Memory is bounded; what is evicted is counted by cause.
//!
//! | file | what |
//! |---|---|
//! | `detector` | flows to episodes, and when to judge them |
//! | `pair` | what is kept of one job and one destination |
//! | `ask` | which files an episode's process read |
//! | `baseline` | what is usual here: destinations, senders, sizes |
//! | `signal/` | one pure function a file |
//! | `judge`, `score` | which signals together are an alert |
//! | `coverage` | health records to alerts about what is no longer seen |

mod ask;
mod baseline;
mod coverage;
mod detector;
mod judge;
mod labels;
mod lru;
mod origins;
mod pair;
mod score;
mod signal;
mod sketch;
mod stats;
#[cfg(test)]
mod tests;

pub use coverage::CoverageWatch;
pub use detector::{DEFAULT_PAIRS, Detector};
pub use labels::Labels;
pub use origins::{FileRead, Origins, Sources};
pub use stats::{DetectStats, Evicted, Ignored};
