//! Whether this kernel, and this network namespace, has what a way of sending needs: asked by trying.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Way, stream, uring, vsock};

/// What may be missing.
#[derive(Clone, Copy, ValueEnum)]
pub enum Need {
    /// Multipath TCP.
    Mptcp,
    /// SCTP.
    Sctp,
    /// Kernel TLS.
    Ktls,
    /// The loopback transport of virtual sockets.
    Vsock,
    /// UDP-Lite over IPv4.
    UdpLite,
    /// Unprivileged ICMP sockets, IPv4.
    Ping,
    /// Unprivileged ICMP sockets, IPv6.
    Ping6,
    /// `IORING_OP_SEND`.
    UringSend,
    /// `IORING_OP_SENDMSG`.
    UringSendmsg,
    /// `IORING_OP_SEND_ZC`.
    UringSendZc,
    /// A polling thread.
    UringSqpoll,
}

/// `{"available": ..., "why": ...}`.
pub fn probe(need: Need) -> Value {
    let result = match need {
        Need::Mptcp => socket(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)),
        Need::Sctp => socket(Domain::IPV4, Type::STREAM, Some(libc::IPPROTO_SCTP.into())),
        Need::Ktls => ktls(),
        Need::Vsock => vsock::connected(1_024)
            .map(drop)
            .context("AF_VSOCK to VMADDR_CID_LOCAL"),
        Need::UdpLite => socket(
            Domain::IPV4,
            Type::DGRAM,
            Some(libc::IPPROTO_UDPLITE.into()),
        ),
        Need::Ping => socket(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4)),
        Need::Ping6 => socket(Domain::IPV6, Type::DGRAM, Some(Protocol::ICMPV6)),
        Need::UringSend => uring::probe(Way::UringSend).context("io_uring"),
        Need::UringSendmsg => uring::probe(Way::UringSendmsg).context("io_uring"),
        Need::UringSendZc => uring::probe(Way::UringSendZc).context("io_uring"),
        Need::UringSqpoll => uring::probe(Way::UringSqpoll).context("io_uring"),
    };
    match result {
        Ok(()) => json!({ "available": true }),
        Err(error) => json!({ "available": false, "why": format!("{error:#}") }),
    }
}

fn socket(domain: Domain, kind: Type, protocol: Option<Protocol>) -> Result<()> {
    let socket: io::Result<Socket> = Socket::new(domain, kind, protocol);
    socket.map(drop).context("socket(2)")
}

/// On a connection over loopback: the protocol can be attached to established ones only.
fn ktls() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    stream::keys(&Socket::from(stream))
}
