//! What the sensor saw: the input of everything behind it.

use std::net::SocketAddr;

use super::{
    BlindUse, BootTime, FileAccess, FileRef, FlowDelta, Identity, NamePayload, ProcessKey, Text,
};

/// One thing that happened, and when.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When. Observations arrive in the order of this.
    pub at: BootTime,
    /// What.
    pub event: Event,
}

/// What happened.
#[expect(
    clippy::large_enum_variant,
    reason = "flows are most of what a drain tells, and a box for each would be an allocation for each"
)]
#[derive(Clone, Debug)]
pub enum Event {
    /// A process was made. It is a copy of its parent until it executes something.
    Fork {
        /// By whom.
        parent: ProcessKey,
        /// Which.
        child: ProcessKey,
    },
    /// A process executed a program, or was there before us.
    Exec(Box<Exec>),
    /// A process ended.
    Exit {
        /// Which.
        process: ProcessKey,
        /// As `wait(2)` gives it.
        code: u32,
    },
    /// A process opened a file.
    File(FileAccess),
    /// A process uses what hooks see only in part.
    Blind(BlindUse),
    /// A socket that was there before us belongs to a process.
    SocketOwner(SocketOwner),
    /// A packet told a name.
    Name(Box<NamePayload>),
    /// Bytes moved.
    Flow(FlowDelta),
    /// Time passed: the end of one drain of the kernel's buffers. Everything up to `at` has been told.
    Tick,
}

/// How an exec is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel told it as it happened.
    Kernel,
    /// Read from `/proc`: exact but for `ProcessKey::start_ns`, which is cut to the clock tick (10 ms), and older than `Observation::at`.
    Proc,
}

/// A process image.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Which process.
    pub process: ProcessKey,
    /// Its parent.
    pub parent: ProcessKey,
    /// How known.
    pub origin: Origin,
    /// Which image of the process ([`Process::exec_id`](super::Process::exec_id)); `None` from `/proc`.
    pub exec_id: Option<u32>,
    /// The file that runs.
    pub executable: FileRef,
    /// What the caller asked the kernel to run: for a script, the script (`bprm->filename`). Empty from `/proc`.
    pub filename: Text,
    /// What the kernel ran in the end: for a script, the interpreter (`bprm->interp`). Empty from `/proc`.
    pub interpreter: Text,
    /// `comm`.
    pub name: Text,
    /// argv.
    pub args: Vec<Text>,
    /// Something was cut at the record's limit.
    pub truncated: bool,
    /// Working directory.
    pub cwd: Text,
    /// For whom.
    pub identity: Identity,
    /// cgroup v2 id.
    pub cgroup_id: u64,
    /// Path below the cgroup2 root, empty when not known.
    pub cgroup_path: Text,
    /// Its distinct paths in cgroup v1 hierarchies, other than their roots. `None` when they were not read: the host has no
    /// such hierarchies, or the process had ended.
    pub cgroup_v1: Option<Vec<Text>>,
    /// Network namespace.
    pub netns: u32,
    /// Mount namespace.
    pub mntns: u32,
    /// Pid namespace.
    pub pidns: u32,
    /// File descriptors 0, 1, 2.
    pub stdio: [Stdio; 3],
}

/// What a standard file descriptor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stdio {
    /// Closed, or not known.
    #[default]
    None,
    /// A pipe or FIFO, by inode number and device.
    Pipe {
        /// Inode number.
        ino: u64,
        /// Device.
        dev: u32,
    },
    /// A socket, by inode number.
    Socket {
        /// Inode number (as in `/proc/PID/fd`).
        ino: u64,
    },
    /// A regular file or block device.
    File(super::FileId),
    /// A terminal or other character device.
    Device,
}

/// From the socket diagnostics at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOwner {
    /// Socket cookie.
    pub cookie: u64,
    /// A process that holds the socket open; the lowest `(start, tgid)` if several do.
    pub process: ProcessKey,
    /// How many processes hold it.
    pub holders: u32,
    /// Local end.
    pub local: SocketAddr,
    /// Remote end; unspecified address and port 0 when not connected.
    pub remote: SocketAddr,
    /// IP protocol number.
    pub protocol: u16,
    /// A listening socket.
    pub listening: bool,
    /// Network namespace.
    pub netns: u32,
}
