//! What a slot says of its flow, apart from its figures.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use egress_common::slot::{
    ADDRESS_BOTH, ADDRESS_NONE, AF_PACKET, AF_VSOCK, DIRECTION_ACCEPTED, DIRECTION_INITIATED,
    DIRECTION_LISTENING, FlowKey, KEYED_OWNER, Slot, YES,
};

use crate::model::{Direction, FlowDelta, FlowId, Login, Mark, ProcessKey, Text, Transport};

/// Under which `FLOWS` has the slot.
pub(super) fn key(slot: &Slot) -> FlowKey {
    let shared = FlowKey {
        cookie: slot.cookie,
        dport: slot.dport,
        daddr: slot.daddr,
        ..FlowKey::default()
    };
    if slot.keyed != KEYED_OWNER {
        return shared;
    }
    FlowKey {
        start_ns: slot.start_ns,
        tgid: slot.tgid,
        uid: slot.uid,
        exec_id: slot.exec_id,
        ..shared
    }
}

/// The parts of a delta that are not figures.
pub(super) fn describe(id: FlowId, slot: &Slot) -> FlowDelta {
    let owned = slot.owned == YES;
    let comm = slot
        .comm
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let end = |addr: [u8; 16], port: [u8; 2]| {
        SocketAddr::new(
            IpAddr::V6(Ipv6Addr::from(addr)).to_canonical(),
            u16::from_be_bytes(port),
        )
    };
    let known = |id: u32| (id != u32::MAX).then_some(id);
    let listening = slot.direction == DIRECTION_LISTENING;
    let remote =
        (slot.addressed != ADDRESS_NONE && !listening).then(|| end(slot.daddr, slot.dport));
    let local = (slot.addressed == ADDRESS_BOTH || listening).then(|| end(slot.saddr, slot.sport));
    FlowDelta {
        id,
        cookie: slot.cookie,
        owner: owned.then_some(ProcessKey {
            tgid: slot.tgid,
            start_ns: slot.start_ns,
        }),
        owner_name: if owned {
            Text::from(comm)
        } else {
            Text::default()
        },
        owner_uid: owned.then_some(slot.uid),
        owner_gid: owned.then_some(slot.gid),
        owner_login: owned.then_some(Login {
            uid: known(slot.loginuid),
            session_id: known(slot.session_id),
        }),
        owner_exec: owned.then_some(slot.exec_id),
        cgroup_id: if owned { slot.cgroup_id } else { 0 },
        cgroup_path: Text::default(),
        netns: slot.netns,
        local,
        remote,
        transport: match (slot.family, slot.protocol) {
            (AF_PACKET, 0) => Transport::PACKET,
            (AF_VSOCK, _) => Transport::VSOCK,
            (_, protocol) => Transport(protocol),
        },
        family: slot.family,
        direction: match slot.direction {
            DIRECTION_INITIATED => Direction::Initiated,
            DIRECTION_ACCEPTED => Direction::Accepted,
            DIRECTION_LISTENING => Direction::Listening,
            _ => Direction::Unknown,
        },
        first: 0,
        last: 0,
        closed: None,
        app_bytes: 0,
        app_calls: 0,
        wire_bytes: 0,
        wire_packets: 0,
        rx_bytes: 0,
        mark: Mark::default(),
    }
}

#[cfg(test)]
mod tests;
