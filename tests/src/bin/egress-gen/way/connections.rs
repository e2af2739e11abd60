//! Many connections of one process.

use std::io::Write as _;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use socket2::{Socket, Type};

use super::stream::{connect, finish};
use super::{Send, Sent, Way, port_of};

/// Connects, sends `bytes` on each connection, and lets it end.
pub fn send(send: &Send) -> Result<Sent> {
    match send.way {
        Way::Threads => threads(send),
        Way::FastOpen => fast_open(send),
        _ => {
            let mut all = Sent::default();
            for number in 0..send.count {
                let one = one(send).with_context(|| format!("connection {number}"))?;
                all.bytes += one.bytes;
                all.calls += one.calls;
            }
            Ok(all)
        }
    }
}

fn one(send: &Send) -> Result<Sent> {
    let socket = connect(send, None)?;
    let mut sent = Sent {
        port: port_of(&socket),
        ..Sent::default()
    };
    send.all(&mut sent, |data| (&socket).write(data))?;
    finish(socket)?;
    Ok(sent)
}

fn threads(send: &Send) -> Result<Sent> {
    let mut all = Sent::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..send.count).map(|_| scope.spawn(|| one(send))).collect();
        for thread in threads {
            let one = thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            all.bytes += one.bytes;
            all.calls += one.calls;
        }
        Ok(all)
    })
}

/// Two connections: the first gets the cookie, the second carries data in its SYN (RFC 7413).
fn fast_open(send: &Send) -> Result<Sent> {
    let mut sent = Sent::default();
    for _ in 0..2 {
        let socket: Socket = send.socket(Type::STREAM, None)?;
        let data = vec![b'e'; send.chunk];
        sent.add(socket.send_to_with_flags(&data, &send.to.into(), libc::MSG_FASTOPEN)?);
        sent.add(socket.send(&data)?);
        finish(socket)?;
    }
    // `TCPExtTCPFastOpenActive` (Linux `net/ipv4/proc.c`): connections of which the data in the SYN was acknowledged.
    let table = std::fs::read_to_string("/proc/self/net/netstat")?;
    let mut rows = table
        .lines()
        .filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = rows.next().zip(rows.next()).context("no TcpExt counters")?;
    let active = names
        .split(' ')
        .zip(values.split(' '))
        .find(|(name, _)| *name == "TCPFastOpenActive");
    let (_, active) = active.context("no TCPFastOpenActive")?;
    ensure!(
        active != "0",
        "no SYN carried data: is net.ipv4.tcp_fastopen set at both ends?"
    );
    Ok(sent)
}
