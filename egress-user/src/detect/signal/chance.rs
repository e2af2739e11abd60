//! How likely chance alone is to be this regular: the statistics behind the cadence.
//!
//! The null hypothesis everywhere is a sender without memory (a Poisson process: exponential gaps). Each function
//! returns an upper bound of the decimal logarithm of a probability, at most 0.

use std::f64::consts::{LOG10_E, PI, TAU};

use super::{float, len};

/// Smallest logarithm told: beyond it, "never".
const NEVER: f64 = -30.0;

fn bounded(log10: f64) -> f64 {
    if log10.is_nan() {
        0.0
    } else {
        log10.clamp(NEVER, 0.0)
    }
}

/// Coefficient of variation: population standard deviation over mean.
pub(super) fn variation(gaps: &[u64]) -> f64 {
    let n = len(gaps.len());
    let mean = gaps.iter().map(|g| float(*g)).sum::<f64>() / n;
    let variance = gaps.iter().map(|g| (float(*g) - mean).powi(2)).sum::<f64>() / n;
    variance.sqrt() / mean
}

/// The chance of a coefficient of variation at most this small.
///
/// `CV² = n Σ g² / (Σ g)² - 1` is Greenwood's statistic (M. Greenwood, JRSS 109, 1946) in other clothes. Divided by
/// their sum, exponential gaps are uniform on the simplex, and `CV ≤ c` is the ball of radius `c / √n` about its
/// centre: the probability is at most the ball's volume over the simplex's, and exactly that while the ball lies
/// inside (`c ≤ 1 / √(n - 1)`).
pub(super) fn of_variation(gaps: &[u64]) -> f64 {
    if gaps.len() < 2 {
        return 0.0;
    }
    let n = len(gaps.len());
    let d = n - 1.0;
    let ball =
        d / 2.0 * PI.ln() + d * (variation(gaps) / n.sqrt()).ln() - ln_gamma_half(gaps.len() - 1);
    let simplex = n.ln() / 2.0 - ln_factorial(gaps.len() - 1);
    bounded((ball - simplex) * LOG10_E)
}

/// `ln Γ(d / 2 + 1)`, by `Γ(x + 1) = x Γ(x)` down to `Γ(1) = 1` or `Γ(1/2) = √π`.
fn ln_gamma_half(d: usize) -> f64 {
    let start = if d.is_multiple_of(2) {
        0.0
    } else {
        PI.ln() / 2.0
    };
    (1..=d)
        .rev()
        .step_by(2)
        .map(|k| (len(k) / 2.0).ln())
        .sum::<f64>()
        + start
}

fn ln_factorial(n: usize) -> f64 {
    (1..=n).map(|k| len(k).ln()).sum()
}

/// Most of an exponential distribution that half an octave can hold: the maximum of `e^-a - e^(-a √2)`, at
/// `a = ln √2 / (√2 - 1)`.
const HALF_OCTAVE: f64 = 0.126_88;
/// Half octaves, a quarter apart, in which a memoryless sender's gaps can gather at all (two octaves each way).
const WINDOWS: f64 = 16.0;

/// The share of gaps in the fullest half octave (two neighbouring quarter-octave bins), their share of the time, and
/// the chance of such a gathering: the tail of a binomial, times the windows that could have held it (Bonferroni).
/// The logarithm of the share is the gaps' min-entropy, which a few outliers hardly move.
pub(super) fn of_concentration(gaps: &[u64]) -> (f64, f64, f64) {
    let mut bins = gaps
        .iter()
        .map(|g| (quarter_octave(*g), *g))
        .collect::<Vec<_>>();
    bins.sort_unstable();
    let (mut fullest, mut time) = (0_usize, 0.0);
    for (at, (bin, _)) in bins.iter().enumerate() {
        let window = bins
            .iter()
            .skip(at)
            .take_while(|(other, _)| other - bin <= 1);
        let count = window.clone().count();
        if count > fullest {
            fullest = count;
            time = window.map(|(_, g)| float(*g)).sum();
        }
    }
    let n = gaps.len();
    let tail = (fullest..=n)
        .map(|k| {
            (ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
                + len(k) * HALF_OCTAVE.ln()
                + len(n - k) * (1.0 - HALF_OCTAVE).ln())
            .exp()
        })
        .sum::<f64>();
    let total = gaps.iter().map(|g| float(*g)).sum::<f64>();
    (
        super::share(len(fullest), len(n)),
        super::share(time, total),
        bounded((tail * WINDOWS).log10()),
    )
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the logarithm of a u64 is at most 64"
)]
fn quarter_octave(gap: u64) -> i32 {
    (4.0 * float(gap.max(1)).log2()).floor() as i32
}

/// Frequencies tried at most.
const FREQUENCIES: usize = 512;
/// Frequencies tried for each independent one.
const OVERSAMPLING: f64 = 4.0;

/// The best period in ns, and the chance that one as good exists (Lord Rayleigh's test on the circle: `z = n R²`,
/// `p ≤ e^-z`; K. V. Mardia and P. E. Jupp, Directional Statistics, 2000, §6.3), times the frequencies tried (Bonferroni).
///
/// Missed beats cost nothing and foreign starts only dilute. Periods from 0.8 to 3 median gaps are tried, and starts
/// closer than a quarter of the median gap are one: otherwise bursts would pass for beats.
pub(super) fn of_best_period(starts: &[u64], median_gap: u64) -> (Option<f64>, f64) {
    let mut beats = Vec::with_capacity(starts.len());
    for start in starts {
        if beats
            .last()
            .is_none_or(|last| start.saturating_sub(*last) > median_gap / 4)
        {
            beats.push(*start);
        }
    }
    let (Some(first), Some(last)) = (beats.first(), beats.last()) else {
        return (None, 0.0);
    };
    let span = float(last.saturating_sub(*first));
    let gap = float(median_gap.max(1));
    let (low, step) = (1.0 / (3.0 * gap), 1.0 / (OVERSAMPLING * span));
    if !step.is_finite() || beats.len() < 4 {
        return (None, 0.0);
    }
    // From one frequency to the next each start turns by its own fixed angle: two multiplications, no sine.
    let mut turns = beats
        .iter()
        .map(|beat| {
            let at = float(beat - first);
            let (now, by) = (TAU * at * low, TAU * at * step);
            ([now.cos(), now.sin()], [by.cos(), by.sin()])
        })
        .collect::<Vec<_>>();
    let (mut tried, mut best, mut best_frequency) = (0_usize, 0.0, low);
    while tried < FREQUENCIES {
        let frequency = low + len(tried) * step;
        if frequency > 1.0 / (0.8 * gap) {
            break;
        }
        let [x, y] = turns
            .iter()
            .fold([0.0, 0.0], |[x, y], ([c, s], _)| [x + c, y + s]);
        let z = (x * x + y * y) / len(turns.len());
        if z > best {
            (best, best_frequency) = (z, frequency);
        }
        for ([c, s], [by_c, by_s]) in &mut turns {
            (*c, *s) = (*c * *by_c - *s * *by_s, *s * *by_c + *c * *by_s);
        }
        tried += 1;
    }
    let log10 = -best * LOG10_E + len(tried.max(1)).log10();
    (Some(1.0 / best_frequency), bounded(log10))
}

#[cfg(test)]
mod tests {
    use super::{ln_gamma_half, of_variation};

    #[test]
    fn the_gamma_function_at_half_steps() {
        // Γ(1) = 1, Γ(3/2) = √π / 2, Γ(2) = 1, Γ(5/2) = 3 √π / 4, Γ(6) = 120.
        let root = std::f64::consts::PI.sqrt();
        for (d, gamma) in [
            (0, 1.0),
            (1, root / 2.0),
            (2, 1.0),
            (3, root * 0.75),
            (10, 120.0),
        ] {
            assert!((ln_gamma_half(d).exp() - gamma).abs() < 1e-9, "{d}");
        }
    }

    #[test]
    fn two_gaps_have_a_known_chance() {
        // For two exponential gaps P(CV <= c) = c exactly.
        let c: f64 = (1100.0 - 900.0) / 2000.0;
        assert!((of_variation(&[900, 1100]) - c.log10()).abs() < 1e-9);
        assert_eq!(of_variation(&[7]).to_bits(), 0.0_f64.to_bits());
        assert!(of_variation(&[5, 5, 5]) < -20.0);
    }
}
