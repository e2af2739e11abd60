//! Kinds of processes: the generators are `process.rs` of `egress-gen`, which sends 30,000 bytes first, and 7,000 where
//! there is a second sender. The peer closes when it has all, so that each packet has a full socket to the last.

use super::super::{Setting, Unseen};
use super::{NONE, Scenario, Target};

/// What there is to know of a socket that several use.
const SHARED: &str = "app bytes are judged for each process, wire bytes for the socket in all, see the limits below; one process is \
    told as exact, the other as inherited";
/// The same of a process that becomes another.
const ONE_PROCESS: &str =
    "app bytes are judged for each executable and user, wire bytes for the socket in all";

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
    Scenario {
        name: "process-fork",
        way: "a socket inherited over fork(2): the parent connects, the child sends",
        transport: "tcp",
        generator: &["process", "fork", "--to", "{to}"],
        peer: &["tcp-sink", "--close-after", "30000"],
        attribution: "inherited",
        note: SHARED,
        ..NONE
    },
    Scenario {
        name: "process-turns",
        way: "a socket inherited over fork(2): parent and child send in turns",
        transport: "tcp",
        generator: &["process", "turns", "--to", "{to}"],
        peer: &["tcp-sink", "--close-after", "37000"],
        attribution: "inherited",
        note: SHARED,
        ..NONE
    },
    Scenario {
        name: "process-passed",
        way: "a socket passed over a UNIX socket (SCM_RIGHTS) to the process that sends",
        transport: "tcp",
        generator: &["process", "pass", "--to", "{to}"],
        peer: &["tcp-sink", "--close-after", "30000"],
        attribution: "inherited",
        note: SHARED,
        ..NONE
    },
    Scenario {
        name: "process-thread",
        way: "a thread sends over a socket that another thread connected",
        transport: "tcp",
        generator: &["process", "thread", "--to", "{to}"],
        peer: &["tcp-sink", "--close-after", "30000"],
        ..NONE
    },
    Scenario {
        name: "process-64-threads",
        way: "64 threads, a UDP socket and 100 datagrams each",
        transport: "udp",
        generator: &["process", "threads", "--to", "{to}"],
        peer: &["udp-sink"],
        ..NONE
    },
    Scenario {
        name: "process-exec",
        way: "sends, executes another program (execve(2)), which sends on over the same socket",
        transport: "tcp",
        generator: &["process", "exec", "--to", "{to}", "--exe", "{copy}"],
        peer: &["tcp-sink", "--close-after", "37000"],
        note: ONE_PROCESS,
        ..NONE
    },
    Scenario {
        name: "process-drop-user",
        way: "sends as root, drops its privileges (setresuid(2)), sends on",
        transport: "tcp",
        generator: &["process", "drop-user", "--to", "{to}"],
        peer: &["tcp-sink", "--close-after", "37000"],
        note: ONE_PROCESS,
        ..NONE
    },
    Scenario {
        name: "process-orphan",
        way: "sends when its parent is gone and init has adopted it (double fork)",
        transport: "tcp",
        generator: &["process", "orphan", "--to", "{to}"],
        peer: &["tcp-sink", "--close-after", "30000"],
        note: "its parent is told as the process that made it",
        ..NONE
    },
    Scenario {
        name: "process-daemon",
        way: "the same in a session of its own, as a daemon (setsid(2))",
        transport: "tcp",
        generator: &["process", "daemon", "--to", "{to}"],
        peer: &["tcp-sink", "--close-after", "30000"],
        note: "its parent is told as the process that made it",
        ..NONE
    },
    Scenario {
        name: "process-shared-fds",
        way: "clone(2) with CLONE_FILES: the child connects and sends, the parent sends on",
        transport: "tcp",
        generator: &["process", "share-files", "--to", "{to}"],
        peer: &["tcp-sink", "--close-after", "37000"],
        attribution: "inherited",
        note: SHARED,
        ..NONE
    },
    Scenario {
        name: "process-vfork",
        way: "clone(2) with CLONE_VM and CLONE_VFORK: the child sends, then the parent",
        transport: "tcp",
        generator: &["process", "share-memory", "--to", "{to}"],
        peer: &["tcp-sink", "--close-after", "37000"],
        attribution: "inherited",
        note: SHARED,
        ..NONE
    },
    Scenario {
        name: "process-same-pid",
        way: "two processes with the same id, one after the other",
        transport: "udp",
        generator: &["process", "same-pid", "--to", "{to}"],
        peer: &["udp-sink"],
        ..NONE
    },
    Scenario {
        name: "process-same-pid-inside",
        way: "three processes with the same id in a pid namespace of their own, one after the other",
        transport: "udp",
        generator: &["process", "same-pid-inside", "--to", "{to}"],
        peer: &["udp-sink"],
        ..NONE
    },
    Scenario {
        name: "process-gone",
        way: "100 processes that have ended before the daemon, which is stopped, reads anything",
        transport: "udp",
        generator: &[
            "repeat",
            "--count",
            "100",
            "--",
            "one-packet",
            "--to",
            "{to}",
        ],
        peer: &["udp-sink"],
        setting: Setting::DaemonStopped,
        ..NONE
    },
    Scenario {
        name: "process-killed",
        way: "killed (SIGKILL) in the middle of sending",
        transport: "tcp",
        generator: &[
            "tcp-upload",
            "--bytes",
            "100000000000",
            "--chunk",
            "65536",
            "--pause",
            "1000",
            "--to",
            "{to}",
        ],
        peer: &["tcp-sink"],
        note: "app bytes are what the kernel had accepted: the peer has received them all",
        setting: Setting::Killed,
        unseen: Unseen {
            bytes: 52,
            most: 1,
            what: "the kernel's own acknowledgement in TIME_WAIT",
        },
        ..NONE
    },
    Scenario {
        name: "process-container",
        way: "in a runc container: user, process id and file system of its own",
        transport: "tcp",
        generator: &[
            "tcp-upload",
            "--bytes",
            "30000",
            "--chunk",
            "300",
            "--pause",
            "300000",
            "--wait-close",
            "--to",
            "{to}",
        ],
        peer: &["tcp-sink", "--close-after", "30000"],
        note: "pid and user are the host's, the executable is the path inside; the container has to be told as well",
        needs: &["runc"],
        // Sends for longer than a drain takes: a cgroup's name is looked up by its number, while it is there.
        setting: Setting::Container,
        user: 1000,
        ..NONE
    },
];
