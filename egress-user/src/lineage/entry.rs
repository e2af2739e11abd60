//! What is remembered of one process.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Glimpse;
use super::files::Activity;
use crate::model::{BootTime, Job, Process, ProcessKey};

/// Images of one process kept from before its last exec.
const EARLIER_MAX: usize = 4;

/// One process.
pub(super) struct Entry {
    /// As it is now, or as it ended.
    pub(super) process: Arc<Process>,
    /// What it ran before, oldest first: a shell's last command often replaces the shell.
    pub(super) earlier: Vec<Arc<Process>>,
    /// The same as it acted later, and the image that it was made from: after their exec processes drop privileges, let
    /// people log in, move to another cgroup.
    pub(super) later: Option<(Arc<Process>, Arc<Process>)>,
    /// Who made it. Unlike `process.parent` this stays when the maker ends and init takes over.
    pub(super) maker: Option<ProcessKey>,
    /// Whom it made, those forgotten excluded.
    pub(super) children: BTreeSet<ProcessKey>,
    /// Nothing is known of its image: only named by another record, or a copy of such a process.
    pub(super) blank: bool,
    /// Known only because another record named it.
    pub(super) implied: bool,
    /// Its files.
    pub(super) activity: Activity,
    /// Inode number of the script file that was hashed.
    pub(super) script_ino: Option<u64>,
    /// With the number of the table's filling at which it was worked out.
    pub(super) job: Option<(u64, Arc<Job>)>,
    /// Its start is cut to the clock tick.
    pub(super) cut: bool,
    /// The cut key that it had before the kernel told the exact one.
    pub(super) alias: Option<ProcessKey>,
    /// When it was first or last named, if `implied`.
    pub(super) seen: BootTime,
    /// Where it stands in the order of forgetting.
    pub(super) rank: Option<Rank>,
}

/// Order of forgetting, for processes without children: ended or only implied (0), alive (1); then the oldest.
pub(super) type Rank = (u8, BootTime, ProcessKey);

/// A new entry.
pub(super) struct New {
    /// What it is.
    pub(super) process: Process,
    /// See [`Entry::blank`].
    pub(super) blank: bool,
    /// See [`Entry::implied`].
    pub(super) implied: bool,
    /// From `/proc`.
    pub(super) cut: bool,
    /// When it became known.
    pub(super) at: BootTime,
}

impl Entry {
    /// A process that nobody is known to have made yet.
    pub(super) fn new(new: New) -> Self {
        Self {
            process: Arc::new(new.process),
            earlier: Vec::new(),
            later: None,
            maker: None,
            children: BTreeSet::new(),
            blank: new.blank,
            implied: new.implied,
            activity: Activity::default(),
            script_ino: None,
            job: None,
            cut: new.cut,
            alias: None,
            seen: new.at,
            rank: None,
        }
    }

    /// Takes a new image. What it ran before is kept beside it, unless nothing was known of that.
    /// Returns an earlier image that is no longer kept.
    pub(super) fn replace(&mut self, mut process: Process) -> Option<Arc<Process>> {
        process.exit_ns = self.process.exit_ns;
        let before = std::mem::replace(&mut self.process, Arc::new(process));
        let mut dropped = None;
        if !self.blank {
            // The first one says where it came from: it stays.
            dropped = (self.earlier.len() >= EARLIER_MAX).then(|| self.earlier.remove(1));
            self.earlier.push(before);
        }
        self.blank = false;
        self.implied = false;
        self.job = None;
        self.script_ino = None;
        dropped
    }

    /// The image that was seen (that with its number, or the newest whose number is not known), as it acted then.
    pub(super) fn as_seen(
        &mut self,
        seen: &Glimpse,
        apply: impl FnOnce(&mut Process),
    ) -> Arc<Process> {
        let exec_id = seen.exec_id;
        if self.process.exec_id.is_none() && self.earlier.is_empty() && exec_id.is_some() {
            // It was there before us, and this is the first that the kernel tells of it.
            Arc::make_mut(&mut self.process).exec_id = exec_id;
        }
        let image = self
            .images()
            .find(|image| image.exec_id == exec_id)
            .or_else(|| self.images().find(|image| image.exec_id.is_none()))
            .unwrap_or(&self.process);
        if seen.agrees(image) {
            return image.clone();
        }
        if let Some((from, process)) = &self.later
            && Arc::ptr_eq(from, image)
            && seen.agrees(process)
        {
            return process.clone();
        }
        let mut process = Process::clone(image);
        apply(&mut process);
        let process = Arc::new(process);
        self.later = Some((image.clone(), process.clone()));
        process
    }

    /// Its place in the order of forgetting; none while something that it made is remembered.
    pub(super) fn place(&self) -> Option<Rank> {
        let key = self.process.key;
        self.children
            .is_empty()
            .then(|| match self.process.exit_ns {
                Some(at) => (0, at, key),
                None if self.implied => (0, self.seen, key),
                None => (1, key.start_ns, key),
            })
    }

    /// What it runs and what it ran before, newest first.
    pub(super) fn images(&self) -> impl Iterator<Item = &Arc<Process>> {
        std::iter::once(&self.process).chain(self.earlier.iter().rev())
    }
}

/// A forked process: its parent's image under a key of its own.
pub(super) fn copy_of(image: &Process, key: ProcessKey, parent: Option<ProcessKey>) -> Process {
    Process {
        key,
        parent,
        start_ns: key.start_ns,
        exec_ns: key.start_ns,
        exit_ns: None,
        seeded: false,
        ..image.clone()
    }
}
