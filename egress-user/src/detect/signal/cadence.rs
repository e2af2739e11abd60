//! Cadence: transfers at a beat.
//!
//! Three tests, each blind to something that another sees: variation of the gaps (sees jitter), their concentration in
//! half an octave (sees past outliers), and the best period (sees past missed beats and foreign starts). All are put
//! into one currency, the chance that a sender without memory looks this regular; see [`super::chance`].

use super::{Span, chance, len, median};
use crate::model::{BootTime, Signal, SignalKind};

/// What is known of the starts.
pub(in crate::detect) struct Input<'a> {
    /// Starts of the recent episodes, ascending, ns.
    pub starts: &'a [BootTime],
    /// Starts that are needed.
    pub needed: usize,
    /// Each run was started by a scheduler: a beat is expected, and three starts cannot be proof of one by themselves.
    pub scheduled: bool,
}

/// Holds when chance does this less than once in 1,000 times.
const THRESHOLD: f64 = 3.0;
/// Under a scheduler: once in 20.
const THRESHOLD_SCHEDULED: f64 = 1.301_03;
/// Gaps from which the two tests that look at a distribution mean anything.
const MANY: usize = 5;
/// Gaps outside the half octave may take at most this share of the time, else they are pauses between bursts.
const TIME_SHARE: f64 = 0.5;

/// The middle gap between starts, ns.
pub(in crate::detect) fn period(starts: &[BootTime]) -> Option<u64> {
    let mut gaps = gaps(starts);
    gaps.sort_unstable();
    median(&gaps)
}

fn gaps(starts: &[BootTime]) -> Vec<u64> {
    starts
        .windows(2)
        .map(|pair| match pair {
            [a, b] => b.saturating_sub(*a).max(1),
            _ => 1,
        })
        .collect()
}

/// The value is the negative decimal logarithm of the chance, so 3 is "once in 1,000"; the score is 0.5 at the
/// threshold and 1 at twice that.
pub(in crate::detect) fn judge(input: &Input) -> Signal {
    let threshold = if input.scheduled {
        THRESHOLD_SCHEDULED
    } else {
        THRESHOLD
    };
    let gaps = gaps(input.starts);
    let Some(middle) = period(input.starts).filter(|_| input.starts.len() >= input.needed) else {
        return Signal {
            kind: SignalKind::Cadence,
            holds: false,
            score: 0.0,
            value: 0.0,
            threshold,
            baseline: None,
            sentence: format!(
                "{} transfers are too few to tell a beat; {} are needed.",
                input.starts.len(),
                input.needed
            ),
        };
    };
    let mut tests = vec![chance::of_variation(&gaps)];
    // The newest gaps alone: whatever came before the loop was started must not hide it.
    if let Some(newest) = gaps
        .len()
        .checked_sub(input.needed.max(MANY + 1) - 1)
        .filter(|skip| *skip > 0)
    {
        tests.push(chance::of_variation(gaps.get(newest..).unwrap_or_default()));
    }
    let mut found = String::new();
    if gaps.len() >= MANY {
        let (share, time, log10) = chance::of_concentration(&gaps);
        tests.push(if time >= TIME_SHARE { log10 } else { 0.0 });
        let (best, log10) = chance::of_best_period(input.starts, middle);
        tests.push(log10);
        found = format!(", {:.0} % of gaps within half an octave", share * 100.0);
        if let Some(best) = best.filter(|_| log10 < -threshold) {
            found = format!("{found}, best period {}", Span(round(best)));
        }
    }
    let best = tests.iter().copied().fold(0.0, f64::min);
    let value = (-(best + len(tests.len()).log10())).max(0.0);
    Signal {
        kind: SignalKind::Cadence,
        holds: value >= threshold,
        score: (value / (2.0 * threshold)).min(1.0),
        value,
        threshold,
        baseline: None,
        sentence: format!(
            "{} transfers, median gap {}, coefficient of variation {:.2}{found}: a sender without a beat looks like this once in 10^{value:.1} times.",
            input.starts.len(),
            Span(middle),
            chance::variation(&gaps),
        ),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive period; the cast saturates"
)]
fn round(ns: f64) -> u64 {
    ns.round() as u64
}

#[cfg(test)]
mod tests {
    use super::{Input, judge, period};
    use crate::model::Signal;

    const SECOND: u64 = 1_000_000_000;

    /// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016).
    struct Random(u64);

    impl Random {
        fn unit(&mut self) -> f64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let upper = u32::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32).unwrap();
            (f64::from(upper) + 0.5) / 4_294_967_296.0
        }

        /// An exponential gap with this mean.
        fn exponential(&mut self, mean: f64) -> f64 {
            -self.unit().ln() * mean
        }
    }

    /// Starts from gaps in seconds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "test figures are small and positive"
    )]
    fn starts(gaps: impl IntoIterator<Item = f64>) -> Vec<u64> {
        let mut at = 1000.0;
        let mut starts = vec![1000 * SECOND];
        for gap in gaps {
            at += gap;
            starts.push((at * 1e9) as u64);
        }
        starts
    }

    fn judged(starts: &[u64]) -> Signal {
        judge(&Input {
            starts,
            needed: 12,
            scheduled: false,
        })
    }

    /// Share of 1,000 seeded series that hold.
    fn rate(make: impl Fn(&mut Random) -> Vec<u64>) -> f64 {
        let held = (1..=1000_u32)
            .filter(|seed| {
                let mut random = Random(u64::from(*seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                judged(&make(&mut random)).holds
            })
            .count();
        super::len(held) / 1000.0
    }

    #[test]
    fn a_perfect_beat() {
        let signal = judged(&starts([3.0; 11]));
        assert!(signal.holds && signal.score > 0.99, "{signal:?}");
        assert_eq!(period(&starts([3.0; 11])), Some(3 * SECOND));
    }

    #[test]
    fn jitter_of_half_the_period() {
        let jittered = |n: u32| {
            move |r: &mut Random| {
                starts((0..n).map(|_| 60.0 * (0.5 + r.unit())).collect::<Vec<_>>())
            }
        };
        let (few, many) = (rate(jittered(11)), rate(jittered(23)));
        assert!(few > 0.5, "12 starts: {few}");
        assert!(many > 0.97, "24 starts: {many}");
    }

    #[test]
    fn a_fifth_of_the_beats_missed() {
        let missed = |r: &mut Random| {
            let beats = (0..30)
                .filter(|_| r.unit() > 0.2)
                .map(|beat| (1000 + beat * 10) * SECOND);
            beats.collect::<Vec<_>>()
        };
        let found = rate(missed);
        assert!(found > 0.99, "{found}");
    }

    #[test]
    fn a_third_of_the_starts_foreign() {
        let foreign = |r: &mut Random| {
            let mut starts = (0..40)
                .map(|beat| (1000 + beat * 10) * SECOND)
                .collect::<Vec<_>>();
            starts.extend(super::tests::starts(
                (0..12).map(|_| r.exponential(33.0)).collect::<Vec<_>>(),
            ));
            starts.sort_unstable();
            starts
        };
        let found = rate(foreign);
        assert!(found > 0.99, "{found}");
    }

    #[test]
    fn after_another_past() {
        // Forty starts at random, then a loop begins.
        let turned = |r: &mut Random| {
            let past = (0..40).map(|_| r.exponential(100.0)).collect::<Vec<_>>();
            starts(past.into_iter().chain([3.0; 12]))
        };
        let found = rate(turned);
        assert!(found > 0.99, "{found}");
    }

    #[test]
    fn chance_is_not_a_beat() {
        for n in [11, 23, 47, 63] {
            let held = rate(|r| starts((0..n).map(|_| r.exponential(5.0)).collect::<Vec<_>>()));
            assert!(held <= 0.002, "{n} gaps: {held}");
        }
    }

    #[test]
    fn bursts_are_not_a_beat() {
        for size in [2, 3, 5, 10] {
            let bursts = |r: &mut Random| {
                let gap = |i: u32, r: &mut Random| match i % size {
                    0 => r.exponential(600.0),
                    _ => r.exponential(1.0),
                };
                starts((1..60).map(|i| gap(i, r)).collect::<Vec<_>>())
            };
            let held = rate(bursts);
            assert!(held <= 0.01, "bursts of {size}: {held}");
        }
    }

    #[test]
    fn quick_series_are_not_a_beat() {
        // Ten within seconds of each other, then minutes of nothing.
        let series = |r: &mut Random| {
            let gap = |i: u32, r: &mut Random| match i % 10 {
                0 => r.exponential(600.0),
                _ => 0.4 + 1.2 * r.unit(),
            };
            starts((1..60).map(|i| gap(i, r)).collect::<Vec<_>>())
        };
        let held = rate(series);
        assert!(held <= 0.01, "{held}");
    }

    #[test]
    fn three_runs_under_a_scheduler() {
        let under = |gaps: &[f64]| {
            judge(&Input {
                starts: &starts(gaps.iter().copied()),
                needed: 3,
                scheduled: true,
            })
        };
        assert!(under(&[60.1, 59.8]).holds, "cron");
        assert!(!under(&[60.0, 80.0]).holds);
        assert!(!under(&[60.0]).holds, "too few");
    }

    #[test]
    fn hostile_times() {
        assert!(!judged(&[]).holds);
        assert!(judged(&[7; 20]).value.is_finite());
        assert!(
            judged(&[0, u64::MAX, 3, 0, u64::MAX, 1, 2, 3, 4, 5, 6, 7, 8, 9])
                .value
                .is_finite()
        );
    }
}
