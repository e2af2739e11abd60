//! System calls that no library makes any more, and some that none should.
#![expect(
    unsafe_code,
    reason = "open, creat, packet sockets, setsockopt, mmap, clone and fork have no safe wrapper; the race needs a path that changes under the call"
)]

use std::ffi::{CStr, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
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

/// A packet socket (packet(7)) that sends whole frames through one device, past its queues when `bypass`.
pub fn packet_socket(ifindex: i32, bypass: bool) -> io::Result<OwnedFd> {
    // SAFETY: no pointers. Protocol 0: it receives nothing.
    let socket = owned(unsafe {
        libc::syscall(
            libc::SYS_socket,
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            0,
        )
    })?;
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET.try_into().map_err(io::Error::other)?;
    address.sll_ifindex = ifindex;
    let size = u32::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the address outlives the call, and `size` is its size.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    let on = c_int::from(bypass);
    // SAFETY: the value outlives the call, and 4 is its size.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const on).cast(),
            4,
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// setsockopt(2) with a value that is these bytes: of an option whose value holds no pointer.
pub fn set_option(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes, which are the slice.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A process that executes nothing and ends at once; waits for it.
pub fn fork_and_exit() -> io::Result<()> {
    wait(fork(0, || Ok(()))?)
}

/// `CLONE_FILES`: the child has the same descriptors, not copies.
pub const SHARE_FILES: c_int = libc::CLONE_FILES;

/// clone(2) with these flags, which is fork(2) without any: the child does `child` and ends, with 1 when that failed. Only
/// for a process with one thread.
pub fn fork(flags: c_int, child: impl FnOnce() -> io::Result<()>) -> io::Result<i32> {
    // SAFETY: without CLONE_VM the child has memory of its own, and the process has one thread, so that no lock is held.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
    match c_int::try_from(pid) {
        Ok(0) => {
            let code = match child() {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("child: {error:#}");
                    1
                }
            };
            // SAFETY: ends the child without the parent's destructors.
            unsafe { libc::_exit(code) }
        }
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Maps a socket's ring into this process, for as long as it lives.
pub fn map_shared(fd: BorrowedFd<'_>, offset: i64, length: usize) -> io::Result<()> {
    let flags = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice; nothing refers to it.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            flags,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            offset,
        )
    };
    if at == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A child in the same memory, for whose end the parent is held, as `posix_spawn` makes them. It is reaped here.
pub fn vfork(mut child: impl FnMut()) -> io::Result<i32> {
    extern "C" fn run<F: FnMut()>(child: *mut libc::c_void) -> c_int {
        // SAFETY: the pointer is to the caller's closure, which outlives the child.
        unsafe { (*child.cast::<F>())() };
        0
    }
    fn runner<F: FnMut()>(_: &F) -> extern "C" fn(*mut libc::c_void) -> c_int {
        run::<F>
    }
    let mut stack = vec![0_u128; 16 << 10];
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the stack and the closure outlive the child, because the parent is held until it ends (CLONE_VFORK).
    let pid = unsafe {
        libc::clone(
            runner(&child),
            top.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut child).cast(),
        )
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    wait(pid)?;
    Ok(pid)
}

/// Waits for a child, which has to end well.
pub fn wait(pid: i32) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    if unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("a child ended with {status}")))
    }
}

/// A descriptor that another program, or another process with the same table, has opened for us.
pub fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: whoever names it hands it over.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Becomes another user for good; the group and its kin stay.
pub fn set_user(uid: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    done(unsafe { libc::setuid(uid) })
}

/// Children are made in a new pid namespace.
pub fn new_pid_namespace() -> io::Result<()> {
    // SAFETY: no memory is involved.
    done(unsafe { libc::unshare(libc::CLONE_NEWPID) })
}

fn done(result: c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn owned(result: c_long) -> io::Result<OwnedFd> {
    match c_int::try_from(result) {
        // SAFETY: the kernel has just made this descriptor; nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
