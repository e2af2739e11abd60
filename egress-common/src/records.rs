//! Records in the rings: what happened to processes and files.
//!
//! Every record begins with a [`Header`]. Exec and file records end in a variable tail of bytes, whose parts
//! follow each other without separators, in the order in which their lengths are listed. Paths come as
//! [components](self#paths).
//!
//! # Paths
//! A path is its components from the leaf to the root, each with a NUL behind it, without slashes: `etc/shadow` is
//! `shadow\0etc\0`. That is the order in which the kernel's dentries lead; user space turns it around.

// With these derived, user space reads records without unsafe code, and a record with implicit padding does not compile.
#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `Header::kind`: [`Fork`].
pub const KIND_FORK: u16 = 1;
/// `Header::kind`: [`Exec`].
pub const KIND_EXEC: u16 = 2;
/// `Header::kind`: [`Exit`].
pub const KIND_EXIT: u16 = 3;
/// `Header::kind`: [`File`].
pub const KIND_FILE: u16 = 4;
/// `Header::kind`: [`Name`].
pub const KIND_NAME: u16 = 5;
/// `Header::kind`: [`Blind`].
pub const KIND_BLIND: u16 = 6;

/// First bytes of every record. The process is the one in whose context the record was made.
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    /// `KIND_*`.
    pub kind: u16,
    /// `FLAG_*`.
    pub flags: u16,
    /// Thread-group id in the initial pid namespace.
    pub tgid: u32,
    /// When.
    pub at_ns: u64,
    /// Start of the thread-group leader.
    pub start_ns: u64,
}

/// `Header::flags`: a part of the tail was cut.
pub const FLAG_TRUNCATED: u16 = 1;
/// `Header::flags`: a part of the tail could not be read from memory.
pub const FLAG_UNREADABLE: u16 = 2;
/// `Header::flags`: the path of the executable lacks its upper end.
pub const FLAG_EXE_CUT: u16 = 4;
/// `Header::flags`: the working directory lacks its upper end.
pub const FLAG_CWD_CUT: u16 = 8;

/// What a file is, without its name.
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileIdentity {
    /// Inode number.
    pub ino: u64,
    /// Size in bytes when observed.
    pub size: u64,
    /// Device, in the kernel's encoding: major in the upper 12 bits, minor in the lower 20 (`include/linux/kdev_t.h`).
    pub dev: u32,
    /// Inode generation.
    pub generation: u32,
    /// `st_mode`: type and permissions.
    pub mode: u32,
    /// Hard links; 0 for a deleted file.
    pub nlink: u32,
}

/// A process was created (`sched_process_fork`, thread-group leaders only). The header is the parent.
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fork {
    /// Header: the parent.
    pub header: Header,
    /// Start of the child.
    pub child_start_ns: u64,
    /// Thread-group id of the child.
    pub child_tgid: u32,
    /// Zero.
    pub _pad: u32,
}

/// A process ended (its last thread, `sched_process_exit`).
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Exit {
    /// Header.
    pub header: Header,
    /// As `wait(2)` gives it: signal in the low 7 bits, status in bits 8-15.
    pub code: u32,
    /// Zero.
    pub _pad: u32,
}

/// Longest tail of an [`Exec`], bytes.
pub const EXEC_TAIL_MAX: usize = 8192;
/// Longest part of an exec tail that is a name or a path, bytes.
pub const EXEC_PATH_MAX: usize = 1024;
/// Longest argv, bytes.
pub const EXEC_ARGS_MAX: usize = 4096;

/// A process executed a program (`sched_process_exec`). Tail: filename, interpreter, executable path, cwd, argv.
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Exec {
    /// Header.
    pub header: Header,
    /// Start of the parent's thread-group leader.
    pub parent_start_ns: u64,
    /// The cgroup v2 id.
    pub cgroup_id: u64,
    /// Thread-group id of the parent.
    pub parent_tgid: u32,
    /// Real user id, initial user namespace.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Who logged in (`audit_get_loginuid`); `u32::MAX` when nobody did.
    pub loginuid: u32,
    /// Audit session; `u32::MAX` when none.
    pub session_id: u32,
    /// Device number of the controlling terminal, as in `/proc/pid/stat` field 7; 0 for none.
    pub tty: u32,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Inode number of the mount namespace.
    pub mntns: u32,
    /// Inode number of the pid namespace.
    pub pidns: u32,
    /// The file that runs (`mm->exe_file`).
    pub exe: FileIdentity,
    /// File descriptors 0, 1 and 2; all zero when closed.
    pub stdio: [FileIdentity; 3],
    /// `comm`, NUL padded.
    pub comm: [u8; 16],
    /// Length of `bprm->filename`: what the caller asked the kernel to run (a script's path, for a script).
    pub filename_len: u16,
    /// Length of `bprm->interp`: what the kernel ran in the end.
    pub interp_len: u16,
    /// Length of the path of `exe`, as components.
    pub exe_path_len: u16,
    /// Length of the working directory, as components.
    pub cwd_len: u16,
    /// Length of argv: arguments, each with a NUL behind it.
    pub args_len: u16,
    /// Zero.
    pub _pad: u16,
    /// Low half of `task_struct.self_exec_id`: which image of the process this is.
    pub exec_id: u32,
}

/// `File::access`: opened for reading (`FMODE_READ`).
pub const ACCESS_READ: u32 = 1;
/// `File::access`: opened for writing (`FMODE_WRITE`).
pub const ACCESS_WRITE: u32 = 2;
/// `File::access`: this open created the file (`FMODE_CREATED`).
pub const ACCESS_CREATE: u32 = 4;

/// Longest path of a [`File`], bytes.
pub const FILE_PATH_MAX: usize = 2048;

/// A file that can hold data was opened. Tail: path, empty when it was told before for the same `(dev, ino, generation, name)`.
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default)]
pub struct File {
    /// Header.
    pub header: Header,
    /// The file.
    pub file: FileIdentity,
    /// Identifies the name under which the file was opened: the same value, the same path.
    pub name_id: u64,
    /// `ACCESS_*`.
    pub access: u32,
    /// Length of the path, as components.
    pub path_len: u16,
    /// Zero.
    pub _pad: u16,
}

/// `Name::what`: a DNS answer over UDP, from its first byte.
pub const NAME_DNS_UDP: u16 = 1;
/// `Name::what`: a piece of a DNS answer over TCP, which begins with a length of two bytes (RFC 1035 4.2.2).
pub const NAME_DNS_TCP: u16 = 2;
/// `Name::what`: a piece of the TLS record that holds a ClientHello (RFC 8446 4.1.2).
pub const NAME_TLS_HELLO: u16 = 3;
/// `Name::what`: a QUIC Initial packet that this host sent (RFC 9000 17.2.2).
pub const NAME_QUIC_INITIAL: u16 = 4;

/// Longest payload of a [`Name`], bytes.
pub const NAME_PAYLOAD_MAX: usize = 4096;

/// The beginning of a payload that tells a name. The header is the owner of the socket's slot (zeros when it has
/// none): packets know no process. Tail: payload, then room that was not needed.
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Name {
    /// Header.
    pub header: Header,
    /// Socket cookie.
    pub cookie: u64,
    /// The owner's cgroup v2 id.
    pub cgroup_id: u64,
    /// Local address, as in [`Slot::saddr`](crate::slot::Slot::saddr).
    pub saddr: [u8; 16],
    /// Remote address.
    pub daddr: [u8; 16],
    /// Inode number of the network namespace; 0 when not known.
    pub netns: u32,
    /// TCP sequence number of the payload's first byte; 0 for datagrams.
    pub seq: u32,
    /// Bytes of the payload in the packet: more than `payload_len` when it was cut.
    pub length: u32,
    /// Local port, network byte order.
    pub sport: [u8; 2],
    /// Remote port, network byte order.
    pub dport: [u8; 2],
    /// `NAME_*`.
    pub what: u16,
    /// Length of the tail.
    pub payload_len: u16,
    /// Zero.
    pub _pad: u32,
}

/// `Blind::what`: an io_uring request; `detail` is its opcode (`IORING_OP_*`, Linux `include/uapi/linux/io_uring.h`).
pub const BLIND_IO_URING: u16 = 1;
/// `Blind::what`: a socket was made; `detail` is its family, `more` its type and protocol (`type << 16 | protocol`).
pub const BLIND_SOCKET: u16 = 2;
/// `Blind::what`: a socket option was set; `detail` is its level, `more` its name.
pub const BLIND_OPTION: u16 = 3;

/// A process uses something that hooks see only in part. Told once a minute for each (process, what, detail).
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Blind {
    /// Header.
    pub header: Header,
    /// `BLIND_*`.
    pub what: u16,
    /// Zero.
    pub _pad: u16,
    /// See there.
    pub detail: u32,
    /// See there.
    pub more: u32,
    /// Inode number of the network namespace.
    pub netns: u32,
}

const _: () = {
    use core::mem::size_of;
    assert!(size_of::<Header>() == 24);
    assert!(size_of::<FileIdentity>() == 32);
    assert!(size_of::<Fork>() == 40);
    assert!(size_of::<Exit>() == 32);
    assert!(size_of::<Exec>() == 24 + 16 + 40 + 4 * 32 + 16 + 16);
    assert!(size_of::<File>() == 24 + 32 + 16);
    assert!(size_of::<Name>() == 24 + 16 + 32 + 24);
    assert!(size_of::<Blind>() == 24 + 16);
    assert!(EXEC_TAIL_MAX >= 4 * EXEC_PATH_MAX + EXEC_ARGS_MAX);
};
