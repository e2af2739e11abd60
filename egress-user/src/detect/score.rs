//! From signals to a score, and to ATT&CK techniques.
//!
//! A score is 0 to 100. What makes a transfer exfiltration-like at all (nobody at a terminal, regular, outward) gives at most 40; what makes
//! it suspicious at most 60. The default `min_score` of 50 thus always needs a suspicious trait, and one that is
//! more than faint: a cron job that uses an ssh key (source score 0.1 to 0.2) stays at 48 or below.

use super::signal::source::STRONG;
use crate::model::{Destination, Signal, SignalKind, Transport};

/// Points of each signal at score 1. Cadence and chunking share theirs: the larger counts.
const AUTOMATION: f64 = 15.0;
const REGULARITY: f64 = 15.0;
const ASYMMETRY: f64 = 10.0;
const SOURCE: f64 = 40.0;
const NOVELTY: f64 = 20.0;
const VOLUME: f64 = 20.0;
const DISGUISE: f64 = 20.0;
/// Suspicious traits together count at most this.
const SUSPICION: f64 = 60.0;

/// The signals of one judgement.
pub(super) struct Signals {
    pub(super) automation: Signal,
    pub(super) cadence: Signal,
    pub(super) chunking: Signal,
    pub(super) asymmetry: Signal,
    pub(super) novelty: Signal,
    pub(super) source: Signal,
    pub(super) volume: Signal,
    pub(super) disguise: Signal,
}

impl Signals {
    /// Regular: at a beat, or in pieces.
    pub(super) fn regular(&self) -> bool {
        self.cadence.holds || self.chunking.holds
    }

    /// Sensitive data was read, and makes up what was sent.
    pub(super) fn strong_source(&self) -> bool {
        self.source.holds && self.source.score >= STRONG
    }

    fn suspicion(&self) -> f64 {
        let traits = [
            (&self.source, SOURCE),
            (&self.novelty, NOVELTY),
            (&self.volume, VOLUME),
            (&self.disguise, DISGUISE),
        ];
        // A trait that does not hold adds nothing: a sum of almosts is not a reason.
        traits
            .iter()
            .filter(|(signal, _)| signal.holds)
            .map(|(signal, points)| signal.score * points)
            .sum::<f64>()
            .min(SUSPICION)
    }

    /// The score of automated exfiltration.
    pub(super) fn automated(&self) -> u8 {
        points(
            self.automation.score * AUTOMATION
                + self.cadence.score.max(self.chunking.score) * REGULARITY
                + self.asymmetry.score * ASYMMETRY
                + self.suspicion(),
        )
    }

    /// The score of one bulk transfer, which needs no repetition: its size and the new place stand for it, 30 points.
    pub(super) fn bulk(&self) -> u8 {
        points(30.0 + self.asymmetry.score * ASYMMETRY + self.suspicion())
    }

    /// All, in the order in which people ask.
    pub(super) fn list(self) -> Vec<Signal> {
        vec![
            self.automation,
            self.cadence,
            self.chunking,
            self.asymmetry,
            self.novelty,
            self.source,
            self.volume,
            self.disguise,
        ]
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 100"
)]
fn points(sum: f64) -> u8 {
    sum.round().clamp(0.0, 100.0) as u8
}

/// ATT&CK techniques of automated exfiltration: T1020, with T1029 (Scheduled Transfer) at a beat, T1030 (Data Transfer Size Limits)
/// in pieces, and T1048 (Exfiltration Over Alternative Protocol) over what is not the web.
pub(super) fn techniques(signals: &[Signal], destination: &Destination) -> Vec<&'static str> {
    let holds = |kind| {
        signals
            .iter()
            .any(|signal| signal.kind == kind && signal.holds)
    };
    let parts = [
        (true, "T1020"),
        (holds(SignalKind::Cadence), "T1029"),
        (holds(SignalKind::Chunking), "T1030"),
        (alternative(destination), "T1048"),
    ];
    parts
        .iter()
        .filter_map(|(holds, id)| holds.then_some(*id))
        .collect()
}

/// A protocol that moves files, mail or names rather than pages: ICMP, FTP, SSH, SMTP, DNS, TFTP, SMB, rsync, NFS.
fn alternative(destination: &Destination) -> bool {
    let transport = destination.transport;
    [Transport::ICMP, Transport::ICMPV6].contains(&transport)
        || matches!(
            destination.port,
            20 | 21 | 22 | 25 | 53 | 69 | 445 | 465 | 587 | 853 | 873 | 989 | 990 | 2049
        )
}
