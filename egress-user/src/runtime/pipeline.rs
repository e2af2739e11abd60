//! One round: observations through lineage, attribution and detection to the outlets.

use std::sync::Arc;

use super::flow_records::FlowRecords;
use crate::attribution::Attribution;
use crate::config::{Config, FileRecords};
use crate::detect::{Detector, Labels};
use crate::lineage::Lineage;
use crate::model::{
    BootTime, Coverage, Event, Events, FileAccess, Flow, Health, HookState, HookStatus,
    KernelTotals, LostDetail, Observation, Origin, ProcessKey, Record, Scope,
};
use crate::outlet::Outlets;

/// The stages, in order.
pub struct Pipeline {
    config: Config,
    labels: Arc<Labels>,
    lineage: Lineage,
    attribution: Attribution,
    detector: Detector,
    flows: FlowRecords,
    outlets: Outlets,
    started: BootTime,
    /// Lost detail at the last health record, and at the last round.
    lost_before: u64,
    lost_seen: u64,
}

/// What the sensor says of itself, for a health record.
pub struct SensorHealth {
    /// Hooks.
    pub hooks: Vec<HookStatus>,
    /// Detail lost since start.
    pub lost: Vec<LostDetail>,
    /// Events, by kind.
    pub events: Vec<Events>,
    /// Slots in use.
    pub live_flows: u64,
}

impl Pipeline {
    /// Builds the stages. `started` is when the hooks were attached.
    ///
    /// # Errors
    /// A glob of the configuration that does not compile.
    pub fn new(
        config: &Config,
        started: BootTime,
        outlets: Outlets,
    ) -> Result<Self, globset::Error> {
        let labels = Arc::new(Labels::new(&config.sensitive)?);
        Ok(Self {
            lineage: Lineage::new(&config.limits),
            attribution: Attribution::new(&config.networks),
            detector: Detector::new(&config.detection, Arc::clone(&labels), started)
                .with_pairs(config.limits.pairs),
            flows: FlowRecords::new(config.events.flow_interval),
            labels,
            outlets,
            started,
            lost_before: 0,
            lost_seen: 0,
            config: config.clone(),
        })
    }

    /// Takes what was there before us.
    pub fn seed(&mut self, observations: &[Observation]) {
        for observation in observations {
            self.lineage.observe(observation);
            self.attribution.observe(observation, &mut self.lineage);
        }
    }

    /// Takes one reading of the kernel's memory. What is over is judged when it is the last of a drain.
    pub fn round(
        &mut self,
        at: BootTime,
        observations: &[Observation],
        hooks: &[HookStatus],
        lost: u64,
    ) {
        for observation in observations {
            self.lineage.observe(observation);
            match &observation.event {
                Event::Exec(exec) if self.config.events.exec && exec.origin == Origin::Kernel => {
                    self.tell_exec(observation.at, exec.process);
                }
                Event::File(access) => self.tell_file(observation.at, access),
                _ => {}
            }
            let mut placed = self.attribution.observe(observation, &mut self.lineage);
            while let Some(flow) = placed.take().or_else(|| self.attribution.next_flow()) {
                self.place(&flow);
            }
        }
        let ticked = |end: &Observation| matches!(end.event, Event::Tick);
        let whole = observations.last().is_some_and(ticked);
        if whole {
            let coverage = coverage(hooks, lost > self.lost_seen);
            self.lost_seen = lost;
            for alert in self.detector.tick(at, coverage, &self.lineage) {
                self.outlets.publish(&Record::Alert(Arc::new(alert)));
            }
        }
        let outlets = &self.outlets;
        self.flows
            .flush(Some(at), |flow| outlets.publish(&Record::Flow(flow)));
    }

    /// Judges and tells bytes that have their place.
    fn place(&mut self, flow: &Arc<Flow>) {
        self.detector.observe(flow, &self.lineage);
        let loopback = flow
            .destination
            .as_ref()
            .is_some_and(|destination| destination.scope == Scope::Loopback);
        if self.config.events.loopback || !loopback {
            let outlets = &self.outlets;
            self.flows
                .add(flow, |flow| outlets.publish(&Record::Flow(flow)));
        }
    }

    fn tell_exec(&mut self, at: BootTime, key: ProcessKey) {
        let Some(process) = self.lineage.process(key).cloned() else {
            return;
        };
        let Some(job) = self.lineage.job(key) else {
            return;
        };
        let parent = process
            .parent
            .and_then(|parent| self.lineage.process(parent))
            .cloned();
        self.outlets.publish(&Record::Exec {
            at,
            process,
            parent,
            job,
        });
    }

    fn tell_file(&self, at: BootTime, access: &FileAccess) {
        if self.config.events.files == FileRecords::None {
            return;
        }
        let labels = self.labels.of(&access.file.path);
        if labels.is_empty() && self.config.events.files == FileRecords::Sensitive {
            return;
        }
        let process = self.lineage.process(access.process).cloned();
        self.outlets.publish(&Record::File {
            at,
            access: Arc::new(access.clone()),
            labels,
            process,
        });
    }

    /// Makes a health record. `totals` are of the same drain as the last round's observations.
    pub fn health(&mut self, at: BootTime, totals: KernelTotals, mut sensor: SensorHealth) {
        let (wire_bytes, app_bytes) = self.attribution.settle(totals);
        let kernel: u64 = total(&sensor.lost);
        sensor.lost.extend(self.outlets.lost());
        sensor.lost.extend(self.own_losses());
        let coverage = coverage(&sensor.hooks, kernel > self.lost_before);
        self.lost_before = kernel;
        let live_processes = self.lineage.stats().live as u64;
        let health = Health {
            at,
            started: self.started,
            wire_bytes,
            app_bytes,
            hooks: sensor.hooks,
            lost: sensor.lost,
            events: sensor.events,
            outlets: self.outlets.books(),
            coverage,
            live_flows: sensor.live_flows,
            live_processes,
        };
        self.outlets.publish(&Record::Health(Arc::new(health)));
    }

    /// What the stages themselves had to forget.
    fn own_losses(&self) -> Vec<LostDetail> {
        let lineage = self.lineage.stats();
        let attribution = self.attribution.stats();
        [
            ("ledger", attribution.overbooked),
            ("process", lineage.evicted_exited + lineage.evicted_live),
            ("file", lineage.evicted_files),
            ("pair", self.detector.stats().evicted.pairs),
        ]
        .into_iter()
        .map(|(kind, count)| LostDetail {
            kind,
            cause: "evicted",
            count,
        })
        .collect()
    }

    /// Closes the outlets, when they have written what they were told.
    pub fn close(self) {
        self.outlets.close();
    }

    /// Places and tells everything that still waits, for the last health record.
    pub fn finish(&mut self, at: BootTime) {
        self.attribution.finish(at, &mut self.lineage);
        while let Some(flow) = self.attribution.next_flow() {
            self.place(&flow);
        }
        let outlets = &self.outlets;
        self.flows
            .flush(None, |flow| outlets.publish(&Record::Flow(flow)));
    }
}

/// Sum of all counts: when it grows, something was lost.
#[must_use]
pub fn total(lost: &[LostDetail]) -> u64 {
    lost.iter().map(|lost| lost.count).sum()
}

fn coverage(hooks: &[HookStatus], lost: bool) -> Coverage {
    if lost || hooks.iter().any(|hook| hook.state != HookState::Ok) {
        Coverage::Degraded
    } else {
        Coverage::Full
    }
}
