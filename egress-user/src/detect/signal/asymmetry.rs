//! Outward dominance: much more sent than received.

use super::{Bytes, float, share};
use crate::model::{Signal, SignalKind};

/// Sent twice as much as received. A TLS handshake's certificates (4 to 6 kB received) still leave an upload of
/// 20 kB far above; a request and its answer, or NTP (48 bytes each way), are below.
pub(in crate::detect) const THRESHOLD: f64 = 2.0 / 3.0;

/// `tx / (tx + rx)` of application bytes. The score rises from 0 at balance to 1 where 5 % come back.
pub(in crate::detect) fn judge(tx: u64, rx: u64) -> Signal {
    let value = share(float(tx), float(tx) + float(rx));
    Signal {
        kind: SignalKind::Asymmetry,
        holds: value >= THRESHOLD,
        score: ((value - 0.5) / 0.45).clamp(0.0, 1.0),
        value,
        threshold: THRESHOLD,
        baseline: None,
        sentence: format!(
            "{} sent and {} received: {:.0} % went out.",
            Bytes(tx),
            Bytes(rx),
            value * 100.0
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn outward_or_not() {
        assert!(judge(20_000, 200).holds);
        assert!(judge(20_000, 5_000).holds);
        assert!(!judge(48, 48).holds);
        assert!(!judge(300, 10_000_000).holds);
        assert!(!judge(0, 0).holds);
        assert!(judge(u64::MAX, u64::MAX).value < 0.51);
    }
}
