//! The only way into a ring.

use aya_ebpf::helpers::generated::bpf_ringbuf_output;
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
