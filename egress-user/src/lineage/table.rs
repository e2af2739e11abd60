//! The process table: who is there, who made whom, who is forgotten first.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::entry::Rank;
pub(super) use super::entry::{Entry, New, copy_of};
use crate::model::{BootTime, Process, ProcessKey};

/// `/proc/PID/stat` tells a start in clock ticks of 10 ms (`USER_HZ` is 100 on every architecture that we run on).
const TICK_NS: u64 = 10_000_000;
/// Ancestors followed.
pub(super) const DEPTH_MAX: usize = 64;

/// Why entries were forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Forgotten {
    /// Ended long ago.
    pub(super) aged: u64,
    /// Ended, and the room was needed.
    pub(super) ended: u64,
    /// Alive, and the room was needed.
    pub(super) alive: u64,
}

/// All processes.
pub(super) struct Table {
    /// Boxed: a table that grows moves pointers, and its empty places cost no entries.
    entries: HashMap<ProcessKey, Box<Entry>>,
    aliases: HashMap<ProcessKey, ProcessKey>,
    latest: HashMap<u32, ProcessKey>,
    order: BTreeSet<Rank>,
    limit: usize,
    /// How long an ended process is kept, ns.
    keep: u64,
    /// Increases when an image becomes known that was not: jobs worked out before may be wrong.
    pub(super) filling: u64,
    /// Entries of ended processes.
    pub(super) ended: usize,
    /// See there.
    pub(super) forgotten: Forgotten,
    /// Forgotten, and still named by the other tables.
    pub(super) removed: Vec<(ProcessKey, Box<Entry>)>,
    /// Ends that were not told, noticed because the number was given to another process.
    pub(super) ends_missed: u64,
}

impl Table {
    pub(super) fn new(limit: usize, keep: u64) -> Self {
        Self {
            entries: HashMap::new(),
            aliases: HashMap::new(),
            latest: HashMap::new(),
            order: BTreeSet::new(),
            limit: limit.max(16),
            keep,
            filling: 0,
            ended: 0,
            forgotten: Forgotten::default(),
            removed: Vec::new(),
            ends_missed: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The key under which a process is kept; `key` itself if it is not known.
    pub(super) fn resolve(&self, key: ProcessKey) -> ProcessKey {
        if self.entries.contains_key(&key) {
            return key;
        }
        if let Some(exact) = self.aliases.get(&key) {
            return *exact;
        }
        match self.latest.get(&key.tgid) {
            Some(latest)
                if latest.start_ns / TICK_NS == key.start_ns / TICK_NS
                    && (is_cut(key) || self.entries.get(latest).is_some_and(|e| e.cut)) =>
            {
                *latest
            }
            _ => key,
        }
    }

    pub(super) fn get(&self, key: ProcessKey) -> Option<&Entry> {
        self.entries.get(&self.resolve(key)).map(|entry| &**entry)
    }

    pub(super) fn get_mut(&mut self, key: ProcessKey) -> Option<&mut Entry> {
        let key = self.resolve(key);
        self.entries.get_mut(&key).map(|entry| &mut **entry)
    }

    /// As [`Self::resolve`] for a key that the kernel told: if the process is kept under a cut key, it moves.
    pub(super) fn settle(&mut self, exact: ProcessKey) -> ProcessKey {
        let known = self.resolve(exact);
        if known != exact && self.entries.get(&known).is_some_and(|e| e.cut) {
            self.rename(known, exact);
            return exact;
        }
        known
    }

    fn rename(&mut self, from: ProcessKey, to: ProcessKey) {
        let Some(mut entry) = self.entries.remove(&from) else {
            return;
        };
        if let Some(rank) = entry.rank.take() {
            self.order.remove(&rank);
        }
        let process = Arc::make_mut(&mut entry.process);
        process.key = to;
        process.start_ns = to.start_ns;
        process.exec_ns = process.exec_ns.max(to.start_ns);
        for child in &entry.children {
            if let Some(child) = self.entries.get_mut(child) {
                child.maker = Some(to);
            }
        }
        if let Some(maker) = entry.maker.and_then(|maker| self.entries.get_mut(&maker)) {
            maker.children.remove(&from);
            maker.children.insert(to);
        }
        entry.cut = false;
        entry.alias = Some(from);
        self.aliases.insert(from, to);
        self.latest.insert(to.tgid, to);
        self.entries.insert(to, entry);
        self.rank(to);
    }

    /// Adds a process that is not known yet, making room for it if there is none. Returns its key.
    pub(super) fn insert(&mut self, new: New) -> ProcessKey {
        let key = new.process.key;
        let maker = new.process.parent.map(|parent| self.resolve(parent));
        while self.entries.len() >= self.limit {
            self.evict(maker);
        }
        if let Some(before) = self.latest.insert(key.tgid, key)
            && before < key
            && self
                .entries
                .get(&before)
                .is_some_and(|e| e.process.exit_ns.is_none())
        {
            self.ends_missed += 1;
            self.end(before, key.start_ns);
        }
        self.entries.insert(key, Box::new(Entry::new(new)));
        self.rank(key);
        if let Some(maker) = maker {
            self.link(key, maker);
        }
        key
    }

    /// Makes `maker` the maker of `key`, unless it has one or that would be a circle.
    pub(super) fn link(&mut self, key: ProcessKey, maker: ProcessKey) {
        let maker = self.resolve(maker);
        let Some(entry) = self.entries.get(&key) else {
            return;
        };
        if entry.maker.is_some() || !self.entries.contains_key(&maker) || maker == key {
            return;
        }
        if !entry.children.is_empty() && self.line(maker).any(|(ancestor, _)| ancestor == key) {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.maker = Some(maker);
            if entry.process.parent.is_none() {
                Arc::make_mut(&mut entry.process).parent = Some(maker);
            }
        }
        if let Some(entry) = self.entries.get_mut(&maker) {
            entry.children.insert(key);
        }
        self.rank(maker);
    }

    /// A process and its makers, nearest first, bounded.
    pub(super) fn line(&self, key: ProcessKey) -> impl Iterator<Item = (ProcessKey, &Entry)> {
        let mut next = Some(self.resolve(key));
        std::iter::from_fn(move || {
            let key = next?;
            let entry = &**self.entries.get(&key)?;
            next = entry.maker;
            Some((key, entry))
        })
        .take(DEPTH_MAX)
    }

    /// A new image for a known process. Returns an earlier one that is no longer kept.
    pub(super) fn replace(&mut self, key: ProcessKey, process: Process) -> Option<Arc<Process>> {
        let entry = self.entries.get_mut(&key)?;
        self.filling += u64::from(entry.blank);
        let dropped = entry.replace(process);
        self.rank(key);
        dropped
    }

    /// Copies the image of `from` to its children that are copies of it, now that it is known.
    pub(super) fn inherit(&mut self, from: ProcessKey) {
        let mut makers = vec![from];
        while let Some(maker) = makers.pop() {
            let Some(entry) = self.entries.get(&maker) else {
                continue;
            };
            let image = entry.process.clone();
            let children: Vec<_> = entry.children.iter().copied().collect();
            for key in children {
                if let Some(child) = self.entries.get_mut(&key)
                    && child.blank
                    && !child.implied
                {
                    let before = &child.process;
                    child.process = Arc::new(Process {
                        exit_ns: before.exit_ns,
                        ..copy_of(&image, key, before.parent)
                    });
                    child.blank = false;
                    makers.push(key);
                }
            }
        }
    }

    /// Notes the end of a process.
    pub(super) fn end(&mut self, key: ProcessKey, at: BootTime) {
        if let Some(entry) = self.entries.get_mut(&key)
            && entry.process.exit_ns.is_none()
        {
            Arc::make_mut(&mut entry.process).exit_ns = Some(at);
            self.ended += 1;
            self.rank(key);
        }
    }

    /// Notes that an implied process was named again.
    pub(super) fn touch(&mut self, key: ProcessKey, at: BootTime) {
        if let Some(entry) = self.entries.get_mut(&key)
            && entry.implied
        {
            entry.seen = entry.seen.max(at);
            self.rank(key);
        }
    }

    /// Forgets what ended long ago. An ended process is kept while one that it made is.
    pub(super) fn age(&mut self, now: BootTime) {
        while let Some(&(0, at, key)) = self.order.first() {
            if at.saturating_add(self.keep) > now {
                break;
            }
            self.remove(key);
            self.forgotten.aged += 1;
        }
    }

    /// Forgets the process that matters least, but not `keep`.
    fn evict(&mut self, keep: Option<ProcessKey>) {
        let leaf = self.order.iter().find(|(.., key)| Some(*key) != keep);
        // Every finite tree has leaves; the second half only guards against a table that is no tree.
        if let Some((class, key)) = leaf
            .map(|(class, _, key)| (*class, *key))
            .or_else(|| Some((1, *self.entries.keys().min()?)))
        {
            self.remove(key);
            if class == 0 {
                self.forgotten.ended += 1;
            } else {
                self.forgotten.alive += 1;
            }
        }
    }

    /// Forgets the process that ended first, but not `keep`. Returns whether there was one.
    pub(super) fn evict_ended(&mut self, keep: ProcessKey) -> bool {
        let ended = self.order.iter().take_while(|(class, ..)| *class == 0);
        let Some(key) = ended.map(|(.., key)| *key).find(|key| *key != keep) else {
            return false;
        };
        self.remove(key);
        self.forgotten.ended += 1;
        true
    }

    fn remove(&mut self, key: ProcessKey) {
        let Some(entry) = self.entries.remove(&key) else {
            return;
        };
        if let Some(rank) = entry.rank {
            self.order.remove(&rank);
        }
        if let Some(alias) = entry.alias {
            self.aliases.remove(&alias);
        }
        if self.latest.get(&key.tgid) == Some(&key) {
            self.latest.remove(&key.tgid);
        }
        if entry.process.exit_ns.is_some() {
            self.ended -= 1;
        }
        for child in &entry.children {
            if let Some(child) = self.entries.get_mut(child) {
                child.maker = None;
            }
        }
        if let Some(maker) = entry.maker {
            if let Some(maker) = self.entries.get_mut(&maker) {
                maker.children.remove(&key);
                let until = entry.process.exit_ns.unwrap_or(BootTime::MAX);
                maker.activity.children_forgotten = maker.activity.children_forgotten.max(until);
            }
            self.rank(maker);
        }
        self.removed.push((key, entry));
    }

    fn rank(&mut self, key: ProcessKey) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let rank = entry.place();
        if rank != entry.rank {
            if let Some(before) = std::mem::replace(&mut entry.rank, rank) {
                self.order.remove(&before);
            }
            self.order.extend(rank);
        }
    }
}

/// Whether a start is cut to the clock tick, as `/proc` tells it. By chance one in ten million exact ones looks like
/// that: it is then found by either key all the same.
pub(super) fn is_cut(key: ProcessKey) -> bool {
    key.start_ns.is_multiple_of(TICK_NS)
}
