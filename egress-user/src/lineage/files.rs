//! Files: their names, and who wrote them; and what each process read.

use std::collections::{HashMap, VecDeque};

use crate::model::{BootTime, FileId, FileRef, ProcessKey, Text};

/// Files are remembered this long after they were last opened, ns: 24 hours.
pub(super) const FILE_AGE_NS: u64 = 24 * 3600 * 1_000_000_000;
/// Names remembered of one file (hard links, renames).
const NAMES_MAX: usize = 4;
/// Writers remembered of one file, the last ones.
const WRITERS_MAX: usize = 4;
/// Opened before any name was known.
const NO_NAME: u8 = u8::MAX;

/// A process read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Which.
    pub(super) id: FileId,
    /// Under which of its names.
    pub(super) name: u8,
    /// When it was opened first, and last. The kernel side tells an open once, and again only when it has forgotten it.
    pub(super) first: BootTime,
    /// See `first`.
    pub(super) last: BootTime,
}

/// What a process did with files.
#[derive(Default)]
pub(super) struct Activity {
    /// What it read.
    pub(super) reads: Vec<Read>,
    /// It opened a file for writing.
    pub(super) wrote: bool,
    /// A read was not remembered, for lack of room.
    pub(super) lost: bool,
    /// What it did before this is not known.
    pub(super) watched_since: BootTime,
    /// When the last of its children ended that are forgotten.
    pub(super) children_forgotten: BootTime,
}

struct Node {
    names: Vec<Text>,
    size: u64,
    mode: u32,
    nlink: u32,
    last: BootTime,
    writers: Vec<(ProcessKey, BootTime)>,
}

/// All files.
pub(super) struct Files {
    nodes: HashMap<FileId, Node>,
    /// In the order of `Node::last`, but a file that was opened again since still stands at its old place.
    queue: VecDeque<(BootTime, FileId)>,
    limit: usize,
    /// Forgotten because the room was needed.
    pub(super) evicted: u64,
}

impl Files {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            nodes: HashMap::new(),
            queue: VecDeque::new(),
            limit: limit.max(16),
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Notes that a file was opened, `created` by that. Returns the number of the name.
    pub(super) fn note(&mut self, file: &FileRef, created: bool, at: BootTime) -> u8 {
        if !self.nodes.contains_key(&file.id) {
            while self.nodes.len() >= self.limit && self.evict() {}
            self.queue.push_back((at, file.id));
        }
        let node = self.nodes.entry(file.id).or_insert_with(|| Node {
            names: Vec::new(),
            size: 0,
            mode: 0,
            nlink: 0,
            last: at,
            writers: Vec::new(),
        });
        if created {
            // A new file: what is known of this inode is about another one, whose number it got.
            node.names.clear();
            node.writers.clear();
        }
        node.size = file.size;
        node.mode = file.mode;
        node.nlink = file.nlink;
        node.last = node.last.max(at);
        if file.path.is_empty() {
            return if node.names.is_empty() { NO_NAME } else { 0 };
        }
        let place = node.names.iter().position(|name| *name == file.path);
        let place = place.unwrap_or_else(|| {
            node.names.truncate(NAMES_MAX - 1);
            node.names.push(file.path.clone());
            node.names.len() - 1
        });
        u8::try_from(place).unwrap_or(NO_NAME)
    }

    /// Notes that a known file was opened for writing.
    pub(super) fn wrote(&mut self, id: FileId, by: ProcessKey, at: BootTime) {
        if let Some(node) = self.nodes.get_mut(&id)
            && !node.writers.iter().any(|(key, _)| *key == by)
        {
            if node.writers.len() >= WRITERS_MAX {
                node.writers.remove(0);
            }
            node.writers.push((by, at));
        }
    }

    /// The file under a name; `None` if it is forgotten.
    pub(super) fn get(&self, id: FileId, name: u8) -> Option<FileRef> {
        let node = self.nodes.get(&id)?;
        let path = node.names.get(usize::from(name)).or(node.names.first());
        Some(FileRef {
            id,
            path: path.cloned().unwrap_or_default(),
            size: node.size,
            mode: node.mode,
            nlink: node.nlink,
        })
    }

    /// Who wrote a file, and when first.
    pub(super) fn writers(&self, id: FileId) -> &[(ProcessKey, BootTime)] {
        self.nodes.get(&id).map_or(&[], |node| &node.writers)
    }

    /// Forgets the files that were not opened for a day.
    pub(super) fn age(&mut self, now: BootTime) {
        while let Some(&(at, id)) = self.queue.front()
            && at.saturating_add(FILE_AGE_NS) <= now
        {
            self.pop(at, id);
        }
    }

    /// Makes room for one; each call forgets a file or moves one to its place in the queue.
    fn evict(&mut self) -> bool {
        let Some(&(at, id)) = self.queue.front() else {
            return false;
        };
        self.evicted += u64::from(self.pop(at, id));
        true
    }

    fn pop(&mut self, at: BootTime, id: FileId) -> bool {
        self.queue.pop_front();
        match self.nodes.get(&id) {
            Some(node) if node.last > at => {
                self.queue.push_back((node.last, id));
                false
            }
            _ => self.nodes.remove(&id).is_some(),
        }
    }
}

/// Whether a path is what a loader or a runtime reads for itself. Used for the *order* of a list only.
#[must_use]
pub fn is_clutter(path: &[u8]) -> bool {
    const PREFIXES: &[&[u8]] = &[
        b"/usr/lib",
        b"/lib",
        b"/usr/share/locale/",
        b"/usr/share/zoneinfo/",
        b"/etc/ld.so.",
        b"/etc/locale.alias",
    ];
    PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::{FILE_AGE_NS, Files, WRITERS_MAX, is_clutter};
    use crate::model::{FileId, FileRef, ProcessKey, Text};

    fn file(ino: u64, path: &str) -> FileRef {
        FileRef {
            id: FileId {
                ino,
                ..FileId::default()
            },
            path: Text::from(path),
            ..FileRef::default()
        }
    }

    fn shown(files: &Files, ino: u64, name: u8) -> Option<String> {
        files
            .get(file(ino, "").id, name)
            .map(|f| f.path.to_string())
    }

    #[test]
    fn a_file_keeps_each_of_its_names() {
        let mut files = Files::new(100);
        let unnamed = files.note(&file(1, ""), false, 1);
        let first = files.note(&file(1, "/srv/secret"), false, 2);
        let second = files.note(&file(1, "/tmp/x"), false, 3);
        assert_eq!(shown(&files, 1, first).as_deref(), Some("/srv/secret"));
        assert_eq!(shown(&files, 1, second).as_deref(), Some("/tmp/x"));
        assert_eq!(shown(&files, 1, unnamed).as_deref(), Some("/srv/secret"));
        assert_eq!(files.note(&file(1, "/srv/secret"), false, 4), first);
        for n in 0..100 {
            files.note(&file(1, &format!("/link{n}")), false, 5);
        }
        assert_eq!(shown(&files, 1, first).as_deref(), Some("/srv/secret"));
    }

    #[test]
    fn a_created_file_is_not_the_one_that_had_its_inode_number() {
        let mut files = Files::new(100);
        files.note(&file(1, "/old"), false, 1);
        files.wrote(file(1, "").id, ProcessKey::default(), 1);
        let name = files.note(&file(1, "/new"), true, 2);
        assert_eq!(shown(&files, 1, name).as_deref(), Some("/new"));
        assert!(files.writers(file(1, "").id).is_empty());
    }

    #[test]
    fn the_last_writers_are_kept_each_once() {
        let mut files = Files::new(100);
        let id = file(1, "/x").id;
        files.note(&file(1, "/x"), false, 1);
        for tgid in 0..10 {
            let by = ProcessKey { tgid, start_ns: 0 };
            files.wrote(id, by, u64::from(tgid));
            files.wrote(id, by, 99);
        }
        assert_eq!(files.writers(id).len(), WRITERS_MAX);
        assert_eq!(files.writers(id)[3].0.tgid, 9);
        assert_eq!(files.writers(id)[3].1, 9, "when it first wrote");
    }

    #[test]
    fn files_are_bounded_and_those_in_use_stay() {
        let mut files = Files::new(16);
        for n in 0..1000 {
            files.note(&file(n, "/x"), false, n);
            files.note(&file(5, "/used"), false, n);
        }
        assert_eq!(files.len(), 16);
        assert!(files.get(file(5, "").id, 0).is_some());
        assert!(files.queue.len() <= 16);
        assert!(files.evicted >= 983);
    }

    #[test]
    fn files_age_from_their_last_use() {
        let mut files = Files::new(16);
        files.note(&file(1, "/x"), false, 0);
        files.note(&file(2, "/y"), false, 0);
        files.note(&file(2, "/y"), false, 10);
        files.age(FILE_AGE_NS);
        assert!(files.get(file(1, "").id, 0).is_none());
        assert!(files.get(file(2, "").id, 0).is_some());
        files.age(FILE_AGE_NS + 10);
        assert_eq!(files.len(), 0);
    }

    #[test]
    fn what_a_loader_reads_is_clutter() {
        assert!(is_clutter(b"/usr/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(is_clutter(b"/lib64/ld-linux-x86-64.so.2"));
        assert!(is_clutter(b"/etc/ld.so.cache"));
        assert!(!is_clutter(b"/srv/usr/lib/x"));
        assert!(!is_clutter(b""));
    }
}
