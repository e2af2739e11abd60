//! What the running kernel has, found out without attaching anything.

use std::collections::HashSet;
use std::path::Path;

use egress_common::helpers::{ABSENT, Helpers, PRESENT};
use egress_common::offsets::Offsets;

use super::fields::{self, FieldsError};
use super::hooks::{Attach, FEATURES};
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
        place: Attach,
        tracefs: &tracefs::Mounted,
        modules: Option<&str>,
    ) -> Option<String> {
        let known = symbol(place).is_none_or(|symbol| self.has(&symbol));
        match place {
            Attach::SyscallTracepoint(name) => tracefs.missing("syscalls", name),
            Attach::BtfTracepoint(name) => {
                (!known).then(|| format!("this kernel has no tracepoint {name}"))
            }
            Attach::Fexit(name) | Attach::Fentry(name) => {
                (!known).then(|| format!("this kernel has no function {name}, or as a module"))
            }
            Attach::Lsm(name) => match modules {
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
            Attach::CgroupSkbEgress | Attach::CgroupSockAddr(_) | Attach::CgroupSockRelease => None,
        }
    }
}

/// Every place of the table.
fn places() -> impl Iterator<Item = Attach> {
    FEATURES
        .iter()
        .flat_map(|feature| feature.methods)
        .flat_map(|method| method.parts)
        .map(|part| part.attach)
}

/// The function or typedef that a kernel has when it has the place.
fn symbol(place: Attach) -> Option<String> {
    match place {
        Attach::BtfTracepoint(name) => Some(format!("btf_trace_{name}")),
        Attach::Fexit(name) | Attach::Fentry(name) => Some(name.to_owned()),
        Attach::Lsm(name) => Some(format!("bpf_lsm_{name}")),
        Attach::SyscallTracepoint(_)
        | Attach::CgroupSkbEgress
        | Attach::CgroupSockAddr(_)
        | Attach::CgroupSockRelease => None,
    }
}
