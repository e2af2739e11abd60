//! Signals: each a pure function of a plain input.
//!
//! In: figures of a pair of job and destination. Out: a [`Signal`](crate::model::Signal) with a score from 0 to 1,
//! the value, its threshold, the baseline, and one sentence with the figures.

pub(super) mod asymmetry;
pub(super) mod automation;
pub(super) mod cadence;
pub(super) mod chance;
pub(super) mod chunking;
pub(super) mod disguise;
pub(super) mod novelty;
pub(super) mod source;
pub(super) mod volume;

use std::fmt;

/// Bytes for people: decimal units.
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(
            f,
            self.0,
            &[
                (1_000_000_000_000, "TB"),
                (1_000_000_000, "GB"),
                (1_000_000, "MB"),
                (1_000, "kB"),
                (1, "B"),
            ],
        )
    }
}

/// A duration in ns, for people.
pub(super) struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(
            f,
            self.0,
            &[
                (86_400_000_000_000, "d"),
                (3_600_000_000_000, "h"),
                (60_000_000_000, "min"),
                (1_000_000_000, "s"),
                (1_000_000, "ms"),
                (1, "ns"),
            ],
        )
    }
}

fn scaled(f: &mut fmt::Formatter<'_>, value: u64, units: &[(u64, &str)]) -> fmt::Result {
    match units.iter().find(|(unit, _)| value >= *unit) {
        Some((1, name)) => write!(f, "{value} {name}"),
        Some((unit, name)) => write!(f, "{:.1} {name}", float(value) / float(*unit)),
        None => write!(f, "0 {}", units.last().map_or("", |(_, name)| name)),
    }
}

/// A count or a time as a real number.
#[expect(
    clippy::cast_precision_loss,
    reason = "one part in 2^52; no judgement is that fine"
)]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

/// The length of something in memory as a real number.
#[expect(
    clippy::cast_precision_loss,
    reason = "one part in 2^52; no judgement is that fine"
)]
pub(super) fn len(value: usize) -> f64 {
    value as f64
}

/// `part / whole`, 0 when there is no whole.
pub(super) fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// The middle one of a sorted list, the upper of two.
pub(super) fn median(sorted: &[u64]) -> Option<u64> {
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Span};

    #[test]
    fn figures_are_readable() {
        assert_eq!(Bytes(0).to_string(), "0 B");
        assert_eq!(Bytes(20_480).to_string(), "20.5 kB");
        assert_eq!(Bytes(u64::MAX).to_string(), "18446744.1 TB");
        assert_eq!(Span(3_000_000_000).to_string(), "3.0 s");
        assert_eq!(Span(999).to_string(), "999 ns");
    }
}
