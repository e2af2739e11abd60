//! An HTTP/1.1 server that counts every byte of the TCP payload.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::{now_ns, print, sink};

/// Longest request head, bytes.
const HEAD: usize = 64 << 10;

/// Serves one request a connection, and closes it first: so each packet of a client has a socket behind it to the last.
pub fn serve(listen: SocketAddr) -> Result<()> {
    sink::accept(listen, answer)
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let (peer, start_ns) = (stream.peer_addr()?, now_ns());
    let mut buffer = vec![0; 65_536];
    let mut received = Vec::new();
    let head = loop {
        let size = stream.read(&mut buffer)?;
        ensure!(size > 0 && received.len() < HEAD, "no request from {peer}");
        received.extend_from_slice(&buffer[..size]);
        if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&received[..head]).into_owned();
    let mut words = text.split_ascii_whitespace();
    let (method, path) = (
        words.next().context("a method")?,
        words.next().context("a path")?,
    );
    let header = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    if header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length: u64 = header("content-length").map_or(Ok(0), str::parse)?;
    let mut total = received.len() as u64;
    while total < head as u64 + length {
        let size = stream.read(&mut buffer)?;
        ensure!(size > 0, "{peer} closed in its request");
        total += size as u64;
    }
    let body: usize = path.strip_prefix("/bytes/").map_or(Ok(0), str::parse)?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {body}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&vec![b'.'; body])?;
    stream.shutdown(Shutdown::Write)?;
    while stream.read(&mut buffer)? > 0 {}
    print(&json!({
        "method": method, "path": path, "source_port": peer.port(),
        "received": total, "body": length, "start_ns": start_ns, "end_ns": now_ns(),
    }));
    Ok(())
}
