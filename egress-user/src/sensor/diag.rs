//! Socket diagnostics (`sock_diag(7)`): the TCP and UDP sockets of one network namespace.
//!
//! In: the namespace that the calling thread is in. Out: its sockets, with the cookies that the kernel side uses.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, TCP_LISTEN,
};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::gaps::Gaps;

/// The kernel answers a dump in messages of at most 32 KiB (Linux `net/netlink/af_netlink.c`).
const BUFFER: usize = 64 << 10;
/// The kernel answers at once; a seed must not hang if it does not.
const PATIENCE: Duration = Duration::from_secs(5);
/// A netlink header: length, type, flags, sequence, port.
const HEADER: usize = 16;

/// A socket as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiagSocket {
    /// Socket cookie.
    pub cookie: u64,
    /// Inode number, as in `/proc/PID/fd`; 0 when no file is open on it.
    pub inode: u64,
    /// IP protocol number.
    pub protocol: u8,
    /// A TCP socket that listens.
    pub listening: bool,
    /// Local end, as its address family has it.
    pub local: SocketAddr,
    /// Remote end; unspecified when not connected.
    pub remote: SocketAddr,
}

/// Moves the calling thread into a network namespace, for good.
///
/// # Errors
/// When it may not (`CAP_SYS_ADMIN`).
pub fn enter(namespace: &OwnedFd) -> io::Result<()> {
    Ok(move_into_link_name_space(
        namespace.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

/// Tells every TCP and UDP socket of this thread's network namespace, until `tell` says that it has enough. What the kernel
/// would not list is noted.
pub fn dump(gaps: &mut Gaps, mut tell: impl FnMut(DiagSocket) -> bool) {
    for (protocol, name) in [(IPPROTO_TCP, "tcp"), (IPPROTO_UDP, "udp")] {
        for (family, id) in [
            (AF_INET, SocketId::new_v4()),
            (AF_INET6, SocketId::new_v6()),
        ] {
            let mut full = 0_u64;
            let listed = list(protocol, family, id, |socket| {
                full += u64::from(!tell(socket));
            });
            if full > 0 {
                gaps.note(
                    "socket_table_full",
                    format!("{full} {name} sockets of one network namespace were left out"),
                );
            }
            if let Err(error) = listed {
                gaps.note(
                    "sock_diag",
                    format!("{name}, address family {family}: {error}"),
                );
            }
        }
    }
}

/// One dump.
fn list(
    protocol: u8,
    family: u8,
    id: SocketId,
    mut tell: impl FnMut(DiagSocket),
) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    socket.send(&request(protocol, family, id), 0)?;
    let mut buffer = vec![0_u8; BUFFER];
    loop {
        // MSG_TRUNC: the true length, also if the buffer was too small.
        let length = socket.recv(&mut &mut buffer[..], libc::MSG_TRUNC)?;
        let messages = buffer
            .get(..length)
            .ok_or_else(|| invalid(format!("a message of {length} bytes")))?;
        if parse(messages, protocol, &mut tell)? {
            return Ok(());
        }
    }
}

fn request(protocol: u8, family: u8, socket_id: SocketId) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id,
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The sockets in one datagram. True when the dump is complete.
fn parse(mut messages: &[u8], protocol: u8, tell: &mut impl FnMut(DiagSocket)) -> io::Result<bool> {
    while messages.len() >= HEADER {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(messages).map_err(invalid)?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                tell(socket_of(&response, protocol));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            NetlinkPayload::Overrun(_) => {
                return Err(invalid("the kernel dropped part of the answer"));
            }
            _ => {}
        }
        // Messages are aligned to 4 bytes (NLMSG_ALIGNTO).
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        messages = messages
            .get(length.saturating_add(3) & !3..)
            .unwrap_or_default();
    }
    Ok(false)
}

fn socket_of(response: &InetResponse, protocol: u8) -> DiagSocket {
    let id = &response.header.socket_id;
    DiagSocket {
        cookie: u64::from_ne_bytes(id.cookie),
        inode: response.header.inode.into(),
        protocol,
        listening: protocol == IPPROTO_TCP && response.header.state == TCP_LISTEN,
        local: SocketAddr::new(id.source_address, id.source_port),
        remote: SocketAddr::new(id.destination_address, id.destination_port),
    }
}

fn invalid(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("sock_diag: {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer with one established socket, as `struct inet_diag_msg` lays it out (Linux `include/uapi/linux/inet_diag.h`).
    fn answer() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(88_u32.to_ne_bytes()); // length
        bytes.extend([20, 0, 2, 0]); // SOCK_DIAG_BY_FAMILY, NLM_F_MULTI
        bytes.extend([0; 8]);
        bytes.extend([AF_INET, 1, 0, 0]);
        bytes.extend([0x1f, 0x90, 0, 80]); // ports 8080 and 80
        bytes.extend(
            [
                [192, 0, 2, 1],
                [0; 4],
                [0; 4],
                [0; 4],
                [198, 51, 100, 2],
                [0; 4],
                [0; 4],
                [0; 4],
            ]
            .concat(),
        );
        bytes.extend(0_u32.to_ne_bytes()); // interface
        bytes.extend(0x1_0000_0002_u64.to_ne_bytes()); // cookie
        bytes.extend([0; 16]); // expires, queues, uid
        bytes.extend(77_u32.to_ne_bytes());
        assert_eq!(bytes.len(), 88);
        bytes
    }

    fn done() -> Vec<u8> {
        [&20_u32.to_ne_bytes()[..], &[3, 0, 2, 0], &[0; 12]].concat()
    }

    fn parse_all(bytes: &[u8]) -> (io::Result<bool>, Vec<DiagSocket>) {
        let mut found = Vec::new();
        let result = parse(bytes, IPPROTO_TCP, &mut |socket| found.push(socket));
        (result, found)
    }

    #[test]
    fn an_answer_is_read() {
        let (complete, found) = parse_all(&[answer(), answer()].concat());
        assert!(!complete.expect("well-formed"));
        let expected = DiagSocket {
            cookie: 0x1_0000_0002,
            inode: 77,
            protocol: IPPROTO_TCP,
            listening: false,
            local: "192.0.2.1:8080".parse().expect("address"),
            remote: "198.51.100.2:80".parse().expect("address"),
        };
        assert_eq!(found, [expected, expected]);
        let (complete, found) = parse_all(&[answer(), done()].concat());
        assert!(complete.expect("well-formed") && found.len() == 1);
    }

    #[test]
    fn the_kernels_refusal_is_an_error() {
        let refusal = [
            &36_u32.to_ne_bytes()[..],
            &[2, 0, 0, 0],
            &[0; 8],
            &(-2_i32).to_ne_bytes(),
            &[0; 16],
        ]
        .concat();
        let (result, _) = parse_all(&refusal);
        assert_eq!(result.expect_err("ENOENT").kind(), io::ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..108, value in any::<u8>(), length in 0_usize..108) {
            let _ = parse_all(&bytes);
            let mut damaged = [answer(), done()].concat();
            if let Some(byte) = damaged.get_mut(at) {
                *byte = value;
            }
            let _ = parse_all(&damaged);
            damaged.truncate(length);
            let _ = parse_all(&damaged);
        }
    }
}
