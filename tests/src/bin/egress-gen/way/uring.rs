//! io_uring.
#![expect(
    unsafe_code,
    reason = "the kernel reads what an entry points to until its completion"
)]

use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Result, ensure};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use socket2::Socket;

use super::stream::{connect, finish};
use super::{Order, Sent, Way, port_of};

/// Sends over one TCP connection, an entry at a time.
pub fn send(order: &Order) -> Result<Sent> {
    let mut ring = ring(order.way)?;
    let socket = connect(order, None)?;
    let mut sent = Sent {
        port: port_of(&socket),
        ..Sent::default()
    };
    order.all(&mut sent, |data| one(&mut ring, order.way, &socket, data))?;
    finish(socket)?;
    Ok(sent)
}

/// A ring for this way.
fn ring(way: Way) -> io::Result<IoUring> {
    match way {
        // The thread sleeps after 100 ms without work.
        Way::UringSqpoll => IoUring::builder().setup_sqpoll(100).build(8),
        _ => IoUring::new(8),
    }
}

/// Why there is none of this way, or it does not know the operation.
pub fn probe(way: Way) -> Result<()> {
    let ring = ring(way)?;
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let (code, name) = match way {
        Way::UringSendmsg => (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
        Way::UringSendZc => (opcode::SendZc::CODE, "IORING_OP_SEND_ZC"),
        _ => (opcode::Send::CODE, "IORING_OP_SEND"),
    };
    ensure!(probe.is_supported(code), "no {name}");
    Ok(())
}

fn one(ring: &mut IoUring, way: Way, socket: &Socket, data: &[u8]) -> io::Result<usize> {
    let fd = types::Fd(socket.as_raw_fd());
    let length = u32::try_from(data.len()).map_err(io::Error::other)?;
    let mut part = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: all zero is a message without name, parts and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let entry: squeue::Entry = match way {
        Way::UringSendmsg => opcode::SendMsg::new(fd, &raw const message).build(),
        Way::UringSendZc => opcode::SendZc::new(fd, data.as_ptr(), length).build(),
        Way::UringAsync => opcode::Send::new(fd, data.as_ptr(), length)
            .build()
            .flags(squeue::Flags::ASYNC),
        _ => opcode::Send::new(fd, data.as_ptr(), length).build(),
    };
    // SAFETY: `data`, `part` and `message` outlive the completions, all of which are waited for below.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    let mut result = None;
    loop {
        ring.submit_and_wait(1)?;
        let completions: Vec<_> = ring.completion().collect();
        for completion in completions {
            // A zero-copy send completes twice: what was sent, and, where that says so, that the data is no longer used.
            if cqueue::notif(completion.flags()) {
                return sent(result.unwrap_or_default());
            }
            result = Some(completion.result());
            if !cqueue::more(completion.flags()) {
                return sent(completion.result());
            }
        }
    }
}

fn sent(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
