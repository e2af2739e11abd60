//! Who comes from what: processes, jobs, files.
//!
//! In: observations, in the order of their time. Out: for each process its image, its ancestors, its job and the files
//! that its bytes may come from. Memory is bounded; what had to be forgotten is counted by cause, and an answer that
//! is incomplete for it says so. The file system is read for the hashes of scripts only, the user data base for
//! names only: neither decides what a job is, so that a recording means the same on every host.

pub mod cgroup;
mod entry;
mod files;
mod image;
mod interpreter;
mod job;
mod observe;
mod pipes;
mod scheduler;
mod script;
mod sources;
mod staging;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod users;

use std::collections::HashMap;
use std::sync::Arc;

pub use files::is_clutter;
pub use script::{Hashed, HostScripts, NoScripts, ScriptReader};
pub use sources::{FileRead, Sources};

use files::Files;
use image::{Images, Texts};
use pipes::Pipes;
use staging::Staging;
use table::Table;
use users::Users;

use crate::model::{
    BootTime, FlowDelta, Identity, Job, JobId, Login, Observation, Process, ProcessKey, Text,
};

/// Reads remembered in all, for each file remembered; and as many again of processes that are gone.
const READS_PER_FILE: usize = 16;

/// Jobs kept to be shared; beyond that it begins anew, and only sharing suffers.
const JOBS: usize = 2048;

/// What is known of a process whose own records were lost.
#[derive(Clone, Debug, Default)]
pub struct Glimpse {
    /// Which.
    pub key: ProcessKey,
    /// `comm`, empty when not known.
    pub name: Text,
    /// Real uid.
    pub uid: Option<u32>,
    /// Real gid.
    pub gid: Option<u32>,
    /// Who had logged in.
    pub login: Option<Login>,
    /// Which image ([`Process::exec_id`]).
    pub exec_id: Option<u32>,
    /// cgroup v2 id, 0 when not known.
    pub cgroup_id: u64,
    /// Path of that cgroup, empty when not known.
    pub cgroup_path: Text,
    /// Network namespace, 0 when not known.
    pub netns: u32,
}

impl Glimpse {
    /// For whom the process acted then, as far as that is known; the rest as `identity` has it.
    fn identity(&self, mut identity: Identity) -> Identity {
        if let Some(uid) = self.uid
            && uid != identity.uid
        {
            (identity.uid, identity.euid) = (uid, uid);
        }
        identity.gid = self.gid.unwrap_or(identity.gid);
        if let Some(login) = self.login {
            (identity.loginuid, identity.session_id) = (login.uid, login.session_id);
        }
        identity
    }

    /// Whether an image says the same of who acts, and where.
    fn agrees(&self, process: &Process) -> bool {
        let same_place = self.cgroup_path.is_empty() || self.cgroup_id == process.cgroup_id;
        same_place && self.identity(process.identity) == process.identity
    }

    /// Tells an image for whom it acted, and where it had been moved to.
    fn apply(&self, process: &mut Process, users: &mut Users, at: BootTime) {
        process.identity = self.identity(process.identity);
        if self.uid.is_some() {
            process.user_name = users.name(process.identity.uid, at);
        }
        let loginuid = process.identity.loginuid;
        process.login_name = loginuid.and_then(|uid| users.name(uid, at));
        if self.cgroup_id != process.cgroup_id && !self.cgroup_path.is_empty() {
            let (container, unit) = cgroup::parse(self.cgroup_path.as_bytes());
            // What only another hierarchy told still holds when this one is silent again.
            let elsewhere = cgroup::parse(process.cgroup_path.as_bytes()).0.is_none();
            if container.is_some() || !(elsewhere && process.container.is_some()) {
                (process.container, process.unit) = (container, unit);
            }
            process.cgroup_path = self.cgroup_path.clone();
        }
        if self.cgroup_id != 0 {
            process.cgroup_id = self.cgroup_id;
        }
    }
}

/// Sizes now, and counts since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineageStats {
    /// Processes that live.
    pub live: usize,
    /// Processes that ended and are remembered.
    pub exited: usize,
    /// Files remembered.
    pub files: usize,
    /// Reads remembered.
    pub reads: usize,
    /// Pipes that somebody writes to.
    pub pipes: usize,
    /// Writers that are gone and whose sources are remembered.
    pub staged: usize,
    /// Processes forgotten because they ended long ago: no loss.
    pub aged: u64,
    /// Ended processes forgotten because the room was needed (`limits.processes`, or room for reads).
    pub evicted_exited: u64,
    /// Living processes forgotten because the room was needed.
    pub evicted_live: u64,
    /// Files forgotten because the room was needed (`limits.files`).
    pub evicted_files: u64,
    /// Sources of staged files forgotten because the room was needed.
    pub evicted_staged: u64,
    /// Reads not remembered because the process had 512.
    pub reads_capped: u64,
    /// Reads not remembered because there was no room at all.
    pub reads_refused: u64,
    /// Writers of a pipe not remembered because it had 64.
    pub pipe_writers_refused: u64,
    /// Processes first known because another record named them: their fork or exec was lost, or they are about to
    /// be read from `/proc`.
    pub implied: u64,
    /// Ends noticed only because the pid was used again.
    pub ends_missed: u64,
}

impl Glimpse {
    /// What the kernel side tells of a flow's owner, if it has one.
    #[must_use]
    pub fn of(delta: &FlowDelta) -> Option<Self> {
        Some(Self {
            key: delta.owner?,
            name: delta.owner_name.clone(),
            uid: delta.owner_uid,
            gid: delta.owner_gid,
            login: delta.owner_login,
            exec_id: delta.owner_exec,
            cgroup_id: delta.cgroup_id,
            cgroup_path: delta.cgroup_path.clone(),
            netns: delta.netns,
        })
    }
}

/// The memory of processes and files.
pub struct Lineage {
    table: Table,
    files: Files,
    pipes: Pipes,
    staging: Staging,
    images: Images,
    jobs: HashMap<JobId, Arc<Job>>,
    reads: usize,
    reads_limit: usize,
    next_sweep: BootTime,
    reads_capped: u64,
    reads_refused: u64,
    implied: u64,
}

impl Lineage {
    /// For this host: hashes scripts that its processes run, names its users.
    #[must_use]
    pub fn new(limits: &crate::config::Limits) -> Self {
        Self::with(limits, Box::new(HostScripts::new()), Users::host())
    }

    /// For a recording: touches neither files nor the user data base.
    #[must_use]
    pub fn offline(limits: &crate::config::Limits) -> Self {
        Self::with(limits, Box::new(NoScripts), Users::none())
    }

    fn with(limits: &crate::config::Limits, scripts: Box<dyn ScriptReader>, users: Users) -> Self {
        let reads_limit = limits.files.saturating_mul(READS_PER_FILE);
        let keep = u64::try_from(limits.exited.as_nanos()).unwrap_or(u64::MAX);
        Self {
            table: Table::new(limits.processes, keep),
            files: Files::new(limits.files),
            pipes: Pipes::default(),
            staging: Staging::new(reads_limit),
            images: Images {
                scripts,
                users,
                texts: Texts::default(),
            },
            jobs: HashMap::new(),
            reads: 0,
            reads_limit,
            next_sweep: 0,
            reads_capped: 0,
            reads_refused: 0,
            implied: 0,
        }
    }

    /// Takes an observation: forks, execs, exits and files; a tick lets what is old go. Flows and socket owners are
    /// not for this room.
    pub fn observe(&mut self, observation: &Observation) {
        self.take(observation);
        self.release();
    }

    /// The process, under its exact key or the one that `/proc` gives.
    #[must_use]
    pub fn process(&self, key: ProcessKey) -> Option<&Arc<Process>> {
        self.table.get(key).map(|entry| &entry.process)
    }

    /// The process as it was when it was seen: the image that it ran then, and the user whom it acted for then (it may
    /// have dropped privileges since its exec). If none of its records came, it is made from what is known.
    pub fn process_or(&mut self, glimpse: Glimpse, at: BootTime) -> Arc<Process> {
        let key = self.table.settle(glimpse.key);
        if let Some(entry) = self.table.get_mut(key) {
            if entry.blank && entry.process.name.is_empty() && !glimpse.name.is_empty() {
                let process = Arc::make_mut(&mut entry.process);
                process.name = glimpse.name.clone();
                process.netns = glimpse.netns;
                glimpse.apply(process, &mut self.images.users, at);
                entry.job = None;
            }
            let users = &mut self.images.users;
            let process = entry.as_seen(&glimpse, |process| glimpse.apply(process, users, at));
            self.table.touch(key, at);
            return process;
        }
        self.imply(glimpse, at)
    }

    /// The key under which a process is known: the kernel's, once the kernel has told it, for the one that `/proc`
    /// gave. `key` itself for an unknown process.
    #[must_use]
    pub fn resolve(&self, key: ProcessKey) -> ProcessKey {
        self.table.resolve(key)
    }

    /// Who made a process, and who made that: nearest first, without itself, at most 63. Those that ended are in it
    /// as long as they are remembered. Init's adoptions change nothing here.
    #[must_use]
    pub fn ancestors(&self, key: ProcessKey) -> Vec<Arc<Process>> {
        let line = self.table.line(key).skip(1);
        line.map(|(_, entry)| entry.process.clone()).collect()
    }

    /// The job of a process; `None` for an unknown process. Worked out once for each image.
    pub fn job(&mut self, key: ProcessKey) -> Option<Arc<Job>> {
        let filling = self.table.filling;
        if let Some((when, job)) = &self.table.get(key)?.job
            && *when == filling
        {
            return Some(job.clone());
        }
        let job = self.shared(job::describe(&self.table, key)?);
        self.table.get_mut(key)?.job = Some((filling, job.clone()));
        Some(job)
    }

    /// One [`Job`] for all processes that are of it.
    fn shared(&mut self, job: Job) -> Arc<Job> {
        if let Some(known) = self.jobs.get(&job.id)
            && **known == job
        {
            return Arc::clone(known);
        }
        if self.jobs.len() >= JOBS {
            self.jobs.clear();
        }
        let job = Arc::new(job);
        self.jobs.insert(job.id.clone(), Arc::clone(&job));
        job
    }

    /// Sizes and counts.
    #[must_use]
    pub fn stats(&self) -> LineageStats {
        LineageStats {
            live: self.table.len() - self.table.ended,
            exited: self.table.ended,
            files: self.files.len(),
            reads: self.reads,
            pipes: self.pipes.len(),
            staged: self.staging.len(),
            aged: self.table.forgotten.aged,
            evicted_exited: self.table.forgotten.ended,
            evicted_live: self.table.forgotten.alive,
            evicted_files: self.files.evicted,
            evicted_staged: self.staging.evicted,
            reads_capped: self.reads_capped,
            reads_refused: self.reads_refused,
            pipe_writers_refused: self.pipes.refused,
            implied: self.implied,
            ends_missed: self.table.ends_missed,
        }
    }
}
