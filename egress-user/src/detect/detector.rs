//! Flows to episodes, episodes to judgement.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ask::ask;
use super::baseline::Baseline;
use super::judge::{Bench, No, alert, nanos};
use super::labels::Labels;
use super::lru::Lru;
use super::origins::Origins;
use super::pair::{Moved, Pair, PairKey};
use super::signal::asymmetry;
use super::stats::{DetectStats, Evicted};
use crate::config;
use crate::model::{
    Alert, BlindKind, BootTime, Coverage, Destination, Direction, Flow, FlowDelta, FlowId, Job,
    JobId, Rule, Scope,
};

/// Pairs of job and destination held, unless [`Detector::with_pairs`] says otherwise.
pub const DEFAULT_PAIRS: usize = 10_000;
/// Flows held.
const FLOWS: usize = 32_768;
/// Jobs of which it is remembered that they use what hooks see only in part.
const BLIND_JOBS: usize = 4_096;
/// Longest drain interval, ns (`sensor.drain_interval` is at most 1 s).
const DRAIN: u64 = 1_000_000_000;

/// What is kept of a flow.
#[derive(Debug, Default)]
struct FlowState {
    /// Of which pair, once it has sent application data: the destination's name may be learnt later.
    pair: Option<Arc<PairKey>>,
    /// Number of its newest episode.
    episode: u64,
    /// Bytes before the first application data: the handshake.
    before: Moved,
    /// When something last moved, by the drain's clock.
    active: Option<BootTime>,
}

impl FlowState {
    /// When a new episode that begins with this delta began: exactly, when it is the flow's own beginning; else as
    /// the drain saw it.
    fn start(&self, delta: &FlowDelta, idle: u64) -> BootTime {
        let quiet = delta
            .last
            .saturating_sub(self.active.unwrap_or(delta.first));
        if self.episode == 0 && quiet <= idle.max(DRAIN) {
            delta.first.min(delta.last)
        } else {
            delta.last
        }
    }
}

/// Turns flows into alerts.
#[derive(Debug)]
pub struct Detector {
    config: config::Detection,
    sensitive: Arc<Labels>,
    started: BootTime,
    flows: Lru<FlowId, FlowState>,
    pairs: Lru<Arc<PairKey>, Pair>,
    /// Pairs with an episode going on, in an order that a replay shares.
    open: BTreeSet<Arc<PairKey>>,
    baseline: Baseline,
    /// When coverage was last degraded.
    degraded: Option<BootTime>,
    /// What jobs have used that hooks see only in part: what was not seen does not become seen with time.
    blind: Lru<JobId, BTreeSet<BlindKind>>,
    stats: DetectStats,
}

impl Detector {
    /// A detector that has seen nothing yet. `started`: since when the host is watched.
    #[must_use]
    pub fn new(config: &config::Detection, sensitive: Arc<Labels>, started: BootTime) -> Self {
        Self {
            config: config.clone(),
            sensitive,
            started,
            flows: Lru::new(FLOWS),
            pairs: Lru::new(DEFAULT_PAIRS),
            open: BTreeSet::new(),
            baseline: Baseline::new(),
            degraded: None,
            blind: Lru::new(BLIND_JOBS),
            stats: DetectStats::default(),
        }
    }

    /// With room for this many pairs (`limits.pairs`), at least one. Before the first flow.
    #[must_use]
    pub fn with_pairs(mut self, pairs: usize) -> Self {
        self.pairs = Lru::new(pairs);
        self
    }

    /// Takes bytes that moved, at `flow.delta.last`.
    pub fn observe(&mut self, flow: &Flow, origins: &dyn Origins) {
        let (Some(process), Some(job)) = (&flow.process, &flow.job) else {
            self.stats.ignored.unattributed += 1;
            return;
        };
        let Some(destination) = &flow.destination else {
            self.stats.ignored.no_destination += 1;
            return;
        };
        let delta = &flow.delta;
        if delta.direction == Direction::Listening {
            self.stats.ignored.listening += 1;
            return;
        }
        if self.ignores(destination) {
            self.stats.ignored.scope += 1;
            return;
        }
        let mut moved = Moved::of(delta);
        let (state, _) = self.flows.entry(&delta.id, FlowState::default);
        let start = state.start(delta, nanos(self.config.episode_idle));
        state.active = Some(delta.last);
        if state.pair.is_none() {
            state.before.add(moved);
            if delta.app_bytes == 0 {
                // Nothing was transferred (yet): a refused connection, a probe, a receiver.
                if delta.closed.is_some() {
                    self.flows.remove(&delta.id);
                }
                return;
            }
            moved = std::mem::take(&mut state.before);
        }
        let key = state
            .pair
            .get_or_insert_with(|| Arc::new(PairKey::new(job, destination, delta.direction)));
        if delta.app_bytes == 0 {
            let Some(pair) = self.pairs.get_mut(key) else {
                return;
            };
            match &pair.open {
                Some(open) if open.episode.number == state.episode => {
                    pair.add(flow, process, moved);
                }
                _ => pair.add_late(state.episode, moved),
            }
            return;
        }
        let key = Arc::clone(key);
        let new = || {
            Pair::new(
                Arc::clone(job),
                Arc::clone(process),
                Arc::clone(destination),
            )
        };
        let (pair, gone) = self.pairs.entry(&key, new);
        if let Some((gone, _)) = gone {
            self.stats.evicted.open_episodes += u64::from(self.open.remove(&gone));
        }
        let began = pair.open.is_none();
        if began {
            pair.seen = self.baseline.note(&key, job, process, start);
            pair.begin(start, process.key);
            self.open.insert(key);
        }
        state.episode = pair.begun;
        pair.add(flow, process, moved);
        if pair.begun == 1
            && began
            && let Some(open) = &mut pair.open
        {
            // Whoever handed the data on may be forgotten before a long transfer ends: ask as it begins, too.
            let asked = ask(origins, &self.sensitive, (job, process), &open.episode);
            open.episode.reading = asked.reading;
            pair.keep(asked.sensitive);
        }
    }

    /// A job uses something that hooks see only in part: its alerts say so.
    pub fn blind(&mut self, job: &Job, kind: BlindKind) {
        self.blind.entry(&job.id, BTreeSet::new).0.insert(kind);
    }

    fn ignores(&self, destination: &Destination) -> bool {
        let scope = match &destination.scope {
            Scope::Loopback => "loopback",
            Scope::Link => "link",
            Scope::Private => "private",
            Scope::Public => "public",
            Scope::Vm => "vm",
            Scope::Named(name) => name,
        };
        self.config
            .ignore_scopes
            .iter()
            .any(|ignored| ignored == scope)
    }

    /// Time passed: everything up to `at` has been observed, with this coverage. Judges what ended, and what grew large.
    pub fn tick(&mut self, at: BootTime, coverage: Coverage, origins: &dyn Origins) -> Vec<Alert> {
        if coverage == Coverage::Degraded {
            self.degraded = Some(at);
        }
        let idle = nanos(self.config.episode_idle);
        let due = self
            .open
            .iter()
            .filter_map(|key| {
                let open = self.pairs.get(key)?.open.as_ref()?;
                let over = open.over(at, idle);
                let large = !open.bulk_judged && open.episode.moved.app >= self.config.bulk_bytes;
                (over || large).then(|| (Arc::clone(key), over))
            })
            .collect::<Vec<_>>();
        let mut alerts = Vec::new();
        for (key, over) in due {
            self.judge(&key, over, at, origins, &mut alerts);
        }
        self.stats.alerts += alerts.len() as u64;
        alerts
    }

    /// Judges a pair whose episode is over, or has just grown large.
    fn judge(
        &mut self,
        key: &Arc<PairKey>,
        over: bool,
        at: BootTime,
        origins: &dyn Origins,
        alerts: &mut Vec<Alert>,
    ) {
        let Some(pair) = self.pairs.get_mut(key) else {
            return;
        };
        let Some(open) = &mut pair.open else { return };
        open.bulk_judged |= open.episode.moved.app >= self.config.bulk_bytes;
        let moved = open.episode.moved;
        let mut others = Vec::new();
        open.episode.reading.sent = moved.app;
        if asymmetry::judge(moved.app, moved.rx).holds {
            let asked = ask(
                origins,
                &self.sensitive,
                (&pair.job, &pair.process),
                &open.episode,
            );
            if asked.reading.score() >= open.episode.reading.score() {
                open.episode.reading = asked.reading;
            }
            others = asked.others;
            pair.keep(asked.sensitive);
        }
        let Some(episode) = pair.open.as_ref().map(|open| open.episode) else {
            return;
        };
        if over {
            let usual = self.baseline.learn(&key.job, moved.app, episode.end);
            pair.end(usual);
            self.open.remove(key);
            self.stats.episodes += 1;
        }
        let bench = Bench {
            config: &self.config,
            started: self.started,
            at,
            known: self.baseline.known(),
        };
        let blind = self.blind.get(&key.job).cloned().unwrap_or_default();
        let coverage = match self.degraded {
            Some(degraded) if degraded >= pair.first => Coverage::Degraded,
            _ if !blind.is_empty() => Coverage::Degraded,
            _ => Coverage::Full,
        };
        let [_, (told, _)] = pair.alerted;
        let mut verdicts = Vec::with_capacity(2);
        if told.is_none_or(|told| told < episode.start) {
            verdicts.push((
                Rule::SensitiveBulkTransfer,
                bench.bulk(pair, &episode, key.accepted),
            ));
        }
        if over {
            verdicts.push((
                Rule::AutomatedExfiltration,
                bench.automated(pair, key.accepted),
            ));
        }
        for (rule, verdict) in verdicts {
            match verdict {
                Ok(verdict) => {
                    let mut alert = alert((key, pair), rule, verdict, &others, (at, coverage));
                    alert.blind = blind.iter().copied().collect();
                    alerts.push(alert);
                }
                Err(No::Fresh) => self.stats.suppressed += 1,
                Err(No::Evidence) => {}
            }
        }
    }

    /// Counters since start.
    #[must_use]
    pub fn stats(&self) -> DetectStats {
        let (known, sizes) = self.baseline.evicted();
        DetectStats {
            pairs: self.pairs.len() as u64,
            open_episodes: self.open.len() as u64,
            evicted: Evicted {
                pairs: self.pairs.evicted(),
                flows: self.flows.evicted(),
                known,
                sizes,
                ..self.stats.evicted
            },
            ..self.stats
        }
    }

    /// A pair, for tests.
    #[cfg(test)]
    pub(super) fn pair(&self, key: &Arc<PairKey>) -> Option<&Pair> {
        self.pairs.get(key)
    }

    /// All pairs, for tests.
    #[cfg(test)]
    pub(super) fn all_pairs(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.values()
    }
}
