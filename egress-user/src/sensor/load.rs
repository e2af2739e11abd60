//! Loads the object and attaches its programs, one by one: a program that this kernel refuses costs its own feature.

use aya::programs::links::CgroupAttachMode;
use aya::programs::{
    BtfTracePoint, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, FEntry, FExit, Lsm,
    Program, ProgramError, TracePoint,
};
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use egress_common::helpers::{Helpers, PRESENT};
use egress_common::names;
use egress_common::offsets::Offsets;

use super::SensorError;
use super::cgroups::CgroupRoot;
use super::hooks::{Attach, FEATURES, Feature, Method, Part};
use super::plan::{Capabilities, Choice, Wishes, plan};
use crate::config;
use crate::model::{HookState, HookStatus, ProgramCost};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/egress-ebpf"));

/// `AYA_LOG_LEVEL`: nothing. The verifier then removes every log statement.
const LOG_OFF: u8 = 0;
/// `AYA_LOG_LEVEL`: up to debug.
const LOG_DEBUG: u8 = 4;

/// Loads maps and programs, with memory as configured. Nothing is attached yet.
///
/// # Errors
/// The object does not fit this kernel, or there is no memory for its maps.
pub fn load(
    config: &config::Sensor,
    offsets: &Offsets,
    helpers: &Helpers,
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
    EbpfLoader::new()
        .override_global(names::GLOBAL_OFFSETS, offsets, true)
        .override_global(names::GLOBAL_HELPERS, helpers, true)
        .override_global("AYA_LOG_LEVEL", &level, false)
        .map_max_entries(names::MAP_SLOTS, config.slots)
        .map_max_entries(names::MAP_TAKEN, config.slots)
        .map_max_entries(names::MAP_SOCKETS_BY_COOKIE, cookies)
        .map_max_entries(names::MAP_ACTIVITY, activity_cells)
        .map_max_entries(names::MAP_FREE_SLOTS, config.slots)
        .map_max_entries(names::MAP_PROCESS_RING, config.process_ring_bytes)
        .map_max_entries(names::MAP_FILE_RING, config.file_ring_bytes)
        .load(OBJECT)
        .map_err(|error| SensorError::Load(describe(&error)))
}

/// Attaches every feature by the best method that the kernel has and accepts.
///
/// # Errors
/// An essential feature could not be had.
pub fn attach(
    ebpf: &mut Ebpf,
    config: &config::Sensor,
    kernel: &mut Capabilities,
    host: &Host<'_>,
) -> Result<Vec<HookStatus>, SensorError> {
    let wishes = Wishes {
        disabled: config.disable.clone(),
        methods: config.methods.clone(),
    };
    wishes.check()?;
    FEATURES
        .iter()
        .map(|feature| attach_feature(ebpf, feature, kernel, &wishes, host))
        .collect()
}

/// What attaching needs of the host.
pub struct Host<'a> {
    /// The kernel's types.
    pub btf: &'a Btf,
    /// The cgroup2 root.
    pub cgroup: &'a CgroupRoot,
}

/// Goes down the rungs: what the kernel refuses is no longer planned with.
fn attach_feature(
    ebpf: &mut Ebpf,
    feature: &Feature,
    kernel: &mut Capabilities,
    wishes: &Wishes,
    host: &Host<'_>,
) -> Result<HookStatus, SensorError> {
    let best = feature
        .methods
        .first()
        .map(Method::places)
        .unwrap_or_default();
    let status = |method, state, reason| HookStatus {
        hook: feature.name,
        method,
        state,
        reason,
        gives: feature.gives,
    };
    loop {
        match plan(feature, kernel, wishes) {
            Choice::Disabled => {
                let reason = "disabled in the configuration".to_owned();
                return Ok(status(best, HookState::Disabled, Some(reason)));
            }
            Choice::Nothing(absence) if feature.essential => {
                return Err(SensorError::Attach {
                    hook: feature.name,
                    method: best,
                    unsupported: absence.state == HookState::Unsupported,
                    reason: absence.reason,
                });
            }
            Choice::Nothing(absence) => {
                return Ok(status(best, absence.state, Some(absence.reason)));
            }
            Choice::Method { method, because } => match attach_method(ebpf, method, kernel, host) {
                Ok(()) => {
                    let misses = method.misses.map(|misses| format!("not seen: {misses}"));
                    let reason: Vec<_> = because.into_iter().chain(misses).collect();
                    let reason = (!reason.is_empty()).then(|| reason.join("; "));
                    return Ok(status(method.places(), HookState::Ok, reason));
                }
                Err((place, reason)) => kernel.refuses(place, reason),
            },
        }
    }
}

/// Attaches all programs of a method that this kernel has places for, or none.
fn attach_method(
    ebpf: &mut Ebpf,
    method: &Method,
    kernel: &Capabilities,
    host: &Host<'_>,
) -> Result<(), (Attach, String)> {
    let parts: Vec<_> = method
        .parts
        .iter()
        .filter(|part| kernel.has(part.attach))
        .collect();
    for (done, part) in parts.iter().enumerate() {
        if let Err(reason) = attach_part(ebpf, part, host) {
            for part in parts.iter().take(done + 1) {
                if let Some(program) = ebpf.program_mut(part.program) {
                    let _ = unload(program);
                }
            }
            return Err((part.attach, reason));
        }
    }
    Ok(())
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

/// Detaches a program and gives it back to the kernel.
fn unload(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::BtfTracePoint(program) => program.unload(),
        Program::TracePoint(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::FEntry(program) => program.unload(),
        Program::Lsm(program) => program.unload(),
        Program::CgroupSkb(program) => program.unload(),
        Program::CgroupSockAddr(program) => program.unload(),
        Program::CgroupSock(program) => program.unload(),
        _ => Ok(()),
    }
}

fn attach_part(ebpf: &mut Ebpf, part: &Part, host: &Host<'_>) -> Result<(), String> {
    let Some(program) = ebpf.program_mut(part.program) else {
        return Err(format!("the object has no program {}", part.program));
    };
    // Links of cgroup programs are multi by nature: the kernel refuses BPF_F_ALLOW_MULTI for them (Linux `kernel/bpf/cgroup.c`).
    let mode = CgroupAttachMode::Single;
    let (btf, cgroup) = (host.btf, host.cgroup);
    let done = match part.attach {
        Attach::BtfTracepoint(name) => {
            <&mut BtfTracePoint>::try_from(program).and_then(|program| {
                program.load(name, btf)?;
                program.attach().map(drop)
            })
        }
        Attach::SyscallTracepoint(name) => {
            <&mut TracePoint>::try_from(program).and_then(|program| {
                program.load()?;
                program.attach("syscalls", name).map(drop)
            })
        }
        Attach::Fexit(name) => <&mut FExit>::try_from(program).and_then(|program| {
            program.load(name, btf)?;
            program.attach().map(drop)
        }),
        Attach::Fentry(name) => <&mut FEntry>::try_from(program).and_then(|program| {
            program.load(name, btf)?;
            program.attach().map(drop)
        }),
        Attach::Lsm(name) => <&mut Lsm>::try_from(program).and_then(|program| {
            program.load(name, btf)?;
            program.attach().map(drop)
        }),
        Attach::CgroupSkbEgress => <&mut CgroupSkb>::try_from(program).and_then(|program| {
            program.load()?;
            program
                .attach(cgroup, CgroupSkbAttachType::Egress, mode)
                .map(drop)
        }),
        Attach::CgroupSockAddr(_) => <&mut CgroupSockAddr>::try_from(program).and_then(|program| {
            program.load()?;
            program.attach(cgroup, mode).map(drop)
        }),
        Attach::CgroupSockRelease => <&mut CgroupSock>::try_from(program).and_then(|program| {
            program.load()?;
            program.attach(cgroup, mode).map(drop)
        }),
    };
    done.map_err(|error| match &error {
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
            log::debug!("{}: verifier: {log}", part.program);
            format!(
                "the kernel refused the program {}: {io_error}; the verifier's last words: {}",
                part.program,
                end.join(" | ")
            )
        }
        _ => describe(&error),
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
