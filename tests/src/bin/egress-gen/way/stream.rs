//! One connection.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create, sendfile};
use rustix::pipe::{SpliceFlags, pipe, splice};
use socket2::{Protocol, Socket, Type};

use super::{Order, Sent, Way, port_of};
use crate::sys;

/// `SOL_TLS` (Linux `include/linux/socket.h`).
const SOL_TLS: i32 = 282;

/// Connects, sends, and lets the connection end.
pub fn send(order: &Order) -> Result<Sent> {
    let protocol = match order.way {
        Way::Mptcp => Some(Protocol::MPTCP),
        Way::Sctp => Some(Protocol::from(libc::IPPROTO_SCTP)),
        _ => None,
    };
    let mut sent = Sent::default();
    let socket = connect(order, protocol)?;
    sent.port = port_of(&socket);
    if order.gate {
        sent.add(socket.send(b"before")?);
        order.gate(&mut sent)?;
    }
    transmit(order, &mut sent, socket)?;
    Ok(sent)
}

/// A connected socket.
pub fn connect(order: &Order, protocol: Option<Protocol>) -> Result<Socket> {
    let socket = order.socket(Type::STREAM, protocol)?;
    socket
        .connect(&order.to.into())
        .with_context(|| format!("connect to {}", order.to))?;
    Ok(socket)
}

/// Says that nothing more comes, and reads until the peer says the same.
pub fn finish(socket: Socket) -> Result<()> {
    let mut stream = TcpStream::from(socket);
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink())?;
    Ok(())
}

fn transmit(order: &Order, sent: &mut Sent, socket: Socket) -> Result<()> {
    match order.way {
        Way::Writev => order.all(sent, |data| {
            let (a, b) = data.split_at(data.len() / 2);
            let parts = [
                &a[..a.len() / 3],
                &a[a.len() / 3..],
                &b[..b.len() / 5],
                &b[b.len() / 5..],
            ];
            (&socket).write_vectored(&parts.map(IoSlice::new))
        })?,
        Way::Sendmsg => order.all(sent, |data| {
            let (a, b) = data.split_at(data.len() / 3);
            socket.send_vectored(&[IoSlice::new(a), IoSlice::new(b)])
        })?,
        Way::Sendto => order.all(sent, |data| socket.send_to(data, &order.to.into()))?,
        Way::Urgent => {
            let mut calls = 0;
            order.all(sent, |data| {
                calls += 1;
                if calls % 10 == 0 {
                    socket.send_out_of_band(&data[..1])
                } else {
                    socket.send(data)
                }
            })?;
        }
        Way::Cork => {
            socket.set_tcp_cork(true)?;
            order.all(sent, |data| (&socket).write(data))?;
            socket.set_tcp_cork(false)?;
        }
        Way::Zerocopy => {
            sys::set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
            order.all(sent, |data| {
                loop {
                    match socket.send_with_flags(data, libc::MSG_ZEROCOPY) {
                        // Notices of completion that nobody reads use up the socket's memory for options.
                        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                            thread::sleep(Duration::from_millis(1));
                        }
                        result => return result,
                    }
                }
            })?;
        }
        Way::Sendfile => {
            let file = memfd_create("data", MemfdFlags::CLOEXEC)?;
            ftruncate(&file, order.bytes)?;
            order.all(sent, |data| Ok(sendfile(&socket, &file, None, data.len())?))?;
        }
        Way::Splice => {
            let (read, write) = pipe()?;
            order.all(sent, |data| {
                // A pipe holds 64 KiB.
                let data = &data[..data.len().min(4096)];
                let size = rustix::io::write(&write, data)?;
                Ok(splice(
                    &read,
                    None,
                    &socket,
                    None,
                    size,
                    SpliceFlags::empty(),
                )?)
            })?;
        }
        Way::Drip => {
            socket.set_tcp_nodelay(true)?;
            order.all(sent, |data| {
                thread::sleep(Duration::from_micros(order.pause));
                socket.send(&data[..1])
            })?;
        }
        Way::Duplex => return duplex(order, sent, socket),
        Way::Broken => return broken(order, sent, &socket),
        Way::WouldBlock => would_block(order, sent, &socket)?,
        Way::Ktls => {
            keys(&socket)?;
            order.all(sent, |data| socket.send(data))?;
        }
        _ => order.all(sent, |data| (&socket).write(data))?,
    }
    finish(socket)
}

/// Sends while the peer does.
fn duplex(order: &Order, sent: &mut Sent, socket: Socket) -> Result<()> {
    let stream = TcpStream::from(socket);
    let mut other = stream.try_clone()?;
    let reader = thread::spawn(move || io::copy(&mut other, &mut io::sink()));
    if order.bytes > 0 {
        order.all(sent, |data| (&stream).write(data))?;
    }
    stream.shutdown(Shutdown::Write)?;
    let received = reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(received > 0, "the peer sent nothing");
    Ok(())
}

/// Writes until that fails, which it has to before `bytes` are sent.
fn broken(order: &Order, sent: &mut Sent, socket: &Socket) -> Result<()> {
    let data = vec![b'e'; order.chunk];
    while sent.bytes < order.bytes {
        match socket.send(&data) {
            Ok(size) => sent.add(size),
            Err(error) => {
                let kind = error.kind();
                let reset = matches!(
                    kind,
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                );
                ensure!(reset, "neither EPIPE nor ECONNRESET: {error}");
                let again = socket.send(&data).map_err(|error| error.kind());
                ensure!(
                    again == Err(io::ErrorKind::BrokenPipe),
                    "not EPIPE: {again:?}"
                );
                return Ok(());
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    anyhow::bail!("the connection was not reset after {} bytes", sent.bytes)
}

/// Fills the socket's buffers, three times, while the peer does not read.
fn would_block(order: &Order, sent: &mut Sent, socket: &Socket) -> Result<()> {
    socket.set_nonblocking(true)?;
    let data = vec![b'e'; order.chunk];
    let mut blocked = 0;
    while blocked < 3 {
        match socket.send(&data) {
            Ok(size) => sent.add(size),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                blocked += 1;
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error.into()),
        }
        ensure!(sent.bytes < 100 << 20, "it never blocked");
    }
    socket.set_nonblocking(false)?;
    Ok(())
}

/// Kernel TLS for what is sent (Linux `Documentation/networking/tls.rst`): TLS 1.2, AES-128-GCM, with keys that are no
/// secret. The peer does not decrypt.
pub fn keys(socket: &Socket) -> Result<()> {
    const TLS_1_2: u16 = 0x0303;
    const TLS_CIPHER_AES_GCM_128: u16 = 51;
    const TLS_TX: i32 = 1;
    const TCP_ULP: i32 = 31;
    sys::set_option(socket.as_fd(), libc::IPPROTO_TCP, TCP_ULP, b"tls").context("TCP_ULP tls")?;
    // `struct tls12_crypto_info_aes_gcm_128`: version, cipher, iv[8], key[16], salt[4], rec_seq[8].
    let mut info = [TLS_1_2.to_ne_bytes(), TLS_CIPHER_AES_GCM_128.to_ne_bytes()].concat();
    info.extend([7; 8 + 16 + 4]);
    info.extend([0; 8]);
    sys::set_option(socket.as_fd(), SOL_TLS, TLS_TX, &info).context("TLS_TX")
}

/// Reads nothing of what the peer sends, to its end.
pub fn discard(mut stream: TcpStream) -> io::Result<u64> {
    let mut buffer = vec![0; 65_536];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(received),
            size => received += size as u64,
        }
    }
}
