//! System calls that no library makes any more, and one that none should.
#![expect(
    unsafe_code,
    reason = "open and creat have no safe wrapper; the race needs a path that changes under the call"
)]

use std::ffi::{CStr, c_int, c_long};
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::atomic::AtomicU8;

/// open(2) itself; libraries call openat.
#[cfg(target_arch = "x86_64")]
pub fn open(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the path ends in NUL and outlives the call.
    owned(unsafe {
        libc::syscall(
            libc::SYS_open,
            path.as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    })
}

/// creat(2) itself.
#[cfg(target_arch = "x86_64")]
pub fn creat(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: as above.
    owned(unsafe { libc::syscall(libc::SYS_creat, path.as_ptr(), 0o644) })
}

/// openat(2) of an absolute path that other threads may change during the call. It has to end in NUL.
pub fn open_shared(path: &[AtomicU8]) -> io::Result<OwnedFd> {
    // SAFETY: the NUL at the end is never changed, so the kernel stays within the slice; it copies byte by byte, as a
    // relaxed load would, and what it sees of the others' stores is what the caller asks for.
    owned(unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    })
}

/// fork(2): a process that executes nothing and ends at once; waits for it.
pub fn fork_and_exit() -> io::Result<()> {
    // SAFETY: the child of a process with one thread calls nothing but `_exit`, which is async-signal-safe.
    let child = unsafe { libc::fork() };
    match child {
        -1 => return Err(io::Error::last_os_error()),
        // SAFETY: as above.
        0 => unsafe { libc::_exit(0) },
        _ => {}
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("a child ended with {status}")))
    }
}

fn owned(result: c_long) -> io::Result<OwnedFd> {
    match c_int::try_from(result) {
        // SAFETY: the kernel has just made this descriptor; nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
