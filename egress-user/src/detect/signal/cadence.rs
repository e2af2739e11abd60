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
            found += &format!(", best period {}", Span(round(best)));
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
