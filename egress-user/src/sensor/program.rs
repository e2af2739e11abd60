//! One program: loaded, attached by its method, given back.

use aya::maps::ProgramArray;
use aya::programs::links::{CgroupAttachMode, FdLink};
use aya::programs::{
    BtfTracePoint, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, FEntry, FExit, Lsm,
    Program, ProgramError, TracePoint,
};
use aya::{Btf, Ebpf};

use super::cgroups::CgroupRoot;
use super::hooks::{Hook, Method};
use super::load::describe;
use super::plan::Absence;
use super::tracefs;
/// Loads the program of a hook, unless it is.
pub(super) fn load(ebpf: &mut Ebpf, hook: &Hook, btf: &Btf) -> Result<(), Absence> {
    let Some(program) = ebpf.program_mut(hook.program) else {
        let problem = format!("the object has no program {}", hook.program);
        return Err(Absence::broken(problem));
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

/// Gives the program of a hook back to the kernel.
pub(super) fn unload(ebpf: &mut Ebpf, hook: &Hook) {
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

/// Where programs are attached. Syscall tracepoints are found in tracefs: it stays mounted as long as this is there.
pub(super) struct Places<'a> {
    cgroup: &'a CgroupRoot,
    tracefs: tracefs::Mounted,
}

impl<'a> Places<'a> {
    pub(super) fn of(cgroup: &'a CgroupRoot) -> Self {
        Self {
            cgroup,
            tracefs: tracefs::Mounted::ensure(),
        }
    }
}

/// Attaches the loaded program of a hook. Without a link it is attached all the same, but cannot be pinned.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    hook: &Hook,
    places: &Places<'_>,
) -> Result<Option<FdLink>, Absence> {
    if let Method::TailCall(map) = hook.method {
        return attach_tail(ebpf, hook, map).map(|()| None);
    }
    let Some(program) = ebpf.program_mut(hook.program) else {
        return Ok(None);
    };
    // A link that is no file descriptor (before 5.15, and 5.7 for cgroups) is let go by the conversion: attached again,
    // it stays with its program.
    macro_rules! link {
        ($kind:ty $(, $place:expr)*) => {
            <&mut $kind>::try_from(program).and_then(|program| {
                let id = program.attach($($place),*)?;
                let link = program.take_link(id)?.try_into().ok();
                if link.is_none() {
                    program.attach($($place),*)?;
                }
                Ok(link)
            })
        };
    }
    // Links of cgroup programs are multi by nature: the kernel refuses BPF_F_ALLOW_MULTI for them (Linux `kernel/bpf/cgroup.c`).
    let mode = CgroupAttachMode::Single;
    let cgroup = places.cgroup;
    let done = match hook.method {
        Method::BtfTracepoint(_) => link!(BtfTracePoint),
        Method::Fexit(_) => link!(FExit),
        Method::Fentry(_) => link!(FEntry),
        Method::Lsm(_) => link!(Lsm),
        Method::SyscallTracepoint(name) => {
            if let Some(reason) = places.tracefs.missing("syscalls", name) {
                return Err(Absence::unsupported(reason));
            }
            link!(TracePoint, "syscalls", name)
        }
        Method::CgroupSkbEgress => link!(CgroupSkb, cgroup, CgroupSkbAttachType::Egress, mode),
        Method::CgroupSkbIngress => link!(CgroupSkb, cgroup, CgroupSkbAttachType::Ingress, mode),
        Method::CgroupSockAddr(_) => link!(CgroupSockAddr, cgroup, mode),
        Method::CgroupSockRelease => link!(CgroupSock, cgroup, mode),
        // Done above.
        Method::TailCall(_) => Ok(None),
    };
    refused(hook, done)
}

/// Puts a loaded program where another one calls it. It is called as long as the map is open here, or pinned.
fn attach_tail(ebpf: &mut Ebpf, hook: &Hook, map: &str) -> Result<(), Absence> {
    let broken = |error: &dyn std::error::Error| Absence::broken(describe(error));
    let missing = || Absence::broken(format!("the object lacks {} or {map}", hook.program));
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

/// Says why the kernel did not want a program.
fn refused<T>(hook: &Hook, done: Result<T, ProgramError>) -> Result<T, Absence> {
    done.map_err(|error| match &error {
        ProgramError::Btf(inner) => {
            Absence::unsupported(format!("this kernel does not have it: {inner}"))
        }
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
            Absence::broken(format!(
                "the kernel refused the program: {io_error}; the verifier's last words: {}",
                end.join(" | ")
            ))
        }
        _ => Absence::broken(describe(&error)),
    })
}
