//! From a slot to a delta.

use egress_common::slot::{AF_INET, KEYED_NO};

use super::*;

#[test]
fn sockets_that_are_not_ip_s_have_transports_of_their_own() {
    let slot = |family, protocol| Slot {
        app_bytes: 0,
        app_calls: 0,
        wire_bytes: 0,
        wire_packets: 0,
        rx_bytes: 0,
        first_ns: 0,
        closed_ns: 0,
        generation: 0,
        owned: YES,
        direction: DIRECTION_INITIATED,
        closed: 0,
        addressed: ADDRESS_NONE,
        cookie: 1,
        start_ns: 1,
        tgid: 2,
        uid: 0,
        saddr: [0; 16],
        daddr: [0; 16],
        sport: [0; 2],
        dport: [0; 2],
        family,
        protocol,
        cgroup_id: 0,
        netns: 0,
        keyed: KEYED_NO,
        sent: 0,
        _pad0: [0; 2],
        exec_id: 0,
        gid: 0,
        loginuid: u32::MAX,
        session_id: u32::MAX,
        comm: [0; 16],
        _pad2: [0; 16],
    };
    let transport = |family, protocol| describe(FlowId(1), &slot(family, protocol)).transport;
    assert_eq!(transport(AF_INET, 6), Transport::TCP);
    assert_eq!(transport(AF_VSOCK, 0), Transport::VSOCK);
    assert_eq!(transport(AF_PACKET, 0), Transport::PACKET);
    // Whose protocol is known.
    assert_eq!(transport(AF_PACKET, 17), Transport::UDP);
    assert_eq!(describe(FlowId(1), &slot(AF_VSOCK, 0)).remote, None);
}
