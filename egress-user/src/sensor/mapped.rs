//! Maps as shared memory, read and written without system calls: the slots and their activity bytes, and what was told
//! of them.
//!
//! An island of unsafe code. The invariant: a [`Mapped`] covers exactly `cells` elements of `size` bytes of a
//! `BPF_F_MMAPABLE` array (whose elements the kernel lays out at `round_up(value_size, 8)`, Linux `kernel/bpf/arraymap.c`),
//! every access is bounds-checked, and all are volatile or atomic, because the kernel side writes at the same time. Any
//! bit pattern is a valid value of what is read.
#![expect(
    unsafe_code,
    reason = "shared memory with the kernel; the invariant stands above"
)]

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

use egress_common::slot::{ACTIVITY_CELL, Slot};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A mapped array.
struct Mapped {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is shared memory without thread affinity; all access is atomic or volatile.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn new(map: impl AsFd, length: usize) -> std::io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses touches nothing that exists.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map,
                0,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, length })
    }

    /// The element at `offset`, if it lies within the mapping and is aligned.
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let end = offset.checked_add(size_of::<T>())?;
        // SAFETY: within the mapping, by the check of `end`.
        let pointer = (end <= self.length)
            .then(|| unsafe { self.base.as_ptr().add(offset) })?
            .cast::<T>();
        pointer.is_aligned().then_some(pointer)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` and no pointer into it outlives `self`. A failure leaves it mapped.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// Memory that only user space writes but for single words, of integers that are each read and written as a whole.
pub struct Words(Mapped);

impl Words {
    /// Maps the first `length` bytes of an array.
    ///
    /// # Errors
    /// What `mmap(2)` says: the array is smaller, or cannot be mapped.
    pub fn map(map: impl AsFd, length: usize) -> std::io::Result<Self> {
        Mapped::new(map, length).map(Self)
    }

    /// Eight bytes at `offset`.
    #[must_use]
    pub fn word(&self, offset: usize) -> Option<&AtomicU64> {
        let word = self.0.at::<AtomicU64>(offset)?;
        // SAFETY: a live, aligned element of the mapping, which is borrowed for as long as the reference lives.
        Some(unsafe { &*word })
    }

    /// Four bytes at `offset`.
    #[must_use]
    pub fn half(&self, offset: usize) -> Option<&AtomicU32> {
        let half = self.0.at::<AtomicU32>(offset)?;
        // SAFETY: as above.
        Some(unsafe { &*half })
    }
}

/// The slots.
pub struct Slots {
    figures: Mapped,
    activity: Mapped,
    count: u32,
}

impl Slots {
    /// Maps `count` slots; `count` is a multiple of [`ACTIVITY_CELL`].
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub fn map(slots: impl AsFd, activity: impl AsFd, count: u32) -> std::io::Result<Self> {
        Ok(Self {
            figures: Mapped::new(slots, count as usize * size_of::<Slot>())?,
            activity: Mapped::new(activity, count as usize)?,
            count,
        })
    }

    /// Calls `changed` with the number of each slot that changed since the last call. The mark is cleared before, so
    /// that a change that comes meanwhile is told the next time.
    pub fn drain_changed(&self, mut changed: impl FnMut(u32)) {
        for cell in 0..self.count as usize / 8 {
            let Some(word) = self.activity.at::<u64>(cell * 8) else {
                return;
            };
            // SAFETY: a live, aligned element of the mapping; see the invariant.
            if unsafe { (*word.cast::<AtomicU64>()).load(Ordering::Relaxed) } == 0 {
                continue;
            }
            for byte in cell * 8..cell * 8 + 8 {
                let Some(mark) = self.activity.at::<u8>(byte) else {
                    return;
                };
                // SAFETY: as above.
                if unsafe { (*mark.cast::<AtomicU8>()).swap(0, Ordering::SeqCst) } != 0 {
                    fence(Ordering::SeqCst);
                    changed(u32::try_from(byte).unwrap_or(u32::MAX));
                }
            }
        }
    }

    /// A copy of a slot. Single fields are not torn; fields that change together may be from before and after.
    #[must_use]
    pub fn read(&self, number: u32) -> Option<Slot> {
        let slot = self
            .figures
            .at::<Slot>(number as usize * size_of::<Slot>())?;
        // SAFETY: a live, aligned element of the mapping; any bit pattern is a valid `Slot`.
        let copy = unsafe { slot.read_volatile() };
        Some(copy)
    }

    /// Makes every reference to the slot stale, so that the kernel side no longer uses it.
    pub fn retire(&self, number: u32) {
        if let Some(slot) = self.figures.at::<Slot>(number as usize * size_of::<Slot>()) {
            // SAFETY: a live, aligned field of the mapping; only user space writes it.
            unsafe {
                (*(&raw mut (*slot).generation).cast::<AtomicU32>()).fetch_add(1, Ordering::SeqCst)
            };
        }
    }
}

const _: () = assert!(ACTIVITY_CELL.is_multiple_of(8));
