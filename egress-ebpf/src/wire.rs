//! Wire bytes: every packet that a local socket sends, at the IP layer.
//!
//! `cgroup_skb/egress` runs in `ip_finish_output` (Linux `net/ipv4/ip_output.c`), after routing and netfilter's
//! POSTROUTING, before fragmentation and segmentation. The current task is whoever the packet's softirq interrupted, so
//! the join is by socket.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock, bpf_skb_load_bytes};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use egress_common::counters::{
    WIRE_NO_SLOT, WIRE_NO_SOCKET, WIRE_NO_STORAGE, WIRE_TOTAL, WIRE_UNPARSED,
};
use egress_common::slot::{ADDRESS_BOTH, DIRECTION_LISTENING};

use crate::count::count_n;
use crate::names;
use crate::send::{has_ports, v4_mapped};
use crate::slots::{self, Origin, Remote};
use crate::storage;

pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
pub const SOCK_STREAM: u32 = 1;
/// `cgroup_skb` verdict: pass (Linux `kernel/bpf/cgroup.c`).
pub const PASS: i32 = 1;

/// What the headers say.
#[derive(Clone, Copy)]
pub struct Packet {
    pub protocol: u8,
    /// Bytes of the IP header with extensions.
    pub network_header: u32,
    /// A fragment that the sender made itself: the kernel fragments later.
    pub fragment: bool,
    /// Where it comes from: the local end of a packet that leaves.
    pub local: [u8; 16],
    pub local_port: [u8; 2],
    /// Where it goes.
    pub remote: Remote,
}

/// Counts a packet, and lets it pass.
#[cgroup_skb(egress)]
pub fn egress_wire(ctx: SkBuffContext) -> i32 {
    count_packet(ctx.skb.skb);
    PASS
}

#[inline(always)]
fn count_packet(skb: *mut __sk_buff) {
    let (mut bytes, segments, gso) = unsafe {
        (
            u64::from((*skb).len),
            u64::from((*skb).gso_segs),
            (*skb).gso_size != 0,
        )
    };
    let mut packets = 1;
    // Headers are read only where the sums or the addresses need them: not for most packets of a known TCP flow.
    let mut packet = None;
    if gso && segments > 1 {
        packet = parse(skb);
        // What the device will make of it: the headers again for each further segment.
        match packet.as_ref().and_then(|packet| headers(skb, packet)) {
            Some(headers) => bytes += (segments - 1) * u64::from(headers),
            None => count_n(WIRE_UNPARSED, 0, 1),
        }
        packets = segments;
    }
    count_n(WIRE_TOTAL, bytes, packets);
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return count_n(WIRE_NO_SOCKET, bytes, packets);
    }
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return count_n(WIRE_NO_SOCKET, bytes, packets);
    }
    let (kind, family, protocol) =
        unsafe { ((*sk).type_, (*sk).family as u16, (*sk).protocol as u16) };
    let Some(state) = storage::of(
        sk.cast(),
        || unsafe { bpf_get_socket_cookie(skb.cast()) },
        true,
    ) else {
        return count_n(WIRE_NO_STORAGE, bytes, packets);
    };
    let stream = kind == SOCK_STREAM;
    let current = slots::find(unsafe { (*state).slot });
    let settled = current.is_some_and(|place| unsafe { (*place.slot).addressed == ADDRESS_BOTH });
    if packet.is_none() && !(stream && settled) {
        packet = parse(skb);
    }
    if packet.as_ref().is_some_and(|packet| packet.fragment) {
        unsafe { (*state).fragments = 1 };
    }
    let place = match (current, &packet) {
        (Some(place), _) if stream => Some(place),
        (_, Some(packet)) => {
            let direction = unsafe { (*state).direction };
            let origin = Origin {
                cookie: unsafe { bpf_get_socket_cookie(skb.cast()) },
                netns: unsafe { (*state).netns },
                family,
                protocol,
                direction,
            };
            if stream {
                let place = slots::take(&origin);
                if let Some(place) = place {
                    unsafe { (*state).slot = place.reference };
                }
                place
            } else {
                slots::for_destination(state, &origin, None, &packet.remote)
            }
        }
        (Some(place), None) => Some(place),
        (None, None) => None,
    };
    let Some(place) = place else {
        return count_n(WIRE_NO_SLOT, bytes, packets);
    };
    if let Some(packet) = &packet
        && unsafe {
            (*place.slot).addressed != ADDRESS_BOTH
                && (*place.slot).direction != DIRECTION_LISTENING
        }
    {
        slots::address(place.slot, &packet.remote);
        slots::address_local(place.slot, &packet.local, packet.local_port);
    }
    slots::add_wire(place, bytes, packets);
    let udp = packet.is_some_and(|packet| packet.protocol == IPPROTO_UDP);
    names::watch(skb, sk, state, udp);
}

/// Reads `N` bytes at `offset`.
#[inline(always)]
pub fn load<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let result =
        unsafe { bpf_skb_load_bytes(skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
    if result == 0 { Some(bytes) } else { None }
}

/// Reads the IP header and the ports.
#[inline(always)]
pub fn parse(skb: *mut __sk_buff) -> Option<Packet> {
    let first: [u8; 1] = load(skb, 0)?;
    let (protocol, network_header, fragment, local, addr) = if first[0] >> 4 == 4 {
        let ip: [u8; 20] = load(skb, 0)?;
        let local = v4_mapped([ip[12], ip[13], ip[14], ip[15]]);
        let addr = v4_mapped([ip[16], ip[17], ip[18], ip[19]]);
        // More fragments to come, or not the first (RFC 791 3.1).
        let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
        (ip[9], u32::from(ip[0] & 15) * 4, fragment, local, addr)
    } else {
        let ip: [u8; 40] = load(skb, 0)?;
        let (mut local, mut addr) = ([0; 16], [0; 16]);
        local.copy_from_slice(&ip[8..24]);
        addr.copy_from_slice(&ip[24..40]);
        let (protocol, header, fragment) = skip_extensions(skb, ip[6]);
        (protocol, header, fragment, local, addr)
    };
    let ports: [u8; 4] = if has_ports(u16::from(protocol)) {
        load(skb, network_header).unwrap_or_default()
    } else {
        [0; 4]
    };
    Some(Packet {
        protocol,
        network_header,
        fragment,
        local,
        local_port: [ports[0], ports[1]],
        remote: Remote {
            addr,
            port: [ports[2], ports[3]],
        },
    })
}

/// Skips IPv6 hop-by-hop, routing, fragment and destination headers (RFC 8200 4.1); up to four of them. Protocol and
/// offset of what follows, and whether a fragment header was there.
#[inline(always)]
fn skip_extensions(skb: *mut __sk_buff, first: u8) -> (u8, u32, bool) {
    let (mut next, mut offset, mut fragment) = (first, 40, false);
    for _ in 0..4 {
        if next != 0 && next != 43 && next != 44 && next != 60 {
            break;
        }
        let Some(header) = load::<2>(skb, offset) else {
            break;
        };
        offset += if next == 44 {
            fragment = true;
            8
        } else {
            (u32::from(header[1]) + 1) * 8
        };
        next = header[0];
    }
    (next, offset, fragment)
}

/// Bytes of all headers, which every segment of a GSO packet repeats.
#[inline(always)]
fn headers(skb: *mut __sk_buff, packet: &Packet) -> Option<u32> {
    if packet.protocol == IPPROTO_TCP {
        let offset: [u8; 1] = load(skb, packet.network_header + 12)?;
        Some(packet.network_header + u32::from(offset[0] >> 4) * 4)
    } else if packet.protocol == IPPROTO_UDP {
        Some(packet.network_header + 8)
    } else {
        None
    }
}
