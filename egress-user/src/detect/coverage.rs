//! Whether we see less than we did: an alert of its own, about this host.
//!
//! In: health records, one after the other. Out: a [`HostAlert`] when bytes leave that no hook sees, when much of what is
//! sent has no process, when a hook that worked does not, or when detail begins to be lost; again only when that has
//! grown tenfold, or after it had been over for a minute.

use std::collections::BTreeMap;

use super::judge::short_hash;
use crate::config::Detection;
use crate::model::{
    BootTime, CoverageEvidence, CoverageLoss, Health, HookState, HostAlert, Reason,
};

/// What has not been seen for this long is over, ns.
const OVER_NS: u64 = 60_000_000_000;
/// Growth from which on what was told is told again.
const GROWTH: u64 = 10;
/// Losses of detail that are nobody's long path or argument list.
const LOSSES: [&str; 6] = [
    "ring_full",
    "table_full",
    "skipped",
    "no_cell",
    "queue_full",
    "write_failed",
];

/// Something that is wrong.
#[derive(Clone, Copy, Debug)]
struct Active {
    since: BootTime,
    last: BootTime,
    /// How much it was when it was told.
    told: u64,
}

/// What the last health record said.
#[derive(Clone, Debug, Default)]
struct Before {
    at: BootTime,
    total: u64,
    unattributed: u64,
    unseen: u64,
    lost: u64,
    working: Vec<&'static str>,
}

/// What is wrong in one interval.
struct Found {
    kind: CoverageLoss,
    /// Bytes or times, to tell growth by.
    amount: u64,
    value: f64,
    threshold: f64,
    sentence: String,
}

/// Watches.
#[derive(Debug)]
pub struct CoverageWatch {
    percent: u8,
    min_bytes: u64,
    before: Before,
    /// Unseen bytes up to here are told, or were too few.
    unseen_base: u64,
    /// Hooks that broke, until they work again.
    broken: Vec<&'static str>,
    active: BTreeMap<CoverageLoss, Active>,
    raised: u64,
}

impl CoverageWatch {
    /// With the thresholds of the configuration. `started` is when the hooks were attached.
    #[must_use]
    pub fn new(config: &Detection, started: BootTime) -> Self {
        Self {
            percent: config.unattributed_percent,
            min_bytes: config.coverage_min_bytes,
            before: Before {
                at: started,
                ..Before::default()
            },
            unseen_base: 0,
            broken: Vec::new(),
            active: BTreeMap::new(),
            raised: 0,
        }
    }

    /// Judges one record.
    pub fn judge(&mut self, health: &Health) -> Option<HostAlert> {
        let now = snapshot(health);
        let found: Vec<Found> = [
            self.hooks(health),
            self.unseen(health, &now),
            self.unattributed(health, &now),
            self.lost(health, &now),
        ]
        .into_iter()
        .flatten()
        .collect();
        let since = self.before.at;
        let mut news = false;
        for found in &found {
            let active = self.active.entry(found.kind).or_insert(Active {
                since,
                last: health.at,
                told: 0,
            });
            active.last = health.at;
            if active.told == 0 || found.amount / GROWTH >= active.told {
                active.told = found.amount.max(1);
                news = true;
            }
        }
        self.active
            .retain(|_, active| health.at.saturating_sub(active.last) < OVER_NS);
        if !self.active.contains_key(&CoverageLoss::Unseen) && now.unseen == self.before.unseen {
            // Over: what was told is not told again. What is below the floor goes on adding up.
            if now.unseen.saturating_sub(self.unseen_base) >= self.min_bytes {
                self.unseen_base = now.unseen;
            }
        }
        self.before = now;
        news.then(|| self.alert(health.at, found))
    }

    fn hooks(&mut self, health: &Health) -> Option<Found> {
        let works = |name: &str| {
            health
                .hooks
                .iter()
                .any(|hook| hook.hook == name && hook.state == HookState::Ok)
        };
        let before = std::mem::take(&mut self.before.working);
        self.broken
            .extend(before.iter().filter(|hook| !works(hook)));
        self.broken.retain(|hook| !works(hook));
        self.broken.sort_unstable();
        self.broken.dedup();
        let gives: Vec<_> = health
            .hooks
            .iter()
            .filter(|hook| self.broken.contains(&hook.hook))
            .map(|hook| format!("{} ({})", hook.hook, hook.gives))
            .collect();
        let count = self.broken.len();
        (count > 0).then(|| Found {
            kind: CoverageLoss::Hook,
            // Each one more is news.
            amount: GROWTH.saturating_pow(u32::try_from(count).unwrap_or(u32::MAX)),
            value: float(count as u64),
            threshold: 1.0,
            sentence: format!("No longer attached: {}.", gives.join(", ")),
        })
    }

    fn unseen(&self, health: &Health, now: &Before) -> Option<Found> {
        let interfaces = health.interfaces.as_ref()?;
        let bytes = now.unseen.saturating_sub(self.unseen_base);
        if bytes < self.min_bytes || now.unseen == self.before.unseen {
            return None;
        }
        let most = interfaces
            .devices
            .iter()
            .max_by_key(|device| device.transmitted.unseen);
        let most = most
            .filter(|device| device.transmitted.unseen > 0)
            .map(|device| {
                format!(
                    ", most of them through {} (index {}) in net:[{}]",
                    device.name, device.ifindex, device.netns
                )
            });
        Some(Found {
            kind: CoverageLoss::Unseen,
            amount: bytes,
            value: float(bytes),
            threshold: float(self.min_bytes),
            sentence: format!(
                "{bytes} bytes left that no hook saw{}: AF_XDP, packet sockets that bypass queues, or packets sent by XDP or \
                 a kernel module.",
                most.unwrap_or_default()
            ),
        })
    }

    fn unattributed(&self, health: &Health, now: &Before) -> Option<Found> {
        let total = now.total.saturating_sub(self.before.total);
        let bytes = now.unattributed.saturating_sub(self.before.unattributed);
        let share = u128::from(bytes) * 100;
        if bytes < self.min_bytes || share <= u128::from(total) * u128::from(self.percent) {
            return None;
        }
        let most = health
            .wire_bytes
            .unattributed
            .iter()
            .filter(|(reason, _)| **reason != Reason::InFlight)
            .max_by_key(|(_, bytes)| **bytes)
            .map_or("unknown", |(reason, _)| reason.name());
        Some(Found {
            kind: CoverageLoss::Unattributed,
            amount: bytes,
            value: float(bytes) / float(total.max(1)),
            threshold: f64::from(self.percent) / 100.0,
            sentence: format!(
                "{bytes} of {total} bytes of the last interval have no process; since the start most for the reason {most}."
            ),
        })
    }

    fn lost(&self, health: &Health, now: &Before) -> Option<Found> {
        let count = now.lost.saturating_sub(self.before.lost);
        let kinds: Vec<_> = health
            .lost
            .iter()
            .filter(|lost| lost.count > 0 && LOSSES.contains(&lost.cause))
            .map(|lost| format!("{} {} ({})", lost.count, lost.kind, lost.cause))
            .collect();
        (count > 0).then(|| Found {
            kind: CoverageLoss::Lost,
            amount: count,
            value: float(count),
            threshold: 1.0,
            sentence: format!(
                "{count} records were lost in the last interval; since the start: {}.",
                kinds.join(", ")
            ),
        })
    }

    fn alert(&mut self, at: BootTime, mut found: Vec<Found>) -> HostAlert {
        self.raised += 1;
        found.sort_by_key(|found| std::cmp::Reverse(score(found.kind)));
        let worst = found.first().map(|found| found.kind);
        let evidence = found.into_iter().map(|found| CoverageEvidence {
            since: self
                .active
                .get(&found.kind)
                .map_or(at, |active| active.since),
            kind: found.kind,
            value: found.value,
            threshold: found.threshold,
            sentence: found.sentence,
        });
        HostAlert {
            id: short_hash(&format!("coverage {at} {}", self.raised)),
            at,
            score: worst.map_or(0, score),
            techniques: match worst {
                // Disable or Modify Tools; Indicator Blocking.
                Some(CoverageLoss::Hook) => vec!["T1562.001"],
                _ => vec!["T1562.006"],
            },
            evidence: evidence.collect(),
        }
    }
}

/// What a health record says.
fn snapshot(health: &Health) -> Before {
    let reasons = health.wire_bytes.unattributed.iter();
    Before {
        at: health.at,
        total: health.wire_bytes.total,
        unattributed: reasons
            .filter(|(reason, _)| **reason != Reason::InFlight)
            .fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes)),
        unseen: health
            .interfaces
            .as_ref()
            .map_or(0, |interfaces| interfaces.total.unseen),
        lost: health
            .lost
            .iter()
            .filter(|lost| LOSSES.contains(&lost.cause))
            .fold(0, |sum, lost| sum.saturating_add(lost.count)),
        working: health
            .hooks
            .iter()
            .filter(|hook| hook.state == HookState::Ok)
            .map(|hook| hook.hook)
            .collect(),
    }
}

/// A hook does not go by itself; lost detail is mostly load.
fn score(kind: CoverageLoss) -> u8 {
    match kind {
        CoverageLoss::Hook => 80,
        CoverageLoss::Unseen => 70,
        CoverageLoss::Unattributed => 50,
        CoverageLoss::Lost => 40,
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people and for shares")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
