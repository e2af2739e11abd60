//! May this process load and attach the programs?

use rustix::thread::{CapabilitySet, capabilities};

/// What loading takes, each or `CAP_SYS_ADMIN` in its place (Linux `kernel/bpf/syscall.c`, since 5.8).
const NEEDED: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
];

/// Why the programs cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Effective capabilities.
    #[error(
        "missing effective capabilities: {}; run as root, or grant them \
         (systemd: AmbientCapabilities=, containers: --cap-add), or CAP_SYS_ADMIN in their place",
        .0.join(", ")
    )]
    Capabilities(Vec<&'static str>),
    /// Capabilities of another user namespace do not count for BPF.
    #[error(
        "runs in a user namespace of its own, where capabilities do not reach the kernel's BPF; \
         run in the initial user namespace (a rootless container cannot do this)"
    )]
    InitialUserNamespace,
    /// The kernel does not tell.
    #[error("the capabilities of this process cannot be read: {0}")]
    Unreadable(String),
}

/// Whether this thread may load and attach the programs. `RLIMIT_MEMLOCK` is not looked at: kernels since 5.11 charge BPF
/// memory to the cgroup instead.
///
/// # Errors
/// When it may not, saying what is missing.
pub fn check() -> Result<(), Missing> {
    let effective = capabilities(None)
        .map_err(|error| Missing::Unreadable(error.to_string()))?
        .effective;
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    judge(effective, &map)
}

/// `uid_map` as `/proc/self/uid_map` shows it, empty when there are no user namespaces.
fn judge(effective: CapabilitySet, uid_map: &str) -> Result<(), Missing> {
    if !effective.contains(CapabilitySet::SYS_ADMIN) {
        let missing: Vec<_> = NEEDED
            .iter()
            .filter(|(capability, _)| !effective.contains(*capability))
            .map(|(_, name)| *name)
            .collect();
        if !missing.is_empty() {
            return Err(Missing::Capabilities(missing));
        }
    }
    // The initial namespace maps every id to itself (user_namespaces(7)).
    let map: Vec<_> = uid_map.split_whitespace().collect();
    if map.is_empty() || map == ["0", "0", "4294967295"] {
        Ok(())
    } else {
        Err(Missing::InitialUserNamespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIAL: &str = "         0          0 4294967295\n";

    #[test]
    fn root_may() {
        // The tests that load programs need the same, so they run as root too.
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let some = CapabilitySet::BPF | CapabilitySet::CHOWN;
        let error = judge(some, INITIAL).expect_err("not enough");
        assert_eq!(
            error,
            Missing::Capabilities(vec!["CAP_PERFMON", "CAP_NET_ADMIN"])
        );
        assert!(
            error.to_string().contains("CAP_PERFMON, CAP_NET_ADMIN;"),
            "{error}"
        );
        let enough = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::NET_ADMIN;
        assert_eq!(judge(enough, INITIAL), Ok(()));
        assert_eq!(judge(CapabilitySet::SYS_ADMIN, INITIAL), Ok(()));
        assert_eq!(
            judge(CapabilitySet::SYS_ADMIN, ""),
            Ok(()),
            "no user namespaces"
        );
        let nested = judge(CapabilitySet::all(), "0 100000 65536\n");
        assert_eq!(nested, Err(Missing::InitialUserNamespace));
    }
}
