//! Where the fields of kernel structures are on this kernel, in bytes.
//!
//! User space fills this from BTF before it loads the programs; they see it as a read-only global, so the verifier
//! takes each value as a constant. [`MISSING`] marks a field that this kernel does not have.

/// A field that this kernel does not have.
pub const MISSING: u32 = u32::MAX;

/// Declares [`Offsets`] together with the table of kernel names, so that the two cannot disagree.
macro_rules! offsets {
    ($($field:ident : $structure:literal . $path:literal $(| $alternative:literal)* , $what:literal;)+) => {
        /// Byte offsets of kernel structure fields.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets {
            $(#[doc = concat!($what, " (`", $structure, ".", $path, "`)")] pub $field: u32,)+
        }

        impl Offsets {
            /// No field known.
            pub const UNKNOWN: Self = Self { $($field: MISSING,)+ };

            /// Every field, with its structure and the paths under which kernels know it, newest first.
            pub const FIELDS: &'static [Field] = &[
                $(Field { name: stringify!($field), structure: $structure, paths: &[$path $(, $alternative)*] },)+
            ];

            /// The fields in the order of [`Self::FIELDS`].
            #[must_use]
            pub fn from_values(value: impl Fn(&Field) -> u32) -> Self {
                let mut fields = Self::FIELDS.iter();
                let mut next = || fields.next().map_or(MISSING, &value);
                Self { $($field: next(),)+ }
            }

            /// Names of the fields that this kernel does not have.
            pub fn missing(&self) -> impl Iterator<Item = &'static str> + '_ {
                [$((stringify!($field), self.$field),)+].into_iter().filter(|(_, value)| *value == MISSING).map(|(name, _)| name)
            }
        }
    };
}

/// One field: what it is called here, and where kernels have it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name in [`Offsets`].
    pub name: &'static str,
    /// Kernel structure.
    pub structure: &'static str,
    /// Member paths (`a.b.c`), newest kernel first; the first that exists is used.
    pub paths: &'static [&'static str],
}

offsets! {
    task_tgid: "task_struct"."tgid", "thread-group id";
    task_pid: "task_struct"."pid", "thread id";
    task_group_leader: "task_struct"."group_leader", "thread-group leader";
    task_real_parent: "task_struct"."real_parent", "parent";
    task_start_boottime: "task_struct"."start_boottime" | "real_start_time", "start; renamed in 5.5";
    task_loginuid: "task_struct"."loginuid", "login uid";
    task_sessionid: "task_struct"."sessionid", "audit session";
    task_cred: "task_struct"."cred", "credentials";
    task_signal: "task_struct"."signal", "shared by the thread group";
    task_files: "task_struct"."files", "open files";
    task_fs: "task_struct"."fs", "working directory";
    task_mm: "task_struct"."mm", "memory";
    task_nsproxy: "task_struct"."nsproxy", "namespaces";
    task_exit_code: "task_struct"."exit_code", "exit code";
    task_self_exec_id: "task_struct"."self_exec_id", "which image; every exec increases it";
    cred_uid: "cred"."uid", "real uid";
    cred_gid: "cred"."gid", "real gid";
    cred_euid: "cred"."euid", "effective uid";
    signal_live: "signal_struct"."live", "live threads";
    signal_tty: "signal_struct"."tty", "controlling terminal";
    signal_group_exit_code: "signal_struct"."group_exit_code", "exit code of the group";
    tty_index: "tty_struct"."index", "terminal number";
    tty_driver: "tty_struct"."driver", "terminal driver";
    tty_driver_major: "tty_driver"."major", "major number";
    tty_driver_minor_start: "tty_driver"."minor_start", "first minor number";
    files_fdt: "files_struct"."fdt", "descriptor table";
    fdtable_fd: "fdtable"."fd", "array of files";
    fdtable_max_fds: "fdtable"."max_fds", "size of that array";
    file_f_path: "file"."f_path", "path of an open file";
    file_f_inode: "file"."f_inode", "inode of an open file";
    file_f_mode: "file"."f_mode", "FMODE bits";
    file_f_flags: "file"."f_flags", "open flags";
    path_mnt: "path"."mnt", "mount";
    path_dentry: "path"."dentry", "name";
    dentry_d_parent: "dentry"."d_parent", "directory";
    dentry_d_name_name: "dentry"."d_name.name", "component";
    dentry_d_name_hash_len: "dentry"."d_name.hash_len", "hash and length";
    mount_mnt: "mount"."mnt", "struct vfsmount within struct mount";
    mount_mnt_parent: "mount"."mnt_parent", "mount that this one is on";
    mount_mnt_mountpoint: "mount"."mnt_mountpoint", "where";
    vfsmount_mnt_root: "vfsmount"."mnt_root", "root of the mount";
    inode_i_ino: "inode"."i_ino", "inode number";
    inode_i_mode: "inode"."i_mode", "type and permissions";
    inode_i_size: "inode"."i_size", "size";
    inode_i_sb: "inode"."i_sb", "super block";
    inode_i_generation: "inode"."i_generation", "generation";
    inode_i_nlink: "inode"."i_nlink" | "__i_nlink", "links";
    sb_s_dev: "super_block"."s_dev", "device";
    sb_s_magic: "super_block"."s_magic", "file system type";
    fs_pwd: "fs_struct"."pwd", "working directory";
    mm_arg_start: "mm_struct"."arg_start", "argv";
    mm_arg_end: "mm_struct"."arg_end", "end of argv";
    mm_exe_file: "mm_struct"."exe_file", "executable";
    bprm_filename: "linux_binprm"."filename", "what was asked for";
    bprm_interp: "linux_binprm"."interp", "what runs";
    nsproxy_net_ns: "nsproxy"."net_ns", "network namespace";
    nsproxy_mnt_ns: "nsproxy"."mnt_ns", "mount namespace";
    net_ns_inum: "net"."ns.inum", "inode number";
    mnt_ns_inum: "mnt_namespace"."ns.inum", "inode number";
    nsproxy_pid_ns: "nsproxy"."pid_ns_for_children", "pid namespace (of the children: the same, but for a process that unshared)";
    pid_ns_inum: "pid_namespace"."ns.inum", "inode number";
    sock_family: "sock"."__sk_common.skc_family", "address family";
    sock_daddr: "sock"."__sk_common.skc_daddr", "remote IPv4 address";
    sock_rcv_saddr: "sock"."__sk_common.skc_rcv_saddr", "local IPv4 address";
    sock_v6_daddr: "sock"."__sk_common.skc_v6_daddr", "remote IPv6 address";
    sock_v6_rcv_saddr: "sock"."__sk_common.skc_v6_rcv_saddr", "local IPv6 address";
    sock_dport: "sock"."__sk_common.skc_dport", "remote port, network order";
    sock_num: "sock"."__sk_common.skc_num", "local port, host order";
    sock_net: "sock"."__sk_common.skc_net.net", "network namespace";
    sock_protocol: "sock"."sk_protocol", "IP protocol";
    sock_type: "sock"."sk_type", "kind: stream, datagram, raw; a bit field before 5.6";
    sock_state: "sock"."__sk_common.skc_state", "TCP state";
    sock_cookie: "sock"."__sk_common.skc_cookie", "socket cookie; 0 until somebody asked for it";
    sock_socket: "sock"."sk_socket", "socket of a process; null once closed";
    socket_sk: "socket"."sk", "the sock of a socket";
    skb_len: "sk_buff"."len", "bytes";
    skb_data_len: "sk_buff"."data_len", "bytes of these that lie in fragments";
    skb_sk: "sk_buff"."sk", "socket";
    skb_head: "sk_buff"."head", "buffer";
    skb_end: "sk_buff"."end", "end of the buffer, where skb_shared_info lies";
    skb_mac_header: "sk_buff"."mac_header", "link-layer header";
    skb_network_header: "sk_buff"."network_header", "network header";
    skb_transport_header: "sk_buff"."transport_header", "transport header";
    skb_protocol: "sk_buff"."protocol", "EtherType, network order";
    skb_iif: "sk_buff"."skb_iif", "device that it came in by";
    shinfo_gso_size: "skb_shared_info"."gso_size", "payload of a segment";
    shinfo_gso_segs: "skb_shared_info"."gso_segs", "segments";
    dev_ifindex: "net_device"."ifindex", "interface index";
    dev_type: "net_device"."type", "ARPHRD type";
    dev_lower: "net_device"."adj_list.lower", "devices below this one (a bridge's ports)";
    dev_net: "net_device"."nd_net.net", "network namespace";
    kiocb_opcode: "io_kiocb"."opcode", "io_uring opcode";
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, u32 only; any bit pattern is valid.
unsafe impl aya::Pod for Offsets {}
