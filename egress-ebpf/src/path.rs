//! Walks from a dentry to the root of the mount tree.
//!
//! The kernel's own file is walked, not the pointer that user space gave: that one can be changed by another thread
//! between the check and the use. Crosses mounts as `prepend_path` does (Linux `fs/d_path.c`), without its locks: a
//! rename that runs at the same moment can mix old and new components.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;

use crate::kread::pointer;
use crate::maps::{Walk, offset};

/// Longest component with its NUL (`NAME_MAX` is 255).
const COMPONENT_MAX: u32 = 256;
/// Most rounds: components and mounts together.
const ROUNDS: u32 = 64;

/// Writes the components of the path `(mnt, dentry)` into `destination`, leaf first, each with a NUL behind it.
/// The result is in `walk.written` and `walk.truncated`.
///
/// `destination` must have `MAX` bytes; `MAX` is at least [`COMPONENT_MAX`].
#[inline(always)]
pub fn write<const MAX: u32>(walk: *mut Walk, destination: *mut u8, mnt: u64, dentry: u64) {
    unsafe {
        core::ptr::write_volatile(&raw mut (*walk).mnt, mnt);
        core::ptr::write_volatile(&raw mut (*walk).dentry, dentry);
        core::ptr::write_volatile(&raw mut (*walk).written, 0);
        core::ptr::write_volatile(&raw mut (*walk).truncated, 1);
    }
    for _ in 0..ROUNDS {
        if step::<MAX>(walk, destination) {
            break;
        }
    }
}

/// One round: a component, or a mount. Whether the walk has ended.
#[inline(always)]
fn step<const MAX: u32>(walk: *mut Walk, destination: *mut u8) -> bool {
    let (mnt, dentry, written) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*walk).mnt),
            core::ptr::read_volatile(&raw const (*walk).dentry),
            core::ptr::read_volatile(&raw const (*walk).written),
        )
    };
    let parent = pointer(dentry, offset!(dentry_d_parent));
    if dentry == 0 || parent == 0 {
        return true;
    }
    if dentry == pointer(mnt, offset!(vfsmount_mnt_root)) {
        // The root of this mount: go on where it is mounted.
        let mount = mnt.wrapping_sub(u64::from(offset!(mount_mnt)));
        let above = pointer(mount, offset!(mount_mnt_parent));
        if above == mount || above == 0 {
            unsafe { core::ptr::write_volatile(&raw mut (*walk).truncated, 0) };
            return true;
        }
        unsafe {
            core::ptr::write_volatile(
                &raw mut (*walk).dentry,
                pointer(mount, offset!(mount_mnt_mountpoint)),
            );
            core::ptr::write_volatile(
                &raw mut (*walk).mnt,
                above.wrapping_add(u64::from(offset!(mount_mnt))),
            );
        }
        return false;
    }
    if written > MAX - COMPONENT_MAX {
        return true;
    }
    let name = pointer(dentry, offset!(dentry_d_name_name));
    let length = unsafe {
        bpf_probe_read_kernel_str(
            destination.add(written as usize).cast(),
            COMPONENT_MAX,
            name as *const _,
        )
    };
    if length <= 0 || length > i64::from(COMPONENT_MAX) {
        return true;
    }
    unsafe { core::ptr::write_volatile(&raw mut (*walk).written, written + length as u32) };
    if parent == dentry {
        // A root without a mount: a memfd, or a file of an unmounted tree.
        unsafe { core::ptr::write_volatile(&raw mut (*walk).truncated, 0) };
        return true;
    }
    unsafe { core::ptr::write_volatile(&raw mut (*walk).dentry, parent) };
    false
}
