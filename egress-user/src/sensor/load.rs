//! Loads the object and attaches its programs, one by one: a program that this kernel refuses costs its own feature.

use aya::programs::links::CgroupAttachMode;
use aya::programs::{
    BtfTracePoint, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, ProgramError,
    TracePoint,
};
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use egress_common::names;
use egress_common::offsets::Offsets;

use super::cgroups::CgroupRoot;
use super::hooks::{HOOKS, Hook, Method};
use super::{SensorError, tracefs};
use crate::config;
use crate::model::{HookState, HookStatus};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/egress-ebpf"));

/// `AYA_LOG_LEVEL`: nothing. The verifier then removes every log statement.
const LOG_OFF: u8 = 0;
/// `AYA_LOG_LEVEL`: up to debug.
const LOG_DEBUG: u8 = 4;

/// Loads maps and programs, with memory as configured. Nothing is attached yet.
///
/// # Errors
/// The object does not fit this kernel, or there is no memory for its maps.
pub fn load(config: &config::Sensor, offsets: &Offsets) -> Result<Ebpf, SensorError> {
    let level = if config.kernel_log {
        LOG_DEBUG
    } else {
        LOG_OFF
    };
    let activity_cells =
        config.slots / u32::try_from(egress_common::slot::ACTIVITY_CELL).unwrap_or(1);
    EbpfLoader::new()
        .override_global(names::GLOBAL_OFFSETS, offsets, true)
        .override_global("AYA_LOG_LEVEL", &level, false)
        .map_max_entries(names::MAP_SLOTS, config.slots)
        .map_max_entries(names::MAP_TAKEN, config.slots)
        .map_max_entries(names::MAP_ACTIVITY, activity_cells)
        .map_max_entries(names::MAP_FREE_SLOTS, config.slots)
        .map_max_entries(names::MAP_FLOWS, config.slots)
        .map_max_entries(names::MAP_PROCESS_RING, config.process_ring_bytes)
        .map_max_entries(names::MAP_FILE_RING, config.file_ring_bytes)
        .load(OBJECT)
        .map_err(|error| SensorError::Load(describe(&error)))
}

/// Attaches every hook that is not disabled.
///
/// # Errors
/// An essential hook could not be attached.
pub fn attach(
    ebpf: &mut Ebpf,
    config: &config::Sensor,
    offsets: &Offsets,
    cgroup: &CgroupRoot,
) -> Result<Vec<HookStatus>, SensorError> {
    let btf = Btf::from_sys_fs().map_err(|error| SensorError::Load(describe(&error)))?;
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
        if config.disable.iter().any(|name| name == hook.name) {
            attached.push(status(
                HookState::Disabled,
                Some("disabled in the configuration".into()),
            ));
            continue;
        }
        let missing: Vec<_> = hook
            .needs
            .iter()
            .copied()
            .filter(|field| offsets.missing().any(|name| name == *field))
            .collect();
        let result = if missing.is_empty() {
            attach_one(ebpf, hook, &btf, cgroup, &tracefs)
        } else {
            Err((
                HookState::Unsupported,
                format!("this kernel's BTF lacks {}", missing.join(", ")),
            ))
        };
        match result {
            Ok(()) => attached.push(status(HookState::Ok, None)),
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

fn attach_one(
    ebpf: &mut Ebpf,
    hook: &Hook,
    btf: &Btf,
    cgroup: &CgroupRoot,
    tracefs: &tracefs::Mounted,
) -> Result<(), (HookState, String)> {
    let broken = |error: &dyn std::error::Error| (HookState::Broken, describe(error));
    let Some(program) = ebpf.program_mut(hook.program) else {
        return Err((
            HookState::Broken,
            format!("the object has no program {}", hook.program),
        ));
    };
    // Links of cgroup programs are multi by nature: the kernel refuses BPF_F_ALLOW_MULTI for them (Linux `kernel/bpf/cgroup.c`).
    let mode = CgroupAttachMode::Single;
    let done = match hook.method {
        Method::BtfTracepoint(name) => {
            <&mut BtfTracePoint>::try_from(program).and_then(|program| {
                program.load(name, btf)?;
                program.attach().map(drop)
            })
        }
        Method::SyscallTracepoint(name) => {
            if let Some(reason) = tracefs.missing("syscalls", name) {
                return Err((HookState::Unsupported, reason));
            }
            <&mut TracePoint>::try_from(program).and_then(|program| {
                program.load()?;
                program.attach("syscalls", name).map(drop)
            })
        }
        Method::CgroupSkbEgress => <&mut CgroupSkb>::try_from(program).and_then(|program| {
            program.load()?;
            program
                .attach(cgroup, CgroupSkbAttachType::Egress, mode)
                .map(drop)
        }),
        Method::CgroupSockAddr(_) => <&mut CgroupSockAddr>::try_from(program).and_then(|program| {
            program.load()?;
            program.attach(cgroup, mode).map(drop)
        }),
        Method::CgroupSockRelease => <&mut CgroupSock>::try_from(program).and_then(|program| {
            program.load()?;
            program.attach(cgroup, mode).map(drop)
        }),
    };
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
        _ => broken(&error),
    })
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
