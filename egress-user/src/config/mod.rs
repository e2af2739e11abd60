//! Configuration: one TOML file, every key optional, unknown keys refused.
//!
//! In: a file. Out: [`Config`], checked: globs compiled, networks parsed, ranges held.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

mod error;
mod options;
mod quantity;
mod raw;
mod resolve;
#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use options::{DEFAULT_STATE_DIR, EventsTarget, RunOptions};

/// The annotated example: every key, commented out, with its default.
pub const EXAMPLE: &str = include_str!("../../../egress.example.toml");

/// Names that a network cannot have: the built-in scopes (see [`crate::model::Scope`]), and what metrics call the rest.
pub const RESERVED_SCOPES: [&str; 7] = [
    "loopback", "link", "private", "public", "vm", "unknown", "other",
];

/// Reads a duration as the configuration has it: `"100ms"`, `"10s"`, `"1h 30m"`. `None` when it is not one.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    quantity::duration(text)
}

/// A configured glob, compiled as everywhere in this program: `*` and `?` stop at `/`, `**` does not.
///
/// # Errors
/// When the pattern is not a glob.
pub fn compile_glob(pattern: &str) -> Result<globset::Glob, globset::Error> {
    globset::GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
}

/// Everything that can be configured, checked, with defaults filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What is observed, and with how much memory.
    pub sensor: Sensor,
    /// Names for networks.
    pub networks: Networks,
    /// Which files are sensitive.
    pub sensitive: Sensitive,
    /// When a transfer is an alert.
    pub detection: Detection,
    /// JSON lines.
    pub events: Events,
    /// Prometheus and probes.
    pub metrics: Metrics,
    /// Bounds on memory.
    pub limits: Limits,
}

impl Config {
    /// Reads and checks a file. An empty file is valid: the defaults.
    ///
    /// # Errors
    /// [`ConfigError`], with the place in the file and what would be allowed there.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&raw::read(path)?, path)
    }

    /// Checks a text; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, name: &Path) -> Result<Self, ConfigError> {
        resolve::resolve(raw::parse(text, name)?, &error::Source { text, name })
    }
}

/// Where the kernel shows its types.
pub const DEFAULT_BTF: &str = "/sys/kernel/btf/vmlinux";

/// `[sensor]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// How often the kernel's buffers are drained. 10 ms to 1 s.
    pub drain_interval: Duration,
    /// Slots (socket, process, destination) that can be live at once. 1,024 to 1,048,576. About 380 bytes of kernel memory
    /// each, of which 192 are mapped.
    pub slots: u32,
    /// Ring of process records, bytes; a power of two and a multiple of the page size.
    pub process_ring_bytes: u32,
    /// Ring of file records, bytes; likewise.
    pub file_ring_bytes: u32,
    /// Ring of DNS answers and TLS and QUIC hellos, bytes; likewise.
    pub name_ring_bytes: u32,
    /// Debug lines from the eBPF programs (slow).
    pub kernel_log: bool,
    /// Pins maps and links, so that a daemon that was killed and comes back has missed nothing.
    pub pin: bool,
    /// Leaves the hooks counting when the daemon is stopped: the next one takes them over.
    pub keep_on_stop: bool,
    /// Hooks not to attach, by the names that `egress doctor` shows.
    pub disable: Vec<String>,
    /// Methods to use whatever else there is: feature and method, by the names that `egress doctor` shows.
    pub methods: BTreeMap<String, String>,
    /// The running kernel's BTF.
    pub btf: PathBuf,
    /// `[names]`.
    pub names: Names,
}

impl Default for Sensor {
    fn default() -> Self {
        Self {
            drain_interval: Duration::from_millis(100),
            slots: egress_common::slot::DEFAULT_SLOTS,
            process_ring_bytes: 1 << 20,
            file_ring_bytes: 1 << 20,
            name_ring_bytes: 1 << 20,
            kernel_log: false,
            pin: true,
            keep_on_stop: false,
            disable: Vec::new(),
            methods: BTreeMap::new(),
            btf: DEFAULT_BTF.into(),
            names: Names::default(),
        }
    }
}

/// `[names]`: from what the names of destinations are learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// DNS answers that this host receives.
    pub dns: bool,
    /// The server name in TLS connections that it makes (SNI, RFC 6066 3).
    pub tls: bool,
    /// The same in QUIC connections (RFC 9001 4).
    pub quic: bool,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            dns: true,
            tls: true,
            quic: true,
        }
    }
}

/// `[networks]`: name = list of CIDRs. The longest prefix wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(pub BTreeMap<String, Vec<IpNet>>);

/// `[sensitive]`: label = list of globs over absolute paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensitive {
    /// Label and globs, as configured.
    pub labels: BTreeMap<String, Vec<String>>,
}

impl Default for Sensitive {
    fn default() -> Self {
        let list = |globs: &[&str]| globs.iter().map(ToString::to_string).collect();
        Self {
            labels: BTreeMap::from([
                (
                    "credentials".into(),
                    list(&[
                        "/etc/shadow",
                        "/etc/gshadow",
                        "/etc/krb5.keytab",
                        "/**/.aws/credentials",
                        "/**/.kube/config",
                        "/**/.netrc",
                        "/**/.pgpass",
                        "/var/run/secrets/**",
                        "/run/secrets/**",
                    ]),
                ),
                (
                    "keys".into(),
                    list(&[
                        "/**/.ssh/id_*",
                        "/etc/ssh/ssh_host_*_key",
                        "/**/.gnupg/**",
                        "/etc/ssl/private/**",
                        "/etc/kubernetes/pki/**",
                    ]),
                ),
                (
                    "database".into(),
                    list(&[
                        "/var/lib/mysql/**",
                        "/var/lib/postgresql/**",
                        "/var/lib/mongodb/**",
                        "/var/lib/redis/**",
                    ]),
                ),
                ("business".into(), list(&["/srv/**"])),
            ]),
        }
    }
}

/// `[detection]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// A transfer has ended when its flows are closed, or silent for this long.
    pub episode_idle: Duration,
    /// Transfers that make a repetition, without a scheduler. At least 3.
    pub min_episodes: u32,
    /// Transfers that make a repetition under a scheduler. At least 2.
    pub min_episodes_scheduled: u32,
    /// From this score, 0 to 100, on an alert is raised.
    pub min_score: u8,
    /// An alert for the same job and destination is not repeated within this time.
    pub realert: Duration,
    /// A destination or sender is new only when the host has been watched for this long.
    pub learning: Duration,
    /// One transfer of at least this many bytes, of sensitive files, to a new place is an alert of its own.
    pub bulk_bytes: u64,
    /// Transfers to these scopes are not judged. By default the host itself and its link.
    pub ignore_scopes: Vec<String>,
    /// From this share of an interval's wire bytes on, percent, bytes without a process are an alert about coverage.
    /// 100: never.
    pub unattributed_percent: u8,
    /// Fewer bytes without a process, or unseen by any hook, are no alert about coverage.
    pub coverage_min_bytes: u64,
}

impl Default for Detection {
    fn default() -> Self {
        Self {
            episode_idle: Duration::from_secs(1),
            min_episodes: 12,
            min_episodes_scheduled: 3,
            min_score: 50,
            realert: Duration::from_hours(24),
            learning: Duration::from_hours(24),
            bulk_bytes: 64 << 20,
            ignore_scopes: vec!["loopback".into(), "link".into()],
            unattributed_percent: 20,
            coverage_min_bytes: 256 << 10,
        }
    }
}

/// Which file opens become records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileRecords {
    /// None.
    None,
    /// Those with a sensitivity label.
    #[default]
    Sensitive,
    /// All.
    All,
}

/// `[events]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// Where to: a file, `-` for standard output, or nowhere. `--events` overrides it.
    pub path: Option<PathBuf>,
    /// A file is rotated when it would grow beyond this, bytes. At least 64 KiB.
    pub rotate_bytes: u64,
    /// Rotated files kept (`PATH.1` is the newest).
    pub keep: u32,
    /// How long a flow gathers bytes before it is told again; its end is told at once.
    pub flow_interval: Duration,
    /// How often a health record is made.
    pub health_interval: Duration,
    /// Exec records.
    pub exec: bool,
    /// File records.
    pub files: FileRecords,
    /// Flows on loopback.
    pub loopback: bool,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            path: None,
            rotate_bytes: 256 << 20,
            keep: 4,
            flow_interval: Duration::from_secs(10),
            health_interval: Duration::from_secs(10),
            exec: true,
            files: FileRecords::Sensitive,
            loopback: true,
        }
    }
}

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where `/metrics`, `/healthz` and `/readyz` listen. `--listen` overrides it.
    pub listen: SocketAddr,
    /// Series for each metric that has a label with open-ended values; the rest is summed as `other`.
    pub top: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9468)),
            top: 50,
        }
    }
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processes remembered, those that ended included.
    pub processes: usize,
    /// Files remembered.
    pub files: usize,
    /// Pairs of job and destination that are judged.
    pub pairs: usize,
    /// Names of destinations remembered.
    pub names: usize,
    /// How long a process is remembered after its end.
    pub exited: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 20_000,
            files: 50_000,
            pairs: 10_000,
            names: 20_000,
            exited: Duration::from_mins(5),
        }
    }
}
