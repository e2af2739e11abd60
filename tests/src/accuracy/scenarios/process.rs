//! Kinds of processes.

use super::super::Unseen;
use super::{NONE, Scenario, Target};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "process-1000-datagrams",
        way: "1,000 processes, one datagram each",
        transport: "udp",
        generator: &[
            "repeat",
            "--count",
            "1000",
            "--",
            "one-packet",
            "--to",
            "{to}",
        ],
        peer: &["udp-sink"],
        ..NONE
    },
    Scenario {
        name: "process-1000-connections",
        way: "1,000 processes, one connection each, over IPv6",
        to: Target::V6,
        transport: "tcp",
        generator: &[
            "repeat", "--count", "1000", "--", "way", "write", "--bytes", "100", "--to", "{to}",
        ],
        peer: &["tcp-sink"],
        ..NONE
    },
    Scenario {
        name: "process-closes-first",
        way: "200 processes that close without waiting for the peer",
        transport: "tcp",
        generator: &[
            "repeat",
            "--count",
            "200",
            "--",
            "tcp-upload",
            "--bytes",
            "100",
            "--to",
            "{to}",
        ],
        peer: &["tcp-sink"],
        // IPv4 and TCP headers with timestamps, once a connection.
        unseen: Unseen {
            bytes: 52,
            most: 200,
            what: "the kernel's own acknowledgements in TIME_WAIT",
        },
        ..NONE
    },
];
