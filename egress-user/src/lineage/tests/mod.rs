//! Short ways to make observations, for tests here and in `attribution`.

mod facts;
mod identity;
mod jobs;
mod provenance;

use super::Lineage;
use crate::config::Limits;
use crate::model::{
    Access, Event, Exec, FileAccess, FileId, FileRef, Identity, Observation, Origin, Process,
    ProcessKey, Stdio, Text,
};

pub(crate) const SECOND: u64 = 1_000_000_000;

/// A start that is not on a clock tick.
pub(crate) fn key(tgid: u32) -> ProcessKey {
    ProcessKey {
        tgid,
        start_ns: 1_234_567,
    }
}

/// The same process as `/proc` tells it.
pub(crate) fn cut(key: ProcessKey) -> ProcessKey {
    ProcessKey {
        start_ns: key.start_ns / 10_000_000 * 10_000_000,
        ..key
    }
}

pub(crate) fn file(ino: u64, path: &str) -> FileRef {
    FileRef {
        id: FileId {
            ino,
            dev: 1,
            generation: 1,
        },
        path: Text::from(path),
        size: 1,
        mode: 0o100_644,
        nlink: 1,
    }
}

pub(crate) fn pipe(ino: u64) -> Stdio {
    Stdio::Pipe { ino, dev: 9 }
}

pub(crate) fn process(tgid: u32, executable: &str) -> Process {
    let mut lineage = Lineage::offline(&Limits::default());
    lineage.observe(&Observation {
        at: 1,
        event: Event::Exec(Box::new(exec(tgid, executable, &[]))),
    });
    let mut process = (**lineage.process(key(tgid)).expect("just made")).clone();
    process.parent = None;
    process
}

pub(crate) fn exec(tgid: u32, executable: &str, args: &[&str]) -> Exec {
    Exec {
        process: key(tgid),
        parent: ProcessKey::default(),
        origin: Origin::Kernel,
        exec_id: None,
        executable: file(1000 + u64::from(tgid), executable),
        filename: Text::from(executable),
        interpreter: Text::from(executable),
        name: Text::from(Text::from(executable).file_name()),
        args: args.iter().map(|a| Text::from(*a)).collect(),
        truncated: false,
        cwd: Text::from("/home"),
        identity: Identity::default(),
        cgroup_id: 1,
        cgroup_path: Text::default(),
        cgroup_v1: None,
        netns: 1,
        mntns: 1,
        pidns: 1,
        stdio: [Stdio::None; 3],
    }
}

/// A host whose clock moves on by a microsecond with each thing that happens.
pub(crate) struct World {
    pub(crate) lineage: Lineage,
    pub(crate) now: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&Limits::default())
    }

    pub(crate) fn with(limits: &Limits) -> Self {
        Self {
            lineage: Lineage::offline(limits),
            now: SECOND,
        }
    }

    pub(crate) fn tell(&mut self, event: Event) -> u64 {
        self.now += 1000;
        self.lineage.observe(&Observation {
            at: self.now,
            event,
        });
        self.now
    }

    pub(crate) fn fork(&mut self, parent: u32, child: u32) {
        self.tell(Event::Fork {
            parent: key(parent),
            child: key(child),
        });
    }

    pub(crate) fn exec(&mut self, exec: Exec) -> u64 {
        self.tell(Event::Exec(Box::new(exec)))
    }

    /// Fork and exec.
    pub(crate) fn run(&mut self, parent: u32, child: u32, executable: &str, args: &[&str]) -> u64 {
        self.fork(parent, child);
        self.exec(Exec {
            parent: key(parent),
            ..exec(child, executable, args)
        })
    }

    /// Fork and exec with standard input and output.
    pub(crate) fn piped(
        &mut self,
        parent: u32,
        child: u32,
        executable: &str,
        stdio: [Stdio; 2],
    ) -> u64 {
        self.fork(parent, child);
        let [input, output] = stdio;
        self.exec(Exec {
            parent: key(parent),
            stdio: [input, output, Stdio::None],
            ..exec(child, executable, &[executable])
        })
    }

    pub(crate) fn exit(&mut self, tgid: u32) {
        self.tell(Event::Exit {
            process: key(tgid),
            code: 0,
        });
    }

    pub(crate) fn read(&mut self, tgid: u32, file: FileRef) -> u64 {
        self.open(
            tgid,
            file,
            Access {
                read: true,
                ..Access::default()
            },
        )
    }

    pub(crate) fn write(&mut self, tgid: u32, file: FileRef) -> u64 {
        self.open(
            tgid,
            file,
            Access {
                write: true,
                ..Access::default()
            },
        )
    }

    pub(crate) fn open(&mut self, tgid: u32, file: FileRef, access: Access) -> u64 {
        self.tell(Event::File(FileAccess {
            process: key(tgid),
            file,
            access,
            truncated: false,
        }))
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
        self.tell(Event::Tick);
    }

    pub(crate) fn process(&self, tgid: u32) -> Option<&Process> {
        self.lineage.process(key(tgid)).map(|p| &**p)
    }

    pub(crate) fn path(&self, tgid: u32) -> String {
        self.process(tgid)
            .map(|p| p.executable.path.to_string())
            .unwrap_or_default()
    }

    pub(crate) fn ancestors(&self, tgid: u32) -> Vec<u32> {
        self.lineage
            .ancestors(key(tgid))
            .iter()
            .map(|p| p.key.tgid)
            .collect()
    }
}
