//! Paths that the kernel told once.
//!
//! In: file records, of which only the first of a name carries the path. Out: the same records, with it.

use super::bounded::BoundedMap;
use crate::model::{FileAccess, FileId, Text};

/// Bounded memory of which name of which file is which path.
#[derive(Debug)]
pub struct PathTable {
    /// Path, and whether it was cut.
    paths: BoundedMap<(FileId, u64), (Text, bool)>,
    unknown: u64,
}

impl PathTable {
    /// A table of at most `capacity` paths (of at most [`egress_common::records::FILE_PATH_MAX`] bytes each). It should
    /// hold at least twice what the kernel side remembers to have told.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            paths: BoundedMap::new(capacity),
            unknown: 0,
        }
    }

    /// Remembers the path of `access`, or fills it in when the kernel left it out. It stays empty, and is counted, when
    /// it is not known here either.
    pub fn fill(&mut self, access: &mut FileAccess, name_id: u64) {
        let key = (access.file.id, name_id);
        if !access.file.path.is_empty() {
            self.paths
                .insert(key, (access.file.path.clone(), access.truncated));
        } else if let Some((path, truncated)) = self.paths.get(key) {
            access.file.path = path.clone();
            access.truncated |= truncated;
        } else {
            self.unknown += 1;
        }
    }

    /// Paths in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Paths forgotten for want of room, since the beginning.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.paths.evicted()
    }

    /// Records whose path was neither told nor known, since the beginning.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Access, FileRef, ProcessKey};

    fn access(ino: u64, path: &str) -> FileAccess {
        let id = FileId {
            dev: 1,
            ino,
            generation: 0,
        };
        FileAccess {
            process: ProcessKey::default(),
            file: FileRef {
                id,
                path: path.into(),
                ..FileRef::default()
            },
            access: Access::default(),
            truncated: false,
        }
    }

    fn fill(table: &mut PathTable, ino: u64, name: u64, path: &str) -> String {
        let mut access = access(ino, path);
        table.fill(&mut access, name);
        access.file.path.to_string()
    }

    #[test]
    fn a_path_told_once_is_filled_in() {
        let mut table = PathTable::new(8);
        assert_eq!(fill(&mut table, 1, 7, ""), "", "never told");
        assert_eq!(table.unknown(), 1);
        assert_eq!(fill(&mut table, 1, 7, "/a"), "/a");
        assert_eq!(fill(&mut table, 1, 7, ""), "/a");
        assert_eq!(
            fill(&mut table, 1, 8, ""),
            "",
            "another name of the same file"
        );
        assert_eq!(fill(&mut table, 1, 7, "/b"), "/b", "told anew: renamed");
        assert_eq!(fill(&mut table, 1, 7, ""), "/b");
        assert_eq!((table.len(), table.unknown(), table.evicted()), (1, 2, 0));
        for ino in 2..100 {
            fill(&mut table, ino, 0, "/other");
        }
        assert_eq!(fill(&mut table, 1, 7, ""), "", "forgotten");
        assert!(table.len() <= 8 && table.evicted() > 0);
    }

    #[test]
    fn a_cut_path_stays_known_as_cut() {
        let mut table = PathTable::new(8);
        let mut told = FileAccess {
            truncated: true,
            ..access(1, "b/leaf")
        };
        table.fill(&mut told, 7);
        let mut again = access(1, "");
        table.fill(&mut again, 7);
        assert!(again.truncated);
    }
}
