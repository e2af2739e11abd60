//! Frames.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

use super::raw_ip::udp;
use super::{Order, Sent, Way};
use crate::sys::{Ring, link_address};

/// `ETH_P_IP`.
const IPV4: u16 = 0x0800;

/// Sends UDP datagrams over IPv4, made by hand, in frames. `chunk` is the length of the IP packet.
pub fn send(order: &Order) -> Result<Sent> {
    let mac =
        mac(order.mac.as_deref().context("--mac")?).context("--mac is not six bytes in hex")?;
    let kind = if matches!(order.way, Way::PacketDgram) {
        Type::DGRAM
    } else {
        Type::RAW
    };
    // Protocol 0: it receives nothing.
    let socket = Socket::new(Domain::PACKET, kind, None)?;
    let to = link_address(device()?, IPV4, mac)?;
    let mut sent = Sent::default();
    if matches!(order.way, Way::PacketRing) {
        ring(order, &socket, &to, mac, &mut sent)?;
    } else {
        // `bytes` and `chunk` are those of frames then: what the calls return.
        order.all(&mut sent, |data| {
            if matches!(order.way, Way::PacketDgram) {
                socket.send_to(&udp(order, data), &to)
            } else {
                socket.send_to(&frame(order, mac, data.get(14..).unwrap_or_default()), &to)
            }
        })?;
    }
    Ok(sent)
}

fn ring(
    order: &Order,
    socket: &Socket,
    to: &socket2::SockAddr,
    mac: [u8; 6],
    sent: &mut Sent,
) -> Result<()> {
    const FRAMES: usize = 64;
    socket.bind(to)?;
    let mut ring = Ring::new(socket.as_fd(), FRAMES)?;
    let data = vec![b'e'; order.chunk.saturating_sub(14)];
    while sent.bytes < order.bytes {
        for _ in 0..FRAMES / 2 {
            anyhow::ensure!(ring.put(&frame(order, mac, &data))?, "the ring is full");
        }
        // Without MSG_DONTWAIT it returns when all frames of the ring have left.
        sent.add(socket.send(&[])?);
        std::thread::sleep(std::time::Duration::from_micros(order.pause));
    }
    Ok(())
}

fn frame(order: &Order, mac: [u8; 6], data: &[u8]) -> Vec<u8> {
    // A source address that is locally administered.
    let mut frame = [&mac[..], &[2, 0, 0, 0, 0, 1], &IPV4.to_be_bytes()].concat();
    frame.extend(udp(order, data));
    frame
}

/// Index of the device `wire`.
pub fn device() -> Result<u32> {
    let index = std::fs::read_to_string("/proc/self/net/dev_mcast").unwrap_or_default();
    let line = index.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let index = words.next()?.parse().ok()?;
        (words.next() == Some("wire")).then_some(index)
    });
    line.context("no device `wire` in /proc/net/dev_mcast")
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok());
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}
