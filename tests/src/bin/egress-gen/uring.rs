//! Requests by io_uring, one at a time.
#![expect(
    unsafe_code,
    reason = "a request names memory that the kernel uses until it is complete"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};

/// A ring.
pub struct Ring(IoUring);

impl Ring {
    /// Makes one.
    pub fn new() -> io::Result<Self> {
        IoUring::new(8).map(Self)
    }

    /// `IORING_OP_OPENAT`, for reading.
    pub fn open(&mut self, path: &CStr) -> io::Result<OwnedFd> {
        let request = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
            .flags(libc::O_RDONLY | libc::O_CLOEXEC);
        // SAFETY: the path ends in NUL and outlives the request, which is complete when this returns.
        let fd = unsafe { self.complete(&request.build()) }?;
        // SAFETY: the kernel has just made this descriptor; nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// `IORING_OP_SOCKET`.
    pub fn socket(&mut self, family: i32, kind: i32) -> io::Result<OwnedFd> {
        let request = opcode::Socket::new(family, kind | libc::SOCK_CLOEXEC, 0);
        // SAFETY: the request names no memory.
        let fd = unsafe { self.complete(&request.build()) }?;
        // SAFETY: the kernel has just made this descriptor; nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// `IORING_OP_SEND`; bytes that were sent.
    pub fn send(&mut self, socket: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let request = opcode::Send::new(types::Fd(socket.as_raw_fd()), data.as_ptr(), length);
        // SAFETY: the data outlives the request, which is complete when this returns.
        let sent = unsafe { self.complete(&request.build()) }?;
        usize::try_from(sent).map_err(io::Error::other)
    }

    /// Hands a request to the kernel and waits for its end.
    ///
    /// # Safety
    /// Memory that the request names is valid for this call.
    unsafe fn complete(&mut self, request: &Entry) -> io::Result<i32> {
        // SAFETY: as above.
        unsafe { self.0.submission().push(request) }.map_err(io::Error::other)?;
        loop {
            match self.0.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        let done = self.0.completion().next();
        let result = done.ok_or_else(|| io::Error::other("nothing is complete"))?;
        match result.result() {
            value if value < 0 => Err(io::Error::from_raw_os_error(-value)),
            value => Ok(value),
        }
    }
}
