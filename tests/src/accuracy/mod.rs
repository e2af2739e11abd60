//! The accuracy suite: what is told of each way of sending, beside two truths.
//!
//! In: the table of [`scenarios`]. Out: one [`Outcome`] for each, and the [`report`]. Truth of application bytes is what the
//! generators' system calls returned; truth of wire bytes is what nftables counted in the receiving namespace, at the IP
//! layer, before anything was dropped. The tolerance is zero, and every byte has to be with the right process (pid and
//! executable), user, direction and destination.
//!
//! One daemon watches while all scenarios run, one after the other, each with a destination address of its own ([`run`]);
//! when it has ended, its records are compared ([`judge`]).

mod bench;
pub mod judge;
pub mod report;
pub mod run;
pub mod scenarios;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::lab::Truth;

/// Port of most destinations.
pub const PORT: u16 = 9000;

/// What is done to a generator, or round it, while it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Nothing.
    Plain,
    /// The daemon is stopped (`SIGSTOP`) from before its start until after its end.
    DaemonStopped,
    /// It is killed in the middle of sending: the truth of app bytes is what the peer received.
    Killed,
    /// It runs in a container of runc's, as the scenario's user.
    Container,
}

/// One way of sending, and what has to be told of it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name, for `--only`.
    pub name: &'static str,
    /// What sends, by which system call.
    pub way: &'static str,
    /// What it needs of the kernel: names of `egress-gen probe`; and `runc`, for containers.
    pub needs: &'static [&'static str],
    /// Where the bytes go.
    pub to: Target,
    /// Port of the destination.
    pub port: u16,
    /// Arguments of `egress-gen`, in the source, where `{to}` is the destination, `{next}` the same with the next port,
    /// `{from}` the source's address, `{mac}` the sink's link-layer address, `{copy}` a copy of `egress-gen`. Empty when only a server sends.
    pub generator: &'static [&'static str],
    /// Who receives, in the sink: arguments of `egress-gen` without `--listen`; empty for nobody.
    pub peer: &'static [&'static str],
    /// Arguments of a server of `egress-gen` in the source, to which the sink connects; empty for none.
    pub server: &'static [&'static str],
    /// What is done to the generator, or round it.
    pub setting: Setting,
    /// Sockets are opened before the daemon starts, and used after.
    pub before: bool,
    /// The generator's real and effective uid.
    pub user: u32,
    /// The sink drops this share of the larger packets, one of so many, after counting them; 0 for none.
    pub lose: u32,
    /// `network.transport` of the flows; empty if any.
    pub transport: &'static str,
    /// `egress.direction`.
    pub direction: &'static str,
    /// `egress.attribution`. Where it is `inherited`, the first process at the socket is `exact` all the same.
    pub attribution: &'static str,
    /// Whether the peer's bytes are part of the scenario: it tells its own count.
    pub both: bool,
    /// The socket has no destination (packet sockets, virtual sockets): one is checked if told, but not asked for.
    pub nowhere: bool,
    /// Wire bytes that no hook at the IP layer sees, for a known reason.
    pub unseen: Unseen,
    /// What there is to know about it, for the report.
    pub note: &'static str,
}

/// Wire bytes that cannot be told, of which the suite tells how many there were.
#[derive(Clone, Copy, Debug)]
pub struct Unseen {
    /// They come in portions of so many bytes.
    pub bytes: u64,
    /// So many portions at most.
    pub most: u64,
    /// What they are.
    pub what: &'static str,
}

/// Where the bytes of a scenario go: each has an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The sink's IPv4.
    V4,
    /// The sink's IPv6.
    V6,
    /// The sink's IPv4, reached from an IPv6 socket (`::ffff:a.b.c.d`).
    Mapped,
    /// An IPv4 group.
    Multicast4,
    /// An IPv6 group.
    Multicast6,
    /// 255.255.255.255.
    Broadcast,
    /// The source itself, over loopback.
    Loopback,
    /// This machine, over virtual sockets.
    Vsock,
}

impl Target {
    /// The address for the scenario of this number (below 240).
    #[must_use]
    pub fn address(self, number: u8) -> IpAddr {
        let last = number.saturating_add(10);
        match self {
            Self::V4 | Self::Mapped => Ipv4Addr::new(198, 51, 100, last).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, last.into()).into(),
            Self::Multicast4 => Ipv4Addr::new(239, 255, 0, last).into(),
            Self::Multicast6 => Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 1, last.into()).into(),
            Self::Broadcast => Ipv4Addr::BROADCAST.into(),
            Self::Loopback | Self::Vsock => Ipv4Addr::new(127, 1, 0, last).into(),
        }
    }

    /// `egress.scope`: the documentation's ranges are public addresses as good as any.
    #[must_use]
    pub fn scope(self) -> &'static str {
        match self {
            Self::V4 | Self::V6 | Self::Mapped => "public",
            Self::Multicast4 | Self::Multicast6 | Self::Broadcast => "link",
            Self::Loopback => "loopback",
            Self::Vsock => "vm",
        }
    }
}

/// A process that sent, by its own account. One that changes its user or its executable is several; one that only opened a
/// socket has sent 0 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// Its process id.
    pub pid: u64,
    /// What its system calls returned, bytes.
    pub app_bytes: u64,
    /// Its executable, where that is not the generator's.
    pub executable: Option<String>,
    /// Its real uid, where that is not the scenario's.
    pub user: Option<u64>,
    /// Who made it, where that is asked for: a process id.
    pub parent: Option<u64>,
    /// Its container, where it is in one.
    pub container: Option<String>,
    /// `egress.attribution`, where that is not the scenario's.
    pub attribution: Option<String>,
    /// `egress.direction`, where that is not the scenario's.
    pub direction: Option<String>,
    /// The local port of its one socket.
    pub source_port: Option<u64>,
    /// Bytes by destination (address, port), where there are several.
    pub to: Vec<(IpAddr, u16, u64)>,
}

/// A scenario that ran.
#[derive(Debug)]
pub struct Done {
    /// Which.
    pub scenario: &'static Scenario,
    /// Its destination's address.
    pub address: IpAddr,
    /// Who sent.
    pub senders: Vec<Sender>,
    /// What had arrived before the daemon started, of a scenario that began before.
    pub before: Truth,
    /// The path of the generator's executable.
    pub executable: String,
    /// Why it could not be run to its end.
    pub failed: Option<String>,
}

/// How a scenario came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every byte told, and told right.
    Exact,
    /// What is wrong.
    Wrong(Vec<String>),
    /// Not run here, and why.
    Skipped(String),
}

/// A scenario, the truth, and what was told.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub scenario: &'static Scenario,
    /// Application bytes: the generators' count, and what was told.
    pub app: (u64, u64),
    /// Wire bytes: the sink's count, and what was told.
    pub wire: (u64, u64),
    /// Of the sink's count, the bytes that no hook sees, for the scenario's known reason.
    pub unseen: u64,
    /// Whom the bytes were attributed to.
    pub attributed: String,
    /// How it came out.
    pub verdict: Verdict,
}

/// What came of a run.
#[derive(Debug)]
pub struct Suite {
    /// One for each scenario, in the order of the table.
    pub outcomes: Vec<Outcome>,
    /// How long it took.
    pub took: Duration,
}

impl Suite {
    /// The scenarios that are not exact.
    pub fn wrong(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes
            .iter()
            .filter(|outcome| matches!(outcome.verdict, Verdict::Wrong(_)))
    }
}
