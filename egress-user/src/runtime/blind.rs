//! What no hook of ours sees, and whether it is in use on this host now.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use crate::model::BlindSpot;

/// Every blind spot, with what can be told of its use from `/proc`.
#[must_use]
pub fn spots() -> Vec<BlindSpot> {
    let spot = |name: &str, in_use, why: &str| BlindSpot {
        name: name.into(),
        in_use,
        why: why.into(),
    };
    vec![
        spot(
            "encrypted",
            None,
            "what is sent is not read: only how much, by whom, from which files and where to, by which name (not with encrypted DNS and ECH)",
        ),
        spot(
            "forwarded",
            forwards(),
            "packets that this host routes for others have no socket: the ledger has them at each device, as forwarded",
        ),
        spot(
            "af_xdp",
            None,
            "AF_XDP sockets write frames past the socket layer and the IP layer: the ledger has them at each device, as unseen",
        ),
        spot(
            "packet_ring",
            lists("/proc/net/packet"),
            "AF_PACKET frames are counted; those that bypass queues (PACKET_QDISC_BYPASS) only when sent by a call, and the ledger \
             has them at each device, as unseen",
        ),
        spot(
            "raw_socket",
            lists("/proc/net/raw"),
            "raw sockets are counted; the source address in their packets can be forged",
        ),
        spot(
            "io_uring",
            io_uring(),
            "sends by io_uring are counted; files it opens are not told, because no open call is made",
        ),
        spot(
            "kernel_module",
            None,
            "a loaded kernel module can send, and hide, without any hook being called",
        ),
    ]
}

/// Whether a table of sockets in `/proc` has a line behind its heading.
fn lists(path: &str) -> Option<bool> {
    fs::read_to_string(path)
        .ok()
        .map(|table| table.lines().count() > 1)
}

fn forwards() -> Option<bool> {
    let on = |path| {
        fs::read_to_string(path)
            .ok()
            .map(|value| value.trim() == "1")
    };
    match (
        on("/proc/sys/net/ipv4/ip_forward"),
        on("/proc/sys/net/ipv6/conf/all/forwarding"),
    ) {
        (None, None) => None,
        (four, six) => Some(four.unwrap_or(false) || six.unwrap_or(false)),
    }
}

/// Whether a process has an `io_uring` open.
fn io_uring() -> Option<bool> {
    let processes = fs::read_dir("/proc").ok()?;
    let mut seen = false;
    for process in processes
        .flatten()
        .filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit))
    {
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        seen |= descriptors.flatten().any(|descriptor| {
            fs::read_link(descriptor.path())
                .is_ok_and(|target| target.as_os_str().as_bytes() == b"anon_inode:[io_uring]")
        });
        if seen {
            break;
        }
    }
    Some(seen)
}
