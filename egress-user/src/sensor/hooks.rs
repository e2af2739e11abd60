//! The features: what is observed, by which methods, and what is lost without it.
//!
//! A feature has its methods in order, the best first; [`super::plan`] chooses one for the running kernel. A method is
//! one program or several, each attached to one place. A new feature is a row in [`FEATURES`], a new method a row in its
//! feature, and a program of that name in the object.

use egress_common::names;

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attach {
    /// `tp_btf/NAME`: a tracepoint with arguments that the verifier knows.
    BtfTracepoint(&'static str),
    /// `tracepoint/syscalls/NAME`.
    SyscallTracepoint(&'static str),
    /// `fexit/NAME`: a kernel function's return, with its arguments.
    Fexit(&'static str),
    /// `fentry/NAME`: a kernel function's call.
    Fentry(&'static str),
    /// `lsm/NAME`: a hook of the security modules.
    Lsm(&'static str),
    /// `cgroup_skb/egress` at the cgroup2 root.
    CgroupSkbEgress,
    /// `cgroup/NAME` at the cgroup2 root.
    CgroupSockAddr(&'static str),
    /// `cgroup/sock_release` at the cgroup2 root.
    CgroupSockRelease,
}

impl std::fmt::Display for Attach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BtfTracepoint(name) => write!(f, "tp_btf/{name}"),
            Self::SyscallTracepoint(name) => write!(f, "tracepoint/syscalls/{name}"),
            Self::Fexit(name) => write!(f, "fexit/{name}"),
            Self::Fentry(name) => write!(f, "fentry/{name}"),
            Self::Lsm(name) => write!(f, "lsm/{name}"),
            Self::CgroupSkbEgress => f.write_str("cgroup_skb/egress"),
            Self::CgroupSockAddr(name) => write!(f, "cgroup/{name}"),
            Self::CgroupSockRelease => f.write_str("cgroup/sock_release"),
        }
    }
}

/// One program of a method.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The program in the object.
    pub program: &'static str,
    /// Where it is attached.
    pub attach: Attach,
    /// Some kernels do not have this place, because nothing can happen there: `open(2)` on arm64, `inet_sendpage` since 6.5.
    pub optional: bool,
}

/// One way to observe a feature.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// What it is called in `doctor`, in metrics and by `--method`.
    pub name: &'static str,
    /// Its programs, in the order in which they are attached.
    pub parts: &'static [Part],
    /// Kernel fields without which the programs are refused.
    pub needs: &'static [&'static str],
    /// What it does not see, where another method of the feature does.
    pub misses: Option<&'static str>,
}

impl Method {
    /// Where its programs are attached, in short.
    #[must_use]
    pub fn places(&self) -> String {
        let all: Vec<_> = self
            .parts
            .iter()
            .map(|part| part.attach.to_string())
            .collect();
        let [first, .., _] = all.as_slice() else {
            return all.concat();
        };
        let common = first.rfind('/').map_or(0, |slash| slash + 1);
        let names: Vec<_> = all.iter().filter_map(|place| place.get(common..)).collect();
        let prefix = first.get(..common).unwrap_or_default();
        format!("{prefix}{{{}}}", names.join(","))
    }
}

/// One thing that is observed.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Its name in `doctor`, metrics and configuration.
    pub name: &'static str,
    /// How, the best first.
    pub methods: &'static [Method],
    /// What is lost without it.
    pub gives: &'static str,
    /// Without any of these, there is nothing to run for.
    pub essential: bool,
}

const fn part(program: &'static str, attach: Attach) -> Part {
    Part {
        program,
        attach,
        optional: false,
    }
}

const fn optional(program: &'static str, attach: Attach) -> Part {
    Part {
        program,
        attach,
        optional: true,
    }
}

const fn method(
    name: &'static str,
    parts: &'static [Part],
    needs: &'static [&'static str],
) -> Method {
    Method {
        name,
        parts,
        needs,
        misses: None,
    }
}

const fn feature(name: &'static str, gives: &'static str, methods: &'static [Method]) -> Feature {
    Feature {
        name,
        methods,
        gives,
        essential: false,
    }
}

/// Who runs: a program that asks is refused without these.
const CURRENT: &[&str] = &[
    "task_group_leader",
    "task_start_boottime",
    "task_self_exec_id",
];
const SOCKET: &[&str] = &[
    "task_group_leader",
    "task_start_boottime",
    "task_self_exec_id",
    "sock_family",
    "sock_protocol",
    "sock_net",
    "net_ns_inum",
    "sock_dport",
    "sock_daddr",
    "sock_v6_daddr",
    "sock_cookie",
];
const CALL: &[&str] = &[
    "task_group_leader",
    "task_start_boottime",
    "task_self_exec_id",
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
const STATE: &[&str] = &[
    "task_group_leader",
    "task_start_boottime",
    "task_self_exec_id",
    "sock_family",
    "sock_protocol",
    "sock_net",
    "net_ns_inum",
    "sock_num",
    "sock_cookie",
];
const PROCESS: &[&str] = &[
    "task_group_leader",
    "task_start_boottime",
    "task_tgid",
    "task_pid",
];
const EXIT: &[&str] = &[
    "task_group_leader",
    "task_start_boottime",
    "task_tgid",
    "task_signal",
    "task_exit_code",
];

/// Every feature, in the order in which they are attached: who is told before what they send.
pub const FEATURES: &[Feature] = &[
    feature(
        "fork",
        "process tree",
        &[method(
            "tp_btf",
            &[part(
                names::PROG_FORK,
                Attach::BtfTracepoint("sched_process_fork"),
            )],
            PROCESS,
        )],
    ),
    feature(
        "exec",
        "executables, arguments, users, sessions, containers",
        &[method(
            "tp_btf",
            &[part(
                names::PROG_EXEC,
                Attach::BtfTracepoint("sched_process_exec"),
            )],
            PROCESS,
        )],
    ),
    feature(
        "exit",
        "ends of processes",
        &[method(
            "tp_btf",
            &[part(
                names::PROG_EXIT,
                Attach::BtfTracepoint("sched_process_exit"),
            )],
            EXIT,
        )],
    ),
    feature(
        "connect4",
        "owner of the first packets and direction, IPv4",
        &[method(
            "cgroup",
            &[part(
                names::PROG_CONNECT4,
                Attach::CgroupSockAddr("connect4"),
            )],
            CURRENT,
        )],
    ),
    feature(
        "connect6",
        "owner of the first packets and direction, IPv6",
        &[method(
            "cgroup",
            &[part(
                names::PROG_CONNECT6,
                Attach::CgroupSockAddr("connect6"),
            )],
            CURRENT,
        )],
    ),
    feature(
        "sendmsg4",
        "destinations of unconnected UDP sends, IPv4",
        &[method(
            "cgroup",
            &[part(
                names::PROG_SENDMSG4,
                Attach::CgroupSockAddr("sendmsg4"),
            )],
            CURRENT,
        )],
    ),
    feature(
        "sendmsg6",
        "destinations of unconnected UDP sends, IPv6",
        &[method(
            "cgroup",
            &[part(
                names::PROG_SENDMSG6,
                Attach::CgroupSockAddr("sendmsg6"),
            )],
            CURRENT,
        )],
    ),
    feature(
        "sock_release",
        "ends of UDP and raw sockets at once, not by age",
        &[method(
            "cgroup",
            &[part(names::PROG_SOCK_RELEASE, Attach::CgroupSockRelease)],
            &[],
        )],
    ),
    feature(
        "socket_state",
        "ends of TCP connections, accepted connections, listeners",
        &[method(
            "tp_btf",
            &[part(
                names::PROG_SOCK_STATE,
                Attach::BtfTracepoint("inet_sock_set_state"),
            )],
            STATE,
        )],
    ),
    Feature {
        essential: true,
        ..feature(
            "send",
            "application bytes by process",
            &[
                method(
                    "tp_btf",
                    &[part(
                        names::PROG_SEND,
                        Attach::BtfTracepoint("sock_send_length"),
                    )],
                    SOCKET,
                ),
                Method {
                    misses: Some(
                        "sends on AF_VSOCK sockets, on packet sockets where they are a module, and zero-copy sends by sendfile of raw sockets",
                    ),
                    ..method(
                        "fexit",
                        &[
                            part(names::PROG_INET_SEND, Attach::Fexit("inet_sendmsg")),
                            part(names::PROG_INET6_SEND, Attach::Fexit("inet6_sendmsg")),
                            optional(names::PROG_PAGE_SEND, Attach::Fexit("inet_sendpage")),
                            optional(names::PROG_PACKET_SEND, Attach::Fexit("packet_sendmsg")),
                        ],
                        CALL,
                    )
                },
            ],
        )
    },
    feature(
        "recv",
        "received bytes, so the up/down ratio",
        &[
            method(
                "tp_btf",
                &[part(
                    names::PROG_RECV,
                    Attach::BtfTracepoint("sock_recv_length"),
                )],
                SOCKET,
            ),
            method(
                "fexit",
                &[
                    part(names::PROG_INET_RECV, Attach::Fexit("inet_recvmsg")),
                    part(names::PROG_INET6_RECV, Attach::Fexit("inet6_recvmsg")),
                ],
                CALL,
            ),
        ],
    ),
    Feature {
        essential: true,
        ..feature(
            "wire",
            "wire bytes and packets by socket",
            &[method(
                "cgroup",
                &[part(names::PROG_WIRE, Attach::CgroupSkbEgress)],
                &[],
            )],
        )
    },
    feature(
        "files",
        "files opened, by process",
        &[
            method(
                "lsm",
                &[part(names::PROG_FILE_LSM, Attach::Lsm("file_open"))],
                CURRENT,
            ),
            method(
                "fentry",
                &[part(
                    names::PROG_FILE_FENTRY,
                    Attach::Fentry("security_file_open"),
                )],
                CURRENT,
            ),
            Method {
                misses: Some("files opened by io_uring, by 32-bit programs, and by handle"),
                ..method(
                    "tracepoint",
                    &[
                        optional(names::PROG_OPEN, Attach::SyscallTracepoint("sys_exit_open")),
                        part(
                            names::PROG_OPENAT,
                            Attach::SyscallTracepoint("sys_exit_openat"),
                        ),
                        optional(
                            names::PROG_OPENAT2,
                            Attach::SyscallTracepoint("sys_exit_openat2"),
                        ),
                        optional(
                            names::PROG_CREAT,
                            Attach::SyscallTracepoint("sys_exit_creat"),
                        ),
                    ],
                    CURRENT,
                )
            },
        ],
    ),
];

/// The feature with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use egress_common::offsets::Offsets;

    #[test]
    fn every_needed_field_is_in_the_table_and_names_are_unique() {
        let methods = || FEATURES.iter().flat_map(|feature| feature.methods);
        for method in methods() {
            for field in method.needs {
                assert!(
                    Offsets::FIELDS.iter().any(|known| known.name == *field),
                    "{}: {field}",
                    method.name
                );
            }
        }
        let programs: Vec<_> = methods()
            .flat_map(|method| method.parts)
            .map(|part| part.program)
            .collect();
        for program in &programs {
            assert_eq!(
                programs.iter().filter(|other| *other == program).count(),
                1,
                "{program}"
            );
            assert!(
                program.len() < 16,
                "{program}: the kernel cuts program names at 15 bytes"
            );
        }
        for feature in FEATURES {
            assert_eq!(
                FEATURES
                    .iter()
                    .filter(|other| other.name == feature.name)
                    .count(),
                1
            );
            for method in feature.methods {
                assert!(
                    method.parts.iter().any(|part| !part.optional),
                    "{}: a method stands on one place at least",
                    feature.name
                );
            }
        }
    }
}
