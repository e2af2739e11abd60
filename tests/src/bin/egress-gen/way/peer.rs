//! Servers with manners of their own.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use serde_json::json;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::stream::discard;
use crate::{print, sink};

/// What a server does with its connections.
#[derive(Clone, Copy, ValueEnum)]
pub enum Manner {
    /// Sends `bytes` while it reads, says when both are over how much it sent.
    Send,
    /// Waits for `pause` before it reads.
    Stall,
    /// Reads `bytes`, then resets.
    Reset,
    /// Reads, over MPTCP.
    Mptcp,
    /// Reads, over SCTP.
    Sctp,
}

/// A server.
#[derive(Args)]
pub struct Peer {
    /// Its manner.
    #[arg(value_enum)]
    manner: Manner,
    /// Where.
    #[arg(long)]
    listen: SocketAddr,
    /// How much, bytes.
    #[arg(long, default_value_t = 0)]
    bytes: u64,
    /// How long, milliseconds.
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// `send`: say of each connection that it is there, and send when this file is.
    #[arg(long)]
    gate: Option<PathBuf>,
}

/// Serves until standard input ends.
pub fn serve(peer: &Peer) -> Result<()> {
    let (manner, bytes, pause, gate) = (peer.manner, peer.bytes, peer.pause, peer.gate.clone());
    let protocol = match manner {
        Manner::Mptcp => Some(Protocol::MPTCP),
        Manner::Sctp => Some(libc::IPPROTO_SCTP.into()),
        _ => None,
    };
    let listener = Socket::new(Domain::for_address(peer.listen), Type::STREAM, protocol)?;
    listener.set_reuse_address(true)?;
    listener.bind(&peer.listen.into())?;
    listener.listen(64)?;
    sink::accept_on(TcpListener::from(listener), peer.listen, move |stream| {
        match manner {
            Manner::Send => return answer(&stream, bytes, gate.as_deref()),
            Manner::Stall => thread::sleep(Duration::from_millis(pause)),
            Manner::Reset => return reset(&stream, bytes),
            Manner::Mptcp | Manner::Sctp => {}
        }
        discard(stream)?;
        Ok(())
    })
}

fn answer(mut stream: &TcpStream, bytes: u64, gate: Option<&Path>) -> Result<()> {
    if let Some(gate) = gate {
        print(&json!({ "ready": true }));
        while !gate.exists() {
            thread::sleep(Duration::from_millis(20));
        }
    }
    let own = stream.local_addr()?;
    let other = stream.try_clone()?;
    let reader = thread::spawn(move || discard(other));
    let data = vec![b'a'; 16_384];
    let mut sent = 0;
    while sent < bytes {
        let left = usize::try_from(bytes - sent).unwrap_or(usize::MAX);
        sent += stream.write(&data[..left.min(data.len())])? as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    reader
        .join()
        .map_err(|_| anyhow!("the reader panicked"))??;
    print(&json!({ "pid": std::process::id(), "app_bytes": sent, "source_port": own.port() }));
    Ok(())
}

fn reset(mut stream: &TcpStream, bytes: u64) -> Result<()> {
    let mut buffer = vec![0; 4_096];
    let mut received = 0;
    while received < bytes {
        received += stream.read(&mut buffer)? as u64;
    }
    SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}
