//! Quantiles of a stream whose past fades.
//!
//! `DDSketch` (Masson, Rim and Lee, "`DDSketch`: A fast and fully-mergeable quantile sketch with relative-error
//! guarantees", PVLDB 12(12), 2019): a value `v` is counted in bin `ceil(log_γ v)` with `γ = (1 + α) / (1 - α)`, and
//! a bin stands for `2 γ^i / (γ + 1)`, which is within `α` of everything in it. With more than `BINS` bins the lowest
//! are merged, so that high quantiles keep the guarantee.
//! Fading is forward decay (Cormode, Shkapenyuk, Srivastava and Xu, ICDE 2009): a newer sample weighs more, by
//! `2^(age / HALF_LIFE)`, which leaves every ratio as if the older ones had been halved.

use std::collections::BTreeMap;

use crate::model::BootTime;

/// Relative accuracy.
const ALPHA: f64 = 0.01;
/// Bins kept: a span of 1 to 168 at 1 %.
const BINS: usize = 256;
/// A sample counts half after this long, ns: a week.
const HALF_LIFE_NS: f64 = 7.0 * 86_400.0 * 1e9;
/// Exponent from which weights are scaled down again, far below the limits of f64.
const RESCALE: f64 = 256.0;

/// A sketch of positive values.
#[derive(Clone, Debug)]
pub(super) struct Sketch {
    bins: BTreeMap<i32, f64>,
    total: f64,
    /// Samples, not faded.
    count: u64,
    first: BootTime,
    /// Time at which a sample weighs one.
    origin: BootTime,
}

impl Sketch {
    /// An empty sketch, watched since `at`.
    pub(super) fn new(at: BootTime) -> Self {
        Self {
            bins: BTreeMap::new(),
            total: 0.0,
            count: 0,
            first: at,
            origin: at,
        }
    }

    /// Samples so far, not faded.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Since when.
    pub(super) fn first(&self) -> BootTime {
        self.first
    }

    /// Adds a value; 0 counts as 1.
    pub(super) fn add(&mut self, value: u64, at: BootTime) {
        let mut exponent = ns(at.saturating_sub(self.origin)) / HALF_LIFE_NS;
        if exponent > RESCALE {
            let scale = (-exponent).exp2();
            self.bins.values_mut().for_each(|weight| *weight *= scale);
            self.total *= scale;
            self.origin = at;
            exponent = 0.0;
        }
        let weight = exponent.exp2();
        *self.bins.entry(bin(value)).or_default() += weight;
        self.total += weight;
        self.count += 1;
        if self.bins.len() > BINS
            && let Some((_, lowest)) = self.bins.pop_first()
            && let Some(mut next) = self.bins.first_entry()
        {
            *next.get_mut() += lowest;
        }
    }

    /// The value below which a share `q` (0 to 1) of the faded samples lies; `None` when there are none.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q.clamp(0.0, 1.0) * self.total;
        let mut below = 0.0;
        self.bins
            .iter()
            .find(|(_, weight)| {
                below += **weight;
                below >= rank
            })
            .or_else(|| self.bins.last_key_value())
            .map(|(bin, _)| 2.0 * (f64::from(*bin) * gamma().ln()).exp() / (gamma() + 1.0))
    }
}

fn gamma() -> f64 {
    (1.0 + ALPHA) / (1.0 - ALPHA)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "one part in 2^52 is far below the sketch's accuracy; log_γ of a u64 is below 2,219"
)]
fn bin(value: u64) -> i32 {
    ((value.max(1) as f64).ln() / gamma().ln()).ceil() as i32
}

#[expect(
    clippy::cast_precision_loss,
    reason = "weights need no nanosecond precision"
)]
fn ns(time: u64) -> f64 {
    time as f64
}

#[cfg(test)]
mod tests {
    use super::{HALF_LIFE_NS, Sketch};

    fn about(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|f| (f / expected - 1.0).abs() <= 0.0101)
    }

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut sketch = Sketch::new(0);
        (1..=10_000).for_each(|v| sketch.add(v * 1000, 0));
        // 1 to 100 merges; the upper quantiles hold.
        assert!(about(sketch.quantile(0.5), 5_000_000.0));
        assert!(about(sketch.quantile(0.99), 9_900_000.0));
        assert!(about(sketch.quantile(1.0), 10_000_000.0));
        assert_eq!(Sketch::new(0).quantile(0.5), None);
    }

    #[test]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a constant that fits"
    )]
    fn the_past_fades() {
        let week = HALF_LIFE_NS as u64;
        let mut sketch = Sketch::new(0);
        (0..1000).for_each(|_| sketch.add(1_000_000, 0));
        (0..10).for_each(|_| sketch.add(1000, 4 * week));
        assert!(
            about(sketch.quantile(0.5), 1_000_000.0),
            "62 old against 10"
        );
        (0..10).for_each(|_| sketch.add(1000, 8 * week));
        assert!(about(sketch.quantile(0.5), 1000.0), "4 old against 10.6");
        // Far later: weights are rescaled, nothing overflows.
        sketch.add(5000, 10_000 * week);
        assert!(about(sketch.quantile(0.5), 5000.0));
        assert_eq!(sketch.count(), 1021);
    }

    #[test]
    fn extremes_are_held() {
        let mut sketch = Sketch::new(u64::MAX);
        sketch.add(0, 0);
        sketch.add(u64::MAX, u64::MAX);
        assert!(about(sketch.quantile(1.0), 18_446_744_073_709_551_615.0));
    }
}
