//! What this kernel gives to tracing programs, where kernels differ.
//!
//! User space finds it out from BTF before it loads the programs; they see it as a read-only global, so the verifier
//! follows only the branch that this kernel can take: a helper that it lacks is never looked at.

/// [`Helpers`]: not there.
pub const ABSENT: u32 = 0;
/// [`Helpers`]: there.
pub const PRESENT: u32 = 1;

/// Helpers that not every kernel since 5.10 has for tracing programs (`tp_btf`, `fexit`, `fentry`, `lsm`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Helpers {
    /// `bpf_get_current_task_btf` (Linux 5.11).
    pub current_task_btf: u32,
    /// `bpf_sk_storage_get` (Linux 5.11). Without it sockets are found by their cookie in `SOCKETS_BY_COOKIE`.
    pub socket_storage: u32,
    /// `bpf_get_socket_cookie` (Linux 5.12). Without it the cookie that a cgroup hook has made is read from the socket.
    pub socket_cookie: u32,
}

impl Helpers {
    /// What a new kernel has.
    pub const ALL: Self = Self {
        current_task_btf: PRESENT,
        socket_storage: PRESENT,
        socket_cookie: PRESENT,
    };
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, u32 only; any bit pattern is valid.
unsafe impl aya::Pod for Helpers {}
