//! Many connections of one process.

use std::io::Write as _;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use socket2::{Socket, Type};

use super::stream::{connect, finish};
use super::{Order, Sent, Way, port_of};

/// Connects, sends `bytes` on each connection, and lets it end.
pub fn send(order: &Order) -> Result<Sent> {
    match order.way {
        Way::Threads => threads(order),
        Way::FastOpen => fast_open(order),
        _ => {
            let mut all = Sent::default();
            for number in 0..order.count {
                let one = one(order).with_context(|| format!("connection {number}"))?;
                all.bytes += one.bytes;
                all.calls += one.calls;
            }
            Ok(all)
        }
    }
}

fn one(order: &Order) -> Result<Sent> {
    let socket = connect(order, None)?;
    let mut sent = Sent {
        port: port_of(&socket),
        ..Sent::default()
    };
    order.all(&mut sent, |data| (&socket).write(data))?;
    finish(socket)?;
    Ok(sent)
}

fn threads(order: &Order) -> Result<Sent> {
    let mut all = Sent::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..order.count)
            .map(|_| scope.spawn(|| one(order)))
            .collect();
        for thread in threads {
            let one = thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            all.bytes += one.bytes;
            all.calls += one.calls;
        }
        Ok(all)
    })
}

/// Two connections: the first gets the cookie, the second carries data in its SYN (RFC 7413).
fn fast_open(order: &Order) -> Result<Sent> {
    let mut sent = Sent::default();
    for _ in 0..2 {
        let socket: Socket = order.socket(Type::STREAM, None)?;
        let data = vec![b'e'; order.chunk];
        sent.add(socket.send_to_with_flags(&data, &order.to.into(), libc::MSG_FASTOPEN)?);
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
