//! Receivers.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::{Context as _, Result};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;

use crate::{now_ns, print};

/// Receive buffer, bytes: bounds a TCP window, so that a sender cannot fill the wire's queue of 1,000 packets.
const BUFFER: usize = 128 << 10;

/// Receives TCP connections and tells each when it has ended.
pub fn tcp(listen: SocketAddr, close_after: Option<u64>) -> Result<()> {
    accept(listen, move |stream| {
        receive(stream, close_after.unwrap_or(u64::MAX))
    })
}

/// Receives datagrams and tells their number and bytes at the end: no more than its buffer could hold.
pub fn udp(listen: SocketAddr, echo: bool) -> Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("listen on {listen}"))?;
    print(&json!({ "listening": listen.to_string() }));
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((size, peer)) = socket.recv_from(&mut buffer) {
            if echo {
                // A client that has gone does not matter to the others.
                let _ = socket.send_to(&buffer[..size], peer);
            }
        }
    });
    end_with_stdin()
}

/// Hands each connection to `serve` in a thread, until standard input ends.
pub fn accept(
    listen: SocketAddr,
    serve: impl Fn(TcpStream) -> Result<()> + Clone + Send + 'static,
) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    accept_on(listener, listen, serve)
}

/// As [`accept`], by a listener that is there.
pub fn accept_on(
    listener: TcpListener,
    listen: SocketAddr,
    serve: impl Fn(TcpStream) -> Result<()> + Clone + Send + 'static,
) -> Result<()> {
    set_socket_recv_buffer_size(&listener, BUFFER)?;
    print(&json!({ "listening": listen.to_string() }));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream).unwrap_or_else(|error| eprintln!("{error:#}")));
        }
    });
    end_with_stdin()
}

fn receive(mut stream: TcpStream, close_after: u64) -> Result<()> {
    let (peer, start_ns) = (stream.peer_addr()?, now_ns());
    let mut buffer = vec![0; 65_536];
    let (mut received, mut closed) = (0, false);
    loop {
        let size = stream.read(&mut buffer)?;
        received += size as u64;
        if size == 0 {
            break;
        }
        if received >= close_after && !closed {
            stream.shutdown(Shutdown::Write)?;
            closed = true;
        }
    }
    print(
        &json!({ "source_port": peer.port(), "received": received, "start_ns": start_ns, "end_ns": now_ns() }),
    );
    Ok(())
}

/// Returns when standard input ends.
pub fn end_with_stdin() -> Result<()> {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    std::io::stdout().flush()?;
    Ok(())
}
