//! What the tests need of the host, and what is said when it is not there.

use std::path::PathBuf;

/// Tools and the Debian packages that have them. Those of every test; a test names what it needs beside them.
const TOOLS: &[(&str, &str)] = &[
    ("bpftool", "bpftool"),
    ("curl", "curl"),
    ("dig", "bind9-dnsutils"),
    ("dnsmasq", "dnsmasq-base"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("prometheus", "prometheus"),
    ("openssl", "openssl"),
    ("promtool", "prometheus"),
    ("runc", "runc"),
    ("runuser", "util-linux"),
    ("scp", "openssh-client"),
    ("script", "bsdutils"),
    ("setpriv", "util-linux"),
    ("setsid", "util-linux"),
    ("ssh-keygen", "openssh-client"),
    ("sshd", "openssh-server"),
    ("su", "util-linux"),
    ("sudo", "sudo"),
    ("sysctl", "procps"),
    ("unshare", "util-linux"),
];

/// What building a lab and watching the daemon takes.
const ALWAYS: &[&str] = &[
    "bpftool", "ethtool", "ip", "nft", "nsenter", "setpriv", "sysctl", "unshare",
];

/// Whether a test can run here. Without root it says why not, and the test returns; but in CI (`CI` is set) nothing is
/// skipped, and for root a missing tool is a failure: a suite that skips itself proves nothing.
///
/// # Panics
/// When it cannot, and should.
#[must_use]
pub fn ready(tools: &[&str]) -> bool {
    let must = rustix::process::geteuid().is_root() || std::env::var_os("CI").is_some();
    let Some(problem) = problem(tools) else {
        return true;
    };
    assert!(!must, "cannot run: {problem}");
    println!("skipped: {problem}");
    false
}

/// What is missing, of the rights and tools that a lab and a daemon take and of `tools`.
#[must_use]
pub fn problem(tools: &[&str]) -> Option<String> {
    let missing: Vec<String> = ALWAYS
        .iter()
        .chain(tools)
        .filter(|tool| find(tool).is_none())
        .map(|tool| {
            let package = TOOLS
                .iter()
                .find(|(name, _)| name == tool)
                .map_or("?", |(_, package)| package);
            format!("{tool} (apt-get install {package})")
        })
        .collect();
    if !rustix::process::geteuid().is_root() {
        Some("needs root, for network namespaces and BPF".to_owned())
    } else if missing.is_empty() {
        None
    } else {
        Some(format!("needs {}", missing.join(", ")))
    }
}

/// A tool's path; `sshd` insists on being called by it.
#[must_use]
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(tool))
        .find(|path| path.is_file())
}
