//! What works on this host, and what cannot be seen on it.

use serde::Serialize;

use super::{HookStatus, Text};

/// The findings of `egress doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoctorReport {
    /// Overall.
    pub verdict: Verdict,
    /// Facts about the host, in order: kernel, BTF, cgroup2, privileges, ...
    pub host: Vec<(String, String)>,
    /// Hooks, as they would be or are attached.
    pub hooks: Vec<HookStatus>,
    /// Every method of every feature, the best first: what this kernel offers.
    pub methods: Vec<MethodStatus>,
    /// The programs that were attached.
    pub programs: Vec<ProgramCost>,
    /// What no hook sees.
    pub blind: Vec<BlindSpot>,
}

/// One way to observe a feature, on this kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MethodStatus {
    /// The feature, as in [`HookStatus::hook`].
    pub hook: &'static str,
    /// As `--method` takes it.
    pub method: &'static str,
    /// Where its programs are attached.
    pub places: String,
    /// Why this kernel does not offer it; `None` if it does.
    pub reason: Option<String>,
}

/// What the kernel says of a loaded program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramCost {
    /// Its name.
    pub program: String,
    /// Instructions that the verifier went through (Linux 5.16; its limit is one million).
    pub verified_instructions: Option<u32>,
    /// Instructions after translation, 8 bytes each.
    pub instructions: Option<u32>,
}

/// Whether egress can work here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "why")]
pub enum Verdict {
    /// Everything works.
    Ok,
    /// It works, but not all of it: what is missing.
    Degraded(Vec<String>),
    /// `egress run` would not start: why, and what to do.
    CannotRun(Vec<String>),
}

/// A way for bytes to leave, or for a process to act, that no hook sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlindSpot {
    /// Which: `io_uring`, `xdp_socket`, `forwarded`, ...
    pub name: String,
    /// Whether something on this host uses it now; `None` when that cannot be told.
    pub in_use: Option<bool>,
    /// Who uses it now, as far as that can be told.
    pub by: Vec<BlindUser>,
    /// Why it cannot be seen, and what is counted in its place.
    pub why: String,
}

/// A process that uses a blind spot now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlindUser {
    /// Thread-group id.
    pub pid: u32,
    /// `comm`.
    pub name: Text,
    /// Network namespace (inode number).
    pub netns: u32,
}
