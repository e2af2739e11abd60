//! Novelty: a place or a sender that was not seen before.

use super::Span;
use crate::model::{BootTime, Signal, SignalKind};

/// When the parts were first seen to send. All since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::detect) struct FirstSeen {
    /// This job to this destination.
    pub job: BootTime,
    /// This user to this destination.
    pub user: BootTime,
    /// This host to this destination.
    pub host: BootTime,
    /// This executable to anywhere.
    pub executable: BootTime,
}

/// What is known.
pub(in crate::detect) struct Input {
    /// First times.
    pub seen: FirstSeen,
    /// Now.
    pub at: BootTime,
    /// Since when the host is watched.
    pub started: BootTime,
    /// How long everything is new to us, ns.
    pub learning: u64,
    /// Destinations known to the host.
    pub known: usize,
}

/// From here on it holds. "New to the job alone" stays below: every new job's first destination is.
const THRESHOLD: f64 = 0.5;
/// A place stays new for this long, ns: 14 days, so that a nightly job has its nights.
const NEW_FOR: u64 = 14 * 86_400_000_000_000;

impl Input {
    /// Whether the host has been watched long enough to tell.
    pub(in crate::detect) fn mature(&self) -> bool {
        self.at.saturating_sub(self.started) >= self.learning
    }

    /// Seen for the first time after learning ended, and not long ago.
    fn is_new(&self, first: BootTime) -> bool {
        self.mature()
            && first.saturating_sub(self.started) >= self.learning
            && self.at.saturating_sub(first) < NEW_FOR
    }

    /// Whether this host had never sent there.
    pub(in crate::detect) fn new_to_host(&self) -> bool {
        self.is_new(self.seen.host)
    }
}

/// New to the host 1; executable new to the network 0.6; new to the user 0.5; new to the job 0.3: the largest counts.
pub(in crate::detect) fn judge(input: &Input) -> Signal {
    let parts = [
        (
            input.new_to_host(),
            1.0,
            "the destination is new to this host",
        ),
        (
            input.is_new(input.seen.executable),
            0.6,
            "the executable never sent anything before",
        ),
        (
            input.is_new(input.seen.user),
            0.5,
            "the destination is new to this user",
        ),
        (
            input.is_new(input.seen.job),
            0.3,
            "the destination is new to this job",
        ),
    ];
    let found = parts.iter().find(|(new, ..)| *new);
    let value = found.map_or(0.0, |(_, weight, _)| *weight);
    let watched = Span(input.at.saturating_sub(input.started));
    let sentence = match found {
        _ if !input.mature() => format!(
            "Learning: the host has been watched for {watched} of {}, so nothing is called new yet.",
            Span(input.learning)
        ),
        Some((_, _, what)) => format!(
            "After {watched} of watching and {} known destinations, {what}.",
            input.known
        ),
        None => format!(
            "The destination and the sender have been known for {}.",
            Span(input.at.saturating_sub(input.seen.job))
        ),
    };
    Signal {
        kind: SignalKind::Novelty,
        holds: value >= THRESHOLD,
        score: value,
        value,
        threshold: THRESHOLD,
        baseline: input.mature().then_some(super::len(input.known)),
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::{FirstSeen, Input, NEW_FOR, judge};

    fn input(first: u64, at: u64) -> Input {
        Input {
            seen: FirstSeen {
                job: first,
                user: first,
                host: first,
                executable: first,
            },
            at,
            started: 1000,
            learning: 100,
            known: 3,
        }
    }

    #[test]
    fn new_only_after_learning() {
        assert!(!judge(&input(1000, 1099)).holds, "learning");
        assert_eq!(judge(&input(1000, 1099)).baseline, None);
        assert!(!judge(&input(1050, 2000)).holds, "learnt");
        assert!(judge(&input(1100, 1100)).holds, "new");
        assert!(!judge(&input(1100, 1100 + NEW_FOR)).holds, "no longer");
    }

    #[test]
    fn new_to_the_job_alone_is_little() {
        let mut only = input(1050, 2000);
        only.seen.job = 2000;
        let signal = judge(&only);
        assert!(!signal.holds && signal.score > 0.0);
        only.seen.user = 2000;
        assert!(judge(&only).holds);
    }
}
