//! One daemon on a host: two would count every byte twice.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use egress_common::names::PROG_WIRE;
use rustix::fs::{FlockOperation, flock};

const FREED_WITHIN: Duration = Duration::from_secs(5);

/// Held while a daemon runs.
#[derive(Debug)]
pub struct Guard {
    _lock: Option<File>,
}

/// Somebody else runs.
#[derive(Debug)]
pub struct Taken {
    /// Its process id, when it told.
    pub pid: Option<u32>,
}

impl Guard {
    /// Becomes the only one. Containers see other files but the same kernel, so that the kernel is asked too: a program
    /// that is not among the `pinned` ones is held by a daemon.
    ///
    /// # Errors
    /// Somebody else runs.
    pub fn acquire(lock: &Path, pinned: &BTreeSet<u32>) -> Result<Self, Taken> {
        // For root only: whoever can open the file could hold the lock, and so keep the monitor off. A failure shows
        // when the file is opened.
        let _ = lock
            .parent()
            .map(|directory| DirBuilder::new().mode(0o700).create(directory));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(lock);
        let file = match file {
            Ok(mut file) => {
                if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                    let mut pid = String::new();
                    let _ = (&mut file).take(16).read_to_string(&mut pid);
                    return Err(Taken {
                        pid: pid.trim().parse().ok(),
                    });
                }
                let written = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| writeln!(file, "{}", std::process::id()));
                if let Err(error) = written {
                    log::warn!("{}: {error}", lock.display());
                }
                Some(file)
            }
            Err(error) => {
                log::warn!(
                    "{}: {error}: only the kernel is asked whether another daemon runs",
                    lock.display()
                );
                None
            }
        };
        // The kernel frees the programs of a daemon that has just ended some moments later (RCU).
        let end = Instant::now() + FREED_WITHIN;
        while loaded(pinned) {
            if Instant::now() > end {
                return Err(Taken { pid: None });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { _lock: file })
    }
}

/// Whether the kernel holds a program of ours, apart from those that are pinned.
#[must_use]
pub fn loaded(pinned: &BTreeSet<u32>) -> bool {
    aya::programs::loaded_programs()
        .flatten()
        .any(|info| info.name() == PROG_WIRE.as_bytes() && !pinned.contains(&info.id()))
}
