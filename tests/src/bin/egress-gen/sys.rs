//! System calls and structures of sockets that no library wraps safely. The only unsafe code of the ways of sending,
//! beside io_uring's.
#![expect(
    unsafe_code,
    reason = "setsockopt with any option, sendmmsg, packet addresses and packet rings have no safe wrapper"
)]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::SockAddr;

/// setsockopt(2) with a value that is these bytes. `level` and `name` must be of an option whose value holds no
/// pointer, or the kernel would follow whatever the bytes are.
pub fn set_option(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes, which are the slice.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// As [`set_option`], with an `int`.
pub fn set_int(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    set_option(fd, level, name, &value.to_ne_bytes())
}

/// sendmmsg(2): each of `data` in a datagram to `to`. Gives the bytes of each that was sent.
pub fn sendmmsg(fd: BorrowedFd<'_>, data: &[&[u8]], to: SocketAddr) -> io::Result<Vec<u32>> {
    let to = SockAddr::from(to);
    let mut parts: Vec<libc::iovec> = data
        .iter()
        .map(|data| libc::iovec {
            iov_base: data.as_ptr().cast_mut().cast(),
            iov_len: data.len(),
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: all zero is a message without name, parts and control data.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
            message.msg_hdr.msg_namelen = to.len();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let count = u32::try_from(messages.len()).map_err(io::Error::other)?;
    // SAFETY: names, parts and data outlive the call, which only reads them; `msg_len` of each message is written.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
    Ok(messages.iter().take(sent).map(|one| one.msg_len).collect())
}

/// An address of a packet socket (packet(7)): device, `EtherType`, link-layer address.
pub fn link_address(device: u32, protocol: u16, mac: [u8; 6]) -> io::Result<SockAddr> {
    let device = i32::try_from(device).map_err(io::Error::other)?;
    let size = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>());
    let size = size.map_err(io::Error::other)?;
    // SAFETY: the storage is large enough for any address (`sockaddr_storage`), is all zero, which is valid for this one,
    // and the length told is that of what is written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = 17; // AF_PACKET
            (*link).sll_protocol = protocol.to_be();
            (*link).sll_ifindex = device;
            (*link).sll_halen = 6;
            (&raw mut (*link).sll_addr).cast::<[u8; 6]>().write(mac);
            *length = size;
            Ok(())
        })
    }?;
    Ok(address)
}

/// A transmit ring of a packet socket, `TPACKET_V2` (Linux `Documentation/networking/packet_mmap.rst`).
pub struct Ring {
    base: *mut Place,
    frames: usize,
    next: usize,
}

/// Bytes of one frame's place in the ring; a block is a page and holds two.
const FRAME: usize = 2048;
/// Where the data begins in a frame's place: after the header, aligned (`TPACKET2_HDRLEN - sizeof(struct sockaddr_ll)`).
const DATA: usize = 32;

/// A frame's place: the first words of `struct tpacket2_hdr` (Linux `include/uapi/linux/if_packet.h`), and the rest.
#[repr(C, align(16))]
struct Place {
    /// Whose it is. Both sides change it.
    status: AtomicU32,
    length: u32,
    header: [u8; DATA - 8],
    data: [u8; FRAME - DATA],
}

impl Ring {
    /// Gives a packet socket a ring of `frames` frames (even), and maps it.
    pub fn new(fd: BorrowedFd<'_>, frames: usize) -> io::Result<Self> {
        const SOL_PACKET: c_int = 263;
        const PACKET_VERSION: c_int = 10;
        const PACKET_TX_RING: c_int = 13;
        const TPACKET_V2: c_int = 1;
        set_int(fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2)?;
        let number = |value: usize| u32::try_from(value).map_err(io::Error::other);
        // `struct tpacket_req`: block size, blocks, frame size, frames.
        let request = [
            number(2 * FRAME)?,
            number(frames / 2)?,
            number(FRAME)?,
            number(frames)?,
        ];
        let request: Vec<u8> = request.into_iter().flat_map(u32::to_ne_bytes).collect();
        set_option(fd, SOL_PACKET, PACKET_TX_RING, &request)?;
        // SAFETY: a new shared mapping of the ring, at an address that the kernel chooses.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                frames * FRAME,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        const { assert!(size_of::<Place>() == FRAME) };
        Ok(Self {
            base: base.cast(),
            frames,
            next: 0,
        })
    }

    /// Puts a frame into the next place, for the next send(2) to take. False when that place is still the kernel's.
    pub fn put(&mut self, frame: &[u8]) -> io::Result<bool> {
        const TP_STATUS_AVAILABLE: u32 = 0;
        const TP_STATUS_SEND_REQUEST: u32 = 1;
        if frame.len() > FRAME - DATA {
            return Err(io::Error::other("the frame is larger than its place"));
        }
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        // SAFETY: `next` is below `frames`, so the place lies in the mapping, which is aligned to a page. The status is an
        // atomic; the rest is changed by the kernel only while it owns the place, which it does not while the status is
        // `AVAILABLE`. The frame fits, as was just asked.
        unsafe {
            let place = self.base.add(self.next);
            let status = &(*place).status;
            if status.load(Ordering::Acquire) != TP_STATUS_AVAILABLE {
                return Ok(false);
            }
            (&raw mut (*place).length).write(length);
            let data = (&raw mut (*place).data).cast::<u8>();
            data.copy_from_nonoverlapping(frame.as_ptr(), frame.len());
            status.store(TP_STATUS_SEND_REQUEST, Ordering::Release);
        }
        self.next = (self.next + 1) % self.frames;
        Ok(true)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; nothing refers to it any more.
        unsafe { libc::munmap(self.base.cast::<c_void>(), self.frames * FRAME) };
    }
}
