//! Ways of sending: one at a time, each with the sum of what its system calls returned.
//!
//! In: a way, a destination, how much. Out: [`Sent`], as a line of JSON. Each TCP connection is ended by a shutdown and a
//! read to the end before the close, so that a full socket sends its last acknowledgement.

mod connections;
mod datagram;
mod packet;
pub mod peer;
pub mod probe;
mod raw_ip;
mod stream;
mod uring;
mod vsock;

use std::collections::BTreeMap;
use std::io::{self, BufRead as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::print;

/// A way of sending.
#[derive(Clone, Copy, ValueEnum)]
pub enum Way {
    /// TCP: write(2).
    Write,
    /// TCP: writev(2), four parts.
    Writev,
    /// TCP: sendmsg(2).
    Sendmsg,
    /// TCP: sendto(2), with the address of the peer that it is connected to.
    Sendto,
    /// TCP: send(2), each tenth time a byte of urgent data (`MSG_OOB`).
    Urgent,
    /// TCP: many small writes, held back by `TCP_CORK`.
    Cork,
    /// TCP: send(2) with `MSG_ZEROCOPY`.
    Zerocopy,
    /// TCP: sendfile(2).
    Sendfile,
    /// TCP: splice(2) from a pipe.
    Splice,
    /// TCP: one byte every `pause`.
    Drip,
    /// TCP: as much as is read from the peer is no matter; both send at once.
    Duplex,
    /// TCP: write(2) until the peer resets the connection.
    Broken,
    /// TCP: non-blocking write(2) until it would block.
    WouldBlock,
    /// TCP: data in the SYN (`MSG_FASTOPEN`).
    FastOpen,
    /// TCP: `count` connections, one after the other, from one process.
    Connections,
    /// TCP: `count` threads, each with a connection.
    Threads,
    /// MPTCP: write(2).
    Mptcp,
    /// SCTP, one-to-one: send(2).
    Sctp,
    /// TCP: kernel TLS 1.2, AES-128-GCM.
    Ktls,
    /// TCP: `IORING_OP_SEND`.
    UringSend,
    /// TCP: `IORING_OP_SENDMSG`.
    UringSendmsg,
    /// TCP: `IORING_OP_SEND_ZC`.
    UringSendZc,
    /// TCP: `IORING_OP_SEND`, submitted by the kernel's polling thread.
    UringSqpoll,
    /// TCP: `IORING_OP_SEND`, by a kernel worker thread.
    UringAsync,
    /// UDP: send(2) on a connected socket.
    UdpSend,
    /// UDP: sendto(2).
    UdpSendto,
    /// UDP: sendmmsg(2).
    UdpSendmmsg,
    /// UDP: `UDP_SEGMENT`, ten datagrams a call.
    UdpGso,
    /// UDP: four calls a datagram (`MSG_MORE`).
    UdpMore,
    /// UDP: four calls a datagram (`UDP_CORK`).
    UdpCork,
    /// UDP: a connected socket that connects to `to` and `and` in turn.
    UdpReconnect,
    /// UDP: datagrams without payload.
    UdpEmpty,
    /// UDP: sendto(2) `to` fails; then the socket is connected to `and`, and sends.
    UdpFailed,
    /// UDP-Lite: sendto(2).
    UdpLite,
    /// ICMP echo requests, unprivileged ping socket.
    Ping,
    /// ICMP echo requests, raw socket.
    RawIcmp,
    /// ICMP echo requests, ping socket, connected to an address with a port, which means nothing.
    PingConnected,
    /// UDP datagrams made by hand, raw socket, connected likewise.
    RawConnected,
    /// Raw IP, protocol 253 (RFC 3692, for experiments), one without payload.
    RawIp,
    /// Raw IP with a header of its own (`IP_HDRINCL`), protocol 253.
    Hdrincl,
    /// `AF_PACKET`, `SOCK_RAW`: whole frames.
    PacketRaw,
    /// `AF_PACKET`, `SOCK_DGRAM`: the kernel adds the link-layer header.
    PacketDgram,
    /// `AF_PACKET`, transmit ring (`TPACKET_V2`).
    PacketRing,
    /// `AF_VSOCK` to this very machine (`VMADDR_CID_LOCAL`).
    Vsock,
}

/// What to order, and how.
#[derive(Args)]
pub struct Order {
    /// The way.
    #[arg(value_enum)]
    way: Way,
    /// Where to.
    #[arg(long)]
    to: SocketAddr,
    /// Another destination.
    #[arg(long)]
    and: Option<SocketAddr>,
    /// From this address of this host.
    #[arg(long)]
    from: Option<IpAddr>,
    /// How much, bytes.
    #[arg(long, default_value_t = 1_000_000)]
    bytes: u64,
    /// In calls of this size, bytes.
    #[arg(long, default_value_t = 1_000)]
    chunk: usize,
    /// How many: connections, threads.
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// Pause after 64 calls (`drip`: after each), microseconds.
    #[arg(long, default_value_t = 300)]
    pause: u64,
    /// Link-layer address of the peer, for frames.
    #[arg(long)]
    mac: Option<String>,
    /// Open and use the socket, say so, and go on when a line comes on standard input. Bytes are counted from then on.
    #[arg(long)]
    gate: bool,
}

/// What was sent.
#[derive(Default)]
pub struct Sent {
    bytes: u64,
    calls: u64,
    /// Port of the sending socket, when there is one.
    port: Option<u16>,
    /// Bytes by destination, when there are several.
    to: BTreeMap<SocketAddr, u64>,
}

impl Sent {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.calls += 1;
    }

    fn told(&self) -> Value {
        let to = self.to.iter();
        let to: Vec<_> = to
            .map(|(to, bytes)| json!({ "ip": to.ip(), "port": to.port(), "app_bytes": bytes }))
            .collect();
        json!({
            "pid": std::process::id(), "app_bytes": self.bytes, "calls": self.calls,
            "source_port": self.port, "to": to,
        })
    }
}

/// Sends, and tells how much.
pub fn run(order: &Order) -> Result<()> {
    let sent = match order.way {
        Way::Connections | Way::Threads | Way::FastOpen => connections::send(order),
        Way::UringSend
        | Way::UringSendmsg
        | Way::UringSendZc
        | Way::UringSqpoll
        | Way::UringAsync => uring::send(order),
        Way::UdpSend
        | Way::UdpSendto
        | Way::UdpSendmmsg
        | Way::UdpGso
        | Way::UdpMore
        | Way::UdpCork
        | Way::UdpReconnect
        | Way::UdpEmpty
        | Way::UdpFailed
        | Way::UdpLite => datagram::send(order),
        Way::Ping
        | Way::PingConnected
        | Way::RawConnected
        | Way::RawIcmp
        | Way::RawIp
        | Way::Hdrincl => raw_ip::send(order),
        Way::PacketRaw | Way::PacketDgram | Way::PacketRing => packet::send(order),
        Way::Vsock => vsock::send(order),
        _ => stream::send(order),
    }?;
    print(&sent.told());
    Ok(())
}

impl Order {
    /// A socket for `to`, bound to `from`.
    fn socket(&self, kind: Type, protocol: Option<Protocol>) -> Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.to), kind, protocol)?;
        if let Some(from) = self.from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        Ok(socket)
    }

    /// Calls `call` with what is left of `bytes`, `chunk` at a time, until all is sent.
    fn all(&self, sent: &mut Sent, mut call: impl FnMut(&[u8]) -> io::Result<usize>) -> Result<()> {
        let data = vec![b'e'; self.chunk];
        let before = sent.bytes;
        while sent.bytes - before < self.bytes {
            let left = usize::try_from(self.bytes - (sent.bytes - before)).unwrap_or(usize::MAX);
            let size = call(&data[..left.min(data.len())])
                .with_context(|| format!("after {} bytes", sent.bytes))?;
            ensure!(size > 0, "nothing was sent after {} bytes", sent.bytes);
            sent.add(size);
            self.rest(sent.calls);
        }
        Ok(())
    }

    /// Keeps a burst below what the receiver's queue holds.
    fn rest(&self, calls: u64) {
        if calls.is_multiple_of(64) {
            std::thread::sleep(Duration::from_micros(self.pause));
        }
    }

    /// Waits for a line, when asked to: what was sent so far does not count.
    fn gate(&self, sent: &mut Sent) -> Result<()> {
        if self.gate {
            print(&json!({ "ready": true }));
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line)?;
            ensure!(!line.is_empty(), "nobody opened the gate");
            (sent.bytes, sent.calls) = (0, 0);
        }
        Ok(())
    }
}

/// Port of a socket's own end.
fn port_of(socket: &Socket) -> Option<u16> {
    socket.local_addr().ok()?.as_socket().map(|own| own.port())
}
