//! The whole room, with synthetic flows: fixtures here, what must alert in `alerts`, what must not in `silence`,
//! how flows become episodes in `episodes`.

mod alerts;
mod episodes;
mod silence;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Detector, FileRead, Labels, Origins, Sources};
use crate::config;
use crate::model::{
    Alert, Attribution, BootTime, Coverage, Destination, Direction, FileId, FileRef, Flow,
    FlowDelta, FlowId, Identity, Job, JobId, Mark, Process, ProcessKey, Scheduler, Scope, Script,
    Text, Transport,
};

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const HOUR: u64 = 3600 * SECOND;
const DRAIN: u64 = SECOND / 10;

/// A process without a terminal.
pub(super) fn process(tgid: u32, start_ns: u64, path: &str) -> Process {
    Process {
        key: ProcessKey { tgid, start_ns },
        parent: None,
        executable: file(77, path, 1),
        name: Text::from(path).file_name().into(),
        args: Vec::new(),
        args_truncated: false,
        script: None,
        cwd: "/".into(),
        identity: Identity::default(),
        user_name: None,
        login_name: None,
        cgroup_id: 0,
        cgroup_path: "".into(),
        container: None,
        unit: None,
        netns: 0,
        stdio: Default::default(),
        start_ns,
        exec_id: Some(1),
        exec_ns: start_ns,
        exit_ns: None,
        seeded: false,
    }
}

/// A regular file with one name.
pub(super) fn file(ino: u64, path: &str, size: u64) -> FileRef {
    FileRef {
        id: FileId {
            dev: 1,
            ino,
            generation: 0,
        },
        path: path.into(),
        size,
        mode: 0o100_755,
        nlink: 1,
    }
}

/// `sh /opt/x.sh`, without scheduler or terminal.
pub(super) fn job(id: &str) -> Job {
    Job {
        id: JobId(id.into()),
        executable: "/usr/bin/curl".into(),
        script: Some(Arc::new(Script {
            path: "/opt/x.sh".into(),
            file: None,
            sha256: None,
        })),
        scheduler: Scheduler::None,
        uid: 1000,
        interactive: false,
    }
}

/// `203.0.113.host:443/tcp`.
pub(super) fn destination(host: u8) -> Destination {
    Destination {
        ip: [203, 0, 113, host].into(),
        port: 443,
        transport: Transport::TCP,
        scope: Scope::Public,
        domain: None,
        name: None,
    }
}

/// A lineage that knows what it is told.
#[derive(Default)]
struct Known {
    reads: BTreeMap<ProcessKey, Vec<FileRead>>,
    processes: BTreeMap<ProcessKey, Arc<Process>>,
}

impl Origins for Known {
    fn sources(&self, process: ProcessKey, since: BootTime) -> Sources {
        let reads = self.reads.get(&process).into_iter().flatten();
        Sources {
            files: reads.filter(|read| read.at >= since).cloned().collect(),
            complete: true,
        }
    }

    fn ancestors(&self, process: ProcessKey) -> Vec<Arc<Process>> {
        let mut found: Vec<Arc<Process>> = Vec::new();
        let mut next = Some(process);
        while let Some(process) = next.and_then(|key| self.processes.get(&key)) {
            found.push(Arc::clone(process));
            next = process.parent;
        }
        found
    }
}

/// A host, and a detector that watches it.
struct Host {
    detector: Detector,
    known: Known,
    now: BootTime,
    flows: u64,
    alerts: Vec<Alert>,
}

/// One connection.
struct Sent {
    app: u64,
    rx: u64,
    /// How long it takes, ns.
    takes: u64,
    direction: Direction,
}

impl Sent {
    fn out(app: u64) -> Self {
        Self {
            app,
            rx: 200,
            takes: SECOND / 20,
            direction: Direction::Initiated,
        }
    }
}

impl Host {
    fn new(change: impl FnOnce(&mut config::Detection)) -> Self {
        let mut config = config::Detection::default();
        change(&mut config);
        let labels = Labels::new(&config::Sensitive::default()).unwrap();
        Self {
            detector: Detector::new(&config, Arc::new(labels), 100 * SECOND),
            known: Known::default(),
            now: 100 * SECOND,
            flows: 0,
            alerts: Vec::new(),
        }
    }

    /// Lets time pass, with a tick each drain interval while something is going on.
    fn until(&mut self, at: BootTime) {
        while self.detector.stats().open_episodes > 0 && self.now + DRAIN < at {
            self.now += DRAIN;
            self.tick();
        }
        self.now = self.now.max(at);
        self.tick();
    }

    fn after(&mut self, gap: u64) {
        self.until(self.now + gap);
    }

    fn tick(&mut self) {
        let alerts = self.detector.tick(self.now, Coverage::Full, &self.known);
        self.alerts.extend(alerts);
    }

    fn next_flow(&mut self) -> FlowId {
        self.flows += 1;
        FlowId(self.flows)
    }

    fn observe(&mut self, flow: &Flow) {
        self.detector.observe(flow, &self.known);
    }

    /// A connection from now on: one delta at its end, then the tick.
    fn send(&mut self, who: &Arc<Process>, job: &Arc<Job>, to: &Arc<Destination>, sent: &Sent) {
        let id = self.next_flow();
        let mut flow = flow(id, who, job, to, self.now);
        flow.delta.direction = sent.direction;
        flow.delta.app_bytes = sent.app;
        flow.delta.wire_bytes = sent.app + 400;
        flow.delta.rx_bytes = sent.rx;
        flow.delta.last = self.now + sent.takes;
        flow.delta.closed = Some(self.now + sent.takes);
        self.observe(&flow);
        self.now += sent.takes;
        self.tick();
    }

    /// A new process of this name that runs the job; it read these files (inode, path, size).
    fn spawn(&mut self, path: &str, reads: &[(u64, &str, u64)]) -> Arc<Process> {
        let tgid = 1000 + u32::try_from(self.known.processes.len()).unwrap();
        let process = Arc::new(process(tgid, self.now - SECOND / 100, path));
        let reads = reads.iter().map(|(ino, path, size)| FileRead {
            file: file(*ino, path, *size),
            at: self.now,
            by: process.key,
        });
        self.known.reads.insert(process.key, reads.collect());
        self.known
            .processes
            .insert(process.key, Arc::clone(&process));
        process
    }
}

/// A flow that has moved nothing yet.
fn flow(
    id: FlowId,
    who: &Arc<Process>,
    job: &Arc<Job>,
    to: &Arc<Destination>,
    first: BootTime,
) -> Flow {
    Flow {
        delta: FlowDelta {
            id,
            cookie: id.0,
            owner: Some(who.key),
            owner_name: who.name.clone(),
            owner_uid: Some(job.uid),
            owner_gid: None,
            owner_login: None,
            owner_exec: Some(1),
            cgroup_id: 1,
            cgroup_path: "".into(),
            netns: 1,
            local: None,
            remote: None,
            transport: to.transport,
            family: 2,
            direction: Direction::Initiated,
            first,
            last: first,
            closed: None,
            app_bytes: 0,
            app_calls: 1,
            wire_bytes: 0,
            wire_packets: 1,
            rx_bytes: 0,
            mark: Mark::default(),
        },
        process: Some(Arc::clone(who)),
        job: Some(Arc::clone(job)),
        destination: Some(Arc::clone(to)),
        attribution: Attribution::Exact,
    }
}
