//! Files: which process opened what, by the kernel's own path.
//!
//! The exit tracepoints of the open calls run in the context of the caller, with the descriptor as their value; the file
//! behind it is the one that was really opened. Told once for each (process, file, kind of access) within
//! [`RETELL_OPEN_NS`], and the path once for each name within [`RETELL_NAME_NS`]: cost follows novelty, not repetition.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::{fentry, lsm, tracepoint};
use aya_ebpf::programs::{FEntryContext, LsmContext, TracePointContext};
use egress_common::counters::{
    FILE_FILTERED, FILE_REPEATED, FILE_TOTAL, FILE_TRUNCATED, FILE_UNREADABLE, LOST_FILE,
};
use egress_common::records::{
    ACCESS_CREATE, ACCESS_READ, ACCESS_WRITE, FILE_PATH_MAX, FLAG_TRUNCATED, File, FileIdentity,
    Header, KIND_FILE,
};

use crate::count::count;
use crate::emit::emit;
use crate::kread::{Current, pointer, read};
use crate::maps::{FILE_RING, FILE_SCRATCH, NameKey, OPENED, OpenKey, TOLD, daemon_tgid, offset};
use crate::path;

/// An open is told again after this, so that user space can see that a file is still being read.
const RETELL_OPEN_NS: u64 = 5_000_000_000;
/// A path is told again after this, so that user space cannot be without it for long.
const RETELL_NAME_NS: u64 = 60_000_000_000;

/// `FMODE_*` (Linux `include/linux/fs.h`).
const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;
const FMODE_CREATED: u32 = 0x0010_0000;
/// `__FMODE_EXEC`, in `f_flags`.
const FMODE_EXEC: u32 = 0x20;
/// File types of `st_mode`.
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFIFO: u32 = 0o010_000;

/// Offset of the return value in a `sys_exit_*` tracepoint (its `format` file: 8 bytes common, 4 nr, 4 padding).
const RETURN_VALUE: usize = 16;

/// `open(2)`.
#[tracepoint]
pub fn egress_open(ctx: TracePointContext) -> u32 {
    opened(&ctx)
}

/// `openat(2)`.
#[tracepoint]
pub fn egress_openat(ctx: TracePointContext) -> u32 {
    opened(&ctx)
}

/// `openat2(2)`.
#[tracepoint]
pub fn egress_openat2(ctx: TracePointContext) -> u32 {
    opened(&ctx)
}

/// `creat(2)`.
#[tracepoint]
pub fn egress_creat(ctx: TracePointContext) -> u32 {
    opened(&ctx)
}

/// A file of this task's table, 0 when the descriptor is closed.
#[inline(always)]
pub fn file_of(task: u64, fd: u32) -> u64 {
    let table = pointer(pointer(task, offset!(task_files)), offset!(files_fdt));
    match read::<u32>(table, offset!(fdtable_max_fds)) {
        Some(max) if fd < max => pointer(pointer(table, offset!(fdtable_fd)), fd * 8),
        _ => 0,
    }
}

/// What an open file is.
#[inline(always)]
pub fn identify(file: u64) -> Option<FileIdentity> {
    let inode = pointer(file, offset!(file_f_inode));
    let mode: u16 = read(inode, offset!(inode_i_mode))?;
    let super_block = pointer(inode, offset!(inode_i_sb));
    Some(FileIdentity {
        ino: read(inode, offset!(inode_i_ino))?,
        size: read(inode, offset!(inode_i_size)).unwrap_or(0),
        dev: read(super_block, offset!(sb_s_dev))?,
        generation: read(inode, offset!(inode_i_generation)).unwrap_or(0),
        mode: u32::from(mode),
        nlink: read(inode, offset!(inode_i_nlink)).unwrap_or(1),
    })
}

/// File systems whose files are views of the kernel, not data (Linux `include/uapi/linux/magic.h`).
#[inline(always)]
fn is_pseudo(magic: u64) -> bool {
    matches!(
        magic as u32,
        0x9fa0 // proc
            | 0x6265_6572 // sysfs
            | 0x0027_e0eb // cgroup
            | 0x6367_7270 // cgroup2
            | 0x7472_6163 // tracefs
            | 0x6462_6720 // debugfs
            | 0x7363_6673 // securityfs
            | 0xcafe_4a11 // bpf
            | 0x1cd1 // devpts
            | 0x6e73_6673 // nsfs
            | 0x0bad_1dea // pipefs-like anon inodes
            | 0xf97c_ff8c // selinuxfs
    )
}

/// `lsm/file_open`: `(struct file *file)`. Zero lets the next module decide (Linux `security/security.c`).
#[lsm(hook = "file_open")]
pub fn egress_file_lsm(ctx: LsmContext) -> i32 {
    let file: *const u8 = ctx.arg(0);
    opening(file as u64);
    0
}

/// `security_file_open(struct file *file)`.
#[fentry(function = "security_file_open")]
pub fn egress_file_fen(ctx: FEntryContext) -> i32 {
    let file: *const u8 = ctx.arg(0);
    opening(file as u64);
    0
}

/// The kernel is about to open a file, whoever asked: also io_uring, 32-bit programs, `open_by_handle_at`.
#[inline(always)]
fn opening(file: u64) {
    // What exec opens is told by exec.
    let flags: u32 = read(file, offset!(file_f_flags)).unwrap_or(0);
    if flags & FMODE_EXEC == 0 {
        observe(file);
    }
}

/// Counts an open that is nobody's business.
#[inline(always)]
fn filtered() {
    count(FILE_FILTERED, 0);
}

#[inline(always)]
fn opened(ctx: &TracePointContext) -> u32 {
    let Ok(fd) = (unsafe { ctx.read_at::<i64>(RETURN_VALUE) }) else {
        return 0;
    };
    if fd < 0 {
        return 0;
    }
    observe(file_of(unsafe { bpf_get_current_task() }, fd as u32));
    0
}

/// A file is opened: tells it, if it is one that can hold data. Every open ends as a record, or is counted under one cause:
/// the books of opens balance.
#[inline(always)]
fn observe(file: u64) {
    count(FILE_TOTAL, 0);
    let Some(identity) = identify(file) else {
        count(FILE_UNREADABLE, 0);
        return;
    };
    let kind = identity.mode & S_IFMT;
    if kind != S_IFREG && kind != S_IFBLK && kind != S_IFIFO {
        return filtered();
    }
    let super_block = pointer(pointer(file, offset!(file_f_inode)), offset!(inode_i_sb));
    if is_pseudo(pointer(super_block, offset!(sb_s_magic))) {
        return filtered();
    }
    let mode: u32 = read(file, offset!(file_f_mode)).unwrap_or(0);
    let access = if mode & FMODE_READ != 0 {
        ACCESS_READ
    } else {
        0
    } | if mode & FMODE_WRITE != 0 {
        ACCESS_WRITE
    } else {
        0
    } | if mode & FMODE_CREATED != 0 {
        ACCESS_CREATE
    } else {
        0
    };
    if access == 0 {
        return filtered();
    }
    let who = Current::get();
    if who.tgid == daemon_tgid() {
        return filtered();
    }
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let key = OpenKey {
        start_ns: who.start_ns,
        ino: identity.ino,
        tgid: who.tgid,
        dev: identity.dev,
        generation: identity.generation,
        access,
    };
    if recent(OPENED.get_ptr(&key), now, RETELL_OPEN_NS) {
        count(FILE_REPEATED, 0);
        return;
    }
    if !tell(file, identity, access, &who, now) {
        return;
    }
    // Told: only now, so that a lost record is told again at the next open.
    let _ = OPENED.insert(&key, &now, 0);
}

#[inline(always)]
fn recent(told: Option<*const u64>, now: u64, within: u64) -> bool {
    told.is_some_and(|told| now.wrapping_sub(unsafe { *told }) < within)
}

/// Makes the record. Whether it found its place.
#[inline(always)]
fn tell(file: u64, identity: FileIdentity, access: u32, who: &Current, now: u64) -> bool {
    // The index is a constant below the map's size: the lookup cannot miss.
    let Some(scratch) = FILE_SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    let path = file + u64::from(offset!(file_f_path));
    let (mnt, dentry) = (
        pointer(path, offset!(path_mnt)),
        pointer(path, offset!(path_dentry)),
    );
    let name_id = mix(
        mix(mix(dentry, mnt), pointer(dentry, offset!(dentry_d_parent))),
        pointer(dentry, offset!(dentry_d_name_hash_len)),
    );
    let name = NameKey {
        ino: identity.ino,
        name_id,
        dev: identity.dev,
        generation: identity.generation,
    };
    let mut written = 0;
    let mut flags = 0;
    let known = recent(TOLD.get_ptr(&name), now, RETELL_NAME_NS);
    unsafe {
        if !known {
            path::write::<{ FILE_PATH_MAX as u32 }>(
                &raw mut (*scratch).walk,
                (&raw mut (*scratch).tail).cast(),
                mnt,
                dentry,
            );
            written = core::ptr::read_volatile(&raw const (*scratch).walk.written);
            if core::ptr::read_volatile(&raw const (*scratch).walk.truncated) != 0 {
                flags = FLAG_TRUNCATED;
                count(FILE_TRUNCATED, 0);
            }
            if written > FILE_PATH_MAX as u32 {
                written = 0;
            }
        }
        (*scratch).record = File {
            header: Header {
                kind: KIND_FILE,
                flags,
                tgid: who.tgid,
                at_ns: now,
                start_ns: who.start_ns,
            },
            file: identity,
            name_id,
            access,
            path_len: written as u16,
            _pad: 0,
        };
        let length = size_of::<File>() + written as usize;
        let emitted = emit(&FILE_RING, &raw const (*scratch).record, length, LOST_FILE);
        if emitted && !known {
            let _ = TOLD.insert(&name, &now, 0);
        }
        emitted
    }
}

/// Mixes two words into one (the multiplier is that of Fibonacci hashing, 2^64 / golden ratio).
#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    (a.rotate_left(23) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
