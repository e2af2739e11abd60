//! What detection asks of the lineage.

use std::sync::Arc;

use crate::model::{BootTime, FileRef, Process, ProcessKey};

/// A file that reached a process: opened by itself, or by another that handed the data on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRead {
    /// The file.
    pub file: FileRef,
    /// When it was last seen to be opened for reading.
    pub at: BootTime,
    /// By whom.
    pub by: ProcessKey,
}

/// The files that reached a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The files, in any order.
    pub files: Vec<FileRead>,
    /// Whether nothing is known to be missing.
    pub complete: bool,
}

/// Who comes from what. The lineage implements it; a trait so that judgement is tested without one.
pub trait Origins {
    /// Files that reached `process` since `since`: read by itself, by its pipeline, or staged for it.
    fn sources(&self, process: ProcessKey, since: BootTime) -> Sources;

    /// `process` itself, its parent, and so on up to init, as far as they are known.
    fn ancestors(&self, process: ProcessKey) -> Vec<Arc<Process>>;
}
