//! Debian packages that the project needs: the one list.

/// A Debian package, and why it is needed.
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// What would not work without it.
    pub why: &'static str,
}

const fn package(name: &'static str, why: &'static str) -> Package {
    Package { name, why }
}

/// A Rust that can build its own `core`, for machines without a nightly that has `rust-src`.
pub const RUST: &[Package] = &[
    package(
        "rustc-web",
        "a current compiler (Debian updates it for its browsers)",
    ),
    package("cargo-web", "its cargo"),
    package(
        "rust-web-src",
        "the sources of its core, which is built for BPF",
    ),
];

/// Clippy for that Rust: it has to be the compiler's own.
pub const RUST_LINTS: &[Package] = &[package("rust-web-clippy", "lints the eBPF programs")];

/// What the tests on the real kernel run. They need root.
pub const KERNEL_TESTS: &[Package] = &[
    package(
        "bind9-dnsutils",
        "dig: DNS questions over TCP and about HTTPS records",
    ),
    package(
        "bpftool",
        "a second opinion on programs, links and pinned maps",
    ),
    package("bsdutils", "script(1): senders that have a terminal"),
    package(
        "curl",
        "uploads as they are made in the field; reads /metrics",
    ),
    package("dnsmasq-base", "a DNS server in the sink namespace"),
    package("ethtool", "segmentation offload on and off on veth"),
    package(
        "iproute2",
        "network namespaces, veth pairs, tc; ss as a second opinion on sockets",
    ),
    package("nftables", "counters and losses in the sink namespace"),
    package("openssh-client", "scp and sftp uploads"),
    package(
        "openssh-server",
        "their other end, and a server that is made to send",
    ),
    package("openssl", "TLS servers and clients, with names"),
    package("procps", "sysctl in a namespace"),
    package("prometheus", "promtool and a real scrape of /metrics"),
    package("runc", "a real container"),
    package("sudo", "logins that go on as another user"),
    package("systemd", "systemd-analyze checks the unit in deploy/"),
    package(
        "util-linux",
        "unshare, nsenter, setpriv, setsid, su and runuser: senders in other namespaces, users, sessions",
    ),
];

/// What virtual machines are made of.
pub const VM: &[Package] = &[
    package(
        "busybox-static",
        "the guest's init and shell, without libraries",
    ),
    package("cpio", "the guest's root file system"),
    package("kmod", "depmod: which modules a module needs"),
    package("qemu-system-x86", "runs the kernels, emulated"),
    package("xz-utils", "unpacks modules"),
    package("zstd", "unpacks modules of newer kernels"),
];
