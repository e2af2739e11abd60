//! Loads the object and attaches its programs, one by one: a program that this kernel refuses costs its own feature.
//! Links that an earlier daemon left are kept as they are.

use std::collections::HashMap;
use std::path::Path;

use aya::maps::ProgramArray;
use aya::programs::links::{CgroupAttachMode, FdLink};
use aya::programs::{
    BtfTracePoint, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, FEntry, FExit, Lsm,
    Program, ProgramError, TracePoint,
};
use aya::{Btf, Ebpf, EbpfLoader, Endianness, include_bytes_aligned};
use egress_common::helpers::{Helpers, PRESENT};
use egress_common::names;
use egress_common::offsets::Offsets;
use sha2::{Digest as _, Sha256};

use super::cgroups::CgroupRoot;
use super::hooks::{HOOKS, Hook, Method, features, rung};
use super::keep::links::Links;
use super::keep::pins::Pins;
use super::plan::{Absence, Capabilities, Choice, Wishes, hooks_of, plan};
use super::{SensorError, tracefs};
use crate::config;
use crate::model::{HookState, HookStatus, ProgramCost};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/egress-ebpf"));

/// `AYA_LOG_LEVEL`: nothing. The verifier then removes every log statement.
const LOG_OFF: u8 = 0;
/// `AYA_LOG_LEVEL`: up to debug.
const LOG_DEBUG: u8 = 4;

/// SHA-256 of everything that decides what the maps and programs of a run are: those of the same digest can be taken over.
#[must_use]
pub fn digest(config: &config::Sensor, offsets: &Offsets) -> [u8; 32] {
    let made_from = format!(
        "{offsets:?} {} {} {} {} {} {:?}",
        config.slots,
        config.process_ring_bytes,
        config.file_ring_bytes,
        config.name_ring_bytes,
        config.kernel_log,
        config.names
    );
    Sha256::new()
        .chain_update(OBJECT)
        .chain_update(made_from)
        .finalize()
        .into()
}

/// Loads maps and programs, with memory as configured; of the maps, those that are pinned in `reuse` are opened instead.
/// Nothing is attached yet.
///
/// # Errors
/// The object does not fit this kernel, or there is no memory for its maps.
pub fn load(
    config: &config::Sensor,
    offsets: &Offsets,
    helpers: &Helpers,
    reuse: Option<&Pins>,
) -> Result<Ebpf, SensorError> {
    let level = if config.kernel_log {
        LOG_DEBUG
    } else {
        LOG_OFF
    };
    // Of use only without socket storage; then each socket with a slot needs an entry.
    let cookies = if helpers.socket_storage == PRESENT {
        1
    } else {
        config.slots
    };
    let activity_cells =
        config.slots / u32::try_from(egress_common::slot::ACTIVITY_CELL).unwrap_or(1);
    let watch = if config.names.tls {
        names::WATCH_TLS
    } else {
        0
    } | if config.names.quic {
        names::WATCH_QUIC
    } else {
        0
    };
    let pinned: Vec<_> = reuse
        .into_iter()
        .flat_map(|pins| {
            let names = pins.map_names();
            names
                .into_iter()
                .filter_map(|name| Some((pins.map(&name)?, name)))
        })
        .collect();
    let mut loader = EbpfLoader::new();
    for (path, name) in &pinned {
        loader.map_pin_path(name, path.as_path());
    }
    loader
        .override_global(names::GLOBAL_OFFSETS, offsets, true)
        .override_global(names::GLOBAL_HELPERS, helpers, true)
        .override_global(names::GLOBAL_WATCH, &watch, true)
        .override_global("AYA_LOG_LEVEL", &level, false)
        .map_max_entries(names::MAP_SLOTS, config.slots)
        .map_max_entries(names::MAP_TAKEN, config.slots)
        .map_max_entries(names::MAP_SOCKETS_BY_COOKIE, cookies)
        .map_max_entries(names::MAP_ACTIVITY, activity_cells)
        .map_max_entries(names::MAP_FREE_SLOTS, config.slots)
        .map_max_entries(names::MAP_FLOWS, config.slots)
        .map_max_entries(names::MAP_PROCESS_RING, config.process_ring_bytes)
        .map_max_entries(names::MAP_FILE_RING, config.file_ring_bytes)
        .map_max_entries(names::MAP_NAME_RING, config.name_ring_bytes)
        .load(OBJECT)
        .map_err(|error| SensorError::Load(describe(&error)))
}

/// What is to be attached: the rung of each feature, whose programs are loaded. Loading is what takes time; attaching does not.
pub struct Planned {
    kernel: Capabilities,
    wishes: Wishes,
    choices: HashMap<&'static str, Choice>,
    btf: Btf,
}
/// Why a hook cannot be had.
pub type Failure = (HookState, String);

/// Chooses a rung for each feature, and loads its programs, unless they are attached already. What the kernel refuses is no
/// longer planned with.
///
/// # Errors
/// A wish for what does not exist; a kernel that does not describe itself.
pub fn programs(
    ebpf: &mut Ebpf,
    config: &config::Sensor,
    kernel: Capabilities,
    links: &Links,
) -> Result<Planned, SensorError> {
    let wishes = Wishes {
        disabled: config.disable.clone(),
        methods: config.methods.clone(),
    };
    wishes.check()?;
    let btf = Btf::parse_file(&config.btf, Endianness::default())
        .map_err(|error| SensorError::Load(describe(&error)))?;
    let mut planned = Planned {
        kernel,
        wishes,
        choices: HashMap::new(),
        btf,
    };
    for feature in features() {
        let choice = planned.load(ebpf, feature, config, links);
        planned.choices.insert(feature, choice);
    }
    Ok(planned)
}

impl Planned {
    /// The best rung whose programs load.
    fn load(
        &mut self,
        ebpf: &mut Ebpf,
        feature: &'static str,
        config: &config::Sensor,
        links: &Links,
    ) -> Choice {
        // What counts already goes on counting, unless another method is asked for.
        let counting = hooks_of(feature).into_iter().find(|hook| links.has(hook));
        if let Some(hook) = counting
            && self
                .wishes
                .methods
                .get(feature)
                .is_none_or(|wanted| wanted == hook.method.kind())
            && !self.wishes.disabled.iter().any(|name| name == feature)
        {
            return Choice::Rung {
                kind: hook.method.kind(),
                because: None,
            };
        }
        loop {
            let choice = plan(feature, &self.kernel, &self.wishes);
            let Choice::Rung { kind, .. } = choice else {
                return choice;
            };
            let failed = rung(feature, kind)
                .filter(|hook| !disabled(config, hook) && self.kernel.obstacle(hook).is_none())
                .find_map(|hook| Some((hook, load_one(ebpf, hook, &self.btf).err()?)));
            let Some((hook, (state, reason))) = failed else {
                return choice;
            };
            unload(ebpf, feature, kind);
            self.kernel.refuses(hook.method, Absence { state, reason });
        }
    }
}

/// Gives the programs of a rung back to the kernel.
fn unload(ebpf: &mut Ebpf, feature: &str, kind: &str) {
    for hook in rung(feature, kind) {
        // One that was not loaded has nothing to give back.
        let _ = match ebpf.program_mut(hook.program) {
            Some(Program::BtfTracePoint(program)) => program.unload(),
            Some(Program::TracePoint(program)) => program.unload(),
            Some(Program::FExit(program)) => program.unload(),
            Some(Program::FEntry(program)) => program.unload(),
            Some(Program::Lsm(program)) => program.unload(),
            Some(Program::CgroupSkb(program)) => program.unload(),
            Some(Program::CgroupSockAddr(program)) => program.unload(),
            Some(Program::CgroupSock(program)) => program.unload(),
            _ => Ok(()),
        };
    }
}

/// What the kernel says of the programs that were loaded.
#[must_use]
pub fn costs(ebpf: &Ebpf) -> Vec<ProgramCost> {
    let mut costs: Vec<_> = ebpf
        .programs()
        .filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some(ProgramCost {
                program: name.to_owned(),
                verified_instructions: info.verified_instruction_count(),
                instructions: info.size_translated().map(|bytes| bytes / 8),
            })
        })
        .collect();
    costs.sort_by(|a, b| a.program.cmp(&b.program));
    costs
}

fn disabled(config: &config::Sensor, hook: &Hook) -> bool {
    let unwanted = match hook.method {
        Method::CgroupSkbIngress => !config.names.dns,
        Method::TailCall(_) => !config.names.tls && !config.names.quic,
        _ => false,
    };
    unwanted
        || config
            .disable
            .iter()
            .any(|name| name == hook.name || name == hook.feature)
}

/// Attaches the rung of every feature that is not attached already, and detaches what is not wanted.
///
/// # Errors
/// An essential hook could not be attached.
pub fn attach(
    ebpf: &mut Ebpf,
    config: &config::Sensor,
    mut planned: Planned,
    cgroup: &CgroupRoot,
    links: &mut Links,
) -> Result<Vec<HookStatus>, SensorError> {
    // Held until the last tracepoint is attached.
    let tracefs = tracefs::Mounted::ensure();
    let mut attached = Vec::with_capacity(HOOKS.len());
    for feature in features() {
        let mut choice = planned.choices.remove(feature).unwrap_or(Choice::Disabled);
        let statuses = loop {
            match attach_rung(
                ebpf,
                config,
                feature,
                &choice,
                &planned.kernel,
                cgroup,
                &tracefs,
                links,
            ) {
                Ok(statuses) => break statuses,
                Err((hook, (state, reason))) => {
                    let Choice::Rung { kind, .. } = choice else {
                        break Vec::new();
                    };
                    for hook in rung(feature, kind) {
                        links.release(hook);
                    }
                    unload(ebpf, feature, kind);
                    planned
                        .kernel
                        .refuses(hook.method, Absence { state, reason });
                    choice = planned.load(ebpf, feature, config, links);
                }
            }
        };
        attached.extend(statuses);
        if let Choice::Nothing(absence) = &choice
            && let Some(hook) = hooks_of(feature).into_iter().find(|hook| hook.essential)
        {
            return Err(SensorError::Attach {
                hook: hook.name,
                method: hook.method.to_string(),
                unsupported: absence.state == HookState::Unsupported,
                reason: absence.reason.clone(),
            });
        }
    }
    Ok(attached)
}

/// Attaches the hooks of one rung; those of others are let go. The first that fails undoes all.
#[expect(clippy::too_many_arguments, reason = "what attaching needs, once")]
fn attach_rung(
    ebpf: &mut Ebpf,
    config: &config::Sensor,
    feature: &'static str,
    choice: &Choice,
    kernel: &Capabilities,
    cgroup: &CgroupRoot,
    tracefs: &tracefs::Mounted,
    links: &mut Links,
) -> Result<Vec<HookStatus>, (&'static Hook, Failure)> {
    let status = |hook: &Hook, state, reason| HookStatus {
        hook: hook.name,
        method: hook.method.to_string(),
        state,
        reason,
        gives: hook.gives,
    };
    let all = hooks_of(feature);
    let (kind, mut because) = match choice {
        Choice::Rung { kind, because } => (*kind, because.clone()),
        Choice::Disabled | Choice::Nothing(_) => {
            let (state, reason) = match choice {
                Choice::Nothing(absence) => (absence.state, absence.reason.clone()),
                _ => (
                    HookState::Disabled,
                    "disabled in the configuration".to_owned(),
                ),
            };
            for hook in &all {
                links.release(hook);
            }
            // The best rung, or the one that was asked for, stands for the feature; where there is nothing to see, nothing is
            // missing.
            let asked = config.methods.get(feature).map(String::as_str);
            let first = asked.or_else(|| all.first().map(|hook| hook.method.kind()));
            let rows = all.iter().filter(|hook| Some(hook.method.kind()) == first);
            return Ok(rows
                .map(|hook| {
                    if hook.optional && state == HookState::Unsupported {
                        let nothing = format!("not on this kernel, so nothing to see: {reason}");
                        return status(hook, HookState::Ok, Some(nothing));
                    }
                    status(hook, state, Some(reason.clone()))
                })
                .collect());
        }
    };
    let mut attached = Vec::new();
    for hook in all {
        if hook.method.kind() != kind {
            links.release(hook);
            continue;
        }
        if disabled(config, hook) {
            links.release(hook);
            let reason = "disabled in the configuration".to_owned();
            attached.push(status(hook, HookState::Disabled, Some(reason)));
            continue;
        }
        if links.has(hook) {
            attached.push(status(hook, HookState::Ok, because.take()));
            continue;
        }
        if let Some(absence) = kernel.obstacle(hook) {
            let nothing = format!("not on this kernel, so nothing to see: {}", absence.reason);
            attached.push(status(hook, HookState::Ok, Some(nothing)));
            continue;
        }
        match attach_one(ebpf, hook, cgroup, tracefs) {
            Ok(Some(link)) => {
                links.hold(hook, link);
                attached.push(status(hook, HookState::Ok, because.take()));
            }
            Ok(None) if matches!(hook.method, Method::TailCall(_)) => {
                attached.push(status(hook, HookState::Ok, None));
            }
            Ok(None) => attached.push(status(
                hook,
                HookState::Ok,
                Some("this kernel cannot pin it: it ends with the daemon".into()),
            )),
            Err(failure) => return Err((hook, failure)),
        }
    }
    Ok(attached)
}

/// Attaches a hook whose link is gone.
///
/// # Errors
/// Why it cannot be.
pub fn attach_again(
    ebpf: &mut Ebpf,
    hook: &'static Hook,
    btf: &Path,
    cgroup: &CgroupRoot,
    links: &mut Links,
) -> Result<(), String> {
    let btf = Btf::parse_file(btf, Endianness::default()).map_err(|error| describe(&error))?;
    let tracefs = tracefs::Mounted::ensure();
    let link = load_one(ebpf, hook, &btf)
        .and_then(|()| attach_one(ebpf, hook, cgroup, &tracefs))
        .map_err(|(_, reason)| reason)?;
    if let Some(link) = link {
        links.hold(hook, link);
        links.pin_one(hook)?;
    }
    Ok(())
}

/// Loads the program of a hook, unless it is.
fn load_one(ebpf: &mut Ebpf, hook: &Hook, btf: &Btf) -> Result<(), Failure> {
    let Some(program) = ebpf.program_mut(hook.program) else {
        return Err((
            HookState::Broken,
            format!("the object has no program {}", hook.program),
        ));
    };
    let done = match hook.method {
        Method::BtfTracepoint(name) => {
            <&mut BtfTracePoint>::try_from(program).and_then(|program| program.load(name, btf))
        }
        Method::SyscallTracepoint(_) => {
            <&mut TracePoint>::try_from(program).and_then(TracePoint::load)
        }
        Method::Fexit(name) => {
            <&mut FExit>::try_from(program).and_then(|program| program.load(name, btf))
        }
        Method::Fentry(name) => {
            <&mut FEntry>::try_from(program).and_then(|program| program.load(name, btf))
        }
        Method::Lsm(name) => {
            <&mut Lsm>::try_from(program).and_then(|program| program.load(name, btf))
        }
        Method::CgroupSkbEgress | Method::CgroupSkbIngress | Method::TailCall(_) => {
            <&mut CgroupSkb>::try_from(program).and_then(CgroupSkb::load)
        }
        Method::CgroupSockAddr(_) => {
            <&mut CgroupSockAddr>::try_from(program).and_then(CgroupSockAddr::load)
        }
        Method::CgroupSockRelease => {
            <&mut CgroupSock>::try_from(program).and_then(CgroupSock::load)
        }
    };
    match done {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        done => refused(hook, done),
    }
}

/// Attaches the loaded program of a hook. Without a link it is attached all the same, but cannot be pinned.
fn attach_one(
    ebpf: &mut Ebpf,
    hook: &Hook,
    cgroup: &CgroupRoot,
    tracefs: &tracefs::Mounted,
) -> Result<Option<FdLink>, Failure> {
    if let Method::TailCall(map) = hook.method {
        return attach_tail(ebpf, hook, map).map(|()| None);
    }
    let Some(program) = ebpf.program_mut(hook.program) else {
        return Ok(None);
    };
    // Links of cgroup programs are multi by nature: the kernel refuses BPF_F_ALLOW_MULTI for them (Linux `kernel/bpf/cgroup.c`).
    let mode = CgroupAttachMode::Single;
    // A link that is no file descriptor (before 5.15, and 5.7 for cgroups) is let go by the conversion: attached again,
    // it stays with its program.
    let done = match hook.method {
        Method::BtfTracepoint(_) => <&mut BtfTracePoint>::try_from(program).and_then(|program| {
            let id = program.attach()?;
            Ok(Some(program.take_link(id)?.into()))
        }),
        Method::Fexit(_) => <&mut FExit>::try_from(program).and_then(|program| {
            let id = program.attach()?;
            Ok(Some(program.take_link(id)?.into()))
        }),
        Method::Fentry(_) => <&mut FEntry>::try_from(program).and_then(|program| {
            let id = program.attach()?;
            Ok(Some(program.take_link(id)?.into()))
        }),
        Method::Lsm(_) => <&mut Lsm>::try_from(program).and_then(|program| {
            let id = program.attach()?;
            Ok(Some(program.take_link(id)?.into()))
        }),
        Method::SyscallTracepoint(name) => {
            if let Some(reason) = tracefs.missing("syscalls", name) {
                return Err((HookState::Unsupported, reason));
            }
            <&mut TracePoint>::try_from(program).and_then(|program| {
                let id = program.attach("syscalls", name)?;
                let link = program.take_link(id)?.try_into().ok();
                if link.is_none() {
                    program.attach("syscalls", name)?;
                }
                Ok(link)
            })
        }
        Method::CgroupSkbEgress | Method::CgroupSkbIngress => {
            let side = if hook.method == Method::CgroupSkbEgress {
                CgroupSkbAttachType::Egress
            } else {
                CgroupSkbAttachType::Ingress
            };
            <&mut CgroupSkb>::try_from(program).and_then(|program| {
                let id = program.attach(cgroup, side, mode)?;
                let link = program.take_link(id)?.try_into().ok();
                if link.is_none() {
                    program.attach(cgroup, side, mode)?;
                }
                Ok(link)
            })
        }
        // Done above.
        Method::TailCall(_) => Ok(None),
        Method::CgroupSockAddr(_) => <&mut CgroupSockAddr>::try_from(program).and_then(|program| {
            let id = program.attach(cgroup, mode)?;
            let link = program.take_link(id)?.try_into().ok();
            if link.is_none() {
                program.attach(cgroup, mode)?;
            }
            Ok(link)
        }),
        Method::CgroupSockRelease => <&mut CgroupSock>::try_from(program).and_then(|program| {
            let id = program.attach(cgroup, mode)?;
            let link = program.take_link(id)?.try_into().ok();
            if link.is_none() {
                program.attach(cgroup, mode)?;
            }
            Ok(link)
        }),
    };
    refused(hook, done)
}

/// Says why the kernel did not want a program.
fn refused<T>(hook: &Hook, done: Result<T, ProgramError>) -> Result<T, Failure> {
    done.map_err(|error| match &error {
        ProgramError::Btf(inner) => (
            HookState::Unsupported,
            format!("this kernel does not have it: {inner}"),
        ),
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let last: Vec<_> = log
                .lines()
                .rev()
                .filter(|line| !line.trim().is_empty())
                .take(3)
                .collect();
            let end: Vec<_> = last.into_iter().rev().collect();
            log::debug!("{}: verifier: {log}", hook.program);
            (
                HookState::Broken,
                format!(
                    "the kernel refused the program: {io_error}; the verifier's last words: {}",
                    end.join(" | ")
                ),
            )
        }
        _ => (HookState::Broken, describe(&error)),
    })
}

/// Puts a loaded program where another one calls it. It is called as long as the map is open here, or pinned.
fn attach_tail(ebpf: &mut Ebpf, hook: &Hook, map: &str) -> Result<(), Failure> {
    let broken = |error: &dyn std::error::Error| (HookState::Broken, describe(error));
    let missing = || {
        let problem = format!("the object lacks {} or {map}", hook.program);
        (HookState::Broken, problem)
    };
    let program = ebpf.program_mut(hook.program).ok_or_else(missing)?;
    let program: &mut CgroupSkb = program
        .try_into()
        .map_err(|error: ProgramError| broken(&error))?;
    let program = program.fd().and_then(|fd| Ok(fd.try_clone()?));
    let program = program.map_err(|error| broken(&error))?;
    let map = ebpf.map_mut(map).ok_or_else(missing)?;
    let mut calls = ProgramArray::try_from(map).map_err(|error| broken(&error))?;
    calls.set(0, &program, 0).map_err(|error| broken(&error))
}

/// An error with its causes, on one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text.replace('\n', " ")
}
