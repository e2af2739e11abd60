//! Where records leave the program.
//!
//! In: [`Record`]s from the runtime, through [`Outlets::publish`], which never blocks. Out: JSON lines ([`Jsonl`]), metrics
//! and probes ([`metrics`], [`http`]), a live view ([`console`]). Each [`Outlet`] has a thread and a bounded queue of
//! its own: a slow disk or a stopped reader costs its own records, counted, and nobody else's.

use std::io;

use crate::model::Record;

mod books;
pub mod console;
mod convert;
pub mod ecs;
mod fan;
mod file;
mod host;
pub mod http;
mod journal;
mod jsonl;
pub mod metrics;
#[cfg(test)]
pub(crate) mod samples;
mod shown;
mod summary;
mod words;

pub use fan::{Outlets, QUEUE_CAPACITY, QUEUE_RESERVE, Status};
pub use host::Host;
pub use journal::JournalCell;
pub use jsonl::Jsonl;

/// A way out for records.
pub trait Outlet: Send {
    /// As in logs: `jsonl`, `metrics`, `console`.
    fn name(&self) -> &'static str;

    /// Takes one record; it may be held until [`Outlet::flush`].
    ///
    /// # Errors
    /// When the record could not be taken: it is lost, and counted by the caller.
    fn record(&mut self, record: &Record) -> io::Result<()>;

    /// Whether it notes by itself what it has told, when that is written. Otherwise a record is told when it is taken.
    fn notes(&self) -> bool {
        false
    }

    /// Writes what is held. Called once a second, at once after an alert, and at the end.
    ///
    /// # Errors
    /// When something could not be written: it is kept, and tried again at the next flush.
    fn flush(&mut self) -> io::Result<()>;
}
