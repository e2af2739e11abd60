//! Processes: fork, exec, exit.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_ktime_get_boot_ns,
    bpf_probe_read_kernel_str, bpf_probe_read_user,
};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use egress_common::counters::{
    EXEC_TOTAL, EXEC_TRUNCATED, EXIT_TOTAL, FORK_TOTAL, LOST_EXEC, LOST_EXIT, LOST_FORK,
};
use egress_common::records::{
    EXEC_ARGS_MAX, EXEC_PATH_MAX, Exec, Exit, FLAG_CWD_CUT, FLAG_EXE_CUT, FLAG_TRUNCATED,
    FLAG_UNREADABLE, FileIdentity, Fork, Header, KIND_EXEC, KIND_EXIT, KIND_FORK,
};

use crate::count::count;
use crate::emit::emit;
use crate::files::{file_of, identify};
use crate::kread::{pointer, read, start_of, typed};
use crate::maps::{EXEC_SCRATCH, ExecScratch, PROCESS_RING, offset};
use crate::path;

/// A header for the thread group of `task`, a task whose type the verifier knows.
#[inline(always)]
fn header(kind: u16, task: *const u8) -> Header {
    unsafe {
        Header {
            kind,
            flags: 0,
            tgid: typed(task, offset!(task_tgid)),
            at_ns: bpf_ktime_get_boot_ns(),
            start_ns: start_of(task),
        }
    }
}

/// `tp_btf/sched_process_fork`: `(struct task_struct *parent, struct task_struct *child)`.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn egress_fork(ctx: BtfTracePointContext) -> i32 {
    let (parent, child): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
    let (pid, tgid): (u32, u32) = unsafe {
        (
            typed(child, offset!(task_pid)),
            typed(child, offset!(task_tgid)),
        )
    };
    if pid != tgid {
        return 0; // a thread
    }
    count(FORK_TOTAL, 0);
    let record = Fork {
        header: header(KIND_FORK, parent),
        child_start_ns: unsafe { start_of(child) },
        child_tgid: tgid,
        _pad: 0,
    };
    emit(
        &PROCESS_RING,
        &raw const record,
        size_of::<Fork>(),
        LOST_FORK,
    );
    0
}

/// `tp_btf/sched_process_exit`: `(struct task_struct *p)`, and whether the group is dead (6.15).
#[btf_tracepoint(function = "sched_process_exit")]
pub fn egress_exit(ctx: BtfTracePointContext) -> i32 {
    let task: *const u8 = ctx.arg(0);
    let signal = unsafe { typed::<u64>(task, offset!(task_signal)) };
    // `do_exit` counts the thread out before it calls this (Linux `kernel/exit.c`).
    if read::<u32>(signal, offset!(signal_live)) != Some(0) {
        return 0;
    }
    count(EXIT_TOTAL, 0);
    let group = read::<u32>(signal, offset!(signal_group_exit_code)).unwrap_or(0);
    let own: u32 = unsafe { typed(task, offset!(task_exit_code)) };
    let record = Exit {
        header: header(KIND_EXIT, task),
        code: if group != 0 { group } else { own },
        _pad: 0,
    };
    emit(
        &PROCESS_RING,
        &raw const record,
        size_of::<Exit>(),
        LOST_EXIT,
    );
    0
}

/// `tp_btf/sched_process_exec`: `(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn egress_exec(ctx: BtfTracePointContext) -> i32 {
    let (task, bprm): (*const u8, u64) = (ctx.arg(0), ctx.arg::<*const u8>(2) as u64);
    count(EXEC_TOTAL, 0);
    let Some(scratch) = EXEC_SCRATCH.get_ptr_mut(0) else {
        return 0;
    };
    unsafe {
        (*scratch).record = Exec::default();
        (*scratch).record.header = header(KIND_EXEC, task);
    }
    let task = task as u64;
    identify_process(scratch, task);
    let length = tail(scratch, task, bprm);
    debug!(
        &ctx,
        "exec: tgid {}, {} bytes of names and arguments",
        unsafe { (*scratch).record.header.tgid },
        length
    );
    emit(
        &PROCESS_RING,
        unsafe { &raw const (*scratch).record },
        size_of::<Exec>() + length,
        LOST_EXEC,
    );
    0
}

/// Who, for whom, in what.
#[inline(always)]
fn identify_process(scratch: *mut ExecScratch, task: u64) {
    let record = unsafe { &mut (*scratch).record };
    let parent = pointer(task, offset!(task_real_parent));
    let leader = pointer(parent, offset!(task_group_leader));
    record.parent_tgid = read(parent, offset!(task_tgid)).unwrap_or(0);
    record.parent_start_ns = read(leader, offset!(task_start_boottime)).unwrap_or(0);
    record.exec_id = read(task, offset!(task_self_exec_id)).unwrap_or(0);
    record.cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    let cred = pointer(task, offset!(task_cred));
    record.uid = read(cred, offset!(cred_uid)).unwrap_or(u32::MAX);
    record.gid = read(cred, offset!(cred_gid)).unwrap_or(u32::MAX);
    record.euid = read(cred, offset!(cred_euid)).unwrap_or(u32::MAX);
    record.loginuid = read(task, offset!(task_loginuid)).unwrap_or(u32::MAX);
    record.session_id = read(task, offset!(task_sessionid)).unwrap_or(u32::MAX);
    record.tty = terminal(pointer(
        pointer(task, offset!(task_signal)),
        offset!(signal_tty),
    ));
    let namespaces = pointer(task, offset!(task_nsproxy));
    record.netns = read(
        pointer(namespaces, offset!(nsproxy_net_ns)),
        offset!(net_ns_inum),
    )
    .unwrap_or(0);
    record.mntns = read(
        pointer(namespaces, offset!(nsproxy_mnt_ns)),
        offset!(mnt_ns_inum),
    )
    .unwrap_or(0);
    record.pidns = read(
        pointer(namespaces, offset!(nsproxy_pid_ns)),
        offset!(pid_ns_inum),
    )
    .unwrap_or(0);
    for (fd, place) in record.stdio.iter_mut().enumerate() {
        *place = match file_of(task, fd as u32) {
            0 => FileIdentity::default(),
            file => identify(file).unwrap_or_default(),
        };
    }
    unsafe {
        let _ = bpf_get_current_comm((&raw mut record.comm).cast(), 16);
    }
}

/// Device number as `new_encode_dev` gives it (Linux `include/linux/kdev_t.h`), for a `struct tty_struct`.
#[inline(always)]
fn terminal(tty: u64) -> u32 {
    let driver = pointer(tty, offset!(tty_driver));
    if driver == 0 {
        return 0;
    }
    let major: u32 = read(driver, offset!(tty_driver_major)).unwrap_or(0);
    let first: u32 = read(driver, offset!(tty_driver_minor_start)).unwrap_or(0);
    let index: u32 = read(tty, offset!(tty_index)).unwrap_or(0);
    let minor = first.wrapping_add(index);
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Writes the tail and its lengths into the record; gives its length.
#[inline(always)]
fn tail(scratch: *mut ExecScratch, task: u64, bprm: u64) -> usize {
    let base: *mut u8 = unsafe { (&raw mut (*scratch).tail).cast() };
    let record = unsafe { &mut (*scratch).record };
    let mut flags = 0;

    // Each part is at most EXEC_PATH_MAX bytes, so part N starts at most N times that behind the first: what the verifier needs.
    let filename = name(base, pointer(bprm, offset!(bprm_filename)), &mut flags);
    let mut used = filename;
    let interp = name(
        unsafe { base.add(used) },
        pointer(bprm, offset!(bprm_interp)),
        &mut flags,
    );
    used += interp;

    let mm = pointer(task, offset!(task_mm));
    let file = pointer(mm, offset!(mm_exe_file));
    record.exe = identify(file).unwrap_or_default();
    let exe_path = walk(
        scratch,
        used,
        file + u64::from(offset!(file_f_path)),
        &mut flags,
        FLAG_EXE_CUT,
    );
    used += exe_path;
    let cwd = walk(
        scratch,
        used,
        pointer(task, offset!(task_fs)) + u64::from(offset!(fs_pwd)),
        &mut flags,
        FLAG_CWD_CUT,
    );
    used += cwd;

    let start = pointer(mm, offset!(mm_arg_start));
    let mut args = pointer(mm, offset!(mm_arg_end)).wrapping_sub(start);
    if args > EXEC_ARGS_MAX as u64 {
        args = EXEC_ARGS_MAX as u64;
        flags |= FLAG_TRUNCATED;
    }
    if unsafe { bpf_probe_read_user(base.add(used).cast(), args as u32, start as *const _) } != 0 {
        args = 0;
        flags |= FLAG_UNREADABLE;
    }

    let record = unsafe { &mut (*scratch).record };
    record.filename_len = filename as u16;
    record.interp_len = interp as u16;
    record.exe_path_len = exe_path as u16;
    record.cwd_len = cwd as u16;
    record.args_len = args as u16;
    record.header.flags = flags;
    if flags != 0 {
        count(EXEC_TRUNCATED, 0);
    }
    used + args as usize
}

/// Copies a kernel string without its NUL; gives its length.
#[inline(always)]
fn name(destination: *mut u8, source: u64, flags: &mut u16) -> usize {
    let length = unsafe {
        bpf_probe_read_kernel_str(destination.cast(), EXEC_PATH_MAX as u32, source as *const _)
    };
    if length <= 0 {
        *flags |= FLAG_UNREADABLE;
        return 0;
    }
    if length >= EXEC_PATH_MAX as i64 {
        *flags |= FLAG_TRUNCATED;
        return EXEC_PATH_MAX - 1;
    }
    length as usize - 1
}

/// Writes the components of a `struct path` at `used` in the tail; gives their length.
#[inline(always)]
fn walk(scratch: *mut ExecScratch, used: usize, path: u64, flags: &mut u16, cut: u16) -> usize {
    let (mnt, dentry) = (
        pointer(path, offset!(path_mnt)),
        pointer(path, offset!(path_dentry)),
    );
    unsafe {
        let destination = (&raw mut (*scratch).tail).cast::<u8>().add(used);
        path::write::<{ EXEC_PATH_MAX as u32 }>(&raw mut (*scratch).walk, destination, mnt, dentry);
        if core::ptr::read_volatile(&raw const (*scratch).walk.truncated) != 0 {
            *flags |= FLAG_TRUNCATED | cut;
        }
        let written = core::ptr::read_volatile(&raw const (*scratch).walk.written) as usize;
        if written > EXEC_PATH_MAX { 0 } else { written }
    }
}
