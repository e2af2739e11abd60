//! ICMP, raw IP and frames.

use super::super::PORT;
use super::{NONE, Scenario, Target};

const ICMP: Scenario = Scenario {
    port: 0,
    transport: "icmp",
    ..NONE
};
const FRAMES: Scenario = Scenario {
    transport: "",
    peer: &["udp-sink"],
    nowhere: true,
    note: "packet sockets bypass the IP layer: app bytes are the frames', wire bytes those of the IP packets in them",
    ..NONE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "ping",
        way: "1,000 echo requests of 1,000 bytes, ping socket, sendto(2)",
        needs: &["ping"],
        generator: &["way", "ping", "--to", "{to}"],
        ..ICMP
    },
    Scenario {
        name: "ping-ipv6",
        way: "the same over IPv6",
        needs: &["ping6"],
        to: Target::V6,
        transport: "ipv6-icmp",
        generator: &["way", "ping", "--to", "{to}"],
        ..ICMP
    },
    Scenario {
        name: "ping-connected",
        way: "ping socket, connected to an address with a port, send(2)",
        needs: &["ping"],
        generator: &["way", "ping-connected", "--bytes", "100000", "--to", "{to}"],
        ..ICMP
    },
    Scenario {
        name: "udp-raw",
        way: "UDP made by hand, raw socket connected to another port, send(2)",
        transport: "udp",
        port: PORT,
        generator: &["way", "raw-connected", "--bytes", "100000", "--to", "{to}"],
        peer: &["udp-sink"],
        note: "told with the port in the packet",
        ..ICMP
    },
    Scenario {
        name: "icmp-raw",
        way: "1,000 echo requests of 1,000 bytes, raw socket, sendto(2)",
        generator: &["way", "raw-icmp", "--to", "{to}"],
        ..ICMP
    },
    Scenario {
        name: "icmp-raw-ipv6",
        way: "the same over IPv6",
        to: Target::V6,
        transport: "ipv6-icmp",
        generator: &["way", "raw-icmp", "--to", "{to}"],
        ..ICMP
    },
    Scenario {
        name: "ip-253",
        way: "IP protocol 253, raw socket, sendto(2), one without payload",
        transport: "ip-253",
        generator: &["way", "raw-ip", "--to", "{to}"],
        ..ICMP
    },
    Scenario {
        name: "ip-253-ipv6",
        way: "the same over IPv6",
        to: Target::V6,
        transport: "ip-253",
        generator: &["way", "raw-ip", "--to", "{to}"],
        ..ICMP
    },
    Scenario {
        name: "ip-hdrincl",
        way: "IP protocol 253 with a header of its own (IP_HDRINCL)",
        transport: "ip-255",
        generator: &["way", "hdrincl", "--from", "{from}", "--to", "{to}"],
        note: "told as protocol 255, which is the socket's (IPPROTO_RAW)",
        ..ICMP
    },
    Scenario {
        name: "packet-raw",
        way: "AF_PACKET, SOCK_RAW: whole frames, sendto(2)",
        generator: &[
            "way",
            "packet-raw",
            "--mac",
            "{mac}",
            "--from",
            "{from}",
            "--to",
            "{to}",
        ],
        ..FRAMES
    },
    Scenario {
        name: "packet-dgram",
        way: "AF_PACKET, SOCK_DGRAM: IP packets, sendto(2)",
        generator: &[
            "way",
            "packet-dgram",
            "--mac",
            "{mac}",
            "--from",
            "{from}",
            "--to",
            "{to}",
        ],
        ..FRAMES
    },
    Scenario {
        name: "packet-ring",
        way: "AF_PACKET, transmit ring (TPACKET_V2), send(2)",
        generator: &[
            "way",
            "packet-ring",
            "--mac",
            "{mac}",
            "--from",
            "{from}",
            "--to",
            "{to}",
        ],
        ..FRAMES
    },
];
