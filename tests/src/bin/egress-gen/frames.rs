//! Frames that a packet socket sends: the kernel adds nothing to them.

use std::net::SocketAddrV4;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SendFlags, SocketType, send as send_frame, socket};
use serde_json::{Value, json};

use crate::raw::packet_socket;

/// Bytes of an Ethernet header, an IPv4 header, a UDP header, a TCP header.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const TCP: usize = 20;

/// What to send.
#[derive(Args)]
pub struct Frames {
    /// Device.
    #[arg(long)]
    device: String,
    /// Its peer's address.
    #[arg(long)]
    mac: String,
    /// Source in the frames.
    #[arg(long)]
    from: SocketAddrV4,
    /// Destination in the frames.
    #[arg(long)]
    to: SocketAddrV4,
    /// A TCP segment with an acknowledgement of nothing, not a UDP datagram.
    #[arg(long)]
    tcp: bool,
    /// Payload, bytes.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// How many.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Past the device's queues (`PACKET_QDISC_BYPASS`).
    #[arg(long)]
    bypass: bool,
}

/// Sends them over one socket.
pub fn send(frames: &Frames) -> Result<Value> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let ifindex = name_to_index(&any, &frames.device).context("no such device")?;
    let socket = packet_socket(ifindex.try_into()?, frames.bypass)?;
    let frame = frame(frames)?;
    let mut sent = 0;
    for number in 1..=frames.count {
        sent += send_frame(&socket, &frame, SendFlags::empty())
            .with_context(|| format!("frame {number}"))? as u64;
    }
    Ok(json!({ "pid": std::process::id(), "app_bytes": sent, "calls": frames.count }))
}

fn frame(frames: &Frames) -> Result<Vec<u8>> {
    let destination: Vec<u8> = frames
        .mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .context("--mac")?;
    if destination.len() != 6 {
        bail!("--mac: not six bytes");
    }
    let mut frame = destination;
    // A locally administered source address, and the EtherType of IPv4.
    frame.extend([2, 0, 0, 0, 0, 1, 0x08, 0x00]);
    let transport = if frames.tcp { TCP } else { UDP };
    let length = u16::try_from(IPV4 + transport + frames.size)?;
    frame.extend([0x45, 0]);
    frame.extend(length.to_be_bytes());
    // No identification, not fragmented, 64 hops.
    frame.extend([0, 0, 0, 0, 64, if frames.tcp { 6 } else { 17 }, 0, 0]);
    frame.extend(frames.from.ip().octets());
    frame.extend(frames.to.ip().octets());
    let header = sum(0, &frame[ETHERNET..]);
    frame[ETHERNET + 10..][..2].copy_from_slice(&checksum(header));
    frame.extend(frames.from.port().to_be_bytes());
    frame.extend(frames.to.port().to_be_bytes());
    if frames.tcp {
        // Sequence and acknowledgement numbers 1; 5 words of header; ACK; no window, checksum or urgent data yet.
        frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    } else {
        frame.extend(u16::try_from(UDP + frames.size)?.to_be_bytes());
        // Without a checksum (RFC 768).
        frame.extend([0, 0]);
    }
    frame.resize(frame.len() + frames.size, b'p');
    if frames.tcp {
        let segment = &frame[ETHERNET + IPV4..];
        let pseudo = sum(
            6 + u32::try_from(segment.len())?,
            &frame[ETHERNET + 12..][..8],
        );
        let bytes = checksum(sum(pseudo, segment));
        frame[ETHERNET + IPV4 + 16..][..2].copy_from_slice(&bytes);
    }
    Ok(frame)
}

/// Adds 16-bit words (RFC 1071); a last odd byte counts as the upper one.
fn sum(start: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(start, |sum, word| {
        let low = word.get(1).copied().unwrap_or(0);
        sum + u32::from(u16::from_be_bytes([word[0], low]))
    })
}

fn checksum(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(u16::MAX)).to_be_bytes()
}
