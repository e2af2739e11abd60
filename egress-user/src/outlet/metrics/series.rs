//! A bounded number of series for an unbounded number of senders.
//!
//! In: bytes with their labels. Out: counters for the label sets that move the most, and one counter for the rest.
//!
//! Label sets are shown as they come until the budget is used. From then on, new ones are counted in `other` and watched;
//! every [`WINDOW`] one that has lately moved twice as much as the least of those shown takes its place. It starts from
//! zero, as its bytes so far are in `other`, and stays at least [`RESIDENCE`]. So each byte increases exactly one counter
//! exactly once, and no counter ever decreases: rates are right. The totals of a series that gave up its place leave the
//! exposition with it, and are summed apart ([`Series::retired`]).

use std::collections::HashMap;

use crate::model::{BootTime, Transport};

/// How often places are contested, ns. What was moved counts half after each.
pub const WINDOW: BootTime = 10_000_000_000;
/// How long a place is kept at least, ns: a series that comes and goes between scrapes would be misread.
pub const RESIDENCE: BootTime = 300_000_000_000;
/// Label sets that are watched for a place, at most. One more is not watched until a window has passed.
const WATCHED: usize = 4096;

/// What distinguishes series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels {
    /// Path, `unattributed` without a process, `unknown` for a process without a path.
    pub executable: String,
    /// As `egress.scope`; `unknown` without a destination.
    pub scope: String,
    /// As `egress.direction`.
    pub direction: &'static str,
    /// As `network.transport`.
    pub transport: Transport,
}

/// What a series counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes that send calls accepted.
    pub app_bytes: u64,
    /// Bytes at the IP layer.
    pub wire_bytes: u64,
    /// Packets.
    pub wire_packets: u64,
    /// Bytes that receive calls returned.
    pub rx_bytes: u64,
}

impl Moved {
    fn add(&mut self, more: Self) {
        self.app_bytes = self.app_bytes.saturating_add(more.app_bytes);
        self.wire_bytes = self.wire_bytes.saturating_add(more.wire_bytes);
        self.wire_packets = self.wire_packets.saturating_add(more.wire_packets);
        self.rx_bytes = self.rx_bytes.saturating_add(more.rx_bytes);
    }

    /// What places are contested by.
    fn weight(self) -> u64 {
        self.wire_bytes.max(self.app_bytes)
    }
}

#[derive(Debug)]
struct Shown {
    total: Moved,
    recent: u64,
    since: BootTime,
}

/// All series.
#[derive(Debug)]
pub struct Series {
    budget: usize,
    shown: HashMap<Labels, Shown>,
    watched: HashMap<Labels, u64>,
    other: Moved,
    retired: Moved,
    retirements: u64,
    window_end: BootTime,
}

impl Series {
    /// With a budget of label sets.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Self {
            budget,
            shown: HashMap::new(),
            watched: HashMap::new(),
            other: Moved::default(),
            retired: Moved::default(),
            retirements: 0,
            window_end: WINDOW,
        }
    }

    /// Counts bytes that had moved by `at`.
    pub fn add(&mut self, labels: Labels, moved: Moved, at: BootTime) {
        if at >= self.window_end {
            self.contest(at);
            self.decay(at);
        }
        let weight = moved.weight();
        if let Some(shown) = self.shown.get_mut(&labels) {
            shown.total.add(moved);
            shown.recent = shown.recent.saturating_add(weight);
        } else if self.shown.len() < self.budget {
            self.shown.insert(
                labels,
                Shown {
                    total: moved,
                    recent: weight,
                    since: at,
                },
            );
        } else {
            self.other.add(moved);
            if let Some(recent) = self.watched.get_mut(&labels) {
                *recent = recent.saturating_add(weight);
            } else if self.watched.len() < WATCHED {
                self.watched.insert(labels, weight);
            }
        }
    }

    /// Gives places of the least to those that moved more than twice as much.
    fn contest(&mut self, at: BootTime) {
        if self.watched.is_empty() {
            return;
        }
        let settled = |shown: &Shown| at.saturating_sub(shown.since) >= RESIDENCE;
        let mut least: Vec<(u64, Labels)> = self
            .shown
            .iter()
            .filter(|(_, shown)| settled(shown))
            .map(|(labels, shown)| (shown.recent, labels.clone()))
            .collect();
        least.sort_unstable();
        let mut most: Vec<(u64, Labels)> = self
            .watched
            .iter()
            .map(|(labels, recent)| (*recent, labels.clone()))
            .collect();
        most.sort_unstable_by(|a, b| b.cmp(a));
        for ((held, out), (recent, new)) in least.into_iter().zip(most) {
            if recent <= held.saturating_mul(2) {
                break;
            }
            if let Some(shown) = self.shown.remove(&out) {
                self.retired.add(shown.total);
                self.retirements += 1;
            }
            self.watched.remove(&new);
            self.shown.insert(
                new,
                Shown {
                    total: Moved::default(),
                    recent,
                    since: at,
                },
            );
        }
    }

    fn decay(&mut self, at: BootTime) {
        let windows = (at - self.window_end) / WINDOW + 1;
        let halved = |recent: u64| {
            recent
                .checked_shr(u32::try_from(windows).unwrap_or(u32::MAX))
                .unwrap_or(0)
        };
        self.window_end += windows * WINDOW;
        for shown in self.shown.values_mut() {
            shown.recent = halved(shown.recent);
        }
        self.watched.retain(|_, recent| {
            *recent = halved(*recent);
            *recent > 0
        });
        // Full of the small: make room for who comes, from the smallest up.
        if self.watched.len() >= WATCHED {
            let mut weights: Vec<u64> = self.watched.values().copied().collect();
            weights.sort_unstable();
            let median = weights.get(weights.len() / 2).copied().unwrap_or_default();
            self.watched.retain(|_, recent| *recent > median);
        }
    }

    /// Label sets that are shown, and what they moved while shown.
    pub fn shown(&self) -> impl Iterator<Item = (&Labels, Moved)> {
        self.shown
            .iter()
            .map(|(labels, shown)| (labels, shown.total))
    }

    /// What all others moved.
    #[must_use]
    pub fn other(&self) -> Moved {
        self.other
    }

    /// What series moved that gave up their places, and how many did.
    #[must_use]
    pub fn retired(&self) -> (Moved, u64) {
        (self.retired, self.retirements)
    }

    /// Label sets that may be shown, and that are.
    #[must_use]
    pub fn budget(&self) -> (usize, usize) {
        (self.budget, self.shown.len())
    }
}
