//! Names of maps, globals and programs, as the object file spells them.

/// `BPF_F_MMAPABLE` array of [`Slot`](crate::slot::Slot).
pub const MAP_SLOTS: &str = "SLOTS";
/// `BPF_F_MMAPABLE` array of bytes, one for each slot: set when the slot changed, cleared by user space before it reads.
pub const MAP_ACTIVITY: &str = "ACTIVITY";
/// Stack of free slot numbers; user space refills it.
pub const MAP_FREE_SLOTS: &str = "FREE_SLOTS";
/// Hash from [`FlowKey`](crate::slot::FlowKey) to [`SlotRef`](crate::slot::SlotRef).
pub const MAP_FLOWS: &str = "FLOWS";
/// LRU hash from socket cookies to [`SocketState`](crate::slot::SocketState), where tracing programs have no socket storage.
pub const MAP_SOCKETS_BY_COOKIE: &str = "SOCKETS_BY_COOKIE";
/// Per-CPU array of [`Counter`](crate::counters::Counter), indexed by the constants of [`crate::counters`].
pub const MAP_COUNTERS: &str = "COUNTERS";
/// Ring of process records: fork, exec, exit.
pub const MAP_PROCESS_RING: &str = "PROCESS_RING";
/// Ring of file records.
pub const MAP_FILE_RING: &str = "FILE_RING";
/// Ring of DNS, TLS and QUIC payloads.
pub const MAP_NAME_RING: &str = "NAME_RING";
/// Array of one program, [`PROG_HELLO`].
pub const MAP_HELLO: &str = "HELLO";
/// `BPF_F_MMAPABLE` array of [`Taken`](crate::slot::Taken), one for each slot; user space alone reads and writes it.
pub const MAP_TAKEN: &str = "TAKEN";
/// `BPF_F_MMAPABLE` array of one [`HostState`](crate::state::HostState).
pub const MAP_STATE: &str = "STATE";
/// `BPF_F_MMAPABLE` array of one [`Journal`](crate::state::Journal); user space alone reads and writes it.
pub const MAP_JOURNAL: &str = "JOURNAL";
/// Hash from [`InterfaceKey`](crate::interface::InterfaceKey) to [`InterfaceCell`](crate::interface::InterfaceCell).
pub const MAP_INTERFACES: &str = "INTERFACES";
/// Read-only global: [`Offsets`](crate::offsets::Offsets).
pub const GLOBAL_OFFSETS: &str = "OFFSETS";

/// Read-only global: [`Helpers`](crate::helpers::Helpers).
pub const GLOBAL_HELPERS: &str = "HELPERS";
/// Read-only global, `u32`: `WATCH_*`.
pub const GLOBAL_WATCH: &str = "WATCH";
/// `WATCH`: tell ClientHellos over TCP.
pub const WATCH_TLS: u32 = 1;
/// `WATCH`: tell QUIC Initial packets.
pub const WATCH_QUIC: u32 = 2;

/// Application bytes: `tp_btf/sock_send_length`.
pub const PROG_SEND: &str = "egress_send";
/// Received application bytes: `tp_btf/sock_recv_length`.
pub const PROG_RECV: &str = "egress_recv";
/// Application bytes before 6.3: `fexit/inet_sendmsg`.
pub const PROG_INET_SEND: &str = "egress_send_in4";
/// See [`PROG_INET_SEND`]: `fexit/inet6_sendmsg`.
pub const PROG_INET6_SEND: &str = "egress_send_in6";
/// See [`PROG_INET_SEND`]: `fexit/inet_sendpage`, by which `sendfile` and `splice` sent before 6.5.
pub const PROG_PAGE_SEND: &str = "egress_sendpage";
/// See [`PROG_INET_SEND`]: `fexit/packet_sendmsg`.
pub const PROG_PACKET_SEND: &str = "egress_send_pkt";
/// Received bytes before 6.3: `fexit/inet_recvmsg`.
pub const PROG_INET_RECV: &str = "egress_recv_in4";
/// See [`PROG_INET_RECV`]: `fexit/inet6_recvmsg`.
pub const PROG_INET6_RECV: &str = "egress_recv_in6";
/// Wire bytes: `cgroup_skb/egress`.
pub const PROG_WIRE: &str = "egress_wire";
/// Socket states: `tp_btf/inet_sock_set_state`.
pub const PROG_SOCK_STATE: &str = "egress_state";
/// `cgroup/connect4`.
pub const PROG_CONNECT4: &str = "egress_connect4";
/// `cgroup/connect6`.
pub const PROG_CONNECT6: &str = "egress_connect6";
/// `cgroup/sendmsg4`.
pub const PROG_SENDMSG4: &str = "egress_sendmsg4";
/// `cgroup/sendmsg6`.
pub const PROG_SENDMSG6: &str = "egress_sendmsg6";
/// `cgroup/sock_release`.
pub const PROG_SOCK_RELEASE: &str = "egress_release";
/// `tp_btf/sched_process_fork`.
pub const PROG_FORK: &str = "egress_fork";
/// `tp_btf/sched_process_exec`.
pub const PROG_EXEC: &str = "egress_exec";
/// `tp_btf/sched_process_exit`.
pub const PROG_EXIT: &str = "egress_exit";
/// `tracepoint/syscalls/sys_exit_{open,openat,openat2,creat}`, one program each.
pub const PROG_OPEN: &str = "egress_open";
/// See [`PROG_OPEN`].
pub const PROG_OPENAT: &str = "egress_openat";
/// See [`PROG_OPEN`].
pub const PROG_OPENAT2: &str = "egress_openat2";
/// See [`PROG_OPEN`].
pub const PROG_CREAT: &str = "egress_creat";
/// Link-layer bytes at devices: `tp_btf/net_dev_start_xmit`.
pub const PROG_XMIT: &str = "egress_xmit";
/// DNS answers: `cgroup_skb/ingress`.
pub const PROG_ANSWER: &str = "egress_answer";
/// ClientHellos and QUIC Initials, called from [`PROG_WIRE`] through [`MAP_HELLO`].
pub const PROG_HELLO: &str = "egress_hello";
/// io_uring requests: `tp_btf/io_uring_submit_req`.
pub const PROG_IO_URING: &str = "egress_uring";
/// Sockets that other hooks see only in part: `tracepoint/syscalls/sys_enter_socket`.
pub const PROG_SOCKET: &str = "egress_socket";
/// Packet rings and queue bypass: `tracepoint/syscalls/sys_enter_setsockopt`.
pub const PROG_SOCKOPT: &str = "egress_sockopt";
/// Files: `lsm/file_open`.
pub const PROG_FILE_LSM: &str = "egress_file_lsm";
/// Files: `fentry/security_file_open`.
pub const PROG_FILE_FENTRY: &str = "egress_file_fen";
