//! What no hook of ours sees, and whether it is in use on this host now.

use std::fs;
use std::path::Path;

use crate::model::{BlindKind, BlindSpot, BlindUser};
use crate::sensor::uses::uses;

/// Every blind spot, with what can be told of its use from `/proc`.
#[must_use]
pub fn spots() -> Vec<BlindSpot> {
    let mut uses = uses(Path::new("/proc"));
    let blind = !uses.gaps.is_empty();
    let spot = |name: &str, in_use, why: &str| BlindSpot {
        name: name.into(),
        in_use,
        by: Vec::new(),
        why: why.into(),
    };
    let xdp_sockets = uses.xdp_sockets;
    let mut found = |kind: BlindKind, why: &str| {
        let holders = uses.by_kind.remove(&kind).unwrap_or_default();
        let known = !holders.is_empty() || (kind == BlindKind::XdpSocket && xdp_sockets > 0);
        BlindSpot {
            name: kind.name().into(),
            // Not found does not mean not there, if some processes could not be looked at.
            in_use: known.then_some(true).or((!blind).then_some(false)),
            by: holders
                .into_iter()
                .map(|holder| BlindUser {
                    pid: holder.process.tgid,
                    name: holder.name,
                    netns: holder.netns,
                })
                .collect(),
            why: why.into(),
        }
    };
    vec![
        found(
            BlindKind::IoUring,
            "sends are counted; files opened and sockets made by it, and its commands to devices, are told by their operation only",
        ),
        found(
            BlindKind::PacketSocket,
            "frames are counted as calls send them, and the IP packets in them at the device; what is received is not counted",
        ),
        found(
            BlindKind::PacketRing,
            "frames lie in shared memory: what is received is not counted; what is sent is, by what the call that starts it returns, and at the device",
        ),
        found(
            BlindKind::XdpSocket,
            "frames go from shared memory to the device, past sockets, IP and traffic control: not counted by process, only at the device, as unseen",
        ),
        found(
            BlindKind::RawSocket,
            "raw sockets are counted; the addresses in their packets can be forged",
        ),
        spot(
            "vsock",
            None,
            "bytes to a virtual machine or its host are counted as they are sent; there are no IP packets",
        ),
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
            "kernel_module",
            None,
            "a loaded kernel module can send, and hide, without any hook being called",
        ),
    ]
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
