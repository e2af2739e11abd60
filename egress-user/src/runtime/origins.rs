//! What detection reads of lineage.

use std::sync::Arc;

use crate::detect::Origins;
use crate::lineage::{Lineage, Sources};
use crate::model::{BootTime, Process, ProcessKey};

impl Origins for Lineage {
    fn sources(&self, process: ProcessKey, since: BootTime) -> Sources {
        Lineage::sources(self, process, since)
    }

    fn ancestors(&self, process: ProcessKey) -> Vec<Arc<Process>> {
        let mut line: Vec<_> = self.process(process).into_iter().cloned().collect();
        line.extend(Lineage::ancestors(self, process));
        line
    }
}
