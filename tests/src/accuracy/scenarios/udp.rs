//! UDP and UDP-Lite.

use super::super::Unseen;
use super::{NONE, Scenario, Target};

const UDP: Scenario = Scenario {
    transport: "udp",
    peer: &["udp-sink"],
    ..NONE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "udp-bulk",
        way: "10 MB, send(2) of 1,400 bytes, connected",
        generator: &[
            "way", "udp-send", "--bytes", "10000000", "--chunk", "1400", "--to", "{to}",
        ],
        ..UDP
    },
    Scenario {
        name: "udp-bulk-ipv6",
        way: "10 MB over IPv6, send(2) of 1,400 bytes, connected",
        to: Target::V6,
        generator: &[
            "way", "udp-send", "--bytes", "10000000", "--chunk", "1400", "--to", "{to}",
        ],
        ..UDP
    },
    Scenario {
        name: "udp-443",
        way: "to port 443, send(2) of 1,200 bytes",
        port: 443,
        generator: &["way", "udp-send", "--chunk", "1200", "--to", "{to}"],
        ..UDP
    },
    Scenario {
        name: "udp-53",
        way: "50,000 datagrams of 32 bytes to port 53, sendto(2)",
        port: 53,
        generator: &[
            "way",
            "udp-sendto",
            "--bytes",
            "1600000",
            "--chunk",
            "32",
            "--pause",
            "200",
            "--to",
            "{to}",
        ],
        ..UDP
    },
    Scenario {
        name: "udp-sendto",
        way: "sendto(2), not connected",
        generator: &["way", "udp-sendto", "--to", "{to}"],
        ..UDP
    },
    Scenario {
        name: "udp-sendto-ipv6",
        way: "sendto(2) over IPv6, not connected",
        to: Target::V6,
        generator: &["way", "udp-sendto", "--to", "{to}"],
        ..UDP
    },
    Scenario {
        name: "udp-mapped",
        way: "an IPv6 socket to ::ffff:a.b.c.d, send(2)",
        to: Target::Mapped,
        generator: &["way", "udp-send", "--to", "{to}"],
        ..UDP
    },
    Scenario {
        name: "udp-mapped-sendto",
        way: "an IPv6 socket to ::ffff:a.b.c.d, sendto(2)",
        to: Target::Mapped,
        generator: &["way", "udp-sendto", "--to", "{to}"],
        ..UDP
    },
    Scenario {
        name: "udp-sendmmsg",
        way: "sendmmsg(2), three datagrams a call",
        generator: &["way", "udp-sendmmsg", "--to", "{to}"],
        ..UDP
    },
    Scenario {
        name: "udp-gso",
        way: "UDP_SEGMENT, ten datagrams a call",
        generator: &[
            "way", "udp-gso", "--chunk", "10000", "--pause", "3000", "--to", "{to}",
        ],
        ..UDP
    },
    Scenario {
        name: "udp-gso-ipv6",
        way: "UDP_SEGMENT over IPv6, ten datagrams a call, the last one shorter",
        to: Target::V6,
        generator: &[
            "way", "udp-gso", "--chunk", "9500", "--pause", "3000", "--to", "{to}",
        ],
        ..UDP
    },
    Scenario {
        name: "udp-more",
        way: "MSG_MORE, four calls of sendto(2) a datagram",
        generator: &["way", "udp-more", "--bytes", "100000", "--to", "{to}"],
        ..UDP
    },
    Scenario {
        name: "udp-cork",
        way: "UDP_CORK, four calls a datagram",
        generator: &["way", "udp-cork", "--bytes", "100000", "--to", "{to}"],
        ..UDP
    },
    Scenario {
        name: "udp-empty",
        way: "datagrams without payload",
        generator: &["way", "udp-empty", "--to", "{to}"],
        ..UDP
    },
    Scenario {
        name: "udp-large",
        way: "sendto(2) of 8,000 bytes, larger than the MTU",
        generator: &[
            "way",
            "udp-sendto",
            "--chunk",
            "8000",
            "--pause",
            "3000",
            "--to",
            "{to}",
        ],
        // 125 datagrams in six fragments: five more headers each.
        unseen: Unseen {
            bytes: 125 * 5 * 20,
            most: 1,
            what: "headers of fragments, which are cut below the hook",
        },
        ..UDP
    },
    Scenario {
        name: "udp-large-ipv6",
        way: "sendto(2) over IPv6 of 8,000 bytes, larger than the MTU",
        to: Target::V6,
        generator: &[
            "way",
            "udp-sendto",
            "--chunk",
            "8000",
            "--pause",
            "3000",
            "--to",
            "{to}",
        ],
        // Five more headers each, and a fragment header in each of the six.
        unseen: Unseen {
            bytes: 125 * (5 * 40 + 6 * 8),
            most: 1,
            what: "headers of fragments, which are cut below the hook",
        },
        ..UDP
    },
    Scenario {
        name: "udp-reconnect",
        way: "one socket connected to two destinations in turn",
        generator: &[
            "way",
            "udp-reconnect",
            "--bytes",
            "100000",
            "--and",
            "{next}",
            "--to",
            "{to}",
        ],
        ..UDP
    },
    Scenario {
        name: "udp-failed",
        way: "sendto(2) that fails (EMSGSIZE), then connected elsewhere",
        generator: &["way", "udp-failed", "--and", "{next}", "--to", "{to}"],
        ..UDP
    },
    Scenario {
        name: "udp-multicast",
        way: "to a group, sendto(2)",
        to: Target::Multicast4,
        generator: &[
            "way",
            "udp-sendto",
            "--bytes",
            "100000",
            "--from",
            "{from}",
            "--to",
            "{to}",
        ],
        peer: &[],
        ..UDP
    },
    Scenario {
        name: "udp-multicast-ipv6",
        way: "to a group over IPv6, sendto(2)",
        to: Target::Multicast6,
        generator: &[
            "way",
            "udp-sendto",
            "--bytes",
            "100000",
            "--from",
            "{from}",
            "--to",
            "{to}",
        ],
        peer: &[],
        ..UDP
    },
    Scenario {
        name: "udp-broadcast",
        way: "to 255.255.255.255, sendto(2)",
        to: Target::Broadcast,
        generator: &[
            "way",
            "udp-sendto",
            "--bytes",
            "100000",
            "--from",
            "{from}",
            "--to",
            "{to}",
        ],
        peer: &[],
        ..UDP
    },
    Scenario {
        name: "udp-lite",
        way: "UDP-Lite, sendto(2)",
        needs: &["udp-lite"],
        transport: "ip-136",
        generator: &["way", "udp-lite", "--bytes", "100000", "--to", "{to}"],
        peer: &[],
        ..UDP
    },
    Scenario {
        name: "udp-loopback",
        way: "over loopback, sendto(2)",
        to: Target::Loopback,
        generator: &["way", "udp-sendto", "--to", "{to}"],
        peer: &["udp-sink"],
        ..UDP
    },
    Scenario {
        name: "udp-before-start",
        way: "connected before the daemon started, send(2) after",
        before: true,
        generator: &["way", "udp-send", "--gate", "--to", "{to}"],
        ..UDP
    },
];
