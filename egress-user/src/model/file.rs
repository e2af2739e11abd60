//! Files: what they are, what they are called, how they were opened.

use serde::Serialize;

use super::{ProcessKey, Text};

/// A file without its name: renaming and linking change nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct FileId {
    /// Device, kernel encoding (major in the upper 12 bits, minor in the lower 20).
    pub dev: u32,
    /// Inode number.
    pub ino: u64,
    /// Inode generation.
    pub generation: u32,
}

/// A file with the path under which it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileRef {
    /// The file.
    pub id: FileId,
    /// Absolute path in the mount namespace of whoever opened it; relative when its upper end was cut; empty when not known.
    pub path: Text,
    /// Size in bytes when observed.
    pub size: u64,
    /// `st_mode`.
    pub mode: u32,
    /// Hard links; 0 for a deleted file.
    pub nlink: u32,
}

impl FileRef {
    /// A `memfd_create` file: it never had a path (Linux `mm/memfd.c` names it `memfd:...`).
    #[must_use]
    pub fn is_memfd(&self) -> bool {
        self.path.as_bytes().starts_with(b"/memfd:")
    }

    /// Unlinked, and not a memfd.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.nlink == 0 && self.id.ino != 0 && !self.is_memfd()
    }
}

/// How a file was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Access {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// This open made the file.
    pub create: bool,
}

/// A process opened a file that can hold data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAccess {
    /// Who.
    pub process: ProcessKey,
    /// What.
    pub file: FileRef,
    /// How.
    pub access: Access,
    /// The path was longer than the record.
    pub truncated: bool,
}
