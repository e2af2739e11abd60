//! The whole room, with synthetic flows.

use std::sync::Arc;

use crate::model::{
    Destination, FileId, FileRef, Job, JobId, Process, ProcessKey, Scheduler, Scope, Transport,
};

/// A process without a terminal.
pub(super) fn process(tgid: u32, start_ns: u64, path: &str) -> Process {
    let name = crate::model::Text::from(path).file_name().to_vec();
    Process {
        key: ProcessKey { tgid, start_ns },
        parent: None,
        executable: FileRef {
            id: FileId {
                dev: 1,
                ino: 77,
                generation: 0,
            },
            path: path.into(),
            size: 1,
            mode: 0o100_755,
            nlink: 1,
        },
        name: name.into(),
        args: Vec::new(),
        args_truncated: false,
        script: None,
        cwd: "/".into(),
        identity: crate::model::Identity::default(),
        user_name: None,
        login_name: None,
        cgroup_id: 0,
        cgroup_path: "".into(),
        container: None,
        unit: None,
        netns: 0,
        stdio: Default::default(),
        start_ns,
        exec_ns: start_ns,
        exit_ns: None,
        seeded: false,
    }
}

/// A job without scheduler or terminal.
pub(super) fn job(id: &str) -> Job {
    Job {
        id: JobId(id.into()),
        executable: "/usr/bin/curl".into(),
        script: None,
        scheduler: Scheduler::None,
        uid: 1000,
        interactive: false,
    }
}

/// `203.0.113.host:443/tcp`.
pub(super) fn destination(host: u8) -> Destination {
    Destination {
        ip: [203, 0, 113, host].into(),
        port: 443,
        transport: Transport::TCP,
        scope: Scope::Public,
        domain: None,
    }
}
