//! Processes and who they work for.

use std::sync::Arc;

use serde::Serialize;

use super::{BootTime, FileRef, Script, Stdio, Text};

/// A process: its thread-group id (initial pid namespace) and when its leader started. Never the pid alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ProcessKey {
    /// Thread-group id in the initial pid namespace.
    pub tgid: u32,
    /// `start_boottime` of the thread-group leader, ns.
    pub start_ns: BootTime,
}

impl ProcessKey {
    /// ECS `process.entity_id`: unique on this host until it boots again.
    #[must_use]
    pub fn entity_id(self) -> String {
        format!("{}-{}", self.tgid, self.start_ns)
    }
}

/// Who a process acts for, with numbers of the initial user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Identity {
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Who logged in, kept over sudo and su (`/proc/PID/loginuid`).
    pub loginuid: Option<u32>,
    /// Audit session.
    pub session_id: Option<u32>,
    /// Device number of the controlling terminal.
    pub tty: Option<u32>,
}

/// Who logged in, as the kernel's audit keeps it: over exec, su, sudo and setuid, for everything that was started since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Login {
    /// Login uid; `None` for what no login started.
    pub uid: Option<u32>,
    /// Audit session.
    pub session_id: Option<u32>,
}

/// A container, told from the cgroup path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// The runtime's id (64 hexadecimal digits for the common ones).
    pub id: String,
    /// `docker`, `containerd`, `cri-o`, `podman`, or empty when the path does not tell.
    pub runtime: String,
    /// Kubernetes pod uid, when the kubelet named the cgroup.
    pub pod_uid: Option<String>,
}

/// Everything known of a process. Immutable; a change (exec) makes a new one.
#[derive(Clone, Debug)]
pub struct Process {
    /// Which.
    pub key: ProcessKey,
    /// Its parent at the time of its last exec or fork.
    pub parent: Option<ProcessKey>,
    /// The file that runs. For a script: the interpreter.
    pub executable: FileRef,
    /// `comm`.
    pub name: Text,
    /// argv.
    pub args: Vec<Text>,
    /// argv was longer than the record.
    pub args_truncated: bool,
    /// The script that the kernel was asked to run, or that the interpreter was given.
    pub script: Option<Arc<Script>>,
    /// Working directory at exec.
    pub cwd: Text,
    /// For whom.
    pub identity: Identity,
    /// Name of `identity.uid` on this host, when it has one.
    pub user_name: Option<Arc<str>>,
    /// Name of `identity.loginuid` on this host, when it has one.
    pub login_name: Option<Arc<str>>,
    /// cgroup v2 id.
    pub cgroup_id: u64,
    /// Path below the cgroup2 root, empty when not known.
    pub cgroup_path: Text,
    /// From the cgroup path.
    pub container: Option<Container>,
    /// systemd unit, from the cgroup path.
    pub unit: Option<String>,
    /// Network namespace (inode number).
    pub netns: u32,
    /// File descriptors 0, 1, 2 at exec.
    pub stdio: [Stdio; 3],
    /// Which image of the process this is: low half of `task_struct.self_exec_id`, which every exec increases and a fork
    /// passes on. `None` until the kernel has told it, for a process that was there before us.
    pub exec_id: Option<u32>,
    /// When it began: fork, or start.
    pub start_ns: BootTime,
    /// When it last executed a program; `start_ns` if never.
    pub exec_ns: BootTime,
    /// When it ended.
    pub exit_ns: Option<BootTime>,
    /// Known from `/proc` (true) or from the kernel's own event.
    pub seeded: bool,
}
