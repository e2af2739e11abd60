//! UDP and UDP-Lite.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, ensure};
use socket2::{Protocol, Socket, Type};

use super::{Send, Sent, Way, port_of};
use crate::sys;

/// `UDP_CORK`, `UDP_SEGMENT` (Linux `include/uapi/linux/udp.h`), at `SOL_UDP`.
const UDP_CORK: i32 = 1;
const UDP_SEGMENT: i32 = 103;
/// Payload of one segment of a `UDP_SEGMENT` call, bytes.
const SEGMENT: i32 = 1_000;

/// Sends datagrams of `chunk` bytes.
pub fn send(send: &Send) -> Result<Sent> {
    let protocol = matches!(send.way, Way::UdpLite).then(|| Protocol::from(libc::IPPROTO_UDPLITE));
    let socket = send.socket(Type::DGRAM, protocol)?;
    let mut sent = Sent::default();
    let to = send.to.into();
    if send.to.ip().is_multicast() {
        multicast(send, &socket)?;
    } else if send.to.ip() == IpAddr::from([255; 4]) {
        socket.set_broadcast(true)?;
    }
    match send.way {
        Way::UdpSendto | Way::UdpLite => {
            send.all(&mut sent, |data| socket.send_to(data, &to))?;
        }
        Way::UdpSendmmsg => {
            send.all(&mut sent, |data| {
                let messages = [data, &data[..data.len() / 2], &data[..1]];
                let bytes = sys::sendmmsg(socket.as_fd(), &messages, send.to)?;
                Ok(bytes.into_iter().map(|bytes| bytes as usize).sum())
            })?;
        }
        Way::UdpEmpty => {
            socket.connect(&to)?;
            for _ in 0..10 {
                sent.add(socket.send(&[])?);
            }
        }
        Way::UdpReconnect => {
            let and = send.and.context("--and")?;
            for to in [send.to, and, send.to, and] {
                socket.connect(&to.into())?;
                let before = sent.bytes;
                send.all(&mut sent, |data| socket.send(data))?;
                *sent.to.entry(to).or_default() += sent.bytes - before;
            }
        }
        Way::UdpFailed => failed(send, &socket, &mut sent)?,
        Way::UdpMore => {
            send.all(&mut sent, |data| {
                let mut size = 0;
                for (number, part) in data.chunks(data.len().div_ceil(4)).enumerate() {
                    let flags = if number < 3 { libc::MSG_MORE } else { 0 };
                    size += socket.send_to_with_flags(part, &to, flags)?;
                }
                Ok(size)
            })?;
        }
        _ => connected(send, &socket, &mut sent)?,
    }
    sent.port = port_of(&socket);
    Ok(sent)
}

fn connected(send: &Send, socket: &Socket, sent: &mut Sent) -> Result<()> {
    socket.connect(&send.to.into())?;
    if send.gate {
        sent.add(socket.send(b"before")?);
        send.gate(sent)?;
    }
    match send.way {
        Way::UdpGso => {
            sys::set_int(socket.as_fd(), libc::SOL_UDP, UDP_SEGMENT, SEGMENT)?;
            send.all(sent, |data| socket.send(data))
        }
        Way::UdpCork => send.all(sent, |data| {
            let cork = |on| sys::set_int(socket.as_fd(), libc::SOL_UDP, UDP_CORK, on);
            cork(1)?;
            let mut size = 0;
            for part in data.chunks(data.len().div_ceil(4)) {
                size += socket.send(part)?;
            }
            cork(0)?;
            Ok(size)
        }),
        _ => send.all(sent, |data| socket.send(data)),
    }
}

/// A send that fails after its destination was looked at must leave nothing behind for the next, which goes elsewhere.
fn failed(send: &Send, socket: &Socket, sent: &mut Sent) -> Result<()> {
    /// Larger than a datagram can be with its headers, smaller than 64 KiB.
    const TOO_LARGE: usize = 65_520;
    let and: SocketAddr = send.and.context("--and")?;
    sent.add(socket.send_to(b"once", &send.to.into())?);
    *sent.to.entry(send.to).or_default() += sent.bytes;
    for _ in 0..10 {
        let error = socket.send_to(&vec![b'e'; TOO_LARGE], &send.to.into());
        let code = error.map_err(|error| error.raw_os_error());
        ensure!(code == Err(Some(libc::EMSGSIZE)), "not EMSGSIZE: {code:?}");
        socket.connect(&and.into())?;
        let size = socket.send(b"elsewhere")?;
        sent.add(size);
        *sent.to.entry(and).or_default() += size as u64;
    }
    Ok(())
}

/// Leaves by the device of `from`, once, and is not looped back.
fn multicast(send: &Send, socket: &Socket) -> io::Result<()> {
    match send.from {
        Some(IpAddr::V4(from)) => {
            socket.set_multicast_if_v4(&from)?;
            socket.set_multicast_loop_v4(false)
        }
        _ => {
            let device = super::packet::device().map_err(io::Error::other)?;
            socket.set_multicast_if_v6(device)?;
            socket.set_multicast_loop_v6(false)
        }
    }
}
