//! The pin directory: `egress/` on a bpf file system, with `maps/` and `links/`.
//!
//! A bpf file system that is mounted is used; else one is mounted at [`PLACE`], with a source that says whose it is, so that any
//! version of this program knows that it may be unmounted again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use aya::programs::links::{FdLink, PinnedLink};
use egress_common::names::MAP_STATE;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::sensor::cgroups::unescape;

/// Where a bpf file system usually is.
pub const PLACE: &str = "/sys/fs/bpf";
/// Our directory there, and the source of a mount that is ours.
const NAME: &str = "egress";
const MAPS: &str = "maps";
const LINKS: &str = "links";
/// Directories within directories that are removed: ours has two levels.
const DEPTH_MAX: usize = 4;

/// A mounted bpf file system.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bpffs {
    place: PathBuf,
    /// Mounted by a daemon of this host.
    ours: bool,
}

impl Bpffs {
    /// Unmounts it if it is ours and nobody's else. Names with dots are the kernel's own, in every one (Linux
    /// `kernel/bpf/inode.c`, `populate_bpffs` and `bpf_lookup`).
    fn unmount(&self, done: &mut Vec<String>) -> io::Result<()> {
        let place = &self.place;
        let used = |entry: io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| !entry.file_name().as_encoded_bytes().contains(&b'.'))
        };
        if !self.ours || fs::read_dir(place)?.any(used) {
            return Ok(());
        }
        unmount(place, UnmountFlags::empty()).map_err(|error| named(place, &error.into()))?;
        done.push(format!("unmounted {}", place.display()));
        Ok(())
    }
}

/// The pin directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    bpffs: Bpffs,
}

impl Pins {
    /// The one that is there.
    #[must_use]
    pub fn find() -> Option<Self> {
        mounted()
            .into_iter()
            .map(|bpffs| Self { bpffs })
            .find(|pins| fs::symlink_metadata(pins.root()).is_ok_and(|found| found.is_dir()))
    }

    /// The one that is there, or a new one, on a file system that is mounted if need be.
    ///
    /// # Errors
    /// Why there cannot be one, and what to do.
    pub fn make() -> Result<Self, String> {
        let pins = match Self::find() {
            Some(pins) => pins,
            None => Self {
                bpffs: match mounted().into_iter().next() {
                    Some(bpffs) => bpffs,
                    None => mount_one()?,
                },
            },
        };
        let root = pins.root();
        let failed = |error: io::Error| format!("{}: {error}", root.display());
        for directory in [root.clone(), root.join(MAPS), root.join(LINKS)] {
            match DirBuilder::new().mode(0o700).create(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                _ => {}
            }
        }
        pins.owned().map_err(failed)?;
        Ok(pins)
    }

    /// Whether a new one could be made here, without making it: where, or why not.
    ///
    /// # Errors
    /// Why not.
    pub fn place() -> Result<String, String> {
        if let Some(bpffs) = mounted().into_iter().next() {
            return Ok(bpffs.place.display().to_string());
        }
        may_mount()?;
        Ok(format!("none mounted; the daemon mounts one at {PLACE}"))
    }

    /// Whether nobody else can have put anything there.
    ///
    /// # Errors
    /// Somebody can.
    pub fn owned(&self) -> io::Result<()> {
        let found = fs::symlink_metadata(self.root())?;
        if found.is_dir() && found.uid() == 0 && found.mode() & 0o022 == 0 {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it does not belong to root alone; find out who made it, and remove it",
        ))
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.bpffs.place.join(NAME)
    }

    /// Where a map is pinned. bpffs takes no dots in names.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<PathBuf> {
        (!name.contains('.')).then(|| self.root().join(MAPS).join(name))
    }

    /// Where a hook's link is pinned.
    #[must_use]
    pub fn link(&self, hook: &str) -> PathBuf {
        self.root().join(LINKS).join(hook)
    }

    /// Names of all maps.
    #[must_use]
    pub fn map_names(&self) -> Vec<String> {
        names(&self.root().join(MAPS))
    }

    /// Names of all links.
    #[must_use]
    pub fn link_names(&self) -> Vec<String> {
        names(&self.root().join(LINKS))
    }

    /// All maps, open.
    ///
    /// # Errors
    /// One cannot be opened; the message names it.
    pub fn open_maps(&self) -> Result<BTreeMap<String, MapData>, String> {
        let mut maps = BTreeMap::new();
        for name in self.map_names() {
            let path = self.root().join(MAPS).join(&name);
            let map = MapData::from_pin(&path).map_err(|error| {
                format!(
                    "{}: {}",
                    path.display(),
                    crate::sensor::load::describe(&error)
                )
            })?;
            maps.insert(name, map);
        }
        Ok(maps)
    }

    /// A hook's link, if it is pinned.
    #[must_use]
    pub fn open_link(&self, hook: &str) -> Option<FdLink> {
        let path = self.link(hook);
        // The library takes paths without zero bytes only; ours have none.
        CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
        PinnedLink::from_pin(path).ok().map(FdLink::from)
    }

    /// Ids of the programs that pinned links hold.
    #[must_use]
    pub fn programs(&self) -> BTreeSet<u32> {
        let links = self.link_names();
        links
            .iter()
            .filter_map(|name| Some(self.open_link(name)?.info().ok()?.program_id()))
            .collect()
    }

    /// Removes a hook's pin: it stays attached for as long as somebody holds its link.
    pub fn remove_link(&self, hook: &str) {
        let path = self.link(hook);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{}: {error}", path.display());
            }
            _ => {}
        }
    }

    /// Removes everything in the directory, whatever it is, then the directory, and unmounts a file system that is ours
    /// and now empty. Says what was done.
    ///
    /// # Errors
    /// The first thing that could not be removed.
    pub fn remove(&self) -> io::Result<Vec<String>> {
        let mut done = self.clear()?;
        self.bpffs.unmount(&mut done)?;
        Ok(done)
    }

    /// As [`Self::remove`], but leaves the file system mounted.
    ///
    /// # Errors
    /// The first thing that could not be removed.
    pub fn clear(&self) -> io::Result<Vec<String>> {
        let mut done = Vec::new();
        let root = self.root();
        // First, so that what is left by a crash on the way is no longer taken for whole.
        remove_file(&root.join(MAPS).join(MAP_STATE), &mut done)?;
        remove_all(&root.join(LINKS), 1, &mut done)?;
        remove_all(&root, 0, &mut done)?;
        Ok(done)
    }
}

/// A file system that was mounted for us and that nobody uses.
///
/// # Errors
/// It cannot be unmounted.
pub fn unmount_ours() -> io::Result<Vec<String>> {
    let mut done = Vec::new();
    for bpffs in mounted() {
        bpffs.unmount(&mut done)?;
    }
    Ok(done)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn remove_file(path: &Path, done: &mut Vec<String>) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => done.push(format!("removed {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(named(path, &error)),
    }
    Ok(())
}

fn remove_all(directory: &Path, depth: usize, done: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| named(directory, &error))?,
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        if is_dir && depth < DEPTH_MAX {
            remove_all(&path, depth + 1, done)?;
        } else {
            remove_file(&path, done)?;
        }
    }
    fs::remove_dir(directory).map_err(|error| named(directory, &error))?;
    done.push(format!("removed {}", directory.display()));
    Ok(())
}

/// Every bpf file system: one with our directory first, then the usual place.
fn mounted() -> Vec<Bpffs> {
    let mut found = parse(&fs::read("/proc/self/mountinfo").unwrap_or_default());
    found.sort_by_key(|bpffs| {
        (
            !bpffs.place.join(NAME).is_dir(),
            bpffs.place != Path::new(PLACE),
        )
    });
    found
}

/// Those in a mountinfo file (`proc_pid_mountinfo(5)`), whole ones only.
fn parse(mountinfo: &[u8]) -> Vec<Bpffs> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let whole = fields.nth(3)? == b"/";
            let place = fields.next()?;
            // Optional fields follow, as many as there are, then a hyphen.
            let is_bpf = fields.by_ref().any(|field| field == b"-") && fields.next()? == b"bpf";
            let source = fields.next()?;
            (whole && is_bpf).then(|| Bpffs {
                place: PathBuf::from(OsString::from_vec(unescape(place))),
                ours: source == NAME.as_bytes(),
            })
        })
        .collect()
}

/// Whether a file system may be mounted at [`PLACE`], and would stay.
fn may_mount() -> Result<(), String> {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/mnt")).ok();
    let (own, first) = (namespace("self"), namespace("1"));
    if first.is_some() && own != first {
        return Err(format!(
            "no bpf file system is mounted in this mount namespace, and one mounted here would end with it; \
             mount one on the host (mount -t bpf bpf {PLACE}) and make it visible here"
        ));
    }
    if !rustix::thread::capabilities(None).is_ok_and(|sets| {
        sets.effective
            .contains(rustix::thread::CapabilitySet::SYS_ADMIN)
    }) {
        return Err(format!(
            "no bpf file system is mounted, and mounting one takes CAP_SYS_ADMIN; mount one (mount -t bpf bpf {PLACE})"
        ));
    }
    Ok(())
}

fn mount_one() -> Result<Bpffs, String> {
    may_mount()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(NAME, PLACE, "bpf", flags, Some(c"mode=0700"))
        .map_err(|error| format!("mounting a bpf file system at {PLACE} failed: {error}"))?;
    Ok(Bpffs {
        place: PLACE.into(),
        ours: true,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Bpffs, parse};

    #[test]
    fn mounts_are_found_with_their_owner() {
        let text = b"23 27 0:22 / /sys rw,relatime - sysfs sysfs rw\n\
            41 31 0:38 / /sys/fs/bpf rw,nosuid shared:7 master:1 - bpf egress rw,mode=700\n\
            42 31 0:39 / /run/my\\040bpf rw - bpf bpf rw\n\
            43 31 0:39 /sub /mnt/part rw - bpf bpf rw\n\
            44 31 0:40 / /mnt/bpf rw - ext4 /dev/bpf rw\n\
            torn";
        let found = |place: &str, ours| Bpffs {
            place: Path::new(place).into(),
            ours,
        };
        assert_eq!(
            parse(text),
            [found("/sys/fs/bpf", true), found("/run/my bpf", false)]
        );
        assert!(parse(b"").is_empty());
    }
}
