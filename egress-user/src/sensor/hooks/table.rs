//! The table of hooks.

use egress_common::names;

use super::{Hook, Method};

/// Who runs: a program that asks is refused without these.
const CURRENT: [&str; 3] = [
    "task_group_leader",
    "task_start_boottime",
    "task_self_exec_id",
];

const SOCKET: &[&str] = &[
    CURRENT[0],
    CURRENT[1],
    CURRENT[2],
    "sock_family",
    "sock_protocol",
    "sock_net",
    "net_ns_inum",
    "sock_dport",
    "sock_daddr",
    "sock_v6_daddr",
    "sock_type",
];

const XMIT: &[&str] = &[
    "skb_len",
    "skb_data_len",
    "skb_sk",
    "skb_head",
    "skb_end",
    "skb_mac_header",
    "skb_network_header",
    "skb_transport_header",
    "skb_protocol",
    "skb_iif",
    "shinfo_gso_segs",
    "dev_ifindex",
    "dev_type",
    "dev_net",
    "dev_lower",
    "net_ns_inum",
    "sock_family",
    "sock_state",
    "sock_protocol",
    "sock_net",
    "sock_cookie",
    "sock_socket",
    "socket_sk",
];

const CALL: &[&str] = &[
    CURRENT[0],
    CURRENT[1],
    CURRENT[2],
    "socket_sk",
    "sock_family",
    "sock_protocol",
    "sock_net",
    "net_ns_inum",
    "sock_dport",
    "sock_daddr",
    "sock_v6_daddr",
    "sock_cookie",
];

const PROCESS: &[&str] = &[CURRENT[0], CURRENT[1], "task_tgid", "task_pid"];

const fn hook(
    name: &'static str,
    program: &'static str,
    method: Method,
    needs: &'static [&'static str],
    gives: &'static str,
) -> Hook {
    Hook {
        name,
        feature: name,
        program,
        method,
        needs,
        gives,
        essential: false,
        optional: false,
    }
}

/// The hook that sees what leaves through each device.
pub const INTERFACE: &str = "interface";

/// Every hook, in the order in which they are attached: who is told before what they send.
pub const HOOKS: &[Hook] = &[
    hook(
        "fork",
        names::PROG_FORK,
        Method::BtfTracepoint("sched_process_fork"),
        PROCESS,
        "process tree",
    ),
    hook(
        "exec",
        names::PROG_EXEC,
        Method::BtfTracepoint("sched_process_exec"),
        PROCESS,
        "executables, arguments, users, sessions, containers",
    ),
    hook(
        "exit",
        names::PROG_EXIT,
        Method::BtfTracepoint("sched_process_exit"),
        &[
            CURRENT[0],
            CURRENT[1],
            "task_tgid",
            "task_signal",
            "task_exit_code",
        ],
        "ends of processes",
    ),
    hook(
        "connect4",
        names::PROG_CONNECT4,
        Method::CgroupSockAddr("connect4"),
        &CURRENT,
        "owner of the first packets and direction, IPv4",
    ),
    hook(
        "connect6",
        names::PROG_CONNECT6,
        Method::CgroupSockAddr("connect6"),
        &CURRENT,
        "owner of the first packets and direction, IPv6",
    ),
    hook(
        "sendmsg4",
        names::PROG_SENDMSG4,
        Method::CgroupSockAddr("sendmsg4"),
        &CURRENT,
        "destinations of unconnected UDP sends, IPv4",
    ),
    hook(
        "sendmsg6",
        names::PROG_SENDMSG6,
        Method::CgroupSockAddr("sendmsg6"),
        &CURRENT,
        "destinations of unconnected UDP sends, IPv6",
    ),
    hook(
        "sock_release",
        names::PROG_SOCK_RELEASE,
        Method::CgroupSockRelease,
        &[],
        "ends of UDP and raw sockets at once, not by age",
    ),
    hook(
        "socket_state",
        names::PROG_SOCK_STATE,
        Method::BtfTracepoint("inet_sock_set_state"),
        &[
            CURRENT[0],
            CURRENT[1],
            CURRENT[2],
            "sock_family",
            "sock_protocol",
            "sock_net",
            "net_ns_inum",
            "sock_num",
        ],
        "ends of TCP connections, accepted connections, listeners",
    ),
    Hook {
        essential: true,
        ..hook(
            "send",
            names::PROG_SEND,
            Method::BtfTracepoint("sock_send_length"),
            SOCKET,
            "application bytes by process",
        )
    },
    Hook {
        feature: "send",
        essential: true,
        ..hook(
            "send_inet",
            names::PROG_INET_SEND,
            Method::Fexit("inet_sendmsg"),
            CALL,
            "application bytes by process, IPv4",
        )
    },
    Hook {
        feature: "send",
        essential: true,
        ..hook(
            "send_inet6",
            names::PROG_INET6_SEND,
            Method::Fexit("inet6_sendmsg"),
            CALL,
            "application bytes by process, IPv6",
        )
    },
    Hook {
        feature: "send",
        optional: true,
        ..hook(
            "send_page",
            names::PROG_PAGE_SEND,
            Method::Fexit("inet_sendpage"),
            CALL,
            "application bytes of sendfile and splice, by process",
        )
    },
    Hook {
        feature: "send",
        optional: true,
        ..hook(
            "send_packet",
            names::PROG_PACKET_SEND,
            Method::Fexit("packet_sendmsg"),
            CALL,
            "application bytes of packet sockets, by process",
        )
    },
    hook(
        "recv",
        names::PROG_RECV,
        Method::BtfTracepoint("sock_recv_length"),
        SOCKET,
        "received bytes, so the up/down ratio",
    ),
    Hook {
        feature: "recv",
        ..hook(
            "recv_inet",
            names::PROG_INET_RECV,
            Method::Fexit("inet_recvmsg"),
            CALL,
            "received bytes, so the up/down ratio, IPv4",
        )
    },
    Hook {
        feature: "recv",
        ..hook(
            "recv_inet6",
            names::PROG_INET6_RECV,
            Method::Fexit("inet6_recvmsg"),
            CALL,
            "received bytes, so the up/down ratio, IPv6",
        )
    },
    Hook {
        essential: true,
        ..hook(
            "wire",
            names::PROG_WIRE,
            Method::CgroupSkbEgress,
            &[],
            "wire bytes and packets by socket",
        )
    },
    hook(
        INTERFACE,
        names::PROG_XMIT,
        Method::BtfTracepoint("net_dev_start_xmit"),
        XMIT,
        "what leaves through each device, packet sockets' wire bytes, headers of IP fragments",
    ),
    hook(
        "dns_answers",
        names::PROG_ANSWER,
        Method::CgroupSkbIngress,
        &[],
        "names of destinations from DNS answers",
    ),
    hook(
        "hellos",
        names::PROG_HELLO,
        Method::TailCall(names::MAP_HELLO),
        &[],
        "names of destinations from TLS and QUIC",
    ),
    Hook {
        feature: "files",
        ..hook(
            "file_open",
            names::PROG_FILE_LSM,
            Method::Lsm("file_open"),
            &CURRENT,
            "files opened, whoever asked",
        )
    },
    Hook {
        feature: "files",
        ..hook(
            "file_open_call",
            names::PROG_FILE_FENTRY,
            Method::Fentry("security_file_open"),
            &CURRENT,
            "files opened, whoever asked",
        )
    },
    Hook {
        feature: "files",
        optional: true,
        ..hook(
            "open",
            names::PROG_OPEN,
            Method::SyscallTracepoint("sys_exit_open"),
            &CURRENT,
            "files opened by open(2)",
        )
    },
    Hook {
        feature: "files",
        ..hook(
            "openat",
            names::PROG_OPENAT,
            Method::SyscallTracepoint("sys_exit_openat"),
            &CURRENT,
            "files opened by openat(2)",
        )
    },
    Hook {
        feature: "files",
        optional: true,
        ..hook(
            "openat2",
            names::PROG_OPENAT2,
            Method::SyscallTracepoint("sys_exit_openat2"),
            &CURRENT,
            "files opened by openat2(2)",
        )
    },
    Hook {
        feature: "files",
        optional: true,
        ..hook(
            "creat",
            names::PROG_CREAT,
            Method::SyscallTracepoint("sys_exit_creat"),
            &CURRENT,
            "files opened by creat(2)",
        )
    },
    hook(
        "io_uring",
        names::PROG_IO_URING,
        Method::BtfTracepoint("io_uring_submit_req"),
        &[CURRENT[0], CURRENT[1], CURRENT[2], "kiocb_opcode"],
        "who uses io_uring operations that other hooks do not see",
    ),
    hook(
        "socket",
        names::PROG_SOCKET,
        Method::SyscallTracepoint("sys_enter_socket"),
        &CURRENT,
        "who makes packet, XDP, raw and vsock sockets",
    ),
    hook(
        "sockopt",
        names::PROG_SOCKOPT,
        Method::SyscallTracepoint("sys_enter_setsockopt"),
        &CURRENT,
        "who uses packet and XDP rings, or bypasses queues",
    ),
];
