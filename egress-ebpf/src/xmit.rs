//! What leaves through each network device, by what it is; and the wire bytes that pass no cgroup hook.
//!
//! `net_dev_start_xmit` runs just before the driver, behind queues and software segmentation (Linux `net/core/dev.c`,
//! `xmit_one`), for the packets of everyone but `PACKET_QDISC_BYPASS` and `AF_XDP` (`__dev_direct_xmit`), so that what
//! the device counts beyond this is theirs. The current task may be anyone.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use egress_common::counters::{
    WIRE_NO_SLOT, WIRE_NO_STORAGE, WIRE_TOTAL, XMIT_NO_CELL, XMIT_UNREADABLE,
};
use egress_common::interface::{
    CLASS_FORWARDED, CLASS_KERNEL, CLASS_MINI_SOCKET, CLASS_OTHER, CLASS_PACKET, CLASS_SOCKET,
    CLASSES, InterfaceCell, InterfaceKey,
};
use egress_common::slot::{AF_INET, AF_INET6, AF_PACKET, DIRECTION_INITIATED};

use crate::count::{add, count, count_n};
use crate::kread::{read, typed};
use crate::maps::{INTERFACES, has, offset};
use crate::send::{origin_of, v4_mapped};
use crate::slots::{self, Origin, Place, Remote};
use crate::storage;

/// Linux `include/uapi/linux/if_arp.h`.
const ARPHRD_LOOPBACK: u16 = 772;
/// Linux `include/net/tcp_states.h`: sockets that are no `struct sock`.
const TCP_TIME_WAIT: u8 = 6;
const TCP_NEW_SYN_RECV: u8 = 12;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_SCTP: u8 = 132;
/// IPv6 extension headers (RFC 8200 4.1).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// A packet on its way to the driver.
struct Packet {
    skb: *const u8,
    /// Bytes with the link-layer header.
    length: u32,
    /// Where its buffer begins.
    head: u64,
    /// Offsets in it.
    link: u16,
    network: u16,
    /// What it becomes in the device.
    segments: u64,
}

/// `tp_btf/net_dev_start_xmit`: `(const struct sk_buff *skb, const struct net_device *dev)`.
#[btf_tracepoint(function = "net_dev_start_xmit")]
pub fn egress_xmit(ctx: BtfTracePointContext) -> i32 {
    let (skb, dev): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
    let sk: *const u8 = unsafe { typed(skb, offset!(skb_sk)) };
    let iif: u32 = unsafe { typed(skb, offset!(skb_iif)) };
    let class = class_of(sk, iif);
    let loopback = unsafe { typed::<u16>(dev, offset!(dev_type)) } == ARPHRD_LOOPBACK;
    if loopback && class != CLASS_PACKET {
        return 0;
    }
    let packet = packet(skb);
    if !loopback {
        count_at_device(dev, class, &packet);
    }
    // Bytes of a socket that no cgroup hook sees, once: where they leave this host, not where a bridge or tunnel hands on.
    if iif == 0 && !sk.is_null() {
        if class == CLASS_PACKET {
            if lowest(dev) {
                count_frame(sk, &packet);
            }
        } else if class == CLASS_SOCKET
            && unsafe { typed::<u16>(sk, offset!(sock_protocol)) } != u16::from(IPPROTO_TCP)
        {
            count_fragment(sk, dev, &packet);
        }
    }
    0
}

#[inline(always)]
fn class_of(sk: *const u8, iif: u32) -> usize {
    if sk.is_null() {
        return if iif == 0 {
            CLASS_KERNEL
        } else {
            CLASS_FORWARDED
        };
    }
    let (state, family): (u8, u16) = unsafe {
        (
            typed(sk, offset!(sock_state)),
            typed(sk, offset!(sock_family)),
        )
    };
    if state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV {
        CLASS_MINI_SOCKET
    } else if family == AF_INET || family == AF_INET6 {
        CLASS_SOCKET
    } else if family == AF_PACKET {
        CLASS_PACKET
    } else {
        CLASS_OTHER
    }
}

#[inline(always)]
fn packet(skb: *const u8) -> Packet {
    unsafe {
        let head: u64 = typed(skb, offset!(skb_head));
        let end: u32 = typed(skb, offset!(skb_end));
        let shared = head.wrapping_add(u64::from(end));
        let segments = match read::<u16>(shared, offset!(shinfo_gso_segs)) {
            Some(0) => 1,
            Some(segments) => u64::from(segments),
            None => {
                count(XMIT_UNREADABLE, 0);
                1
            }
        };
        Packet {
            skb,
            length: typed(skb, offset!(skb_len)),
            head,
            link: typed(skb, offset!(skb_mac_header)),
            network: typed(skb, offset!(skb_network_header)),
            segments,
        }
    }
}

#[inline(always)]
fn count_at_device(dev: *const u8, class: usize, packet: &Packet) {
    let key = unsafe {
        let net: *const u8 = typed(dev, offset!(dev_net));
        InterfaceKey {
            netns: typed(net, offset!(net_ns_inum)),
            ifindex: typed(dev, offset!(dev_ifindex)),
        }
    };
    let mut cell = INTERFACES.get_ptr_mut(&key);
    if cell.is_none() {
        let empty = InterfaceCell {
            bytes: [0; CLASSES],
            packets: [0; CLASSES],
            segment_bytes: 0,
        };
        // Another processor may be first: then its cell is found.
        let _ = INTERFACES.insert(&key, &empty, u64::from(BPF_NOEXIST));
        cell = INTERFACES.get_ptr_mut(&key);
    }
    let Some(cell) = cell else {
        return count_n(XMIT_NO_CELL, u64::from(packet.length), packet.segments);
    };
    unsafe {
        add(&raw mut (*cell).bytes[class], u64::from(packet.length));
        add(&raw mut (*cell).packets[class], packet.segments);
        if packet.segments > 1 {
            let (link, rest) = headers(packet);
            let more = (packet.segments - 1) * u64::from(link + rest);
            add(&raw mut (*cell).segment_bytes, more);
        }
    }
}

/// Bytes of the link-layer header, and of the headers behind it that each segment of a GSO packet repeats.
#[inline(always)]
fn headers(packet: &Packet) -> (u32, u32) {
    let link = u32::from(packet.network.wrapping_sub(packet.link));
    let transport: u16 = unsafe { typed(packet.skb, offset!(skb_transport_header)) };
    let network = u32::from(transport.wrapping_sub(packet.network));
    let segment = packet.head.wrapping_add(u64::from(transport));
    let version = at::<u8>(packet, 0).unwrap_or(0) >> 4;
    let protocol = at::<u8>(packet, if version == 4 { 9 } else { 6 }).unwrap_or(0);
    let transport = if protocol == IPPROTO_UDP {
        8
    } else {
        u32::from(read::<u8>(segment, 12).unwrap_or(0) >> 4) * 4
    };
    (link, network + transport)
}

/// Reads from the packet, `offset` bytes behind where its network header begins. Only what lies in its buffer itself.
#[inline(always)]
fn at<T: Copy>(packet: &Packet, offset: u32) -> Option<T> {
    let beyond: u32 = unsafe { typed(packet.skb, offset!(skb_data_len)) };
    let here = packet.length.wrapping_sub(beyond);
    let from = u32::from(packet.network.wrapping_sub(packet.link)) + offset;
    if from + size_of::<T>() as u32 > here {
        return None;
    }
    read(packet.head.wrapping_add(u64::from(packet.network)), offset)
}

/// Whether no other device is below this one, so that the packet leaves here.
#[inline(always)]
fn lowest(dev: *const u8) -> bool {
    // An empty list is one that points to itself (Linux `include/linux/list.h`).
    let first: u64 = unsafe { typed(dev, offset!(dev_lower)) };
    first == (dev as u64).wrapping_add(u64::from(offset!(dev_lower)))
}

/// A packet socket's frame: its bytes at the IP layer. It leaves before the send hook can have made a slot.
#[inline(always)]
fn count_frame(sk: *const u8, packet: &Packet) {
    let link = u32::from(packet.network.wrapping_sub(packet.link));
    let link = if link > packet.length { 0 } else { link };
    let mut bytes = u64::from(packet.length - link);
    if packet.segments > 1 {
        bytes += (packet.segments - 1) * u64::from(headers(packet).1);
    }
    count_n(WIRE_TOTAL, bytes, packet.segments);
    let Some(state) = storage::of(sk.cast_mut().cast(), || cookie_of(sk), true) else {
        return count_n(WIRE_NO_STORAGE, bytes, packet.segments);
    };
    unsafe { (*state).direction = DIRECTION_INITIATED };
    let origin = origin_of(sk, cookie_of(sk), DIRECTION_INITIATED);
    let place = match remote_of(packet) {
        Some((protocol, remote)) => {
            let origin = Origin {
                protocol: u16::from(protocol),
                ..origin
            };
            slots::for_destination(state, &origin, None, &remote)
        }
        None => slots::find(unsafe { (*state).slot }).or_else(|| {
            let place = slots::take(&origin)?;
            unsafe { (*state).slot = place.reference };
            Some(place)
        }),
    };
    add_or_count(place, bytes, packet.segments);
}

/// The socket's cookie, made when nobody has asked for it before.
#[inline(always)]
fn cookie_of(sk: *const u8) -> u64 {
    unsafe {
        let cookie: u64 = typed(sk, offset!(sock_cookie));
        if cookie != 0 || !has!(socket_cookie) {
            return cookie;
        }
        // The helper does not take what a packet points to (an RCU pointer to the verifier since Linux 6.3). The same
        // socket, by way of its file, it takes.
        let socket: *const u8 = typed(sk, offset!(sock_socket));
        let same: *mut u8 = typed(socket, offset!(socket_sk));
        bpf_get_socket_cookie(same.cast())
    }
}

#[inline(always)]
fn add_or_count(place: Option<Place>, bytes: u64, packets: u64) {
    match place {
        Some(place) => slots::add_wire(place, bytes, packets),
        None => count_n(WIRE_NO_SLOT, bytes, packets),
    }
}

/// Protocol and destination of a frame that carries IP.
#[inline(always)]
fn remote_of(packet: &Packet) -> Option<(u8, Remote)> {
    let ethertype: [u8; 2] = unsafe { typed(packet.skb, offset!(skb_protocol)) };
    let (protocol, addr, header) = if ethertype == [0x08, 0x00] {
        let ip: [u8; 20] = at(packet, 0)?;
        let addr = v4_mapped([ip[16], ip[17], ip[18], ip[19]]);
        (ip[9], addr, u32::from(ip[0] & 15) * 4)
    } else if ethertype == [0x86, 0xdd] {
        let protocol: u8 = at(packet, 6)?;
        let addr: [u8; 16] = at(packet, 24)?;
        (protocol, addr, 40)
    } else {
        return None;
    };
    let has_ports = protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
    let port = if has_ports {
        at(packet, header + 2).unwrap_or_default()
    } else {
        [0; 2]
    };
    Some((protocol, Remote { addr, port }))
}

/// A fragment that IP made of a datagram, which the cgroup hook has seen whole: adds the headers that it did not see.
#[inline(always)]
fn count_fragment(sk: *const u8, dev: *const u8, packet: &Packet) {
    let Some((bytes, packets)) = fragment(packet) else {
        return;
    };
    if !lowest(dev) {
        return;
    }
    let state = storage::of(sk.cast_mut().cast(), || cookie_of(sk), false);
    if state.is_some_and(|state| unsafe { (*state).fragments } != 0) {
        return;
    }
    count_n(WIRE_TOTAL, bytes, packets);
    let place = state.and_then(|state| slots::find(unsafe { (*state).slot }));
    add_or_count(place, bytes, packets);
}

/// Bytes and packets that fragmentation added here: the IP header again, for all but the first (RFC 791 3.2); for IPv6
/// (RFC 8200 4.5) a fragment header in each, and what comes before it again.
#[inline(always)]
fn fragment(packet: &Packet) -> Option<(u64, u64)> {
    let first: [u8; 8] = at(packet, 0)?;
    if first[0] >> 4 == 4 {
        let position = u16::from_be_bytes([first[6], first[7]]) & 0x1fff;
        return (position != 0).then_some((u64::from(first[0] & 15) * 4, 1));
    }
    let (mut next, mut header) = (first[6], 40);
    for _ in 0..3 {
        if next == FRAGMENT {
            let fragment: [u8; 4] = at(packet, header)?;
            let position = u16::from_be_bytes([fragment[2], fragment[3]]) & 0xfff8;
            return Some(if position == 0 {
                (8, 0)
            } else {
                (u64::from(header) + 8, 1)
            });
        }
        if next != HOP_BY_HOP && next != ROUTING && next != DESTINATION {
            return None;
        }
        let extension: [u8; 2] = at(packet, header)?;
        next = extension[0];
        header += (u32::from(extension[1]) + 1) * 8;
    }
    None
}
