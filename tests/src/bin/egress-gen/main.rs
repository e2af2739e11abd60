//! `egress-gen`: one way of sending, serving or opening at a time, each with a count of its own.
//!
//! In: arguments. Out: one line of JSON with what was done, by what the system calls returned. Servers print a line when
//! they listen and one for each connection, and end when their standard input does.
#![deny(unsafe_code)]

mod blind;
#[cfg(target_arch = "x86_64")]
mod compat;
mod dns;
mod flood;
mod frames;
mod http;
mod open;
mod process;
mod raw;
mod repeat;
mod send;
mod sink;
mod sys;
mod uring;
mod way;
mod who;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser};
use serde_json::Value;

/// Traffic and file generators with a count of their own.
#[derive(Parser)]
enum Command {
    /// One TCP connection, sending.
    TcpUpload(Upload),
    /// Datagrams, one after the other.
    UdpBurst(Upload),
    /// One datagram.
    OnePacket {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        /// Payload, bytes.
        #[arg(long, default_value_t = 100)]
        size: usize,
    },
    /// One datagram with these bytes.
    Datagram {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        /// A file with the bytes, hexadecimal.
        #[arg(long)]
        hex: PathBuf,
    },
    /// DNS questions about `PREFIX0.NAME`, `PREFIX1.NAME`, ..., one after the other, over one socket.
    DnsAsk {
        /// Whom.
        #[arg(long)]
        to: SocketAddr,
        /// Before the number.
        #[arg(long)]
        prefix: String,
        /// How many.
        #[arg(long)]
        count: u32,
    },
    /// A DNS server that answers as the name's first letter says: `n` well, with another address each time; `l` with a name
    /// that points to itself; `j` with junk.
    DnsHostile {
        /// Where.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// One datagram to each of many ports, from one socket.
    UdpFan {
        /// Where to; the first port.
        #[arg(long)]
        to: SocketAddr,
        /// How many ports.
        #[arg(long)]
        ports: u16,
    },
    /// Any of the others, again and again, each time in a process of its own.
    Repeat {
        /// How often.
        #[arg(long)]
        count: u32,
        /// Arguments of the other.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// 48 bytes there and back, on a new socket each time, as an NTP client does.
    NtpLike {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        /// How often.
        #[arg(long)]
        count: u32,
        /// From one to the next, milliseconds.
        #[arg(long, default_value_t = 2000)]
        every: u64,
    },
    /// Opens a file and uploads, by the system calls of a 32-bit program.
    #[cfg(target_arch = "x86_64")]
    Compat {
        /// The file.
        #[arg(long)]
        file: PathBuf,
        /// Where to.
        #[arg(long)]
        to: std::net::SocketAddrV4,
        /// How much, bytes.
        #[arg(long)]
        bytes: u64,
    },
    /// Receives TCP.
    TcpSink {
        /// Where.
        #[arg(long)]
        listen: SocketAddr,
        /// Close first, after this many bytes; otherwise when the peer closes.
        #[arg(long)]
        close_after: Option<u64>,
    },
    /// Receives datagrams.
    UdpSink {
        /// Where.
        #[arg(long)]
        listen: SocketAddr,
        /// Send each back.
        #[arg(long)]
        echo: bool,
    },
    /// An HTTP server that takes PUT and answers `GET /bytes/N` with N bytes.
    Http {
        /// Where.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Sends in one of many ways.
    Way(way::Order),
    /// A server with manners of its own.
    Peer(way::peer::Peer),
    /// Tells whether this kernel has what a way of sending needs.
    Probe {
        /// What.
        #[arg(value_enum)]
        need: way::probe::Need,
    },
    /// Ethernet frames with IPv4 in them, by a packet socket.
    Frames(frames::Frames),
    /// Datagrams over one socket, and between them steps that change the sender: `login=UID`, `uid=UID`, `gid=GID`,
    /// `cgroup=DIRECTORY`, `sleep=MILLISECONDS`, `fork`, `exec=PROGRAM`; `send=BYTES` is a datagram.
    Who {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        /// The socket is standard input.
        #[arg(long)]
        inherited: bool,
        /// What to do, in order.
        steps: Vec<String>,
    },
    /// Opens one prepared file after the other, each in another way.
    OpenKinds {
        /// Where they lie.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Asks for what hooks see only in part.
    Blind {
        /// Which.
        #[arg(long)]
        kind: blind::Kind,
        /// Keep it until standard input ends.
        #[arg(long)]
        hold: bool,
    },
    /// Opens a file by io_uring.
    UringOpen {
        /// Which.
        #[arg(long)]
        path: PathBuf,
    },
    /// One TCP connection, sending by io_uring.
    UringSend(Upload),
    /// Opens prepared pairs of files by a path that another thread changes all the time.
    OpenRace {
        /// Where they lie.
        #[arg(long)]
        dir: PathBuf,
        /// How many pairs.
        #[arg(long)]
        pairs: u32,
    },
    /// Sockets that change hands, users that change, processes that are gone.
    Process(process::Process),
    /// As much as the machine can do.
    #[command(subcommand)]
    Flood(flood::Flood),
}

/// What to send.
#[derive(Args)]
struct Upload {
    /// Where to.
    #[arg(long)]
    to: SocketAddr,
    /// How much, bytes.
    #[arg(long)]
    bytes: u64,
    /// In calls of this size, bytes.
    #[arg(long, default_value_t = 1400)]
    chunk: usize,
    /// Pause after 64 calls, microseconds.
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// Let the peer close first.
    #[arg(long)]
    wait_close: bool,
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::TcpUpload(upload) => print(&send::tcp_upload(&upload)?),
        Command::UdpBurst(upload) => print(&send::udp_burst(&upload)?),
        Command::OnePacket { to, size } => print(&send::one_packet(to, size)?),
        Command::Datagram { to, hex } => print(&send::datagram(to, &hex)?),
        Command::DnsAsk { to, prefix, count } => print(&dns::ask(to, &prefix, count)?),
        Command::DnsHostile { listen } => dns::hostile(listen)?,
        Command::UdpFan { to, ports } => print(&send::udp_fan(to, ports)?),
        Command::Repeat { count, args } => print(&repeat::repeat(count, &args)?),
        Command::NtpLike { to, count, every } => {
            print(&send::ntp_like(to, count, Duration::from_millis(every))?);
        }
        #[cfg(target_arch = "x86_64")]
        Command::Compat { file, to, bytes } => print(&compat::upload(&file, to, bytes)?),
        Command::TcpSink {
            listen,
            close_after,
        } => sink::tcp(listen, close_after)?,
        Command::UdpSink { listen, echo } => sink::udp(listen, echo)?,
        Command::Http { listen } => http::serve(listen)?,
        Command::Way(order) => way::run(&order)?,
        Command::Peer(peer) => way::peer::serve(&peer)?,
        Command::Probe { need } => print(&way::probe::probe(need)),
        Command::Frames(frames) => print(&frames::send(&frames)?),
        Command::Blind { kind, hold } => blind::ask(kind, hold)?,
        Command::UringOpen { path } => print(&blind::open(&path)?),
        Command::UringSend(upload) => print(&blind::send(&upload)?),
        Command::Who {
            to,
            inherited,
            steps,
        } => who::who(to, &steps, inherited)?,
        Command::OpenKinds { dir } => print(&open::kinds(&dir)?),
        Command::OpenRace { dir, pairs } => print(&open::race(&dir, pairs)?),
        Command::Process(process) => process::process(&process)?,
        Command::Flood(flood) => flood::flood(flood)?,
    }
    Ok(())
}

/// Prints one line.
fn print(line: &Value) {
    println!("{line}");
}

/// Nanoseconds since 1970-01-01 UTC, which other processes' clocks can be compared with.
fn now_ns() -> u64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
