//! The hooks: what is observed, by what method, and what is lost without it.
//!
//! A new hook is a row in [`HOOKS`] and a program of that name in the object. Hooks that see the same thing in different
//! ways are of one *feature*; its ways are its *rungs*, the best first, and [`super::plan`] takes the first that the running
//! kernel has.

pub use table::{HOOKS, INTERFACE};

mod table;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `tp_btf/NAME`: a tracepoint with arguments that the verifier knows.
    BtfTracepoint(&'static str),
    /// `tracepoint/syscalls/NAME`.
    SyscallTracepoint(&'static str),
    /// `fexit/NAME`: a kernel function's return, with its arguments.
    Fexit(&'static str),
    /// `fentry/NAME`: a kernel function's call.
    Fentry(&'static str),
    /// `lsm/NAME`: a hook of the security modules.
    Lsm(&'static str),
    /// `cgroup_skb/egress` at the cgroup2 root.
    CgroupSkbEgress,
    /// `cgroup_skb/egress`, called from another one through a program array.
    TailCall(&'static str),
    /// `cgroup_skb/ingress` at the cgroup2 root.
    CgroupSkbIngress,
    /// `cgroup/NAME` at the cgroup2 root.
    CgroupSockAddr(&'static str),
    /// `cgroup/sock_release` at the cgroup2 root.
    CgroupSockRelease,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BtfTracepoint(name) => write!(f, "tp_btf/{name}"),
            Self::SyscallTracepoint(name) => write!(f, "tracepoint/syscalls/{name}"),
            Self::Fexit(name) => write!(f, "fexit/{name}"),
            Self::Fentry(name) => write!(f, "fentry/{name}"),
            Self::Lsm(name) => write!(f, "lsm/{name}"),
            Self::CgroupSkbEgress => f.write_str("cgroup_skb/egress"),
            Self::TailCall(_) => f.write_str("cgroup_skb/egress (tail call)"),
            Self::CgroupSkbIngress => f.write_str("cgroup_skb/ingress"),
            Self::CgroupSockAddr(name) => write!(f, "cgroup/{name}"),
            Self::CgroupSockRelease => f.write_str("cgroup/sock_release"),
        }
    }
}

impl Method {
    /// The kind, as `--method` takes it.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::BtfTracepoint(_) => "tp_btf",
            Self::SyscallTracepoint(_) => "tracepoint",
            Self::Fexit(_) => "fexit",
            Self::Fentry(_) => "fentry",
            Self::Lsm(_) => "lsm",
            Self::CgroupSkbEgress
            | Self::TailCall(_)
            | Self::CgroupSkbIngress
            | Self::CgroupSockAddr(_)
            | Self::CgroupSockRelease => "cgroup",
        }
    }
}

/// One hook.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// Its name in `doctor`, metrics and configuration.
    pub name: &'static str,
    /// What it is one of the ways to see: its own name, unless there are several. A rung of a feature is all its hooks of one
    /// [`Method::kind`].
    pub feature: &'static str,
    /// The program in the object.
    pub program: &'static str,
    /// How it is attached.
    pub method: Method,
    /// Kernel fields without which the program is refused.
    pub needs: &'static [&'static str],
    /// What is lost without it.
    pub gives: &'static str,
    /// Without any of these, there is nothing to run for.
    pub essential: bool,
    /// Some kernels are without this place, and without what would happen there (`open(2)` on arm64, `inet_sendpage` since
    /// 6.5): no degradation.
    pub optional: bool,
}

/// Every feature, in the order of its first hook.
pub fn features() -> impl Iterator<Item = &'static str> {
    let first = |index: usize, hook: &Hook| {
        HOOKS
            .iter()
            .take(index)
            .all(|before| before.feature != hook.feature)
    };
    HOOKS
        .iter()
        .enumerate()
        .filter(move |(index, hook)| first(*index, hook))
        .map(|(_, hook)| hook.feature)
}

/// The kinds of methods of a feature, the best first.
#[must_use]
pub fn rungs(feature: &str) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    for hook in HOOKS.iter().filter(|hook| hook.feature == feature) {
        if !kinds.contains(&hook.method.kind()) {
            kinds.push(hook.method.kind());
        }
    }
    kinds
}

/// The hooks of one rung.
pub fn rung<'a>(feature: &'a str, kind: &'a str) -> impl Iterator<Item = &'static Hook> + 'a {
    HOOKS
        .iter()
        .filter(move |hook| hook.feature == feature && hook.method.kind() == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use egress_common::offsets::Offsets;

    #[test]
    fn every_needed_field_is_in_the_table_and_names_are_unique() {
        for hook in HOOKS {
            for field in hook.needs {
                assert!(
                    Offsets::FIELDS.iter().any(|known| known.name == *field),
                    "{}: {field}",
                    hook.name
                );
            }
            assert_eq!(
                HOOKS
                    .iter()
                    .filter(|other| other.name == hook.name || other.program == hook.program)
                    .count(),
                1
            );
            assert!(
                hook.program.len() < 16,
                "{}: the kernel cuts program names at 15 bytes",
                hook.program
            );
        }
    }
}
