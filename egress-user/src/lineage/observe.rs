//! What each kind of observation changes.

use std::sync::Arc;

use super::files::Read;
use super::table::{New, copy_of, is_cut};
use super::{Glimpse, Lineage, cgroup};
use crate::model::{
    BootTime, Event, Exec, FileAccess, FileId, FileRef, Identity, Observation, Origin, Process,
    ProcessKey, Script, Stdio, Text,
};

/// Reads remembered of one process.
const READS_MAX: usize = 512;
/// How often what is old is forgotten, ns of event time: 1 second.
const SWEEP_NS: u64 = 1_000_000_000;

impl Lineage {
    pub(super) fn take(&mut self, observation: &Observation) {
        let at = observation.at;
        match &observation.event {
            Event::Fork { parent, child } => self.fork(*parent, *child, at),
            Event::Exec(exec) => self.exec(exec, at),
            Event::Exit { process, .. } => self.exit(*process, at),
            Event::File(access) => self.file(access, at),
            Event::Tick if at >= self.next_sweep => {
                self.next_sweep = at.saturating_add(SWEEP_NS);
                self.table.age(at);
                self.files.age(at);
                self.staging.age(at);
            }
            Event::Tick
            | Event::SocketOwner(_)
            | Event::Name(_)
            | Event::Flow(_)
            | Event::Blind(_) => {}
        }
    }

    fn fork(&mut self, parent: ProcessKey, child: ProcessKey, at: BootTime) {
        let parent = self.known(parent, Origin::Kernel, at);
        let child = self.table.settle(child);
        let Some(maker) = self.table.get(parent) else {
            return;
        };
        let (image, blank) = (maker.process.clone(), maker.blank);
        if let Some(entry) = self.table.get_mut(child) {
            // Named before: by `/proc`, or by a record that overtook this one.
            entry.implied = false;
            self.table.link(child, parent);
            if !blank {
                self.table.inherit(parent);
            }
            return;
        }
        self.table.insert(New {
            process: copy_of(&image, child, Some(parent)),
            blank,
            implied: false,
            cut: false,
            at,
        });
        if let Some(entry) = self.table.get_mut(child) {
            entry.activity.watched_since = child.start_ns;
        }
    }

    fn exec(&mut self, exec: &Exec, at: BootTime) {
        // tgid 0 is the idle task: nobody made init.
        let named = exec.parent.tgid != 0 && exec.parent != exec.process;
        let parent = named.then(|| self.known(exec.parent, exec.origin, at));
        // After the parent, whose entry may have taken the place of this one.
        let key = match exec.origin {
            Origin::Kernel => self.table.settle(exec.process),
            Origin::Proc => self.table.resolve(exec.process),
        };
        let known = self.table.get(key).map(|entry| entry.blank);
        if exec.origin == Origin::Proc && known == Some(false) {
            self.complete(key, exec, parent);
            return;
        }
        let before = self.table.get(key).filter(|entry| !entry.blank);
        let before = before.or_else(|| self.table.get(parent?));
        let before = before.map(|entry| entry.process.clone());
        let (process, script_ino) =
            self.images
                .make(exec, key, parent, before.as_deref(), &self.files, at);
        if let Some(blank) = known {
            if let Some(dropped) = self.table.replace(key, process) {
                let alias = self.table.get(key).and_then(|entry| entry.alias);
                self.pipes.remove(&dropped, [Some(key), alias]);
            }
            if let Some(parent) = parent {
                self.table.link(key, parent);
            }
            if blank {
                self.table.inherit(key);
            }
        } else {
            self.table.insert(New {
                process,
                blank: false,
                implied: false,
                cut: exec.origin == Origin::Proc,
                at,
            });
            if let Some(entry) = self.table.get_mut(key) {
                entry.activity.watched_since = at;
            }
        }
        if let Some(entry) = self.table.get_mut(key) {
            entry.script_ino = script_ino;
            for image in entry.images() {
                self.pipes.add(key, image);
            }
        }
        self.standard_files(key, exec.stdio, at);
    }

    /// `/proc` was read after the kernel had told the process: only what is not known is taken.
    fn complete(&mut self, key: ProcessKey, exec: &Exec, parent: Option<ProcessKey>) {
        if let Some(parent) = parent {
            self.table.link(key, parent);
        }
        if let Some(entry) = self.table.get_mut(key)
            && entry.process.cgroup_path.is_empty()
            && !exec.cgroup_path.is_empty()
        {
            let process = Arc::make_mut(&mut entry.process);
            process.cgroup_path = exec.cgroup_path.clone();
            let v1 = exec.cgroup_v1.as_deref().unwrap_or_default();
            (process.container, process.unit) = cgroup::place(exec.cgroup_path.as_bytes(), v1);
            entry.job = None;
        }
    }

    /// Standard input that is a file is read, output and error that are one are written.
    fn standard_files(&mut self, key: ProcessKey, stdio: [Stdio; 3], at: BootTime) {
        for (number, end) in stdio.into_iter().enumerate() {
            let Stdio::File(id) = end else {
                continue;
            };
            let file = self.files.get(id, 0).unwrap_or(FileRef {
                id,
                ..FileRef::default()
            });
            let name = self.files.note(&file, false, at);
            if number == 0 {
                self.read(key, id, name, at);
            } else {
                self.wrote(key, id, at);
            }
        }
    }

    fn exit(&mut self, process: ProcessKey, at: BootTime) {
        let key = self.table.settle(process);
        self.table.end(key, at);
        if self
            .table
            .get(key)
            .is_some_and(|entry| entry.activity.wrote)
        {
            let frozen = self.freeze(key);
            self.staging.keep(key, frozen, at);
        }
    }

    fn file(&mut self, access: &FileAccess, at: BootTime) {
        let id = access.file.id;
        if id == FileId::default() {
            return;
        }
        let key = self.known(access.process, Origin::Kernel, at);
        let name = self.files.note(&access.file, access.access.create, at);
        if access.access.write || access.access.create {
            self.wrote(key, id, at);
        }
        if access.access.read {
            self.read(key, id, name, at);
            self.script_opened(key, &access.file);
        }
    }

    fn wrote(&mut self, key: ProcessKey, id: FileId, at: BootTime) {
        self.files.wrote(id, key, at);
        if let Some(entry) = self.table.get_mut(key) {
            entry.activity.wrote = true;
        }
    }

    fn read(&mut self, key: ProcessKey, id: FileId, name: u8, at: BootTime) {
        let Some(activity) = self.table.get_mut(key).map(|entry| &mut entry.activity) else {
            return;
        };
        let place = activity
            .reads
            .iter_mut()
            .rfind(|read| read.id == id && read.name == name);
        if let Some(read) = place {
            read.last = read.last.max(at);
            return;
        }
        if activity.reads.len() >= READS_MAX {
            activity.lost = true;
            self.reads_capped += 1;
            return;
        }
        if self.reads >= self.reads_limit {
            while self.reads >= self.reads_limit && self.table.evict_ended(key) {
                self.release();
            }
            if self.reads >= self.reads_limit {
                self.reads_refused += 1;
                if let Some(entry) = self.table.get_mut(key) {
                    entry.activity.lost = true;
                }
                return;
            }
        }
        if let Some(entry) = self.table.get_mut(key) {
            let read = Read {
                id,
                name,
                first: at,
                last: at,
            };
            entry.activity.reads.push(read);
            self.reads += 1;
        }
    }

    /// The interpreter opens its script: now the file is known, and whether it was the one that was hashed. Inode
    /// numbers are compared, since on btrfs and overlayfs `stat(2)` tells another device than the kernel's super block.
    fn script_opened(&mut self, key: ProcessKey, file: &FileRef) {
        if let Some(entry) = self.table.get_mut(key)
            && let Some(script) = &entry.process.script
            && script.file.is_none()
            && !file.path.is_empty()
            && script.path == file.path
        {
            let same = entry.script_ino == Some(file.id.ino);
            let script = Script {
                path: script.path.clone(),
                file: Some(file.id),
                sha256: script.sha256.clone().filter(|_| same),
            };
            Arc::make_mut(&mut entry.process).script = Some(Arc::new(script));
            entry.job = None;
        }
    }

    /// The key of a process that a record names, made known if it is not.
    fn known(&mut self, key: ProcessKey, origin: Origin, at: BootTime) -> ProcessKey {
        let key = match origin {
            Origin::Kernel => self.table.settle(key),
            Origin::Proc => self.table.resolve(key),
        };
        if self.table.get(key).is_none() {
            self.imply(
                Glimpse {
                    key,
                    ..Glimpse::default()
                },
                at,
            );
        } else {
            self.table.touch(key, at);
        }
        key
    }

    pub(super) fn imply(&mut self, glimpse: Glimpse, at: BootTime) -> Arc<Process> {
        self.implied += 1;
        let cut = is_cut(glimpse.key);
        let mut process = Process {
            key: glimpse.key,
            parent: None,
            executable: FileRef::default(),
            name: Text::default(),
            args: Vec::new(),
            args_truncated: false,
            script: None,
            cwd: Text::default(),
            identity: Identity::default(),
            user_name: None,
            login_name: None,
            cgroup_id: 0,
            cgroup_path: Text::default(),
            container: None,
            unit: None,
            netns: glimpse.netns,
            stdio: [Stdio::None; 3],
            exec_id: glimpse.exec_id,
            start_ns: glimpse.key.start_ns,
            exec_ns: glimpse.key.start_ns,
            exit_ns: None,
            seeded: false,
        };
        glimpse.apply(&mut process, &mut self.images.users, at);
        process.name = glimpse.name;
        let copy = Arc::new(process.clone());
        let key = self.table.insert(New {
            process,
            blank: true,
            implied: true,
            cut,
            at,
        });
        self.release();
        if let Some(entry) = self.table.get_mut(key) {
            entry.activity.watched_since = at;
            return entry.process.clone();
        }
        copy
    }

    /// Drops what the other tables know of processes that the table has forgotten.
    pub(super) fn release(&mut self) {
        for (key, entry) in std::mem::take(&mut self.table.removed) {
            self.reads = self.reads.saturating_sub(entry.activity.reads.len());
            for image in entry.images() {
                self.pipes.remove(image, [Some(key), entry.alias]);
            }
        }
    }
}
