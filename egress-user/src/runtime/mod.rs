//! TODO-runtime

mod error;

use std::path::{Path, PathBuf};

pub use error::RunError;

use crate::config::RunOptions;
use crate::model::DoctorReport;

fn absent() -> RunError {
    RunError::Failed {
        what: "runtime".into(),
        why: "not there yet".into(),
    }
}

/// Runs the daemon until a signal comes or `options.duration` is over.
///
/// # Errors
/// [`RunError`].
pub fn run(_options: &RunOptions) -> Result<(), RunError> {
    Err(absent())
}

/// Finds out what works here. Attaches nothing for good.
///
/// # Errors
/// [`RunError`].
pub fn doctor() -> Result<DoctorReport, RunError> {
    Err(absent())
}

/// Removes the pinned maps and links of a daemon that is gone; returns what was removed.
///
/// # Errors
/// [`RunError`].
pub fn unload(_state_dir: &Path) -> Result<Vec<PathBuf>, RunError> {
    Err(absent())
}
