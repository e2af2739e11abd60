//! Prometheus metrics.
//!
//! In: records, through [`MetricsOutlet`]. Out: one consistent text for each scrape, from [`Metrics::encode`]: everything is
//! updated and read under one lock, so that the ledger's sum holds within a scrape.
//!
//! No pid, port or address is a label; the number of series is bounded whatever the traffic (see [`series`]).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::registry::Registry;

use super::Outlet;
use super::shown::Escaped;
use crate::model::{BlindKind, Flow, GapReason, Health, Record, Rule};

mod collector;
mod format;
pub mod series;

pub use format::Format;
use series::{Labels, Moved, Series};

/// Longest executable in a label, characters; a longer one is cut, with `...` in place of its end.
const MAX_LABEL: usize = 200;

/// The metrics of this daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    numbers: Arc<Numbers>,
}

#[derive(Debug)]
struct Numbers(Mutex<State>);

/// Everything that a scrape tells.
#[derive(Debug)]
struct State {
    series: Series,
    health: Option<Arc<Health>>,
    alerts: BTreeMap<Rule, u64>,
    host_alerts: u64,
    execs: u64,
    /// Gaps, and their length, ns.
    gaps: BTreeMap<GapReason, (u64, u64)>,
    blind: BTreeMap<BlindKind, u64>,
}

impl Numbers {
    /// A panic while the lock was held leaves figures that are at worst one record behind.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    /// With at most `top` label sets for each metric that has open-ended labels, and one more for the rest.
    #[must_use]
    pub fn new(top: usize) -> Self {
        let numbers = Arc::new(Numbers(Mutex::new(State {
            series: Series::new(top),
            health: None,
            alerts: [
                (Rule::AutomatedExfiltration, 0),
                (Rule::SensitiveBulkTransfer, 0),
            ]
            .into(),
            host_alerts: 0,
            execs: 0,
            gaps: [
                (GapReason::NotRunning, (0, 0)),
                (GapReason::Upgrade, (0, 0)),
            ]
            .into(),
            blind: BlindKind::ALL.map(|kind| (kind, 0)).into(),
        })));
        let mut registry = Registry::with_prefix("egress");
        registry.register_collector(Box::new(Arc::clone(&numbers)));
        Self { registry, numbers }
    }

    /// The outlet that feeds these metrics.
    #[must_use]
    pub fn outlet(&self) -> MetricsOutlet {
        MetricsOutlet(Arc::clone(&self.numbers))
    }

    /// All metrics, as of one moment.
    #[must_use]
    pub fn encode(&self, format: Format) -> String {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            // A String takes everything; only a metric that cannot be encoded leads here, and tests encode them all.
            log::error!("metrics: cannot be encoded; this is a bug");
        }
        format.of(text)
    }
}

/// Feeds [`Metrics`].
#[derive(Debug)]
pub struct MetricsOutlet(Arc<Numbers>);

impl Outlet for MetricsOutlet {
    fn name(&self) -> &'static str {
        "metrics"
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Flow(flow) => {
                let labels = labels(flow);
                let moved = Moved {
                    app_bytes: flow.delta.app_bytes,
                    wire_bytes: flow.delta.wire_bytes,
                    wire_packets: flow.delta.wire_packets,
                    rx_bytes: flow.delta.rx_bytes,
                };
                self.0.lock().series.add(labels, moved, flow.delta.last);
            }
            Record::Exec { .. } => self.0.lock().execs += 1,
            Record::File { .. } => {}
            Record::Blind { using, .. } => *self.0.lock().blind.entry(using.kind).or_default() += 1,
            Record::Health(health) => self.0.lock().health = Some(Arc::clone(health)),
            Record::HostAlert(_) => self.0.lock().host_alerts += 1,
            Record::Alert(alert) => *self.0.lock().alerts.entry(alert.rule).or_default() += 1,
            Record::Gap(gap) => {
                let mut state = self.0.lock();
                let (count, length) = state.gaps.entry(gap.reason).or_default();
                *count += 1;
                *length += gap.end.saturating_sub(gap.start);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn labels(flow: &Flow) -> Labels {
    let executable = match &flow.process {
        None => "unattributed".to_owned(),
        Some(process) if process.executable.path.is_empty() => "unknown".to_owned(),
        Some(process) => short(process.executable.path.to_string()),
    };
    let scope = flow.scope().map_or("unknown", super::words::scope);
    Labels {
        executable,
        scope: Escaped(scope).to_string(),
        direction: super::words::direction(flow.delta.direction),
        transport: flow.delta.transport,
    }
}

fn short(path: String) -> String {
    match path.char_indices().nth(MAX_LABEL) {
        Some((end, _)) => format!("{}...", path.get(..end).unwrap_or_default()),
        None => path,
    }
}

#[cfg(test)]
mod tests;
