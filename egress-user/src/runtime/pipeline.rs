//! One round: observations through lineage, attribution and detection to the outlets.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::flow_records::FlowRecords;
use crate::attribution::Attribution;
use crate::config::{Config, FileRecords};
use crate::detect::{CoverageWatch, Detector, Labels};
use crate::lineage::{Glimpse, Lineage};
use crate::model::{
    BlindKind, BlindUse, BootTime, Counts, Coverage, Event, Events, FileAccess, Flow, FlowDelta,
    Gap, Health, HookState, HookStatus, Interfaces, KernelTotals, LostDetail, Observation, Origin,
    ProcessKey, Record, Scope,
};
use crate::outlet::{JournalCell, Outlets};

/// The stages, in order.
pub struct Pipeline {
    config: Config,
    labels: Arc<Labels>,
    lineage: Lineage,
    attribution: Attribution,
    detector: Detector,
    watch: CoverageWatch,
    flows: FlowRecords,
    outlets: Outlets,
    started: BootTime,
    attached: BootTime,
    /// Lost detail at the last health record, and at the last round.
    lost_before: u64,
    /// Uses of blind spots since the last health record.
    blind: BTreeMap<BlindKind, u64>,
    lost_seen: u64,
}

/// What the sensor says of itself, for a health record.
pub struct SensorHealth {
    /// Hooks.
    pub hooks: Vec<HookStatus>,
    /// Detail lost since start.
    pub lost: Vec<LostDetail>,
    /// What left through network devices since start.
    pub interfaces: Option<Interfaces>,
    /// Events, by kind.
    pub events: Vec<Events>,
    /// Slots in use.
    pub live_flows: u64,
    /// What the kernel side counted, and which maps that is of.
    pub counted: (u32, Counts),
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
            attribution: Attribution::new(&config.networks, config.limits.names),
            detector: Detector::new(&config.detection, Arc::clone(&labels), started)
                .with_pairs(config.limits.pairs),
            watch: CoverageWatch::new(&config.detection, started),
            flows: FlowRecords::new(config.events.flow_interval),
            labels,
            outlets,
            started,
            attached: started,
            lost_before: 0,
            blind: BTreeMap::new(),
            lost_seen: 0,
            config: config.clone(),
        })
    }

    /// Says that the hooks were attached by an earlier daemon, then.
    #[must_use]
    pub fn counting_since(self, attached: BootTime) -> Self {
        Self {
            attribution: self.attribution.watching_since(attached),
            attached,
            ..self
        }
    }

    /// Takes who uses the slots that an earlier daemon left: before [`Self::seed`], whose processes have starts that
    /// are cut, so that they are known by the same keys as before.
    pub fn know(&mut self, owners: &[FlowDelta], at: BootTime) {
        for glimpse in owners.iter().filter_map(Glimpse::of) {
            self.lineage.process_or(glimpse, at);
        }
    }

    /// Tells of a time without a daemon.
    pub fn gap(&self, gap: Gap) {
        self.outlets.publish(&Record::Gap(Arc::new(gap)));
    }

    /// Waits until everything told so far is written. `false` when an outlet does not move.
    #[must_use]
    pub fn flush(&self, timeout: std::time::Duration) -> bool {
        self.outlets.flush(timeout)
    }

    /// Where the outlets note what is told.
    #[must_use]
    pub fn journal(&self) -> &JournalCell {
        self.outlets.journal()
    }

    /// Takes what was there before us.
    pub fn seed(&mut self, observations: &[Observation]) {
        for observation in observations {
            self.lineage.observe(observation);
            self.attribution.observe(observation, &mut self.lineage);
            if let Event::Blind(using) = &observation.event {
                self.tell_blind(observation.at, using, &[]);
            }
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
                Event::Blind(using) => self.tell_blind(observation.at, using, hooks),
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
        } else {
            self.outlets.leave_out(&Record::Flow(Arc::clone(flow)));
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

    fn tell_blind(&mut self, at: BootTime, using: &BlindUse, hooks: &[HookStatus]) {
        // Where files are observed in the kernel's own open, the ones that io_uring opens are seen as well.
        let own_open = |hook: &HookStatus| {
            hook.state == HookState::Ok
                && ["lsm/", "fentry/"]
                    .iter()
                    .any(|kind| hook.method.starts_with(kind))
                && hook.method.ends_with("file_open")
        };
        if using.opens_file && hooks.iter().any(own_open) {
            return;
        }
        let job = self.lineage.job(using.process);
        if let Some(job) = &job {
            self.detector.blind(job, using.kind);
        }
        *self.blind.entry(using.kind).or_default() += 1;
        self.outlets.publish(&Record::Blind {
            at,
            using: Arc::new(using.clone()),
            process: self.lineage.process(using.process).cloned(),
            job,
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
        let names = self.attribution.stats().names;
        let live_names = (names.addresses + names.connections) as u64;
        let health = Health {
            at,
            started: self.started,
            attached: self.attached,
            epoch: sensor.counted.0,
            counted: sensor.counted.1,
            wire_bytes,
            app_bytes,
            interfaces: sensor.interfaces,
            hooks: sensor.hooks,
            lost: sensor.lost,
            blind: std::mem::take(&mut self.blind),
            events: sensor.events,
            outlets: self.outlets.books(),
            coverage,
            live_flows: sensor.live_flows,
            live_processes,
            live_names,
        };
        let alert = self.watch.judge(&health);
        self.outlets.publish(&Record::Health(Arc::new(health)));
        if let Some(alert) = alert {
            self.outlets.publish(&Record::HostAlert(Arc::new(alert)));
        }
    }

    /// What the stages themselves had to forget.
    fn own_losses(&self) -> Vec<LostDetail> {
        let lineage = self.lineage.stats();
        let attribution = self.attribution.stats();
        let evicted = [
            ("ledger", attribution.overbooked),
            ("process", lineage.evicted_exited + lineage.evicted_live),
            ("file", lineage.evicted_files),
            ("pair", self.detector.stats().evicted.pairs),
            ("name", attribution.names.evicted),
        ]
        .map(|(kind, count)| LostDetail {
            kind,
            cause: "evicted",
            count,
        });
        let names = [
            ("given_up", attribution.names.streams_given_up),
            ("gap", attribution.names.gaps),
            ("malformed_dns", attribution.names.malformed_dns),
            ("malformed_tls", attribution.names.malformed_tls),
            ("malformed_quic", attribution.names.malformed_quic),
            ("unowned", attribution.names.unowned),
        ]
        .map(|(cause, count)| LostDetail {
            kind: "name",
            cause,
            count,
        });
        evicted.into_iter().chain(names).collect()
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
