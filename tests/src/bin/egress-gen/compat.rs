//! What a 32-bit program does: system calls by `int 0x80`, which the kernel takes for those of an i386 process
//! (Linux `arch/x86/entry/entry_64_compat.S`), with i386's numbers and structures.
#![expect(
    unsafe_code,
    reason = "there is no other way into the compat entry from a 64-bit program"
)]

use std::arch::asm;
use std::io;
use std::net::SocketAddrV4;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

// Linux arch/x86/entry/syscalls/syscall_32.tbl.
const CLOSE: u32 = 6;
const OPENAT: u32 = 295;
const SOCKET: u32 = 359;
const CONNECT: u32 = 362;
const SENDTO: u32 = 369;

/// Memory whose addresses fit into 32 bits.
struct Low(*mut u8);

const SIZE: usize = 1 << 16;

impl Low {
    fn new() -> Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses touches nothing that exists.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
                -1,
                0,
            )
        };
        ensure!(base != libc::MAP_FAILED, io::Error::last_os_error());
        Ok(Self(base.cast()))
    }

    /// Copies bytes to its beginning; gives their address.
    fn put(&self, bytes: &[u8]) -> Result<u32> {
        ensure!(bytes.len() <= SIZE);
        // SAFETY: within the mapping, by the check; nobody else knows it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0, bytes.len()) };
        Ok(u32::try_from(self.0.addr())?)
    }
}

/// A system call as an i386 program makes it.
fn call(number: u32, arguments: [u32; 6]) -> io::Result<u32> {
    let result: u64;
    // SAFETY: int 0x80 changes rax and r8 to r11 only; rbx and rbp, which the compiler keeps for itself, are put back.
    unsafe {
        asm!(
            "push rbp",
            "push rbx",
            "mov ebx, r12d",
            "mov ebp, r13d",
            "int 0x80",
            "pop rbx",
            "pop rbp",
            inlateout("rax") u64::from(number) => result,
            in("r12") u64::from(arguments[0]),
            in("rcx") u64::from(arguments[1]),
            in("rdx") u64::from(arguments[2]),
            in("rsi") u64::from(arguments[3]),
            in("rdi") u64::from(arguments[4]),
            in("r13") u64::from(arguments[5]),
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the result is 32 bits wide"
    )]
    let result = (result as u32).cast_signed();
    u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Opens a file and sends `bytes` to `to`, by TCP.
pub fn upload(file: &Path, to: SocketAddrV4, bytes: u64) -> Result<Value> {
    let low = Low::new()?;
    let path = [file.as_os_str().as_bytes(), b"\0"].concat();
    let at = low.put(&path)?;
    let here = libc::AT_FDCWD.cast_unsigned();
    let opened = call(OPENAT, [here, at, 0, 0, 0, 0]).context("openat, as a 32-bit program")?;
    call(CLOSE, [opened, 0, 0, 0, 0, 0])?;

    let socket = call(SOCKET, [2, 1, 0, 0, 0, 0]).context("socket")?;
    let mut address = [0; 16];
    address[..2].copy_from_slice(&2_u16.to_ne_bytes());
    address[2..4].copy_from_slice(&to.port().to_be_bytes());
    address[4..8].copy_from_slice(&to.ip().octets());
    let at = low.put(&address)?;
    call(CONNECT, [socket, at, 16, 0, 0, 0]).context("connect")?;
    let at = low.put(&[b'x'; 4096])?;
    let mut sent = 0;
    while sent < bytes {
        let chunk = u32::try_from((bytes - sent).min(4096))?;
        sent += u64::from(call(SENDTO, [socket, at, chunk, 0, 0, 0]).context("sendto")?);
    }
    call(CLOSE, [socket, 0, 0, 0, 0, 0])?;
    Ok(json!({ "pid": std::process::id(), "app_bytes": sent }))
}
