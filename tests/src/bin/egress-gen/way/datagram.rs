//! UDP and UDP-Lite.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, ensure};
use socket2::{Protocol, Socket, Type};

use super::{Order, Sent, Way, port_of};
use crate::sys;

/// `UDP_CORK`, `UDP_SEGMENT` (Linux `include/uapi/linux/udp.h`), at `SOL_UDP`.
const UDP_CORK: i32 = 1;
const UDP_SEGMENT: i32 = 103;
/// Payload of one segment of a `UDP_SEGMENT` call, bytes.
const SEGMENT: i32 = 1_000;

/// Sends datagrams of `chunk` bytes.
pub fn send(order: &Order) -> Result<Sent> {
    let protocol = matches!(order.way, Way::UdpLite).then(|| Protocol::from(libc::IPPROTO_UDPLITE));
    let socket = order.socket(Type::DGRAM, protocol)?;
    let mut sent = Sent::default();
    let to = order.to.into();
    if order.to.ip().is_multicast() {
        multicast(order, &socket)?;
    } else if order.to.ip() == IpAddr::from([255; 4]) {
        socket.set_broadcast(true)?;
    }
    match order.way {
        Way::UdpSendto | Way::UdpLite => {
            order.all(&mut sent, |data| socket.send_to(data, &to))?;
        }
        Way::UdpSendmmsg => {
            order.all(&mut sent, |data| {
                let messages = [data, &data[..data.len() / 2], &data[..1]];
                let bytes = sys::sendmmsg(socket.as_fd(), &messages, order.to)?;
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
            let and = order.and.context("--and")?;
            for to in [order.to, and, order.to, and] {
                socket.connect(&to.into())?;
                let before = sent.bytes;
                order.all(&mut sent, |data| socket.send(data))?;
                *sent.to.entry(to).or_default() += sent.bytes - before;
            }
        }
        Way::UdpFailed => failed(order, &socket, &mut sent)?,
        Way::UdpMore => {
            order.all(&mut sent, |data| {
                let mut size = 0;
                for (number, part) in data.chunks(data.len().div_ceil(4)).enumerate() {
                    let flags = if number < 3 { libc::MSG_MORE } else { 0 };
                    size += socket.send_to_with_flags(part, &to, flags)?;
                }
                Ok(size)
            })?;
        }
        _ => connected(order, &socket, &mut sent)?,
    }
    sent.port = port_of(&socket);
    Ok(sent)
}

fn connected(order: &Order, socket: &Socket, sent: &mut Sent) -> Result<()> {
    socket.connect(&order.to.into())?;
    if order.gate {
        sent.add(socket.send(b"before")?);
        order.gate(sent)?;
    }
    match order.way {
        Way::UdpGso => {
            sys::set_int(socket.as_fd(), libc::SOL_UDP, UDP_SEGMENT, SEGMENT)?;
            order.all(sent, |data| socket.send(data))
        }
        Way::UdpCork => order.all(sent, |data| {
            let cork = |on| sys::set_int(socket.as_fd(), libc::SOL_UDP, UDP_CORK, on);
            cork(1)?;
            let mut size = 0;
            for part in data.chunks(data.len().div_ceil(4)) {
                size += socket.send(part)?;
            }
            cork(0)?;
            Ok(size)
        }),
        _ => order.all(sent, |data| socket.send(data)),
    }
}

/// A send that fails after its destination was looked at must leave nothing behind for the next, which goes elsewhere.
fn failed(order: &Order, socket: &Socket, sent: &mut Sent) -> Result<()> {
    /// Larger than a datagram can be with its headers, smaller than 64 KiB.
    const TOO_LARGE: usize = 65_520;
    let and: SocketAddr = order.and.context("--and")?;
    sent.add(socket.send_to(b"once", &order.to.into())?);
    *sent.to.entry(order.to).or_default() += sent.bytes;
    for _ in 0..10 {
        let error = socket.send_to(&vec![b'e'; TOO_LARGE], &order.to.into());
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
fn multicast(order: &Order, socket: &Socket) -> io::Result<()> {
    if let Some(IpAddr::V4(from)) = order.from {
        socket.set_multicast_if_v4(&from)?;
        socket.set_multicast_loop_v4(false)
    } else {
        let device = super::packet::device().map_err(io::Error::other)?;
        socket.set_multicast_if_v6(device)?;
        socket.set_multicast_loop_v6(false)
    }
}
