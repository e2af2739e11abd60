//! Application bytes on kernels before 6.3, which have no `sock_send_length`: the protocol families' own send and receive
//! functions, when they return. Every way of sending ends in one of them: `write`, `send*`, `sendmmsg`, io_uring, and, for
//! `sendfile` and `splice`, `inet_sendpage` before 6.5 and `inet_sendmsg` since.

use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;

use crate::kread::typed;
use crate::maps::offset;
use crate::send::{received, sent};

/// What lies below a `struct socket`.
#[inline(always)]
fn below(socket: *const u8) -> *const u8 {
    unsafe { typed(socket, offset!(socket_sk)) }
}

/// `inet_sendmsg(struct socket *sock, struct msghdr *msg, size_t size)`.
#[fexit(function = "inet_sendmsg")]
pub fn egress_send_in4(ctx: FExitContext) -> i32 {
    sent(below(ctx.arg(0)), ctx.arg(3));
    0
}

/// `inet6_sendmsg`, as `inet_sendmsg`.
#[fexit(function = "inet6_sendmsg")]
pub fn egress_send_in6(ctx: FExitContext) -> i32 {
    sent(below(ctx.arg(0)), ctx.arg(3));
    0
}

/// `packet_sendmsg`, as `inet_sendmsg`.
#[fexit(function = "packet_sendmsg")]
pub fn egress_send_pkt(ctx: FExitContext) -> i32 {
    sent(below(ctx.arg(0)), ctx.arg(3));
    0
}

/// `inet_sendpage(struct socket *sock, struct page *page, int offset, size_t size, int flags)`, for both families.
#[fexit(function = "inet_sendpage")]
pub fn egress_sendpage(ctx: FExitContext) -> i32 {
    sent(below(ctx.arg(0)), ctx.arg(5));
    0
}

/// `inet_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)`.
#[fexit(function = "inet_recvmsg")]
pub fn egress_recv_in4(ctx: FExitContext) -> i32 {
    received(below(ctx.arg(0)), ctx.arg(4), ctx.arg(3));
    0
}

/// `inet6_recvmsg`, as `inet_recvmsg`.
#[fexit(function = "inet6_recvmsg")]
pub fn egress_recv_in6(ctx: FExitContext) -> i32 {
    received(below(ctx.arg(0)), ctx.arg(4), ctx.arg(3));
    0
}
