//! ICMP and raw IP.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use socket2::{Protocol, Socket, Type};

use super::{Order, Sent, Way};

/// RFC 3692: for experiments.
const EXPERIMENT: u8 = 253;
/// IANA.
const UDP: u8 = 17;
/// A port where there are none.
const MEANINGLESS: u16 = 7777;

/// Sends messages of `chunk` bytes, headers of IP not included.
pub fn send(order: &Order) -> Result<Sent> {
    let icmp = if order.to.is_ipv4() {
        Protocol::ICMPV4
    } else {
        Protocol::ICMPV6
    };
    let mut sent = Sent::default();
    // Raw sockets know no port; IPv6 insists on 0.
    let mut to = order.to;
    to.set_port(0);
    let to = to.into();
    match order.way {
        Way::Ping | Way::RawIcmp => {
            let kind = if matches!(order.way, Way::Ping) {
                Type::DGRAM
            } else {
                Type::RAW
            };
            let socket = order.socket(kind, Some(icmp))?;
            let mut sequence = 0;
            order.all(&mut sent, |data| {
                sequence += 1;
                socket.send_to(&echo(order.to.is_ipv4(), sequence, data), &to)
            })?;
        }
        Way::PingConnected => {
            let socket = order.socket(Type::DGRAM, Some(icmp))?;
            socket.connect(&SocketAddr::new(order.to.ip(), MEANINGLESS).into())?;
            order.all(&mut sent, |data| {
                socket.send(&echo(order.to.is_ipv4(), 1, data))
            })?;
        }
        Way::RawConnected => {
            let socket = order.socket(Type::RAW, Some(Protocol::UDP))?;
            socket.connect(&SocketAddr::new(order.to.ip(), MEANINGLESS).into())?;
            order.all(&mut sent, |data| {
                let packet = udp(order, data);
                socket.send(packet.get(20..).unwrap_or_default())
            })?;
        }
        Way::RawIp => {
            let socket = order.socket(Type::RAW, Some(i32::from(EXPERIMENT).into()))?;
            sent.add(socket.send_to(&[], &to)?);
            order.all(&mut sent, |data| socket.send_to(data, &to))?;
        }
        _ => {
            ensure!(order.to.is_ipv4(), "IP_HDRINCL is for IPv4 here");
            let socket: Socket = order.socket(Type::RAW, Some(libc::IPPROTO_RAW.into()))?;
            order.all(&mut sent, |data| {
                socket.send_to(&ipv4(order, EXPERIMENT, data), &to)
            })?;
        }
    }
    Ok(sent)
}

/// An echo request (RFC 792, RFC 4443) of the length of `data`, header included.
fn echo(v4: bool, sequence: u16, data: &[u8]) -> Vec<u8> {
    let mut message = data.to_vec();
    message.resize(data.len().max(8), 0);
    message[..8].copy_from_slice(&[if v4 { 8 } else { 128 }, 0, 0, 0, 0x12, 0x34, 0, 0]);
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    if v4 {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// An IPv4 packet (RFC 791) that is as long as `data`, or its header.
pub fn ipv4(order: &Order, protocol: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = data.to_vec();
    packet.resize(data.len().max(20), 0);
    let length = u16::try_from(packet.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    packet[..12].copy_from_slice(&[
        0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0,
    ]);
    for (place, address) in [(12, order.from), (16, Some(order.to.ip()))] {
        if let Some(std::net::IpAddr::V4(address)) = address {
            packet[place..place + 4].copy_from_slice(&address.octets());
        }
    }
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A UDP datagram (RFC 768) without a checksum, in IPv4, as long as `data`.
pub fn udp(order: &Order, data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().max(28), 0);
    let mut packet = ipv4(order, UDP, &data);
    let port = order.to.port().to_be_bytes();
    let length = u16::try_from(packet.len() - 20)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    packet[20..28].copy_from_slice(&[0x30, 0x39, port[0], port[1], length[0], length[1], 0, 0]);
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let [.., high, low] = ((sum & 0xffff) + (sum >> 16)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}
