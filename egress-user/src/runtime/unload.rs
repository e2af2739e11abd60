//! Removes what a killed daemon left.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use egress_common::ABI_VERSION;
use rustix::fs::{FlockOperation, flock};

use super::{LOCK, RunError};
use crate::sensor::guard;
use crate::sensor::keep::left;
use crate::sensor::keep::pins::{self, Pins};

/// The kernel frees the programs of links that are gone some moments later (RCU).
const FREED_WITHIN: Duration = Duration::from_secs(5);

/// Removes what a daemon that is gone left behind, of whatever version: its pinned links and maps, and the bpf file
/// system if it was mounted for them. Says what was done, a line each; with nothing to do, nothing.
///
/// # Errors
/// A daemon still runs, or something cannot be removed.
pub fn unload(_state_dir: &Path) -> Result<Vec<String>, RunError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| RunError::Failed {
            what,
            why: error.to_string(),
        }
    };
    let lock = Path::new(LOCK);
    let mut done = Vec::new();
    let held = match File::open(lock) {
        Ok(file) => {
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                let pid = std::fs::read_to_string(lock)
                    .ok()
                    .and_then(|pid| pid.trim().parse().ok());
                return Err(RunError::AlreadyRunning { pid });
            }
            Some(file)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&format!("opening {LOCK}"))(error)),
    };
    if let Some(pins) = Pins::find() {
        // Of another version, or damaged: then only the lock tells.
        if let Ok(Some(state)) = left::state_of(&pins)
            && state.abi == ABI_VERSION
            && left::alive(&state, &pins)
        {
            return Err(RunError::AlreadyRunning {
                pid: Some(state.daemon_tgid),
            });
        }
        done.extend(pins.remove().map_err(failed("removing pins"))?);
    }
    done.extend(pins::unmount_ours().map_err(failed("unmounting"))?);
    if held.is_some() {
        std::fs::remove_file(lock).map_err(failed(&format!("removing {LOCK}")))?;
        done.push(format!("removed {LOCK}"));
    }
    let end = Instant::now() + FREED_WITHIN;
    while guard::loaded(&BTreeSet::new()) {
        if Instant::now() > end {
            return Err(RunError::AlreadyRunning { pid: None });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(done)
}
