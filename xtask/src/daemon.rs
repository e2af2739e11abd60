//! `cargo xtask run`: the daemon, on this host, in our place.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{cargo, setup, step};

/// Capabilities without which nothing can be observed, with their numbers in `linux/capability.h`.
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
/// For bpf(2) this one stands in for each of them (`bpf_token_capable` in the kernel).
const CAP_SYS_ADMIN: u32 = 21;

/// Builds, then becomes `egress run`.
///
/// # Errors
/// When the build fails, or there is no way to the privileges that the daemon needs.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let binary = cargo::release()?;
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let missing = missing_capabilities(&status);
    let mut command = if missing.is_empty() {
        Command::new(&binary)
    } else if setup::is_root() {
        bail!(
            "this root has no {}: in a container, grant them or run it privileged; the host's root has them",
            missing.join(", ")
        );
    } else if setup::has("sudo") {
        step::say(&format!(
            "through sudo, since you have no {}",
            missing.join(", ")
        ));
        let mut sudo = Command::new("sudo");
        sudo.arg("--").arg(&binary);
        sudo
    } else {
        bail!(
            "the daemon needs root ({}), and there is no sudo. As root: {} run",
            missing.join(", "),
            binary.display()
        );
    };
    command.arg("run").args(arguments);
    step::say(&format!("starting {}", shown(&binary, &command)));
    Err(command.exec()).with_context(|| format!("cannot start {}", binary.display()))
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let has = |number: u32| effective >> number & 1 == 1;
    NEEDED
        .iter()
        .filter(|(_, number)| !has(*number) && !has(CAP_SYS_ADMIN))
        .map(|(name, _)| *name)
        .collect()
}

fn shown(binary: &Path, command: &Command) -> String {
    let words = [binary.as_os_str()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        let status =
            |mask: u64| format!("CapInh:\t0\nCapPrm:\tffffffffffffffff\nCapEff:\t{mask:016x}\n");
        assert_eq!(
            missing_capabilities(&status(0)),
            ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]
        );
        assert_eq!(
            missing_capabilities(&status(1 << 39 | 1 << 12)),
            ["CAP_PERFMON"]
        );
        assert!(missing_capabilities(&status(1 << 21)).is_empty());
        assert_eq!(missing_capabilities("").len(), 3);
    }
}
