//! TCP, and what else is a connection.

use super::{NONE, Scenario, Target};

/// To a peer that reads to the end.
const TCP: Scenario = Scenario {
    transport: "tcp",
    peer: &["tcp-sink"],
    ..NONE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "tcp-bulk",
        way: "10 MB, write(2) of 64 KiB",
        generator: &[
            "way", "write", "--bytes", "10000000", "--chunk", "65536", "--to", "{to}",
        ],
        ..TCP
    },
    Scenario {
        name: "tcp-bulk-ipv6",
        way: "10 MB over IPv6, write(2) of 64 KiB",
        to: Target::V6,
        generator: &[
            "way", "write", "--bytes", "10000000", "--chunk", "65536", "--to", "{to}",
        ],
        ..TCP
    },
    Scenario {
        name: "tcp-mapped",
        way: "an IPv6 socket connected to ::ffff:a.b.c.d, write(2)",
        to: Target::Mapped,
        generator: &["way", "write", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "tcp-other-user",
        way: "write(2) by uid 65533",
        user: 65_533,
        generator: &["way", "write", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "tcp-full-duplex",
        way: "both ends write(2) at once; the answering server is watched too",
        generator: &[
            "way", "duplex", "--bytes", "3000000", "--chunk", "16384", "--to", "{to}",
        ],
        peer: &["peer", "send", "--bytes", "2000000"],
        both: true,
        ..TCP
    },
    Scenario {
        name: "tcp-accepted",
        way: "a listening server sends to who connects (SYN-ACK included)",
        server: &["peer", "send", "--bytes", "2000000"],
        peer: &[],
        direction: "accepted",
        ..TCP
    },
    Scenario {
        name: "tcp-accepted-ipv6",
        way: "the same over IPv6",
        to: Target::V6,
        server: &["peer", "send", "--bytes", "2000000"],
        peer: &[],
        direction: "accepted",
        ..TCP
    },
    Scenario {
        name: "tcp-writev",
        way: "writev(2), four parts",
        generator: &["way", "writev", "--chunk", "5000", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "tcp-sendmsg",
        way: "sendmsg(2), two parts",
        generator: &["way", "sendmsg", "--chunk", "5000", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "tcp-sendto",
        way: "sendto(2) on a connected socket",
        generator: &["way", "sendto", "--chunk", "5000", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "tcp-urgent",
        way: "send(2), with urgent data (MSG_OOB)",
        generator: &["way", "urgent", "--bytes", "100000", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "tcp-cork",
        way: "TCP_CORK around write(2) of 37 bytes",
        generator: &[
            "way", "cork", "--bytes", "100000", "--chunk", "37", "--to", "{to}",
        ],
        ..TCP
    },
    Scenario {
        name: "tcp-zerocopy",
        way: "send(2) with MSG_ZEROCOPY",
        generator: &["way", "zerocopy", "--chunk", "32768", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "tcp-sendfile",
        way: "sendfile(2) from a memfd",
        generator: &["way", "sendfile", "--chunk", "65536", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "tcp-splice",
        way: "splice(2) from a pipe",
        generator: &["way", "splice", "--chunk", "4096", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "tcp-ktls",
        way: "kernel TLS 1.2 (AES-128-GCM), send(2)",
        needs: &["ktls"],
        generator: &["way", "ktls", "--chunk", "16384", "--to", "{to}"],
        note: "app bytes are the plain text's, wire bytes those of the records",
        ..TCP
    },
    Scenario {
        name: "uring-send",
        way: "io_uring, IORING_OP_SEND",
        needs: &["uring-send"],
        generator: &["way", "uring-send", "--chunk", "16384", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "uring-sendmsg",
        way: "io_uring, IORING_OP_SENDMSG",
        needs: &["uring-sendmsg"],
        generator: &["way", "uring-sendmsg", "--chunk", "16384", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "uring-send-zc",
        way: "io_uring, IORING_OP_SEND_ZC",
        needs: &["uring-send-zc"],
        generator: &["way", "uring-send-zc", "--chunk", "16384", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "uring-sqpoll",
        way: "io_uring, IORING_OP_SEND by the polling thread",
        needs: &["uring-sqpoll"],
        generator: &["way", "uring-sqpoll", "--chunk", "16384", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "uring-async",
        way: "io_uring, IORING_OP_SEND by a kernel worker",
        needs: &["uring-send"],
        generator: &["way", "uring-async", "--chunk", "16384", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "tcp-drip",
        way: "one byte every 100 ms, 30 times",
        generator: &[
            "way", "drip", "--bytes", "30", "--pause", "100000", "--to", "{to}",
        ],
        ..TCP
    },
    Scenario {
        name: "tcp-10000-connections",
        way: "10,000 connections of one process, 100 bytes each",
        generator: &[
            "way",
            "connections",
            "--count",
            "10000",
            "--bytes",
            "100",
            "--to",
            "{to}",
        ],
        ..TCP
    },
    Scenario {
        name: "tcp-64-threads",
        way: "64 threads, a connection each, as fast as they can",
        generator: &[
            "way", "threads", "--count", "64", "--bytes", "200000", "--chunk", "3000", "--to",
            "{to}",
        ],
        ..TCP
    },
    Scenario {
        name: "tcp-lossy",
        way: "1 of 20 segments is lost on the way",
        lose: 20,
        generator: &[
            "way", "write", "--bytes", "2000000", "--chunk", "16384", "--to", "{to}",
        ],
        note: "retransmitted segments are wire bytes, not app bytes",
        ..TCP
    },
    Scenario {
        name: "tcp-reset",
        way: "write(2) until ECONNRESET and EPIPE",
        generator: &["way", "broken", "--to", "{to}"],
        peer: &["peer", "reset", "--bytes", "20000"],
        ..TCP
    },
    Scenario {
        name: "tcp-would-block",
        way: "non-blocking write(2) to a stalled reader until EAGAIN, three times",
        generator: &["way", "would-block", "--chunk", "10000", "--to", "{to}"],
        peer: &["peer", "stall", "--pause", "500"],
        ..TCP
    },
    Scenario {
        name: "tcp-fast-open",
        way: "data in the SYN (MSG_FASTOPEN)",
        generator: &["way", "fast-open", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "mptcp",
        way: "multipath TCP, one subflow, write(2)",
        needs: &["mptcp"],
        generator: &["way", "mptcp", "--chunk", "16384", "--to", "{to}"],
        peer: &["peer", "mptcp"],
        transport: "",
        note: "app bytes are told of the MPTCP socket, wire bytes of its TCP subflows",
        ..TCP
    },
    Scenario {
        name: "sctp",
        way: "SCTP, one-to-one, send(2)",
        needs: &["sctp"],
        generator: &["way", "sctp", "--to", "{to}"],
        peer: &["peer", "sctp"],
        transport: "sctp",
        ..NONE
    },
    Scenario {
        name: "vsock",
        way: "AF_VSOCK over the loopback transport, write(2)",
        needs: &["vsock"],
        to: Target::Vsock,
        generator: &["way", "vsock", "--to", "{to}"],
        nowhere: true,
        ..NONE
    },
    Scenario {
        name: "tcp-loopback",
        way: "over loopback, write(2)",
        to: Target::Loopback,
        generator: &["way", "write", "--chunk", "16384", "--to", "{to}"],
        note: "told with its own scope, and not at all with `events.loopback = false`",
        ..TCP
    },
    Scenario {
        name: "tcp-before-start",
        way: "connected before the daemon started, write(2) after",
        before: true,
        generator: &["way", "write", "--gate", "--to", "{to}"],
        ..TCP
    },
    Scenario {
        name: "tcp-accepted-before-start",
        way: "accepted before the daemon started, write(2) after",
        before: true,
        server: &["peer", "send", "--bytes", "500000"],
        peer: &[],
        direction: "accepted",
        ..TCP
    },
];
