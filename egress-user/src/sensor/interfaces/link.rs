//! The devices of a network namespace, with their counters (`rtnetlink(7)`, `RTM_GETLINK`).
//!
//! In: the namespace that the calling thread is in. Out: its [`Link`]s.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::model::Text;

/// The kernel answers a dump in messages of at most 32 KiB (Linux `net/netlink/af_netlink.c`).
const BUFFER: usize = 64 << 10;
/// The kernel answers at once; the daemon must not hang if it does not.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most devices of one namespace.
const LINKS_MAX: usize = 4_096;
/// Message types and flags (Linux `include/uapi/linux/{netlink,rtnetlink}.h`).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
/// `struct nlmsghdr`, `struct ifinfomsg`, `struct nlattr`: their sizes.
const HEADER: usize = 16;
const IFINFO: usize = 16;
const ATTRIBUTE: usize = 4;
/// Attributes (Linux `include/uapi/linux/if_link.h`).
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_INFO_KIND: u16 = 1;
/// Without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// Linux `include/uapi/linux/if_arp.h`.
const ARPHRD_LOOPBACK: u16 = 772;

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub ifindex: u32,
    /// Name.
    pub name: Text,
    /// `veth`, `bridge`, ...; empty for hardware.
    pub kind: Text,
    /// Bytes that it counted as transmitted since it was made.
    pub tx_bytes: u64,
    /// Packets.
    pub tx_packets: u64,
}

/// The devices of this thread's network namespace, without loopback.
///
/// # Errors
/// When the kernel does not list them.
pub fn links() -> io::Result<Vec<Link>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    socket.send(&request(), 0)?;
    let mut links = Vec::new();
    let mut buffer = vec![0_u8; BUFFER];
    loop {
        // MSG_TRUNC: the true length, also if the buffer was too small.
        let length = socket.recv(&mut &mut buffer[..], libc::MSG_TRUNC)?;
        let messages = buffer
            .get(..length)
            .ok_or_else(|| invalid("a message that is too long"))?;
        if parse(messages, &mut links)? {
            return Ok(links);
        }
        if links.len() > LINKS_MAX {
            return Err(invalid("more devices than are read in one namespace"));
        }
    }
}

fn request() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + IFINFO);
    bytes.extend(u32::try_from(HEADER + IFINFO).unwrap_or(0).to_ne_bytes());
    bytes.extend(RTM_GETLINK.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes.resize(HEADER + IFINFO, 0);
    bytes
}

/// The devices in one datagram. True when the dump is complete.
fn parse(mut messages: &[u8], links: &mut Vec<Link>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(messages, 0), u16_at(messages, 4)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let body = messages
            .get(HEADER..length)
            .ok_or_else(|| invalid("a message that is cut"))?;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = u32_at(body, 0).map_or(0, u32::cast_signed);
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            RTM_NEWLINK => links.extend(link(body)),
            _ => {}
        }
        messages = messages.get(aligned(length)..).unwrap_or_default();
    }
    Ok(false)
}

/// One device; `None` for loopback.
fn link(body: &[u8]) -> Option<Link> {
    // struct ifinfomsg: family, pad, type (u16), index (i32).
    if u16_at(body, 2)? == ARPHRD_LOOPBACK {
        return None;
    }
    let mut link = Link {
        ifindex: u32_at(body, 4)?,
        ..Link::default()
    };
    for (kind, value) in attributes(body.get(IFINFO..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_STATS64 => {
                // struct rtnl_link_stats64: rx_packets, tx_packets, rx_bytes, tx_bytes, ...
                link.tx_packets = u64_at(value, 8)?;
                link.tx_bytes = u64_at(value, 24)?;
            }
            IFLA_LINKINFO => {
                for (kind, value) in attributes(value) {
                    if kind == IFLA_INFO_KIND {
                        link.kind = text(value);
                    }
                }
            }
            _ => {}
        }
    }
    Some(link)
}

/// Attributes, one after the other, until one does not fit.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & ATTRIBUTE_TYPE;
        let value = bytes.get(ATTRIBUTE..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Messages and attributes are aligned to 4 bytes (`NLMSG_ALIGNTO`, `NLA_ALIGNTO`).
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn text(value: &[u8]) -> Text {
    Text::from(value.split(|byte| *byte == 0).next().unwrap_or_default())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("rtnetlink: {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(ATTRIBUTE + value.len())
            .expect("small")
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).expect("small");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes
    }

    fn device(hardware: u16, index: u32) -> Vec<u8> {
        let mut body = vec![0, 0];
        body.extend(hardware.to_ne_bytes());
        body.extend(index.to_ne_bytes());
        body.resize(IFINFO, 0);
        body.extend(attribute(IFLA_IFNAME, b"wire\0"));
        let stats: Vec<u8> = [7_u64, 3, 9000, 4242, 0]
            .iter()
            .flat_map(|value| value.to_ne_bytes())
            .collect();
        body.extend(attribute(IFLA_STATS64, &stats));
        // NLA_F_NESTED.
        let info = attribute(IFLA_INFO_KIND, b"veth\0");
        body.extend(attribute(IFLA_LINKINFO | 0x8000, &info));
        message(RTM_NEWLINK, &body)
    }

    fn parse_all(bytes: &[u8]) -> (io::Result<bool>, Vec<Link>) {
        let mut links = Vec::new();
        let result = parse(bytes, &mut links);
        (result, links)
    }

    #[test]
    fn devices_are_read_and_loopback_is_not() {
        let bytes = [
            device(1, 10),
            device(ARPHRD_LOOPBACK, 1),
            message(NLMSG_DONE, &[0; 4]),
        ]
        .concat();
        let (complete, links) = parse_all(&bytes);
        assert!(complete.expect("well-formed"));
        let wire = Link {
            ifindex: 10,
            name: "wire".into(),
            kind: "veth".into(),
            tx_bytes: 4242,
            tx_packets: 3,
        };
        assert_eq!(links, [wire]);
    }

    #[test]
    fn a_refusal_is_an_error() {
        let refusal = message(NLMSG_ERROR, &(-1_i32).to_ne_bytes());
        let (result, _) = parse_all(&refusal);
        assert_eq!(
            result.expect_err("EPERM").kind(),
            io::ErrorKind::PermissionDenied
        );
    }

    #[test]
    fn this_namespace_is_listed_without_loopback() {
        let links = links().expect("lists");
        assert!(links.iter().all(|link| link.name != Text::from("lo")));
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..160, value: u8, length in 0_usize..160) {
            let _ = parse_all(&bytes);
            let mut damaged = [device(1, 10), message(NLMSG_DONE, &[0; 4])].concat();
            if let Some(byte) = damaged.get_mut(at) {
                *byte = value;
            }
            let _ = parse_all(&damaged);
            damaged.truncate(length);
            let _ = parse_all(&damaged);
        }
    }
}
