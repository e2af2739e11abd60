//! The only way into a ring.
//!
//! [`emit`] copies a record that lies elsewhere. [`emit_with`] makes it in the ring: for programs that can interrupt
//! themselves on one processor (packets leave from process context and from softirq), which a scratch of that
//! processor's would not survive.

use aya_ebpf::helpers::generated::{
    bpf_ringbuf_discard, bpf_ringbuf_output, bpf_ringbuf_reserve, bpf_ringbuf_submit,
};
use aya_ebpf::maps::RingBuf;

use crate::count::count;

/// `BPF_RB_NO_WAKEUP`: the daemon drains on a clock, so that a busy host is not interrupted for each record.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// Copies `len` bytes from `record` into the ring; counts under `lost` when there is no room. Whether there was.
#[inline(always)]
pub fn emit<T>(ring: &'static RingBuf, record: *const T, len: usize, lost: u32) -> bool {
    let ring: *const RingBuf = ring;
    let result = unsafe {
        bpf_ringbuf_output(
            ring.cast_mut().cast(),
            record.cast_mut().cast(),
            len as u64,
            BPF_RB_NO_WAKEUP,
        )
    };
    if result < 0 {
        count(lost, len as u64);
    }
    result >= 0
}

/// Has `fill` make a record of `T` in the ring; its answer is whether there is one. Counts under `lost` when there is no room.
#[inline(always)]
pub fn emit_with<T>(ring: &'static RingBuf, lost: u32, fill: impl FnOnce(*mut T) -> bool) {
    let (ring, size): (*const RingBuf, _) = (ring, size_of::<T>() as u64);
    let record: *mut T = unsafe { bpf_ringbuf_reserve(ring.cast_mut().cast(), size, 0) }.cast();
    if record.is_null() {
        count(lost, size);
    } else if fill(record) {
        unsafe { bpf_ringbuf_submit(record.cast(), BPF_RB_NO_WAKEUP) };
    } else {
        unsafe { bpf_ringbuf_discard(record.cast(), BPF_RB_NO_WAKEUP) };
        count(lost, size);
    }
}
