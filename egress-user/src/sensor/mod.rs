//! Sees: kernel records in, [`Observation`]s out.
//!
//! In: slots and rings that the eBPF programs fill, and `/proc` and the socket diagnostics for what was there before
//! them. Out: [`Observation`]s in the order of their time. [`Sensor::poll`] reads the slots first and the rings after, so
//! that whoever owns a byte has been told before the byte.

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
pub mod live;
pub mod load;
mod mapped;
mod misses;
pub mod path_table;
pub mod paths;
pub mod pid_dir;
pub mod privilege;
pub mod proc;
mod rings;
pub mod sockets;
pub mod tracefs;

use std::path::Path;

use aya::Ebpf;
use aya::maps::Array;
use aya_log::EbpfLogger;
use egress_common::state::{HostState, MAGIC};
use egress_common::{ABI_VERSION, names};

pub use error::SensorError;

use cgroups::{CgroupPaths, CgroupRoot};
use counters::Counters;
use flows::Flows;
use misses::Misses;
use rings::Rings;

use crate::config;
use crate::model::{BootTime, Event, Events, HookStatus, KernelTotals, LostDetail, Observation};

/// Cgroups whose paths are remembered.
const CGROUPS: usize = 4096;
/// Flows told in one reading: 1 MB of memory at most, whatever moves.
const FLOWS: usize = 4096;

/// Attached programs and the memory they fill. Dropping it detaches everything.
pub struct Sensor {
    // Before `ebpf`, because fields drop in order: nothing reads memory whose programs are gone.
    flows: Flows,
    rings: Rings,
    counters: Counters,
    misses: Misses,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    hooks: Vec<HookStatus>,
    cgroup_root: CgroupRoot,
    cgroup_paths: CgroupPaths,
    /// `None` once detached.
    ebpf: Option<Ebpf>,
}

/// Says who looks after the maps.
fn tell_state(ebpf: &mut Ebpf, slots: u32) -> Result<(), SensorError> {
    let map = ebpf
        .map_mut(names::MAP_STATE)
        .ok_or(SensorError::Object(names::MAP_STATE))?;
    let mut state: Array<_, HostState> = map
        .try_into()
        .map_err(|_| SensorError::Object(names::MAP_STATE))?;
    let now = clock::boot_now();
    let value = HostState {
        magic: MAGIC,
        abi: ABI_VERSION,
        daemon_tgid: std::process::id(),
        attached_ns: now,
        heartbeat_ns: now,
        slots,
        ..HostState::default()
    };
    state
        .set(0, value, 0)
        .map_err(|error| SensorError::Load(load::describe(&error)))
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
}

impl Sensor {
    /// Loads and attaches.
    ///
    /// # Errors
    /// [`SensorError`]; nothing stays attached then.
    pub fn start(config: &config::Sensor, btf: &Path) -> Result<Self, SensorError> {
        let offsets = fields::from_host(btf)?;
        let cgroup_root = CgroupRoot::find()?;
        let mut ebpf = load::load(config, &offsets)?;
        let flows = Flows::take(&mut ebpf, config.slots)?;
        let rings = Rings::take(&mut ebpf)?;
        let counters = Counters::take(&mut ebpf)?;
        let log = if config.kernel_log {
            EbpfLogger::init(&mut ebpf)
                .map_err(|error| log::warn!("kernel log: {error}"))
                .ok()
        } else {
            None
        };
        tell_state(&mut ebpf, config.slots)?;
        let hooks = load::attach(&mut ebpf, config, &offsets, &cgroup_root)?;
        Ok(Self {
            flows,
            rings,
            counters,
            misses: Misses::of(&ebpf),
            log,
            hooks,
            cgroup_root,
            cgroup_paths: CgroupPaths::new(CGROUPS),
            ebpf: Some(ebpf),
        })
    }

    /// What was there before us: processes, then the sockets they hold. To be called once, after [`Self::start`].
    #[must_use]
    pub fn seed(&self) -> Vec<Observation> {
        let root = Path::new("/proc");
        let (mut found, mut gaps) = proc::processes(root, Some(&self.cgroup_root));
        let sockets = sockets::sockets(root);
        found.extend(sockets.observations);
        gaps.merge(sockets.gaps);
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

    /// Detaches every program. What they left in memory can still be read.
    pub fn detach(&mut self) {
        self.misses.ask(BootTime::MAX);
        self.ebpf = None;
    }

    /// Slots in use.
    #[must_use]
    pub fn live_flows(&self) -> u64 {
        self.flows.live() as u64
    }

    /// Reads what happened since the last call: everything, or a part of bounded size when [`Drain::more`] says so.
    pub fn poll(&mut self) -> Drain {
        let began = clock::boot_now();
        if self.ebpf.is_some() {
            self.misses.ask(began);
        }
        let mut flows = Vec::new();
        let more_flows = self.flows.drain(began, FLOWS, |delta| flows.push(delta));
        let totals = self.counters.totals();
        let mut observations = Vec::new();
        let more_records = self.rings.drain(&mut observations);
        for observation in &mut observations {
            if let Event::Exec(exec) = &mut observation.event {
                exec.cgroup_path = self.cgroup_paths.path(
                    &self.cgroup_root,
                    exec.cgroup_id,
                    Some(exec.process.tgid),
                    began,
                );
            }
        }
        // Rings of two kinds, and of several processors: each is nearly in order.
        observations.sort_by_key(|observation| observation.at);
        let at = observations.last().map_or(began, |last| last.at.max(began));
        observations.extend(flows.into_iter().map(|delta| Observation {
            at,
            event: Event::Flow(delta),
        }));
        let more = more_flows || more_records;
        if !more {
            observations.push(Observation {
                at,
                event: Event::Tick,
            });
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
        Drain {
            at,
            observations,
            more,
            totals,
        }
    }

    /// What became of the events of processes and files since the start. To be asked after a reading.
    #[must_use]
    pub fn events(&self) -> Vec<Events> {
        self.counters.events(self.rings.told)
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
            kind: "cgroup",
            cause: "unknown",
            count: self.cgroup_paths.unknown(),
        });
        lost
    }
}
