//! Sees: kernel records in, [`Observation`]s out.
//!
//! In: slots and rings that the eBPF programs fill, those that an earlier daemon left, and `/proc` and the socket
//! diagnostics for what was there before them. Out: [`Observation`]s in the order of their time. [`Sensor::poll`] reads
//! the slots first and the rings after, so that whoever owns a byte has been told before the byte.

pub mod attach;
pub mod blind;
pub mod bounded;
pub mod cgroups;
pub mod clock;
pub mod counters;
pub mod decode;
mod diag;
mod error;
pub mod fields;
pub mod flows;
pub mod gaps;
pub mod guard;
pub mod hooks;
pub mod interfaces;
pub mod keep;
pub mod live;
pub mod load;
mod mapped;
mod misses;
pub mod path_table;
pub mod paths;
pub mod pid_dir;
pub mod plan;
pub mod privilege;
mod probe;
pub mod proc;
mod program;
mod rings;
pub mod sockets;
mod start;
pub mod tracefs;
pub mod uses;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::Ebpf;
use aya::maps::MapData;
use aya_log::EbpfLogger;

pub use error::SensorError;

use cgroups::{CgroupPaths, CgroupRoot};
use counters::Counters;
use flows::Flows;
use interfaces::Interfaces;
use keep::Kept;
use keep::links::{Links, Trouble};
use keep::pins::Pins;
use misses::Misses;
use rings::Rings;
use start::Before;

use crate::model::{
    self, BootTime, Counts, Event, Events, FlowDelta, Gap, HookState, HookStatus, Journal,
    KernelTotals, LostDetail, MethodStatus, Observation, ProgramCost,
};

/// Cgroups whose paths are remembered.
const CGROUPS: usize = 4096;
/// Flows told in one reading: 1 MB of memory at most, whatever moves.
const FLOWS: usize = 4096;

/// Attached programs and the memory they fill. Dropping it detaches everything that this run made; what it took over
/// stays pinned until [`Self::end`].
pub struct Sensor {
    // Before `ebpf`, because fields drop in order: nothing reads memory whose programs are gone.
    flows: Flows,
    rings: Rings,
    counters: Counters,
    /// `None` without the hook that fills its map.
    interfaces: Option<Interfaces>,
    /// As of the last [`Self::measure`].
    measured: Option<model::Interfaces>,
    misses: Misses,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    hooks: Vec<HookStatus>,
    cgroup_root: CgroupRoot,
    cgroup_paths: CgroupPaths,
    links: Links,
    methods: Vec<MethodStatus>,
    btf: PathBuf,
    /// There are cgroup v1 hierarchies to ask as well.
    hybrid: bool,
    /// `None` once detached.
    ebpf: Option<Ebpf>,
    kept: Arc<Kept>,
    /// Where everything is pinned, if it is.
    pins: Option<Pins>,
    /// The pins are of this run: they end with it, whatever happens but a kill.
    made: bool,
    /// Maps that are to be pinned once an earlier daemon's are gone, by name.
    to_pin: Vec<(String, MapData)>,
    digest: [u8; 32],
    slots: u32,
    /// Since when the hooks count.
    attached: BootTime,
    gap: Option<Gap>,
    before: Option<Before>,
    /// Hooks that were found broken by the last check.
    broken: Vec<&'static str>,
}

/// One reading of the kernel's memory.
pub struct Drain {
    /// When the reading ended. Everything that happened before the reading began is in it.
    pub at: BootTime,
    /// What happened, in order; the last is [`Event::Tick`], unless there is more.
    pub observations: Vec<Observation>,
    /// There is more to read at once.
    pub more: bool,
    /// The kernel's totals, read after the slots.
    pub totals: KernelTotals,
    /// Everything that the kernel side counted, whoever told it.
    pub counted: Counts,
    /// Which maps that is of.
    pub epoch: u32,
}

impl Sensor {
    /// What was there before us: processes, then the sockets they hold, then the blind spots in use. To be called once,
    /// after [`Self::start`].
    #[must_use]
    pub fn seed(&self) -> Vec<Observation> {
        let root = Path::new("/proc");
        let (mut found, mut gaps) = proc::processes(root, Some(&self.cgroup_root));
        let sockets = sockets::sockets(root);
        found.extend(sockets.observations);
        gaps.merge(sockets.gaps);
        let (blind, more) = uses::seed(root);
        found.extend(blind);
        gaps.merge(more);
        for (what, gap) in gaps.iter() {
            log::info!(
                "of what was there before, {what} could not be read {} times; first: {}",
                gap.count,
                gap.first
            );
        }
        found
    }

    /// The hooks and their states.
    #[must_use]
    pub fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    /// What this kernel offers.
    #[must_use]
    pub fn methods(&self) -> &[MethodStatus] {
        &self.methods
    }

    /// What the kernel says of the programs that are attached.
    #[must_use]
    pub fn costs(&self) -> Vec<ProgramCost> {
        self.ebpf.as_ref().map(load::costs).unwrap_or_default()
    }

    /// Since when the hooks count: from before this run, when it took them over.
    #[must_use]
    pub fn attached(&self) -> BootTime {
        self.attached
    }

    /// Whether the hooks are an earlier daemon's.
    #[must_use]
    pub fn took_over(&self) -> bool {
        !self.made
    }

    /// Whether another daemon could take over.
    #[must_use]
    pub fn pinned(&self) -> bool {
        self.pins.is_some()
    }

    /// Where is noted what is told.
    #[must_use]
    pub fn journal(&self) -> Arc<dyn Journal> {
        self.kept.clone()
    }

    /// The gap between an earlier daemon and this one.
    pub fn take_gap(&mut self) -> Option<Gap> {
        self.gap.take()
    }

    /// Looks whether every link and pin is still there, and makes anew what is not. A hook that was found without its
    /// link or pin is broken until the next look, so that it is told.
    pub fn check(&mut self) {
        let Some(ebpf) = &mut self.ebpf else { return };
        let repaired = std::mem::take(&mut self.broken);
        for (hook, trouble) in self.links.troubles() {
            let (what, again, done) = match trouble {
                Trouble::Detached => (
                    "its link was detached by somebody",
                    "attached again",
                    attach::attach_again(ebpf, hook, &self.btf, &self.cgroup_root, &mut self.links),
                ),
                Trouble::Unpinned => (
                    "its pin was removed by somebody",
                    "pinned again",
                    self.links.pin_one(hook),
                ),
            };
            let reason = match done {
                Ok(()) => format!("{what} since the last health record; {again}"),
                Err(error) => format!("{what}, and it cannot be {again}: {error}"),
            };
            log::error!("hook {} ({}): {reason}", hook.name, hook.method);
            self.broken.push(hook.name);
            set_state(&mut self.hooks, hook.name, HookState::Broken, Some(reason));
        }
        for hook in repaired {
            if !self.broken.contains(&hook) {
                set_state(&mut self.hooks, hook, HookState::Ok, None);
            }
        }
    }

    /// Detaches every program. What they left in memory can still be read.
    pub fn detach(&mut self) {
        // While both still count: afterwards, devices go on and we do not.
        let _ = self.measure();
        self.misses.ask(BootTime::MAX);
        self.links.detach();
        self.ebpf = None;
    }

    /// Reads what costs too much for every round: the devices of all network namespaces.
    /// Once detached, what was read last.
    pub fn measure(&mut self) -> Option<&model::Interfaces> {
        if self.ebpf.is_some()
            && let Some(interfaces) = &mut self.interfaces
        {
            self.measured = Some(interfaces.read(clock::boot_now()));
        }
        self.measured.as_ref()
    }

    /// Everything is told. The pins are removed; or, if they are to be kept, left to whoever takes over.
    pub fn end(mut self, keep: bool) {
        if keep {
            self.kept.leave(clock::boot_now());
        }
        self.made = !keep;
    }

    /// Slots in use.
    #[must_use]
    pub fn live_flows(&self) -> u64 {
        self.flows.live() as u64
    }

    /// Reads what happened since the last call: everything, or a part of bounded size when [`Drain::more`] says so.
    pub fn poll(&mut self) -> Drain {
        let began = clock::boot_now();
        self.kept.beat(began);
        if self.ebpf.is_some() {
            self.misses.ask(began);
        }
        let mut flows = Vec::new();
        let more_flows = self.flows.drain(began, FLOWS, |delta| flows.push(delta));
        // Who was first at a shared socket is told first: the others have inherited it.
        flows.sort_by_key(|delta| delta.first);
        self.counters.read();
        let mut observations = Vec::new();
        let more_records = self.rings.drain(&mut observations);
        let more = more_flows || more_records;
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let (at, observations) = self.order(began, observations, flows, more);
        Drain {
            at,
            observations,
            more,
            totals: self.counters.totals(),
            counted: self.counters.counted(),
            epoch: self.kept.epoch(),
        }
    }

    /// Observations in order, with a tick at the end unless there is more.
    fn order(
        &mut self,
        began: BootTime,
        mut observations: Vec<Observation>,
        flows: Vec<FlowDelta>,
        more: bool,
    ) -> (BootTime, Vec<Observation>) {
        for observation in &mut observations {
            if self.hybrid
                && let Event::Exec(exec) = &mut observation.event
            {
                exec.cgroup_v1 = cgroups::v1_paths(exec.process);
            }
            let (path, id, member) = match &mut observation.event {
                Event::Exec(exec) => (
                    &mut exec.cgroup_path,
                    exec.cgroup_id,
                    Some(exec.process.tgid),
                ),
                Event::Name(name) if name.cgroup_id != 0 => (
                    &mut name.cgroup_path,
                    name.cgroup_id,
                    name.process.map(|process| process.tgid),
                ),
                _ => continue,
            };
            *path = self.cgroup_paths.path(&self.cgroup_root, id, member, began);
        }
        // Rings of two kinds, and of several processors: each is nearly in order.
        observations.sort_by_key(|observation| observation.at);
        let at = observations.last().map_or(began, |last| last.at.max(began));
        observations.extend(flows.into_iter().map(|mut delta| {
            if let Some(owner) = delta.owner {
                let (id, member) = (delta.cgroup_id, Some(owner.tgid));
                let path = self.cgroup_paths.find(&self.cgroup_root, id, member, began);
                delta.cgroup_path = path.unwrap_or_default();
            }
            Observation {
                at,
                event: Event::Flow(delta),
            }
        }));
        if !more {
            observations.push(Observation {
                at,
                event: Event::Tick,
            });
        }
        (at, observations)
    }

    /// What became of the events of processes and files since the hooks count. To be asked after a reading.
    #[must_use]
    pub fn events(&self) -> Vec<Events> {
        self.counters.events(self.kept.records())
    }

    /// Detail that was lost since the start, by kind and cause.
    #[must_use]
    pub fn lost(&self) -> Vec<LostDetail> {
        let mut lost = self.counters.lost();
        lost.extend(self.rings.lost());
        lost.extend(self.misses.lost());
        lost.push(LostDetail {
            kind: "slot",
            cause: "stuck",
            count: self.flows.stuck,
        });
        lost.push(LostDetail {
            kind: "pin",
            cause: "removed",
            count: self.links.unpinned,
        });
        lost.push(LostDetail {
            kind: "cgroup",
            cause: "unknown",
            count: self.cgroup_paths.unknown(),
        });
        lost
    }
}

fn set_state(hooks: &mut [HookStatus], name: &str, state: HookState, reason: Option<String>) {
    if let Some(hook) = hooks.iter_mut().find(|hook| hook.hook == name) {
        (hook.state, hook.reason) = (state, reason);
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        // After a panic the hooks go on counting, as after a kill.
        if self.made && !std::thread::panicking() {
            self.links.detach();
            self.kept.forget();
            if let Some(pins) = &self.pins
                && let Err(error) = pins.remove()
            {
                log::warn!("removing the pins: {error}; `egress unload` tries again");
            }
        }
    }
}
