//! Senders. Their counts are the sums of what the send calls returned.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::Upload;

/// A TCP connection that sends.
pub fn tcp_upload(upload: &Upload) -> Result<Value> {
    let mut stream =
        TcpStream::connect(upload.to).with_context(|| format!("connect to {}", upload.to))?;
    let from = stream.local_addr()?;
    let (sent, calls) = calls(upload, |data| stream.write(data))?;
    if upload.wait_close {
        let end = stream.read(&mut [0])?;
        ensure!(end == 0, "the sink answered");
    }
    Ok(told(from, sent, calls))
}

/// Datagrams over one connected socket.
pub fn udp_burst(upload: &Upload) -> Result<Value> {
    let socket = socket(upload.to)?;
    socket.connect(upload.to)?;
    let from = socket.local_addr()?;
    let (sent, calls) = calls(upload, |data| socket.send(data))?;
    Ok(told(from, sent, calls))
}

/// One datagram over an unconnected socket.
pub fn one_packet(to: SocketAddr, size: usize) -> Result<Value> {
    let socket = socket(to)?;
    let sent = socket.send_to(&vec![b'1'; size], to)?;
    Ok(told(socket.local_addr()?, sent as u64, 1))
}

/// One datagram with the bytes that a file has in hexadecimal.
pub fn datagram(to: SocketAddr, hex: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(hex).with_context(|| hex.display().to_string())?;
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let bytes = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)?;
        u8::from_str_radix(pair, 16).with_context(|| pair.to_owned())
    });
    let socket = socket(to)?;
    let sent = socket.send_to(&bytes.collect::<Result<Vec<_>>>()?, to)?;
    Ok(told(socket.local_addr()?, sent as u64, 1))
}

/// One datagram of 100 bytes to each of `ports` ports, over one unconnected socket.
pub fn udp_fan(to: SocketAddr, ports: u16) -> Result<Value> {
    let socket = socket(to)?;
    let mut sent = 0;
    for port in 0..ports {
        let port = to.port().checked_add(port).context("no such port")?;
        sent += socket.send_to(&[b'f'; 100], (to.ip(), port))? as u64;
        if port % 64 == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    Ok(told(socket.local_addr()?, sent, ports.into()))
}

/// An NTP client's exchange (RFC 5905: 48 bytes, version 4, mode 3), `count` times.
pub fn ntp_like(to: SocketAddr, count: u32, every: Duration) -> Result<Value> {
    let mut request = [0; 48];
    request[0] = 0x23;
    let start = Instant::now();
    let mut sent = 0;
    for beat in 1..=count {
        let socket = socket(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.connect(to)?;
        sent += socket.send(&request)? as u64;
        socket.recv(&mut [0; 48]).context("no answer")?;
        std::thread::sleep((every * beat).saturating_sub(start.elapsed()));
    }
    Ok(json!({ "pid": std::process::id(), "app_bytes": sent, "calls": count }))
}

/// Calls `call` until all is sent; bytes and calls.
pub fn calls(
    upload: &Upload,
    mut call: impl FnMut(&[u8]) -> std::io::Result<usize>,
) -> Result<(u64, u64)> {
    let data = vec![b'e'; upload.chunk];
    let (mut sent, mut count) = (0, 0);
    while sent < upload.bytes {
        let left = usize::try_from(upload.bytes - sent).unwrap_or(usize::MAX);
        sent += call(&data[..left.min(data.len())])
            .with_context(|| format!("after {sent} bytes"))? as u64;
        count += 1;
        if count % 64 == 0 && upload.pause > 0 {
            std::thread::sleep(Duration::from_micros(upload.pause));
        }
    }
    Ok((sent, count))
}

pub fn socket(to: SocketAddr) -> Result<UdpSocket> {
    UdpSocket::bind((any(to), 0)).context("bind")
}

/// The unspecified address of the same family.
pub fn any(to: SocketAddr) -> IpAddr {
    if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

/// What was sent, from which port.
pub fn told(from: SocketAddr, sent: u64, calls: u64) -> Value {
    json!({ "pid": std::process::id(), "source_port": from.port(), "app_bytes": sent, "calls": calls })
}
