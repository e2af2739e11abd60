//! What is usual here: who sends where since when, and how much.
//!
//! In memory only, bounded and forgetful: a restart begins to learn again.

use std::sync::Arc;

use super::lru::Lru;
use super::pair::{PairKey, Place};
use super::signal::novelty::FirstSeen;
use super::signal::volume::{THRESHOLD, Usual};
use super::sketch::Sketch;
use crate::model::{BootTime, FileId, Job, JobId, Process, Text};

/// Destinations remembered for jobs, users and the host, each.
const PLACES: usize = 20_000;
/// Executables remembered.
const EXECUTABLES: usize = 4_096;
/// Jobs whose sizes are remembered.
const SIZES: usize = 2_048;
/// What was not seen for this long is new again, ns: 30 days.
const FORGET: u64 = 30 * 86_400_000_000_000;
/// Sizes are usual only after this long, ns: a day.
const MATURE: u64 = 86_400_000_000_000;
/// And this many.
const SAMPLES: u64 = 20;

/// First and last time.
#[derive(Clone, Copy, Debug)]
struct Seen {
    first: BootTime,
    last: BootTime,
}

/// What is usual here.
#[derive(Debug)]
pub(super) struct Baseline {
    jobs: Lru<Arc<PairKey>, Seen>,
    users: Lru<(u32, Place), Seen>,
    host: Lru<Place, Seen>,
    executables: Lru<(FileId, Text), Seen>,
    job_sizes: Lru<JobId, Sketch>,
    host_sizes: Option<Sketch>,
}

impl Baseline {
    pub(super) fn new() -> Self {
        Self {
            jobs: Lru::new(PLACES),
            users: Lru::new(PLACES),
            host: Lru::new(PLACES),
            executables: Lru::new(EXECUTABLES),
            job_sizes: Lru::new(SIZES),
            host_sizes: None,
        }
    }

    /// Notes a transfer, and tells when its parts were first seen (now, for a new one).
    pub(super) fn note(
        &mut self,
        key: &Arc<PairKey>,
        job: &Job,
        process: &Process,
        at: BootTime,
    ) -> FirstSeen {
        let executable = (process.executable.id, process.executable.path.clone());
        FirstSeen {
            job: first(&mut self.jobs, key, at),
            user: first(&mut self.users, &(job.uid, key.place.clone()), at),
            host: first(&mut self.host, &key.place, at),
            executable: first(&mut self.executables, &executable, at),
        }
    }

    /// Destinations known to the host.
    pub(super) fn known(&self) -> usize {
        self.host.len()
    }

    /// What was usual before an episode of `bytes`, which is then learnt.
    pub(super) fn learn(&mut self, job: &JobId, bytes: u64, at: BootTime) -> Usual {
        let (of_job, _) = self.job_sizes.entry(job, || Sketch::new(at));
        let of_host = self.host_sizes.get_or_insert_with(|| Sketch::new(at));
        Usual {
            job: teach(of_job, bytes, at),
            host: teach(of_host, bytes, at),
        }
    }

    /// Known destinations and executables, and sizes, forgotten for lack of room.
    pub(super) fn evicted(&self) -> (u64, u64) {
        let places = self.jobs.evicted() + self.users.evicted() + self.host.evicted();
        (
            places + self.executables.evicted(),
            self.job_sizes.evicted(),
        )
    }
}

fn first<K: Clone + Eq + std::hash::Hash>(
    map: &mut Lru<K, Seen>,
    key: &K,
    at: BootTime,
) -> BootTime {
    let (seen, _) = map.entry(key, || Seen {
        first: at,
        last: at,
    });
    if at.saturating_sub(seen.last) > FORGET {
        seen.first = at;
    }
    seen.last = seen.last.max(at);
    seen.first
}

/// The mature 99th percentile before the sample, and the sample learnt. A size that is called unusual is learnt as the
/// usual one: else a few of them would be the usual. Growth below that is followed.
fn teach(sketch: &mut Sketch, bytes: u64, at: BootTime) -> Option<f64> {
    let old = at.saturating_sub(sketch.first()) >= MATURE && sketch.count() >= SAMPLES;
    let usual = if old { sketch.quantile(0.99) } else { None };
    let size = match usual {
        Some(usual) if super::signal::float(bytes) >= THRESHOLD * usual => round(usual),
        _ => bytes,
    };
    sketch.add(size, at);
    usual
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive size; the cast saturates"
)]
fn round(bytes: f64) -> u64 {
    bytes.round() as u64
}

#[cfg(test)]
mod tests {
    use super::{Baseline, FORGET, MATURE};
    use crate::detect::pair::PairKey;
    use crate::detect::tests::{destination, job, process};
    use crate::model::{Direction, JobId};
    use std::sync::Arc;

    #[test]
    fn places_are_remembered_for_a_while() {
        let mut baseline = Baseline::new();
        let (job, process) = (job("a"), process(1, 1, "/usr/bin/curl"));
        let key = Arc::new(PairKey::new(&job, &destination(1), Direction::Initiated));
        assert_eq!(baseline.note(&key, &job, &process, 5).host, 5);
        assert_eq!(baseline.note(&key, &job, &process, 9).host, 5);
        let late = 9 + FORGET + 1;
        assert_eq!(
            baseline.note(&key, &job, &process, late).host,
            late,
            "new again"
        );
        assert_eq!(baseline.known(), 1);
    }

    #[test]
    fn sizes_need_a_day_and_do_not_follow_a_burst() {
        let mut baseline = Baseline::new();
        let id = JobId("x".into());
        (0..100).for_each(|i| assert_eq!(baseline.learn(&id, 1000, i).job, None));
        let usual = baseline.learn(&id, 1_000_000, MATURE).job.unwrap();
        assert!((usual / 1000.0 - 1.0).abs() < 0.011);
        (0..50).for_each(|i| {
            baseline.learn(&id, 1_000_000, MATURE + i);
        });
        assert!(baseline.learn(&id, 1, MATURE + 60).job.unwrap() < 1100.0);
    }
}
