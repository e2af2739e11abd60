//! How a run begins: anew, with what an earlier daemon left, or after it.
//!
//! What is left is taken over when it was made from the same object, offsets and sizes: maps and links go on, and only what is
//! missing is attached. Otherwise the new programs are loaded, the old ones detached, the new ones attached, and what the
//! old ones counted is told once more before their maps go: an upgrade is without hooks for as long as attaching takes.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya_log::EbpfLogger;
use egress_common::helpers::Helpers;
use egress_common::offsets::Offsets;

use super::attach::Planned;
use super::cgroups::{self, CgroupPaths, CgroupRoot};
use super::counters::Counters;
use super::flows::Flows;
use super::hooks::{HOOKS, INTERFACE};
use super::interfaces::Interfaces;
use super::keep::Kept;
use super::keep::left::{Found, Left, epoch_at, own_life};
use super::keep::links::Links;
use super::keep::pins::Pins;
use super::misses::Misses;
use super::plan::{self, Capabilities};
use super::probe::Symbols;
use super::rings::Rings;
use super::{CGROUPS, Drain, Sensor, SensorError, clock, fields, load, tracefs};
use crate::config;
use crate::model::{BootTime, FlowDelta, Gap, GapReason, HookState, HookStatus, Journal};

/// What this host has, as far as the sensor asks.
struct Host {
    offsets: Offsets,
    helpers: Helpers,
    kernel: Capabilities,
    cgroup_root: CgroupRoot,
}

impl Host {
    fn read(btf: &Path) -> Result<Self, SensorError> {
        let offsets = fields::from_host(btf)?;
        let symbols = Symbols::read(btf)?;
        Ok(Self {
            helpers: symbols.helpers(),
            kernel: symbols.capabilities(&offsets, &tracefs::Mounted::ensure()),
            offsets,
            cgroup_root: CgroupRoot::find()?,
        })
    }
}

/// Maps of an earlier daemon, whose programs are detached.
pub(super) struct Before {
    flows: Flows,
    rings: Rings,
    counters: Counters,
    kept: Arc<Kept>,
    pins: Pins,
}

impl Before {
    /// Opens what is left.
    fn open(left: Left) -> Result<(Self, BootTime), SensorError> {
        let Left {
            pins,
            state,
            mut maps,
            kept,
        } = left;
        let flows = Flows::take_over(&mut maps, state.slots, &kept)?;
        let mut counters = Counters::take(&mut maps)?;
        let (wire, app) = flows.told();
        counters.take_over(kept.counters(), wire, app);
        Ok((
            Self {
                flows,
                rings: Rings::take(&mut maps, &kept)?,
                counters,
                kept,
                pins,
            },
            state.heartbeat_ns,
        ))
    }
}

impl Sensor {
    /// Takes over what was found, or loads and attaches.
    ///
    /// # Errors
    /// [`SensorError`]; nothing that this run made stays attached then, and nothing that was found is lost.
    pub fn start(config: &config::Sensor, btf: &Path, found: Found) -> Result<Self, SensorError> {
        let host = Host::read(btf)?;
        let digest = load::digest(config, &host.offsets);
        let left = match found {
            Found::Nothing => None,
            Found::Half(pins) => {
                log::warn!(
                    "{}: an earlier daemon ended before it was ready; removing what it left",
                    pins.root().display()
                );
                pins.clear()
                    .map_err(|error| SensorError::Pins(error.to_string()))?;
                None
            }
            Found::Whole(left) => Some(*left),
        };
        match left {
            Some(left) if left.state.object == digest && config.pin => {
                Self::take_over(config, host, left)
            }
            left => Self::begin(config, host, digest, left),
        }
    }

    /// Goes on with the maps and links of an earlier daemon.
    fn take_over(config: &config::Sensor, host: Host, left: Left) -> Result<Self, SensorError> {
        let Left {
            pins, state, kept, ..
        } = left;
        let now = clock::boot_now();
        let mut links = Links::adopt(&pins);
        let mut ebpf = load::load(config, &host.offsets, &host.helpers, Some(&pins))?;
        let maps = handles(&ebpf)?;
        let counting: Vec<_> = HOOKS.iter().filter(|hook| links.has(hook)).collect();
        let interfaces = Interfaces::take(&mut ebpf)?;
        let methods = plan::offered(&host.kernel);
        let planned = Planned::load(&mut ebpf, config, host.kernel, &links)?;
        let hooks = planned.attach(&mut ebpf, &host.cgroup_root, &mut links)?;
        let missing = HOOKS.iter().filter(|hook| {
            links.has(hook) && counting.iter().all(|before| before.name != hook.name)
        });
        let missing: Vec<_> = missing.map(|hook| hook.name).collect();
        links.pin(&pins, maps).map_err(SensorError::Pins)?;
        let (start, pidns) = own_life();
        kept.begin(std::process::id(), start, pidns, now);

        let flows = Flows::take_over(&mut ebpf, state.slots, &kept)?;
        let mut counters = Counters::take(&mut ebpf)?;
        let (wire, app) = flows.told();
        counters.take_over(kept.counters(), wire, app);
        counters.read();
        let gap = Gap {
            start: state.heartbeat_ns.min(now),
            end: now,
            reason: GapReason::NotRunning,
            blind_ns: if counting.is_empty() {
                now.saturating_sub(state.heartbeat_ns)
            } else {
                0
            },
            missing,
            lost: lost(&counters),
        };
        Ok(Self {
            flows,
            rings: Rings::take(&mut ebpf, &kept)?,
            counters,
            log: kernel_log(config, &mut ebpf),
            interfaces: watch_devices(interfaces, &hooks),
            measured: None,
            misses: Misses::of(&ebpf),
            hooks,
            cgroup_root: host.cgroup_root,
            cgroup_paths: CgroupPaths::new(CGROUPS),
            hybrid: cgroups::is_hybrid(),
            methods,
            btf: config.btf.clone(),
            links,
            ebpf: Some(ebpf),
            kept,
            pins: Some(pins),
            made: false,
            to_pin: Vec::new(),
            digest: state.object,
            slots: state.slots,
            attached: state.attached_ns,
            gap: Some(gap),
            before: None,
            broken: Vec::new(),
        })
    }

    /// Loads and attaches, in place of what is left, which is told by [`Self::poll_before`].
    fn begin(
        config: &config::Sensor,
        host: Host,
        digest: [u8; 32],
        left: Option<Left>,
    ) -> Result<Self, SensorError> {
        let mut ebpf = load::load(config, &host.offsets, &host.helpers, None)?;
        let maps = handles(&ebpf)?;
        let made = clock::boot_now();
        let kept = Arc::new(Kept::take(&mut ebpf, config.slots, epoch_at(made))?);
        let flows = Flows::take(&mut ebpf, config.slots, &kept)?;
        let rings = Rings::take(&mut ebpf, &kept)?;
        let counters = Counters::take(&mut ebpf)?;
        let log = kernel_log(config, &mut ebpf);
        let mut links = Links::default();
        let interfaces = Interfaces::take(&mut ebpf)?;
        let methods = plan::offered(&host.kernel);
        let planned = Planned::load(&mut ebpf, config, host.kernel, &links)?;
        let (start, pidns) = own_life();
        kept.begin(std::process::id(), start, pidns, made);
        if let Some(left) = &left {
            kept.set_next_flow(left.kept.next_flow());
        }
        let blind = clock::boot_now();
        if let Some(left) = &left {
            for hook in left.pins.link_names() {
                left.pins.remove_link(&hook);
            }
        }
        let hooks = planned.attach(&mut ebpf, &host.cgroup_root, &mut links)?;
        let attached = clock::boot_now();
        let blind_ns = attached.saturating_sub(blind);
        let (mut before, mut gap) = (None, None);
        if let Some(left) = left {
            let (mut opened, heartbeat) = Before::open(left)?;
            opened.counters.read();
            let end = clock::boot_now();
            gap = Some(Gap {
                start: heartbeat.min(end),
                end,
                reason: GapReason::Upgrade,
                blind_ns,
                missing: Vec::new(),
                lost: lost(&opened.counters),
            });
            before = Some(opened);
        }
        let mut sensor = Self {
            flows,
            rings,
            counters,
            log,
            interfaces: watch_devices(interfaces, &hooks),
            measured: None,
            misses: Misses::of(&ebpf),
            hooks,
            cgroup_root: host.cgroup_root,
            cgroup_paths: CgroupPaths::new(CGROUPS),
            hybrid: cgroups::is_hybrid(),
            methods,
            btf: config.btf.clone(),
            links,
            ebpf: Some(ebpf),
            kept,
            pins: None,
            made: true,
            to_pin: maps,
            digest,
            slots: config.slots,
            attached,
            gap,
            before,
            broken: Vec::new(),
        };
        if sensor.before.is_none() && config.pin {
            sensor.pin();
        }
        Ok(sensor)
    }

    /// Pins everything; without pins the daemon runs all the same, and says so.
    fn pin(&mut self) {
        let pinned = Pins::make().and_then(|pins| {
            let done = self.links.pin(&pins, std::mem::take(&mut self.to_pin));
            if done.is_err() {
                self.links.unpin();
                let _ = pins.remove();
            }
            done.map(|()| pins)
        });
        match pinned {
            Ok(pins) => {
                self.kept.complete(self.digest, self.slots, self.attached);
                self.pins = Some(pins);
            }
            Err(why) => log::warn!(
                "nothing is pinned ({why}): if the daemon is killed, what it has not told is lost, and nothing is counted \
                 until it comes back"
            ),
        }
    }

    /// Users of what was found, as the kernel told them: with exact starts, which `/proc` does not tell.
    #[must_use]
    pub fn owners(&self) -> Vec<FlowDelta> {
        let before = self.before.as_ref().map(|before| before.flows.owners());
        before.unwrap_or_else(|| self.flows.owners())
    }

    /// Everything that the maps before an upgrade still held, and where is noted that it is told.
    pub fn poll_before(&mut self) -> Option<(Drain, Arc<dyn Journal>)> {
        let began = clock::boot_now();
        let before = self.before.as_mut()?;
        let (mut flows, mut observations) = (Vec::new(), Vec::new());
        before.flows.drain_last(began, |delta| flows.push(delta));
        before.counters.read();
        loop {
            let so_far = observations.len();
            before.rings.drain(&mut observations);
            if observations.len() == so_far {
                break;
            }
        }
        let journal: Arc<dyn Journal> = before.kept.clone();
        let (totals, counted) = (before.counters.totals(), before.counters.counted());
        let epoch = before.kept.epoch();
        let (at, observations) = self.order(began, observations, flows, false);
        let drain = Drain {
            at,
            observations,
            more: false,
            totals,
            counted,
            epoch,
        };
        Some((drain, journal))
    }

    /// What the maps before an upgrade held is told: they go, and the new ones are pinned in their place if `pin`.
    pub fn forget_before(&mut self, pin: bool) {
        let Some(before) = self.before.take() else {
            return;
        };
        self.counters.follow(&before.counters);
        before.kept.forget();
        let removed = if pin {
            before.pins.clear()
        } else {
            before.pins.remove()
        };
        if let Err(error) = removed {
            log::warn!("removing the pins before the upgrade: {error}");
        }
        if pin {
            self.pin();
        }
    }
}

/// Begins to compare devices, if the hook that sees them works.
fn watch_devices(mut interfaces: Interfaces, hooks: &[HookStatus]) -> Option<Interfaces> {
    let sees_devices = hooks
        .iter()
        .any(|hook| hook.hook == INTERFACE && hook.state == HookState::Ok);
    sees_devices.then(|| {
        interfaces.begin(clock::boot_now());
        interfaces
    })
}

fn kernel_log(
    config: &config::Sensor,
    ebpf: &mut Ebpf,
) -> Option<EbpfLogger<&'static dyn log::Log>> {
    if !config.kernel_log {
        return None;
    }
    EbpfLogger::init(ebpf)
        .map_err(|error| log::warn!("kernel log: {error}"))
        .ok()
}

/// Handles of all maps, by name; those of global variables have names that cannot be pinned, and are made anew each time.
fn handles(ebpf: &Ebpf) -> Result<Vec<(String, MapData)>, SensorError> {
    ebpf.maps()
        .filter(|(name, _)| !name.contains('.'))
        .map(|(name, map)| {
            let (Map::Array(data)
            | Map::HashMap(data)
            | Map::LruHashMap(data)
            | Map::PerCpuArray(data)
            | Map::PerCpuHashMap(data)
            | Map::PerCpuLruHashMap(data)
            | Map::ProgramArray(data)
            | Map::Queue(data)
            | Map::RingBuf(data)
            | Map::SkStorage(data)
            | Map::Stack(data)) = map
            else {
                return Err(SensorError::Pins(format!(
                    "the map {name} is of a kind that this program does not pin"
                )));
            };
            let fd = data.fd().as_fd().try_clone_to_owned();
            let fd = fd.map_err(|error| SensorError::Pins(format!("{name}: {error}")))?;
            let data = MapData::from_fd(fd).map_err(|error| {
                SensorError::Pins(format!("{name}: {}", load::describe(&error)))
            })?;
            Ok((name.to_owned(), data))
        })
        .collect()
}

fn lost(counters: &Counters) -> Vec<crate::model::LostDetail> {
    let mut lost = counters.lost();
    lost.retain(|lost| lost.count > 0);
    lost
}
