//! Sockets: who connects where, who listens, what closes.
//!
//! These run in the context of the process that makes the call, before its first packet leaves: from here the wire
//! program knows whose the packets are. `inet_sock_set_state` also runs in softirq (for accepted sockets).

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_get_socket_cookie};
use aya_ebpf::macros::{btf_tracepoint, cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{BtfTracePointContext, SockAddrContext, SockContext};
use aya_log_ebpf::debug;
use egress_common::counters::SEND_NO_DESTINATION;
use egress_common::slot::{
    AF_INET, AF_INET6, DIRECTION_ACCEPTED, DIRECTION_INITIATED, DIRECTION_LISTENING,
    DIRECTION_UNKNOWN, SlotRef,
};

use crate::count::count;
use crate::kread::{Current, cookie_of, pointer, read, typed};
use crate::maps::{PENDING, PendingSend, offset};
use crate::send::{has_ports, origin_of, v4_mapped};
use crate::slots::{self, Origin, Remote};
use crate::storage;

/// Verdict of `cgroup/connect` and `sendmsg`: go on.
const PASS: i32 = 1;
const SOCK_STREAM: u32 = 1;
/// Socket states (Linux `include/net/tcp_states.h`).
const TCP_SYN_RECV: i32 = 3;
const TCP_CLOSE: i32 = 7;
const TCP_LISTEN: i32 = 10;

/// `connect(2)`, IPv4.
#[cgroup_sock_addr(connect4)]
pub fn egress_connect4(ctx: SockAddrContext) -> i32 {
    debug!(
        &ctx,
        "connect4: port {}",
        u16::from_be(unsafe { (*ctx.sock_addr).user_port } as u16)
    );
    destination(ctx.sock_addr, AF_INET, false);
    PASS
}

/// `connect(2)`, IPv6.
#[cgroup_sock_addr(connect6)]
pub fn egress_connect6(ctx: SockAddrContext) -> i32 {
    debug!(
        &ctx,
        "connect6: port {}",
        u16::from_be(unsafe { (*ctx.sock_addr).user_port } as u16)
    );
    destination(ctx.sock_addr, AF_INET6, false);
    PASS
}

/// `sendto(2)` and `sendmsg(2)` with an address, IPv4 UDP.
#[cgroup_sock_addr(sendmsg4)]
pub fn egress_sendmsg4(ctx: SockAddrContext) -> i32 {
    destination(ctx.sock_addr, AF_INET, true);
    PASS
}

/// `sendto(2)` and `sendmsg(2)` with an address, IPv6 UDP.
#[cgroup_sock_addr(sendmsg6)]
pub fn egress_sendmsg6(ctx: SockAddrContext) -> i32 {
    destination(ctx.sock_addr, AF_INET6, true);
    PASS
}

/// The current process is about to reach a destination: prepares the slot.
#[inline(always)]
fn destination(ctx: *mut bpf_sock_addr, family: u16, unconnected: bool) {
    let (port, protocol, kind) =
        unsafe { ((*ctx).user_port, (*ctx).protocol as u16, (*ctx).type_) };
    let addr = if family == AF_INET {
        v4_mapped(unsafe { (*ctx).user_ip4 }.to_ne_bytes())
    } else {
        // Four loads: the verifier allows no other width here on every kernel.
        let words = unsafe {
            [
                (*ctx).user_ip6[0],
                (*ctx).user_ip6[1],
                (*ctx).user_ip6[2],
                (*ctx).user_ip6[3],
            ]
        };
        let mut addr = [0; 16];
        addr[..4].copy_from_slice(&words[0].to_ne_bytes());
        addr[4..8].copy_from_slice(&words[1].to_ne_bytes());
        addr[8..12].copy_from_slice(&words[2].to_ne_bytes());
        addr[12..].copy_from_slice(&words[3].to_ne_bytes());
        addr
    };
    // `user_port` is in network byte order (`include/uapi/linux/bpf.h`). Ping sockets take any, and it means nothing.
    let port = if has_ports(protocol) {
        port.to_ne_bytes()
    } else {
        [0; 4]
    };
    let remote = Remote {
        addr,
        port: [port[0], port[1]],
    };
    let sk = unsafe { (*ctx).__bindgen_anon_1.sk };
    if sk.is_null() {
        return;
    }
    let cookie = unsafe { bpf_get_socket_cookie(ctx.cast()) };
    let Some(state) = storage::of(sk.cast(), || cookie, true) else {
        return;
    };
    if unsafe { (*state).direction } == DIRECTION_UNKNOWN {
        unsafe { (*state).direction = DIRECTION_INITIATED };
    }
    let who = Current::by_reads();
    let origin = Origin {
        cookie,
        netns: netns_of_current(),
        family: unsafe { (*ctx).family as u16 },
        protocol,
        direction: unsafe { (*state).direction },
    };
    unsafe { (*state).netns = origin.netns };
    if kind == SOCK_STREAM {
        unsafe { (*state).named = 0 };
        // One destination at a time. A closed socket that connects again gets a slot of its own.
        if let Some(place) = slots::find(unsafe { (*state).slot })
            && unsafe { (*place.slot).closed } != 0
        {
            unsafe { (*state).slot.number = 0 };
        }
        if let Some(place) = slots::for_process(state, &origin, &who) {
            slots::address(place.slot, &remote);
        }
        return;
    }
    let place = slots::for_destination(state, &origin, Some(&who), &remote);
    if unconnected {
        unsafe { (*state).unconnected = 1 };
        // Without a free slot this refers to none, so that the send is counted as that, not to another destination.
        let pending = PendingSend {
            cookie,
            slot: place.map_or(
                SlotRef {
                    number: 0,
                    generation: 0,
                },
                |place| place.reference,
            ),
        };
        if PENDING.insert(&who.pid_tgid, &pending, 0).is_err() {
            count(SEND_NO_DESTINATION, 0);
        }
    }
}

/// The current process's network namespace, which is its sockets' unless it moved since it made them.
#[inline(always)]
fn netns_of_current() -> u32 {
    let task = unsafe { bpf_get_current_task() };
    let net = pointer(
        pointer(task, offset!(task_nsproxy)),
        offset!(nsproxy_net_ns),
    );
    read(net, offset!(net_ns_inum)).unwrap_or(0)
}

/// An inet socket is released (Linux 5.9): the end of everything but TCP, which still has packets to send.
#[cgroup_sock(sock_release)]
pub fn egress_release(ctx: SockContext) -> i32 {
    let sk: *mut bpf_sock = ctx.sock;
    if unsafe { (*sk).type_ } != SOCK_STREAM
        && let Some(state) = storage::of(
            sk.cast(),
            || unsafe { bpf_get_socket_cookie(sk.cast()) },
            false,
        )
    {
        slots::close(state);
    }
    PASS
}

/// `tp_btf/inet_sock_set_state`: `(const struct sock *sk, const int oldstate, const int newstate)`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn egress_state(ctx: BtfTracePointContext) -> i32 {
    let new: i32 = ctx.arg(2);
    if new != TCP_LISTEN && new != TCP_SYN_RECV && new != TCP_CLOSE {
        return 0;
    }
    let sk: *const u8 = ctx.arg(0);
    if new == TCP_CLOSE {
        if let Some(state) = storage::of(sk.cast_mut().cast(), || unsafe { cookie_of(sk) }, false) {
            slots::close(state);
        }
        return 0;
    }
    let Some(state) = storage::of(sk.cast_mut().cast(), || unsafe { cookie_of(sk) }, true) else {
        return 0;
    };
    if new == TCP_SYN_RECV {
        unsafe {
            (*state).direction = DIRECTION_ACCEPTED;
            (*state).netns = origin_of(sk, 0, DIRECTION_ACCEPTED).netns;
        }
        return 0;
    }
    // Process context: whoever listens owns the SYN-ACKs, and what its children send before they are used.
    unsafe { (*state).direction = DIRECTION_LISTENING };
    let cookie = unsafe { cookie_of(sk) };
    let origin = origin_of(sk, cookie, DIRECTION_LISTENING);
    unsafe { (*state).netns = origin.netns };
    if let Some(place) = slots::for_process(state, &origin, &Current::get()) {
        let port: u16 = unsafe { typed(sk, offset!(sock_num)) };
        unsafe {
            (*place.slot).direction = DIRECTION_LISTENING;
            (*place.slot).sport = port.to_be_bytes();
        }
        slots::touch(place.reference);
    }
    0
}
