//! Where outlets note what they have told.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{Journal, Record, Told};

/// The journal of this host: none before the sensor runs, and another after an upgrade.
#[derive(Clone, Default)]
pub struct JournalCell(Arc<RwLock<Option<Arc<dyn Journal>>>>);

impl fmt::Debug for JournalCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JournalCell")
    }
}

impl JournalCell {
    /// From now on, this one.
    pub fn set(&self, journal: Arc<dyn Journal>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(journal);
    }

    pub(super) fn with(&self, note: impl FnOnce(&dyn Journal)) {
        if let Some(journal) = &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            note(&**journal);
        }
    }

    /// The record is told, or is not to be.
    pub(super) fn told(&self, record: &Record) {
        if let Some(told) = Told::by(record) {
            self.with(|journal| journal.told(&told));
        }
    }
}
