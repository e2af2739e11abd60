//! Loads the object and attaches its programs, one by one: a program that this kernel refuses costs its own feature.
//! Links that an earlier daemon left are kept as they are.

use std::collections::HashMap;

use aya::maps::ProgramArray;
use aya::programs::links::{CgroupAttachMode, FdLink};
use aya::programs::{
    BtfTracePoint, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, ProgramError,
    TracePoint,
};
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use egress_common::names;
use egress_common::offsets::Offsets;
use sha2::{Digest as _, Sha256};

use super::cgroups::CgroupRoot;
use super::hooks::{HOOKS, Hook, Method};
use super::keep::links::Links;
use super::keep::pins::Pins;
use super::{SensorError, tracefs};
use crate::config;
use crate::model::{HookState, HookStatus};

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
    reuse: Option<&Pins>,
) -> Result<Ebpf, SensorError> {
    let level = if config.kernel_log {
        LOG_DEBUG
    } else {
        LOG_OFF
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
        .override_global(names::GLOBAL_WATCH, &watch, true)
        .override_global("AYA_LOG_LEVEL", &level, false)
        .map_max_entries(names::MAP_SLOTS, config.slots)
        .map_max_entries(names::MAP_TAKEN, config.slots)
        .map_max_entries(names::MAP_ACTIVITY, activity_cells)
        .map_max_entries(names::MAP_FREE_SLOTS, config.slots)
        .map_max_entries(names::MAP_FLOWS, config.slots)
        .map_max_entries(names::MAP_PROCESS_RING, config.process_ring_bytes)
        .map_max_entries(names::MAP_FILE_RING, config.file_ring_bytes)
        .map_max_entries(names::MAP_NAME_RING, config.name_ring_bytes)
        .load(OBJECT)
        .map_err(|error| SensorError::Load(describe(&error)))
}

/// What became of loading each program, by the hook's name. Loading is what takes time; attaching does not.
pub type Loaded = HashMap<&'static str, Result<(), Failure>>;
/// Why a hook cannot be had.
pub type Failure = (HookState, String);

/// Loads the programs of every hook that is wanted and not attached already.
///
/// # Errors
/// The kernel does not describe itself.
pub fn programs(
    ebpf: &mut Ebpf,
    config: &config::Sensor,
    offsets: &Offsets,
    links: &Links,
) -> Result<Loaded, SensorError> {
    let btf = Btf::from_sys_fs().map_err(|error| SensorError::Load(describe(&error)))?;
    let wanted = HOOKS
        .iter()
        .filter(|hook| !disabled(config, hook) && !links.has(hook));
    let loaded = wanted.map(|hook| {
        let missing: Vec<_> = hook
            .needs
            .iter()
            .copied()
            .filter(|field| offsets.missing().any(|name| name == *field))
            .collect();
        let result = if missing.is_empty() {
            load_one(ebpf, hook, &btf)
        } else {
            Err((
                HookState::Unsupported,
                format!("this kernel's BTF lacks {}", missing.join(", ")),
            ))
        };
        (hook.name, result)
    });
    Ok(loaded.collect())
}

fn disabled(config: &config::Sensor, hook: &Hook) -> bool {
    let unwanted = match hook.method {
        Method::CgroupSkbIngress => !config.names.dns,
        Method::TailCall(_) => !config.names.tls && !config.names.quic,
        _ => false,
    };
    unwanted || config.disable.iter().any(|name| name == hook.name)
}

/// Attaches every hook that is not disabled and not attached already, and detaches those that are disabled.
///
/// # Errors
/// An essential hook could not be attached.
pub fn attach(
    ebpf: &mut Ebpf,
    config: &config::Sensor,
    mut loaded: Loaded,
    cgroup: &CgroupRoot,
    links: &mut Links,
) -> Result<Vec<HookStatus>, SensorError> {
    // Held until the last tracepoint is attached.
    let tracefs = tracefs::Mounted::ensure();
    let mut attached = Vec::with_capacity(HOOKS.len());
    for hook in HOOKS {
        let status = |state, reason| HookStatus {
            hook: hook.name,
            method: hook.method.to_string(),
            state,
            reason,
            gives: hook.gives,
        };
        if disabled(config, hook) {
            links.release(hook);
            attached.push(status(
                HookState::Disabled,
                Some("disabled in the configuration".into()),
            ));
            continue;
        }
        if links.has(hook) {
            attached.push(status(HookState::Ok, None));
            continue;
        }
        let result = loaded
            .remove(hook.name)
            .unwrap_or(Ok(()))
            .and_then(|()| attach_one(ebpf, hook, cgroup, &tracefs));
        match result {
            Ok(Some(link)) => {
                links.hold(hook, link);
                attached.push(status(HookState::Ok, None));
            }
            Ok(None) if matches!(hook.method, Method::TailCall(_)) => {
                attached.push(status(HookState::Ok, None));
            }
            Ok(None) => attached.push(status(
                HookState::Ok,
                Some("this kernel cannot pin it: it ends with the daemon".into()),
            )),
            Err((state, reason)) if hook.essential => {
                return Err(SensorError::Attach {
                    hook: hook.name,
                    method: hook.method.to_string(),
                    unsupported: state == HookState::Unsupported,
                    reason,
                });
            }
            Err((HookState::Unsupported, reason)) if hook.optional => attached.push(status(
                HookState::Ok,
                Some(format!("not on this kernel, so nothing to see: {reason}")),
            )),
            Err((state, reason)) => attached.push(status(state, Some(reason))),
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
    cgroup: &CgroupRoot,
    links: &mut Links,
) -> Result<(), String> {
    let btf = Btf::from_sys_fs().map_err(|error| describe(&error))?;
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
