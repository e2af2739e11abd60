//! What the running kernel has, found out without attaching anything.

use std::collections::HashSet;
use std::path::Path;

use egress_common::helpers::{ABSENT, Helpers, PRESENT};
use egress_common::offsets::Offsets;

use super::fields::{self, FieldsError};
use super::hooks::{HOOKS, Method};
use super::plan::Capabilities;
use super::tracefs;

/// The security modules that are active, in order (Linux `Documentation/admin-guide/LSM/index.rst`).
const LSM: &str = "/sys/kernel/security/lsm";

/// Kernel functions that came with a helper: they say that it is there.
const TASK_BTF: &str = "bpf_get_current_task_btf";
const STORAGE: &str = "bpf_sk_storage_get_tracing";
const COOKIE: &str = "bpf_get_socket_ptr_cookie";

/// The functions and tracepoints of the running kernel, as far as egress asks.
pub struct Symbols(HashSet<String>);

impl Symbols {
    /// Reads them from BTF.
    ///
    /// # Errors
    /// When it cannot be read or parsed.
    pub fn read(btf: &Path) -> Result<Self, FieldsError> {
        let mut wanted: Vec<String> = places().filter_map(symbol).collect();
        wanted.extend([TASK_BTF, STORAGE, COOKIE].map(ToOwned::to_owned));
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        fields::symbols(btf, &wanted).map(Self)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// What tracing programs may call.
    #[must_use]
    pub fn helpers(&self) -> Helpers {
        let have = |function| if self.has(function) { PRESENT } else { ABSENT };
        Helpers {
            current_task_btf: have(TASK_BTF),
            socket_storage: have(STORAGE),
            socket_cookie: have(COOKIE),
        }
    }

    /// Which places of the table this kernel has.
    #[must_use]
    pub fn capabilities(&self, offsets: &Offsets, tracefs: &tracefs::Mounted) -> Capabilities {
        let mut kernel = Capabilities::without_fields(offsets.missing());
        let modules = std::fs::read_to_string(LSM).ok();
        for place in places() {
            if let Some(reason) = self.absence(place, tracefs, modules.as_deref()) {
                kernel.lacks(place, reason);
            }
        }
        kernel
    }

    fn absence(
        &self,
        place: Method,
        tracefs: &tracefs::Mounted,
        modules: Option<&str>,
    ) -> Option<String> {
        let known = symbol(place).is_none_or(|symbol| self.has(&symbol));
        match place {
            Method::SyscallTracepoint(name) => tracefs.missing("syscalls", name),
            Method::BtfTracepoint(name) => {
                (!known).then(|| format!("this kernel has no tracepoint {name}"))
            }
            Method::Fexit(name) | Method::Fentry(name) => {
                (!known).then(|| format!("this kernel has no function {name}, or as a module"))
            }
            Method::Lsm(name) => match modules {
                None => Some(format!(
                    "{LSM} is not there to tell whether BPF is an active security module"
                )),
                // Programs would load and attach, and never run.
                Some(modules) if !modules.split(',').any(|module| module.trim() == "bpf") => {
                    Some(format!(
                        "BPF is not among the active security modules ({})",
                        modules.trim()
                    ))
                }
                Some(_) => {
                    (!known).then(|| format!("this kernel has no security hook {name} for BPF"))
                }
            },
            // Kernels since 5.9 have them; whether this one does shows when they are attached.
            Method::CgroupSkbEgress
            | Method::CgroupSkbIngress
            | Method::TailCall(_)
            | Method::CgroupSockAddr(_)
            | Method::CgroupSockRelease => None,
        }
    }
}

/// Every place of the table.
fn places() -> impl Iterator<Item = Method> {
    HOOKS.iter().map(|hook| hook.method)
}

/// The function or typedef that a kernel has when it has the place.
fn symbol(place: Method) -> Option<String> {
    match place {
        Method::BtfTracepoint(name) => Some(format!("btf_trace_{name}")),
        Method::Fexit(name) | Method::Fentry(name) => Some(name.to_owned()),
        Method::Lsm(name) => Some(format!("bpf_lsm_{name}")),
        Method::SyscallTracepoint(_)
        | Method::CgroupSkbEgress
        | Method::CgroupSkbIngress
        | Method::TailCall(_)
        | Method::CgroupSockAddr(_)
        | Method::CgroupSockRelease => None,
    }
}
