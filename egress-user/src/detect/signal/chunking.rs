//! Chunking: transfers of one size, as a split file makes them.

use super::{Bytes, float, len, share};
use crate::model::{Signal, SignalKind};

/// Share of one size from which it holds.
const THRESHOLD: f64 = 0.7;
/// Within this of the modal size counts as the same.
const TOLERANCE: f64 = 0.05;
/// Smaller than this is not a piece of anything, but a protocol's fixed message (NTP: 48 bytes).
const SMALLEST: u64 = 512;

/// `sizes`: application bytes of the recent episodes, oldest first. The value is the share within ±5 % of the modal
/// size. The score is 0.5 at the threshold and 1 when all are; a run of equal sizes that ends in one
/// shorter, the end of a split file, adds 0.2.
pub(in crate::detect) fn judge(sizes: &[u64], needed: usize) -> Signal {
    let (modal, count) = mode(sizes);
    let value = share(len(count), len(sizes.len()));
    let tails = short_tails(sizes, modal);
    let enough = sizes.len() >= needed;
    let sentence = if !enough {
        format!(
            "{} transfers are too few to tell one size; {needed} are needed.",
            sizes.len()
        )
    } else if modal < SMALLEST {
        format!(
            "{count} of {} transfers are about {}, too small for pieces of a file.",
            sizes.len(),
            Bytes(modal)
        )
    } else {
        format!(
            "{count} of {} transfers are within 5 % of {}; {tails} runs end in a shorter one.",
            sizes.len(),
            Bytes(modal)
        )
    };
    let pieces = enough && modal >= SMALLEST;
    let score = ((value - 0.4) / 0.6 + if tails > 0 { 0.2 } else { 0.0 }).clamp(0.0, 1.0);
    Signal {
        kind: SignalKind::Chunking,
        holds: pieces && value >= THRESHOLD,
        score: if pieces { score } else { 0.0 },
        value,
        threshold: THRESHOLD,
        baseline: Some(float(modal)),
        sentence,
    }
}

fn same(size: u64, modal: u64) -> bool {
    (float(size) - float(modal)).abs() <= TOLERANCE * float(modal)
}

/// The size with the most others within the tolerance, the largest of equals, and how many those are.
fn mode(sizes: &[u64]) -> (u64, usize) {
    // At most 64 sizes: the square of that is cheaper than being clever.
    sizes
        .iter()
        .map(|modal| {
            (
                sizes.iter().filter(|size| same(**size, *modal)).count(),
                *modal,
            )
        })
        .max()
        .map_or((0, 0), |(count, modal)| (modal, count))
}

/// Runs of at least two of the modal size with a shorter one behind.
fn short_tails(sizes: &[u64], modal: u64) -> usize {
    sizes
        .windows(3)
        .filter(|three| match three {
            [a, b, tail] => {
                same(*a, modal) && same(*b, modal) && *tail < modal && !same(*tail, modal)
            }
            _ => false,
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_split_file() {
        let sizes = [&[1_000_000; 5][..], &[300_000], &[1_000_000; 6]].concat();
        let signal = judge(&sizes, 12);
        assert!(signal.holds && signal.score > 0.9, "{signal:?}");
        assert_eq!(signal.baseline, Some(1_000_000.0));
        assert!(signal.sentence.contains("11 of 12") && signal.sentence.contains("1 runs"));
    }

    #[test]
    fn not_pieces() {
        assert!(!judge(&[48; 64], 12).holds, "a protocol's fixed message");
        assert!(!judge(&[4096; 3], 12).holds, "too few");
        let spread = (0..20).map(|i| 1000 * 2_u64.pow(i)).collect::<Vec<_>>();
        assert!(!judge(&spread, 12).holds);
        assert!(!judge(&[], 0).holds);
    }
}
