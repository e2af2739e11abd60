//! Counting by cause.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use crate::maps::COUNTERS;

/// Adds to a cell that other processors, or a program that interrupts this one, may add to at the same time.
#[inline(always)]
pub fn add(cell: *mut u64, value: u64) {
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(cell, value) };
}

/// Counts one event of `bytes` under `cause`, one of the constants of [`egress_common::counters`].
#[inline(always)]
pub fn count(cause: u32, bytes: u64) {
    count_n(cause, bytes, 1);
}

/// Counts `events` of together `bytes`.
#[inline(always)]
pub fn count_n(cause: u32, bytes: u64, events: u64) {
    // The index is a constant below the map's size: the lookup cannot miss.
    if let Some(counter) = COUNTERS.get_ptr_mut(cause) {
        unsafe {
            if bytes != 0 {
                add(&raw mut (*counter).bytes, bytes);
            }
            add(&raw mut (*counter).events, events);
        }
    }
}
