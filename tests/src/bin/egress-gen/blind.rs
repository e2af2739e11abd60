//! What hooks see only in part, each asked for three times: it is told once.

use std::any::Any;
use std::ffi::CString;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, socket_with};
use serde_json::{Value, json};

use crate::raw::{map_shared, set_option};
use crate::send::{calls, told};
use crate::uring::Ring;
use crate::{Upload, print};

const TIMES: usize = 3;

/// What to ask for.
#[derive(Clone, Copy, ValueEnum)]
pub enum Kind {
    /// `socket(AF_XDP)` and a ring to send with.
    Xdp,
    /// `socket(AF_PACKET)`, a ring to send with, and queue bypass.
    PacketRing,
    /// A raw IPv4 socket.
    Raw,
    /// A raw IPv6 socket.
    Raw6,
    /// `socket(AF_VSOCK)`.
    Vsock,
    /// `IORING_OP_SOCKET`.
    UringSocket,
    /// Sockets and options that every program uses.
    Common,
}

/// Asks for it.
pub fn ask(kind: Kind, hold: bool) -> Result<()> {
    let mut things: Vec<Box<dyn Any>> = Vec::new();
    for _ in 0..TIMES {
        match kind {
            Kind::Xdp => things.push(Box::new(xdp()?)),
            Kind::PacketRing => things.push(Box::new(packet_ring()?)),
            Kind::Raw => things.push(Box::new(raw(AddressFamily::INET, ipproto::ICMP)?)),
            Kind::Raw6 => things.push(Box::new(raw(AddressFamily::INET6, ipproto::ICMPV6)?)),
            Kind::Vsock => {
                // Not every kernel has it; that it was asked for is what is told.
                let _ = socket(AddressFamily::VSOCK, SocketType::STREAM);
            }
            Kind::UringSocket => {
                let mut ring = Ring::new().context("io_uring")?;
                ring.socket(libc::AF_INET, libc::SOCK_DGRAM)?;
                things.push(Box::new(ring));
            }
            Kind::Common => common()?,
        }
    }
    print(&json!({ "pid": std::process::id() }));
    if hold {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    }
    Ok(())
}

fn socket(family: AddressFamily, kind: SocketType) -> Result<OwnedFd> {
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

fn raw(family: AddressFamily, protocol: Protocol) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(family, SocketType::RAW, flags, Some(protocol))?)
}

fn xdp() -> Result<OwnedFd> {
    let xdp = socket(AddressFamily::XDP, SocketType::RAW)?;
    let entries = 64_u32.to_ne_bytes();
    set_option(xdp.as_fd(), libc::SOL_XDP, libc::XDP_TX_RING, &entries).context("XDP_TX_RING")?;
    map_shared(xdp.as_fd(), libc::XDP_PGOFF_TX_RING, 4096).context("mmap")?;
    Ok(xdp)
}

fn packet_ring() -> Result<OwnedFd> {
    let packet = socket(AddressFamily::PACKET, SocketType::RAW)?;
    // `struct tpacket_req`: block size, blocks, frame size, frames.
    let ring: Vec<u8> = [4096_u32, 1, 2048, 2]
        .iter()
        .flat_map(|n| n.to_ne_bytes())
        .collect();
    set_option(
        packet.as_fd(),
        libc::SOL_PACKET,
        libc::PACKET_TX_RING,
        &ring,
    )
    .context("PACKET_TX_RING")?;
    map_shared(packet.as_fd(), 0, 4096).context("mmap")?;
    let on = 1_i32.to_ne_bytes();
    set_option(
        packet.as_fd(),
        libc::SOL_PACKET,
        libc::PACKET_QDISC_BYPASS,
        &on,
    )
    .context("PACKET_QDISC_BYPASS")?;
    Ok(packet)
}

fn common() -> Result<()> {
    let on = 1_i32.to_ne_bytes();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        for kind in [SocketType::STREAM, SocketType::DGRAM] {
            let socket = socket(family, kind)?;
            set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &on)?;
        }
    }
    for family in [AddressFamily::UNIX, AddressFamily::NETLINK] {
        socket(family, SocketType::DGRAM)?;
    }
    Ok(())
}

/// Opens a file by `IORING_OP_OPENAT`.
pub fn open(path: &Path) -> Result<Value> {
    let text = CString::new(path.as_os_str().as_bytes())?;
    let mut ring = Ring::new().context("io_uring")?;
    for _ in 0..TIMES {
        ring.open(&text)
            .with_context(|| path.display().to_string())?;
    }
    Ok(json!({ "pid": std::process::id() }))
}

/// One TCP connection, sending by `IORING_OP_SEND`.
pub fn send(upload: &Upload) -> Result<Value> {
    let stream = TcpStream::connect(upload.to).context("connect")?;
    let from: SocketAddr = stream.local_addr()?;
    let mut ring = Ring::new().context("io_uring")?;
    let (sent, count) = calls(upload, |data| ring.send(stream.as_fd(), data))?;
    Ok(told(from, sent, count))
}
