//! What detection asks of the lineage.

use std::sync::Arc;

pub use crate::lineage::{FileRead, Sources};
use crate::model::{BootTime, Process, ProcessKey};

/// Who comes from what. The lineage implements it; a trait so that judgement is tested without one.
pub trait Origins {
    /// Files that reached `process` since `since`: read by itself, by its pipeline, or staged for it.
    fn sources(&self, process: ProcessKey, since: BootTime) -> Sources;

    /// `process` itself, its parent, and so on up to init, as far as they are known.
    fn ancestors(&self, process: ProcessKey) -> Vec<Arc<Process>>;
}
