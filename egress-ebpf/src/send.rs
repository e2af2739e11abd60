//! Application bytes: what send and receive calls really accepted and returned.
//!
//! `sock_send_length` (Linux 6.3, `include/trace/events/sock.h`) fires in process context for every way of sending.

use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use egress_common::counters::{
    APP_LOCAL_FAMILY, APP_NO_SLOT, APP_NO_STORAGE, APP_TOTAL, RX_TOTAL, SEND_NO_DESTINATION,
};
use egress_common::slot::{
    ADDRESS_NONE, AF_INET, AF_INET6, AF_PACKET, AF_VSOCK, DIRECTION_ACCEPTED, DIRECTION_INITIATED,
    DIRECTION_UNKNOWN, SocketState,
};

use crate::count::count;
use crate::kread::{Current, cookie_of, typed};
use crate::maps::{PENDING, offset};
use crate::slots::{self, Origin, Place, Remote};
use crate::storage;

/// `MSG_PEEK` (`include/linux/socket.h`): the bytes will be received again.
const MSG_PEEK: i32 = 2;
const IPPROTO_TCP: u16 = 6;
/// `SOCK_RAW` (`include/linux/net.h`).
const SOCK_RAW: u16 = 3;

/// Whether a protocol (IANA; 262 is Linux's MPTCP) has ports where TCP has them: TCP, UDP, DCCP, SCTP, UDP-Lite.
#[inline(always)]
pub fn has_ports(protocol: u16) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136 | 262)
}

/// What a socket is, from a `struct sock` whose type the verifier knows.
#[inline(always)]
pub fn origin_of(sk: *const u8, cookie: u64, direction: u8) -> Origin {
    unsafe {
        let net: *const u8 = typed(sk, offset!(sock_net));
        Origin {
            cookie,
            netns: typed(net, offset!(net_ns_inum)),
            family: typed(sk, offset!(sock_family)),
            protocol: typed(sk, offset!(sock_protocol)),
            direction,
        }
    }
}

/// The remote end of a connected inet socket. None of a socket that knows no ports: the wire program, which runs before
/// the send returns, has found the slot by the packet's own destination.
#[inline(always)]
fn remote_of(sk: *const u8, family: u16, protocol: u16) -> Option<Remote> {
    unsafe {
        let kind: u16 = typed(sk, offset!(sock_type));
        if kind == SOCK_RAW || !has_ports(protocol) {
            return None;
        }
        let port: [u8; 2] = typed(sk, offset!(sock_dport));
        if port[0] == 0 && port[1] == 0 {
            return None;
        }
        let addr = if family == AF_INET {
            v4_mapped(typed(sk, offset!(sock_daddr)))
        } else if family == AF_INET6 {
            let half: u64 = typed(sk, offset!(sock_v6_daddr));
            let rest: u64 = typed(sk, offset!(sock_v6_daddr) + 8);
            let mut addr = [0; 16];
            core::ptr::write_unaligned(addr.as_mut_ptr().cast(), half);
            core::ptr::write_unaligned(addr.as_mut_ptr().add(8).cast(), rest);
            addr
        } else {
            return None;
        };
        Some(Remote { addr, port })
    }
}

/// An IPv4 address (as it lies in memory) as v4-mapped IPv6.
#[inline(always)]
pub fn v4_mapped(addr: [u8; 4]) -> [u8; 16] {
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, addr[0], addr[1], addr[2], addr[3],
    ]
}

/// `tp_btf/sock_send_length`: `(struct sock *sk, int ret, int flags)`.
#[btf_tracepoint(function = "sock_send_length")]
pub fn egress_send(ctx: BtfTracePointContext) -> i32 {
    sent(ctx.arg(0), ctx.arg(1));
    0
}

/// A send call on `sk` returned `sent`.
#[inline(always)]
pub fn sent(sk: *const u8, sent: i32) {
    let family: u16 = unsafe { typed(sk, offset!(sock_family)) };
    if sent < 0 {
        return forget(sk, family);
    }
    // A datagram without payload goes on: its packet has to have an owner.
    let bytes = sent as u64;
    if !(family == AF_INET || family == AF_INET6 || family == AF_PACKET || family == AF_VSOCK) {
        return count(APP_LOCAL_FAMILY, bytes);
    }
    count(APP_TOTAL, bytes);
    let cookie = unsafe { cookie_of(sk) };
    let Some(state) = storage::of(sk.cast_mut().cast(), || cookie, true) else {
        return count(APP_NO_STORAGE, bytes);
    };
    let who = Current::get();
    if let Some(place) = place_of(sk, state, cookie, family, &who) {
        slots::renew(place.slot, &who);
        slots::add_app(place, bytes);
    } else {
        count(APP_NO_SLOT, bytes);
    }
}

/// A send failed: where it should have gone says nothing about the thread's next one.
#[inline(always)]
fn forget(sk: *const u8, family: u16) {
    if (family == AF_INET || family == AF_INET6)
        && let Some(state) = storage::of(sk.cast_mut().cast(), || unsafe { cookie_of(sk) }, false)
        && unsafe { (*state).unconnected } != 0
    {
        let _ = PENDING.remove(&unsafe { bpf_get_current_pid_tgid() });
    }
}

/// The slot for a send of `who`.
#[inline(always)]
fn place_of(
    sk: *const u8,
    state: *mut SocketState,
    cookie: u64,
    family: u16,
    who: &Current,
) -> Option<Place> {
    if unsafe { (*state).unconnected } != 0 {
        if let Some(pending) = PENDING.get_ptr(&who.pid_tgid) {
            let pending = unsafe { *pending };
            if pending.cookie == cookie {
                let _ = PENDING.remove(&who.pid_tgid);
                return slots::find(pending.slot);
            }
        }
    } else if let Some(place) = slots::find(unsafe { (*state).slot })
        && slots::owned_by(place.slot, who)
    {
        // The usual case: one process, one destination.
        return Some(place);
    }
    if unsafe { (*state).direction } == DIRECTION_UNKNOWN {
        unsafe { (*state).direction = DIRECTION_INITIATED };
    }
    let origin = origin_of(sk, cookie, unsafe { (*state).direction });
    unsafe { (*state).netns = origin.netns };
    let remote = remote_of(sk, family, origin.protocol);
    let place = match remote {
        Some(remote) if origin.protocol != IPPROTO_TCP => {
            slots::for_destination(state, &origin, Some(who), &remote)?
        }
        _ => slots::for_process(state, &origin, who)?,
    };
    slots::complete(place.slot, &origin);
    if unsafe { (*place.slot).addressed } == ADDRESS_NONE {
        match remote {
            Some(remote) => slots::address(place.slot, &remote),
            // Others address devices and machines.
            None if family == AF_INET || family == AF_INET6 => count(SEND_NO_DESTINATION, 0),
            None => {}
        }
    }
    Some(place)
}

/// `tp_btf/sock_recv_length`: `(struct sock *sk, int ret, int flags)`.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn egress_recv(ctx: BtfTracePointContext) -> i32 {
    received(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// A receive call on `sk` with `flags` returned `returned`.
#[inline(always)]
pub fn received(sk: *const u8, returned: i32, flags: i32) {
    if returned <= 0 || flags & MSG_PEEK != 0 {
        return;
    }
    let family: u16 = unsafe { typed(sk, offset!(sock_family)) };
    if family != AF_INET && family != AF_INET6 {
        return;
    }
    let bytes = returned as u64;
    count(RX_TOTAL, bytes);
    let cookie = unsafe { cookie_of(sk) };
    let Some(state) = storage::of(sk.cast_mut().cast(), || cookie, true) else {
        return;
    };
    if let Some(place) = slots::find(unsafe { (*state).slot }) {
        if unsafe { (*place.slot).owned } == 0 {
            slots::own(place.slot, &Current::get());
            let direction = unsafe { (*state).direction };
            slots::complete(place.slot, &origin_of(sk, 0, direction));
        }
        slots::add_rx(place, bytes);
        return;
    }
    if unsafe { (*state).direction } == DIRECTION_UNKNOWN {
        // Nothing was sent before: the peer began.
        unsafe { (*state).direction = DIRECTION_ACCEPTED };
    }
    let protocol: u16 = unsafe { typed(sk, offset!(sock_protocol)) };
    if protocol == IPPROTO_TCP {
        // A slot only for what can send (ACKs at least); a pure UDP receiver needs none.
        let origin = origin_of(sk, cookie, unsafe { (*state).direction });
        unsafe { (*state).netns = origin.netns };
        if let Some(place) = slots::for_process(state, &origin, &Current::get()) {
            if let Some(remote) = remote_of(sk, family, protocol) {
                slots::address(place.slot, &remote);
            }
            slots::add_rx(place, bytes);
        }
    }
}
