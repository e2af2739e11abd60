//! tracefs, which holds the numbers of the system call tracepoints.

use std::path::{Path, PathBuf};

const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// tracefs for as long as tracepoints are being attached: mounted here if nobody had, and then unmounted again.
#[derive(Debug)]
pub struct Mounted {
    root: Option<PathBuf>,
    ours: bool,
    failure: Option<String>,
}

impl Mounted {
    /// Finds tracefs, or mounts it at its usual place.
    #[must_use]
    pub fn ensure() -> Self {
        let find = || {
            PLACES
                .iter()
                .map(Path::new)
                .find(|place| place.join("events").is_dir())
                .map(Path::to_path_buf)
        };
        if let Some(root) = find() {
            return Self {
                root: Some(root),
                ours: false,
                failure: None,
            };
        }
        let flags = rustix::mount::MountFlags::NOSUID
            | rustix::mount::MountFlags::NODEV
            | rustix::mount::MountFlags::NOEXEC;
        match rustix::mount::mount("tracefs", PLACES[0], "tracefs", flags, None) {
            Ok(()) => Self {
                root: find(),
                ours: true,
                failure: None,
            },
            Err(error) => Self {
                root: None,
                ours: false,
                failure: Some(format!(
                    "tracefs is not mounted, and mounting it at {} failed: {error}",
                    PLACES[0]
                )),
            },
        }
    }

    /// Why a tracepoint cannot be attached, if it cannot.
    #[must_use]
    pub fn missing(&self, category: &str, name: &str) -> Option<String> {
        match &self.root {
            Some(root) if root.join("events").join(category).join(name).is_dir() => None,
            Some(root) => Some(format!(
                "{}/events/{category} has no {name}",
                root.display()
            )),
            None => Some(self.failure.clone().unwrap_or_else(|| "no tracefs".into())),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) =
                rustix::mount::unmount(PLACES[0], rustix::mount::UnmountFlags::DETACH)
        {
            log::warn!("{}: unmounting it again failed: {error}", PLACES[0]);
        }
    }
}
