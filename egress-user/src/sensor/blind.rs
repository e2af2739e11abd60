//! What a blind-spot record of the kernel side says, in words.
//!
//! In: [`records::Blind`]. Out: [`BlindUse`], with what the hooks see of that operation and what not.

use std::borrow::Cow;

use egress_common::blind::{
    AF_XDP, IORING_OP_OPENAT, IORING_OP_OPENAT2, IORING_OP_RECV_ZC, IORING_OP_SOCKET,
    IORING_OP_URING_CMD, PACKET_QDISC_BYPASS, PACKET_RX_RING, PACKET_TX_RING, SOCK_PACKET,
    SOCK_RAW, SOL_PACKET, SOL_XDP, XDP_RX_RING, XDP_TX_RING,
};
use egress_common::records;
use egress_common::slot::{AF_INET, AF_INET6, AF_PACKET, AF_VSOCK};

use crate::model::{BlindKind, BlindUse, ProcessKey};

/// `IORING_OP_*` by number, Linux 6.18 (`include/uapi/linux/io_uring.h`); numbers never change their meaning.
const IO_URING: [&str; 63] = [
    "NOP",
    "READV",
    "WRITEV",
    "FSYNC",
    "READ_FIXED",
    "WRITE_FIXED",
    "POLL_ADD",
    "POLL_REMOVE",
    "SYNC_FILE_RANGE",
    "SENDMSG",
    "RECVMSG",
    "TIMEOUT",
    "TIMEOUT_REMOVE",
    "ACCEPT",
    "ASYNC_CANCEL",
    "LINK_TIMEOUT",
    "CONNECT",
    "FALLOCATE",
    "OPENAT",
    "CLOSE",
    "FILES_UPDATE",
    "STATX",
    "READ",
    "WRITE",
    "FADVISE",
    "MADVISE",
    "SEND",
    "RECV",
    "OPENAT2",
    "EPOLL_CTL",
    "SPLICE",
    "PROVIDE_BUFFERS",
    "REMOVE_BUFFERS",
    "TEE",
    "SHUTDOWN",
    "RENAMEAT",
    "UNLINKAT",
    "MKDIRAT",
    "SYMLINKAT",
    "LINKAT",
    "MSG_RING",
    "FSETXATTR",
    "SETXATTR",
    "FGETXATTR",
    "GETXATTR",
    "SOCKET",
    "URING_CMD",
    "SEND_ZC",
    "SENDMSG_ZC",
    "READ_MULTISHOT",
    "WAITID",
    "FUTEX_WAIT",
    "FUTEX_WAKE",
    "FUTEX_WAITV",
    "FIXED_FD_INSTALL",
    "FTRUNCATE",
    "BIND",
    "LISTEN",
    "RECV_ZC",
    "EPOLL_WAIT",
    "READV_FIXED",
    "WRITEV_FIXED",
    "PIPE",
];

/// What `record` says; `None` when it is of nothing that the kernel side tells.
#[must_use]
pub fn use_of(record: &records::Blind) -> Option<BlindUse> {
    let (kind, operation, why) = match record.what {
        records::BLIND_IO_URING => io_uring(record.detail),
        records::BLIND_SOCKET => {
            let kind = u16::try_from(record.more >> 16).ok()?;
            socket(u16::try_from(record.detail).ok()?, kind)?
        }
        records::BLIND_OPTION => option(record.detail, record.more)?,
        _ => return None,
    };
    let opens_file = kind == BlindKind::IoUring
        && [IORING_OP_OPENAT, IORING_OP_OPENAT2]
            .map(u32::from)
            .contains(&record.detail);
    Some(BlindUse {
        process: ProcessKey {
            tgid: record.header.tgid,
            start_ns: record.header.start_ns,
        },
        kind,
        operation,
        why,
        opens_file,
        netns: record.netns,
    })
}

type Told = (BlindKind, Cow<'static, str>, &'static str);

fn io_uring(opcode: u32) -> Told {
    let name = usize::try_from(opcode)
        .ok()
        .and_then(|opcode| IO_URING.get(opcode));
    let operation = match name {
        Some(name) => format!("IORING_OP_{name}"),
        None => format!("IORING_OP_{opcode}"),
    };
    let why = match u8::try_from(opcode) {
        Ok(IORING_OP_OPENAT | IORING_OP_OPENAT2) => {
            "a file is opened without an open call, so the hooks at the open calls do not tell which; what is sent of it is counted"
        }
        Ok(IORING_OP_SOCKET) => {
            "a socket is made without a socket call, so it is not told whether it is a packet, XDP, raw or vsock socket; what it sends by sends is counted"
        }
        Ok(IORING_OP_URING_CMD) => {
            "a command that no hook understands: a socket option (rings, queue bypass), or a request straight to a device; sends are counted"
        }
        Ok(IORING_OP_RECV_ZC) => {
            "the network card fills the process's memory, so these received bytes are not counted; what is sent is"
        }
        _ => "newer than Linux 6.18: what the hooks see of it is not known",
    };
    (BlindKind::IoUring, operation.into(), why)
}

fn socket(family: u16, kind: u16) -> Option<Told> {
    let kind_name = match kind {
        1 => "SOCK_STREAM",
        2 => "SOCK_DGRAM",
        SOCK_RAW => "SOCK_RAW",
        5 => "SOCK_SEQPACKET",
        SOCK_PACKET => "SOCK_PACKET",
        _ => "?",
    };
    let (kind, family, why) = match family {
        AF_INET if kind == SOCK_PACKET => (BlindKind::PacketSocket, "AF_INET", PACKET),
        AF_PACKET => (BlindKind::PacketSocket, "AF_PACKET", PACKET),
        AF_XDP => (BlindKind::XdpSocket, "AF_XDP", XDP),
        AF_INET => (BlindKind::RawSocket, "AF_INET", RAW),
        AF_INET6 => (BlindKind::RawSocket, "AF_INET6", RAW),
        AF_VSOCK => (
            BlindKind::Vsock,
            "AF_VSOCK",
            "bytes to a virtual machine or its host: counted as they are sent, but there are no IP packets, so no wire bytes and no IP destination",
        ),
        _ => return None,
    };
    Some((kind, format!("socket({family}, {kind_name})").into(), why))
}

const PACKET: &str = "frames are counted as calls send them, and the IP packets in them, with their destination, at the device; what is received is a copy of others' traffic and is not counted";
const RAW: &str = "bytes and packets are counted, but the process writes the headers: protocol, addresses and names may be whatever it likes";
const XDP: &str = "frames go from shared memory to the device, past sockets, IP and traffic control: their bytes are not counted by process, only at the device, as unseen";

fn option(level: u32, option: u32) -> Option<Told> {
    let (kind, name, why) = match (level, option) {
        (SOL_PACKET, PACKET_RX_RING) => (
            BlindKind::PacketRing,
            "SOL_PACKET, PACKET_RX_RING",
            "frames are received through shared memory, without a call: they are not counted",
        ),
        (SOL_PACKET, PACKET_TX_RING) => (
            BlindKind::PacketRing,
            "SOL_PACKET, PACKET_TX_RING",
            "frames are sent from shared memory: counted by what the call that starts them returns, and the IP packets in them, with their destination, at the device",
        ),
        (SOL_PACKET, PACKET_QDISC_BYPASS) => (
            BlindKind::QueueBypass,
            "SOL_PACKET, PACKET_QDISC_BYPASS",
            "frames go to the device past its queues: they are counted as calls send them, but neither traffic control nor the hook at devices sees them: no wire bytes, no destination, and at the device they are unseen",
        ),
        (SOL_XDP, XDP_RX_RING) => (BlindKind::XdpSocket, "SOL_XDP, XDP_RX_RING", XDP),
        (SOL_XDP, XDP_TX_RING) => (BlindKind::XdpSocket, "SOL_XDP, XDP_TX_RING", XDP),
        _ => return None,
    };
    Some((kind, format!("setsockopt({name})").into(), why))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use egress_common::blind::{IO_URING_OPS, IO_URING_SEEN, IO_URING_UNSEEN};
    use egress_common::records::{BLIND_IO_URING, BLIND_OPTION, BLIND_SOCKET, Blind};

    use super::*;

    fn told(what: u16, detail: u32, more: u32) -> Option<(BlindKind, String)> {
        let record = Blind {
            what,
            detail,
            more,
            ..Blind::default()
        };
        use_of(&record).map(|using| (using.kind, using.operation.into_owned()))
    }

    #[test]
    fn says_what_it_is() {
        for (what, detail, more, kind, operation) in [
            (
                BLIND_IO_URING,
                18,
                0,
                BlindKind::IoUring,
                "IORING_OP_OPENAT",
            ),
            (
                BLIND_IO_URING,
                28,
                0,
                BlindKind::IoUring,
                "IORING_OP_OPENAT2",
            ),
            (
                BLIND_IO_URING,
                46,
                0,
                BlindKind::IoUring,
                "IORING_OP_URING_CMD",
            ),
            (BLIND_IO_URING, 200, 0, BlindKind::IoUring, "IORING_OP_200"),
            (
                BLIND_SOCKET,
                17,
                3 << 16 | 8,
                BlindKind::PacketSocket,
                "socket(AF_PACKET, SOCK_RAW)",
            ),
            (
                BLIND_SOCKET,
                2,
                10 << 16,
                BlindKind::PacketSocket,
                "socket(AF_INET, SOCK_PACKET)",
            ),
            (
                BLIND_SOCKET,
                44,
                3 << 16,
                BlindKind::XdpSocket,
                "socket(AF_XDP, SOCK_RAW)",
            ),
            (
                BLIND_SOCKET,
                10,
                3 << 16 | 0x3a,
                BlindKind::RawSocket,
                "socket(AF_INET6, SOCK_RAW)",
            ),
            (
                BLIND_SOCKET,
                40,
                1 << 16,
                BlindKind::Vsock,
                "socket(AF_VSOCK, SOCK_STREAM)",
            ),
            (
                BLIND_OPTION,
                263,
                13,
                BlindKind::PacketRing,
                "setsockopt(SOL_PACKET, PACKET_TX_RING)",
            ),
            (
                BLIND_OPTION,
                263,
                20,
                BlindKind::QueueBypass,
                "setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS)",
            ),
            (
                BLIND_OPTION,
                283,
                3,
                BlindKind::XdpSocket,
                "setsockopt(SOL_XDP, XDP_TX_RING)",
            ),
        ] {
            assert_eq!(told(what, detail, more), Some((kind, operation.to_owned())));
        }
        for (what, detail, more) in [
            (0, 0, 0),
            (9, 18, 0),
            (BLIND_SOCKET, 1, 0),
            (BLIND_SOCKET, u32::MAX, 0),
            (BLIND_OPTION, 263, 1),
        ] {
            assert_eq!(told(what, detail, more), None);
        }
    }

    #[test]
    fn the_mask_is_all_but_the_unseen() {
        assert_eq!(IO_URING.len(), usize::from(IO_URING_OPS));
        for opcode in 0..64 {
            let seen = opcode < IO_URING_OPS && !IO_URING_UNSEEN.contains(&opcode);
            assert_eq!(IO_URING_SEEN >> opcode & 1 == 1, seen, "{opcode}");
        }
    }

    /// The running kernel's own list, from its BTF, where it is not older than ours.
    #[test]
    fn names_are_the_kernels() {
        let btf = std::fs::read(crate::sensor::fields::VMLINUX).expect("this kernel has BTF");
        let known: HashSet<&[u8]> = btf
            .split(|byte| *byte == 0)
            .filter_map(|name| name.strip_prefix(b"IORING_OP_"))
            .collect();
        let newest = IO_URING.last().expect("not empty");
        if known.contains(newest.as_bytes()) {
            for name in IO_URING {
                assert!(known.contains(name.as_bytes()), "{name}");
            }
        }
    }
}
