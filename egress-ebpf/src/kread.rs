//! The only place that reads kernel memory by offset.

use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf,
    bpf_get_current_uid_gid, bpf_get_socket_cookie, bpf_probe_read_kernel,
};
use core::mem::{MaybeUninit, size_of};
use egress_common::offsets::MISSING;

use crate::maps::{has, offset};

/// Reads a `T` at `offset` behind `base`. `None` when this kernel has no such field, when `base` is null, or on a fault.
#[inline(always)]
pub fn read<T: Copy>(base: u64, offset: u32) -> Option<T> {
    if offset == MISSING || base == 0 {
        return None;
    }
    let mut value = MaybeUninit::<T>::uninit();
    let source = base.wrapping_add(u64::from(offset)) as *const core::ffi::c_void;
    let result =
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, source) };
    if result == 0 {
        Some(unsafe { value.assume_init() })
    } else {
        None
    }
}

/// Follows a pointer at `offset` behind `base`; 0 when there is none.
#[inline(always)]
pub fn pointer(base: u64, offset: u32) -> u64 {
    read(base, offset).unwrap_or(0)
}

/// Reads a `T` at `offset` behind a pointer whose type the verifier knows (a `tp_btf` argument, the current task):
/// a plain load, without a helper call. A fault gives zero (Linux `Documentation/bpf/verifier.rst`, `PTR_TO_BTF_ID`).
///
/// # Safety
/// `offset` is constant to the verifier and within the type; it refuses the program otherwise.
#[inline(always)]
pub unsafe fn typed<T: Copy>(base: *const u8, offset: u32) -> T {
    unsafe { core::ptr::read_volatile(base.add(offset as usize).cast()) }
}

/// Who runs.
#[derive(Clone, Copy)]
pub struct Current {
    /// Thread-group id, initial pid namespace.
    pub tgid: u32,
    /// Thread-group and thread id, as the helper gives them.
    pub pid_tgid: u64,
    /// Start of the thread-group leader.
    pub start_ns: u64,
    /// Real uid, initial user namespace.
    pub uid: u32,
    /// Real gid, initial user namespace.
    pub gid: u32,
    /// Which image: low half of `self_exec_id`.
    pub exec_id: u32,
    /// Who logged in; `u32::MAX` when nobody did.
    pub loginuid: u32,
    /// Audit session; `u32::MAX` when none.
    pub session_id: u32,
}

impl Current {
    /// The current process, for a tracing program. Only meaningful in process context.
    #[inline(always)]
    pub fn get() -> Self {
        if !has!(current_task_btf) {
            return Self::by_reads();
        }
        let task: *const u8 = unsafe { bpf_get_current_task_btf() }.cast();
        // Without CONFIG_AUDIT there are no such fields.
        let (mut loginuid, mut session_id) = (u32::MAX, u32::MAX);
        if offset!(task_loginuid) != MISSING && offset!(task_sessionid) != MISSING {
            unsafe {
                loginuid = typed(task, offset!(task_loginuid));
                session_id = typed(task, offset!(task_sessionid));
            }
        }
        Self::with(
            unsafe { start_of(task) },
            unsafe { typed(task, offset!(task_self_exec_id)) },
            loginuid,
            session_id,
        )
    }

    /// The current process, for a cgroup program, which has no typed task on most kernels.
    #[inline(always)]
    pub fn by_reads() -> Self {
        let task = unsafe { bpf_get_current_task() };
        let leader = pointer(task, offset!(task_group_leader));
        Self::with(
            pointer(leader, offset!(task_start_boottime)),
            read(task, offset!(task_self_exec_id)).unwrap_or(0),
            read(task, offset!(task_loginuid)).unwrap_or(u32::MAX),
            read(task, offset!(task_sessionid)).unwrap_or(u32::MAX),
        )
    }

    #[inline(always)]
    fn with(start_ns: u64, exec_id: u32, loginuid: u32, session_id: u32) -> Self {
        let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
        let uid_gid = unsafe { bpf_get_current_uid_gid() };
        Self {
            tgid: (pid_tgid >> 32) as u32,
            pid_tgid,
            start_ns,
            uid: uid_gid as u32,
            gid: (uid_gid >> 32) as u32,
            exec_id,
            loginuid,
            session_id,
        }
    }
}

/// Start of the leader of the thread group of a task whose type the verifier knows.
///
/// # Safety
/// As [`typed`].
#[inline(always)]
pub unsafe fn start_of(task: *const u8) -> u64 {
    unsafe {
        let leader: *const u8 = typed(task, offset!(task_group_leader));
        typed(leader, offset!(task_start_boottime))
    }
}

/// The cookie of a `struct sock` whose type the verifier knows, in a tracing program; 0 when it has none yet and this
/// kernel lets no tracing program make one.
///
/// # Safety
/// As [`typed`].
#[inline(always)]
pub unsafe fn cookie_of(sk: *const u8) -> u64 {
    if has!(socket_cookie) {
        unsafe { bpf_get_socket_cookie(sk.cast_mut().cast()) }
    } else {
        unsafe { typed(sk, offset!(sock_cookie)) }
    }
}
