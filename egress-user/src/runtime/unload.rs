//! Removes what a killed daemon left.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{LOCK, RunError};
use crate::sensor::guard;

/// Removes what a daemon that is gone left behind, and says what that was. Its programs and links need no removal: they
/// are not pinned, so the kernel took them back with the process; this makes sure of it.
///
/// # Errors
/// A daemon still runs, or something cannot be removed.
pub fn unload(_state_dir: &Path) -> Result<Vec<PathBuf>, RunError> {
    let lock = Path::new(LOCK);
    let mut removed = Vec::new();
    match File::open(lock) {
        Ok(file) => {
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                let pid = std::fs::read_to_string(lock)
                    .ok()
                    .and_then(|pid| pid.trim().parse().ok());
                return Err(RunError::AlreadyRunning { pid });
            }
            std::fs::remove_file(lock).map_err(|error| RunError::Failed {
                what: format!("removing {LOCK}"),
                why: error.to_string(),
            })?;
            removed.push(lock.into());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(RunError::Failed {
                what: format!("opening {LOCK}"),
                why: error.to_string(),
            });
        }
    }
    if guard::loaded() {
        return Err(RunError::AlreadyRunning { pid: None });
    }
    Ok(removed)
}
