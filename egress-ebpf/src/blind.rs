//! Blind spots: what a process does that the other hooks see only in part.
//!
//! Told as it is asked for, whether or not the kernel grants it, once for each (process, thing) within [`RETELL_NS`]. What the
//! other hooks see costs a compare.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use egress_common::blind::{
    AF_XDP, IO_URING_OPS, IO_URING_SEEN, PACKET_QDISC_BYPASS, PACKET_RX_RING, PACKET_TX_RING,
    SOCK_PACKET, SOCK_RAW, SOCK_TYPE_MASK, SOL_PACKET, SOL_XDP, XDP_RX_RING, XDP_TX_RING,
};
use egress_common::counters::LOST_BLIND;
use egress_common::records::{
    BLIND_IO_URING, BLIND_OPTION, BLIND_SOCKET, Blind, Header, KIND_BLIND,
};
use egress_common::slot::{AF_INET, AF_INET6, AF_PACKET, AF_VSOCK};

use crate::emit::emit;
use crate::kread::{Current, pointer, read, typed};
use crate::maps::{BLIND_TOLD, BlindKey, PROCESS_RING, offset};

/// A use that goes on is told again after this: one minute.
const RETELL_NS: u64 = 60_000_000_000;

/// Offsets of a system call's arguments in its `sys_enter_*` tracepoint (its `format` file: 8 bytes common, 4 nr,
/// 4 padding, then 8 for each).
const FIRST: usize = 16;
const SECOND: usize = 24;
const THIRD: usize = 32;

/// `tp_btf/io_uring_submit_req`: `(struct io_kiocb *req)`, Linux 6.4. In the context of who submits, or of the kernel
/// thread that polls for it (`SQPOLL`), which is a thread of the process that made the ring.
#[btf_tracepoint(function = "io_uring_submit_req")]
pub fn egress_uring(ctx: BtfTracePointContext) -> i32 {
    let request: *const u8 = ctx.arg(0);
    let opcode: u8 = unsafe { typed(request, offset!(kiocb_opcode)) };
    if opcode < IO_URING_OPS && (IO_URING_SEEN >> opcode) & 1 != 0 {
        return 0;
    }
    tell(BLIND_IO_URING, u32::from(opcode), 0, 0);
    0
}

/// `socket(family, type, protocol)`.
#[tracepoint]
pub fn egress_socket(ctx: TracePointContext) -> u32 {
    let family = argument(&ctx, FIRST);
    let inet = family == u32::from(AF_INET) || family == u32::from(AF_INET6);
    let others = family == u32::from(AF_PACKET)
        || family == u32::from(AF_XDP)
        || family == u32::from(AF_VSOCK);
    if !inet && !others {
        return 0;
    }
    let kind = argument(&ctx, SECOND) & u32::from(SOCK_TYPE_MASK);
    let raw = inet && kind == u32::from(SOCK_RAW);
    let old_packet = family == u32::from(AF_INET) && kind == u32::from(SOCK_PACKET);
    if !others && !raw && !old_packet {
        return 0;
    }
    // Not by protocol: a process could make a record for each of 65,536.
    let protocol = argument(&ctx, THIRD) & 0xffff;
    tell(BLIND_SOCKET, family, kind << 16, protocol);
    0
}

/// `setsockopt(fd, level, optname, optval, optlen)`.
#[tracepoint]
pub fn egress_sockopt(ctx: TracePointContext) -> u32 {
    let level = argument(&ctx, SECOND);
    if level != SOL_PACKET && level != SOL_XDP {
        return 0;
    }
    let option = argument(&ctx, THIRD);
    let blind = if level == SOL_PACKET {
        option == PACKET_RX_RING || option == PACKET_TX_RING || option == PACKET_QDISC_BYPASS
    } else {
        option == XDP_RX_RING || option == XDP_TX_RING
    };
    if blind {
        tell(BLIND_OPTION, level, option, 0);
    }
    0
}

/// An `int` argument of a system call: the kernel takes the lower half of the register.
#[inline(always)]
fn argument(ctx: &TracePointContext, offset: usize) -> u32 {
    unsafe { ctx.read_at::<u64>(offset) }.unwrap_or(0) as u32
}

/// Makes the record, unless the same was told lately. `aside` is added to `more` and does not tell uses apart.
#[inline(always)]
fn tell(what: u16, detail: u32, more: u32, aside: u32) {
    let who = Current::get();
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let key = BlindKey {
        start_ns: who.start_ns,
        tgid: who.tgid,
        what: u32::from(what),
        detail,
        more,
    };
    if let Some(told) = BLIND_TOLD.get_ptr(&key)
        && now.wrapping_sub(unsafe { *told }) < RETELL_NS
    {
        return;
    }
    let namespaces = pointer(unsafe { bpf_get_current_task() }, offset!(task_nsproxy));
    let net = pointer(namespaces, offset!(nsproxy_net_ns));
    let record = Blind {
        header: Header {
            kind: KIND_BLIND,
            flags: 0,
            tgid: who.tgid,
            at_ns: now,
            start_ns: who.start_ns,
        },
        what,
        _pad: 0,
        detail,
        more: more | aside,
        netns: read(net, offset!(net_ns_inum)).unwrap_or(0),
    };
    let emitted = emit(
        &PROCESS_RING,
        &raw const record,
        size_of::<Blind>(),
        LOST_BLIND,
    );
    if emitted {
        // Only now, so that a lost record is told again at the next use.
        let _ = BLIND_TOLD.insert(&key, &now, 0);
    }
}
