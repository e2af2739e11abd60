//! Volume: more than usual.

use super::{Bytes, float, share};
use crate::model::{Signal, SignalKind};

/// What is usual: the 99th percentile of episode sizes, `None` while too little is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::detect) struct Usual {
    /// Of this job.
    pub job: Option<f64>,
    /// Of this host.
    pub host: Option<f64>,
}

/// Times the usual from which it holds.
pub(in crate::detect) const THRESHOLD: f64 = 3.0;
/// Less than this is never much, bytes.
const FLOOR: u64 = 64 << 10;

/// `bytes` of one episode against the job's usual, or the host's while the job has none. The score doubles in steps:
/// 0.5 at three times the usual, 1 at nine.
pub(in crate::detect) fn judge(bytes: u64, usual: Usual) -> Signal {
    let (baseline, whose) = match usual {
        Usual { job: Some(job), .. } => (Some(job), "this job"),
        Usual { host, .. } => (host, "this host"),
    };
    let value = baseline.map_or(0.0, |usual| share(float(bytes), usual));
    let much = bytes >= FLOOR;
    let score = if much && value > 1.0 {
        (value.ln() / (2.0 * THRESHOLD.ln())).min(1.0)
    } else {
        0.0
    };
    Signal {
        kind: SignalKind::Volume,
        holds: much && value >= THRESHOLD,
        score,
        value,
        threshold: THRESHOLD,
        baseline,
        sentence: match baseline {
            Some(usual) => format!(
                "{} in the last transfer, {value:.1} times the {} below which 99 % of {whose}'s are.",
                Bytes(bytes),
                Bytes(round(usual))
            ),
            None => "Too little is known of the usual sizes here to compare with.".to_string(),
        },
    }
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
    use super::{Usual, judge};

    #[test]
    fn against_the_job_then_the_host() {
        let usual = Usual {
            job: Some(100_000.0),
            host: Some(1e9),
        };
        assert!(judge(400_000, usual).holds);
        assert!(!judge(200_000, usual).holds);
        let host = Usual { job: None, ..usual };
        assert!(!judge(400_000, host).holds);
        assert!(!judge(u64::MAX, Usual::default()).holds, "no baseline");
        let tiny = Usual {
            job: Some(10.0),
            host: None,
        };
        assert!(!judge(1000, tiny).holds, "never much");
    }
}
