//! The cgroup2 tree: where programs are attached, and what a cgroup id is called.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags, openat, statx};

use super::bounded::BoundedMap;
use super::pid_dir::{self, PidDir};
use crate::model::{BootTime, ProcessKey, Text};

/// Inode number, and so id, of the root of the one cgroup2 hierarchy (kernfs numbers its nodes from 1, `fs/kernfs/dir.c`).
const HOST_ROOT_ID: u64 = 1;
/// Least time between two walks over the tree, ns. Below the usual drain interval, so that each drain may walk once: what
/// a walk that is not due would have found is never looked for again.
const WALK_INTERVAL_NS: u64 = 50_000_000;
/// Most cgroups looked at in one walk.
const WALK_MAX: usize = 100_000;

/// Why there is no cgroup2 root to attach to.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Nothing is mounted.
    #[error(
        "{mountinfo} shows no cgroup2 mount; mount one (mount -t cgroup2 none /sys/fs/cgroup/unified), \
         or in a container mount the host's /sys/fs/cgroup"
    )]
    NotMounted {
        /// Where it was looked for.
        mountinfo: PathBuf,
    },
    /// A file or directory cannot be opened.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The cgroup2 root, open.
#[derive(Debug)]
pub struct CgroupRoot {
    path: PathBuf,
    directory: OwnedFd,
    id: u64,
}

impl CgroupRoot {
    /// Finds the mount of the hierarchy's root: where it is differs (`/sys/fs/cgroup`, `/sys/fs/cgroup/unified`, a bind
    /// mount of the host's in a container).
    ///
    /// # Errors
    /// When no cgroup2 is mounted, or it cannot be opened.
    pub fn find() -> Result<Self, CgroupError> {
        Self::from_mountinfo(Path::new("/proc/self/mountinfo"))
    }

    fn from_mountinfo(mountinfo: &Path) -> Result<Self, CgroupError> {
        let unreadable = |source| CgroupError::Unreadable {
            path: mountinfo.into(),
            source,
        };
        let mut best = None;
        let mut failed = None;
        for (root, path) in cgroup2_mounts(&std::fs::read(mountinfo).map_err(unreadable)?) {
            match Self::open(path) {
                // The whole hierarchy beats the root of our own cgroup namespace, and that beats any other part.
                Ok(found) => {
                    let rank = if found.covers_host() {
                        2
                    } else {
                        u8::from(root == b"/")
                    };
                    if best.as_ref().is_none_or(|(best_rank, _)| rank > *best_rank) {
                        best = Some((rank, found));
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        match (best, failed) {
            (Some((_, found)), _) => Ok(found),
            (None, Some(error)) => Err(error),
            (None, None) => Err(CgroupError::NotMounted {
                mountinfo: mountinfo.into(),
            }),
        }
    }

    fn open(path: PathBuf) -> Result<Self, CgroupError> {
        let open = || -> io::Result<(OwnedFd, u64)> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(&path, flags, Mode::empty())?;
            let id = inode(directory.as_fd(), b"")?;
            Ok((directory, id))
        };
        match open() {
            Ok((directory, id)) => Ok(Self {
                path,
                directory,
                id,
            }),
            Err(source) => Err(CgroupError::Unreadable { path, source }),
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is the root of the whole hierarchy: what is attached here sees every process of the host.
    #[must_use]
    pub fn covers_host(&self) -> bool {
        self.id == HOST_ROOT_ID
    }

    /// The id of the cgroup at `path` below the root, as `/proc/PID/cgroup` spells it; `None` when it is gone, or
    /// lies outside of our cgroup namespace (`/../x`, `cgroup_namespaces(7)`).
    #[must_use]
    pub fn id_of(&self, path: &[u8]) -> Option<u64> {
        if path
            .split(|byte| *byte == b'/')
            .any(|component| component == b"..")
        {
            return None;
        }
        inode(self.directory.as_fd(), path.strip_prefix(b"/")?).ok()
    }
}

impl AsFd for CgroupRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Inode number of a path below a directory; of the directory itself for an empty path.
fn inode(directory: BorrowedFd<'_>, path: &[u8]) -> io::Result<u64> {
    Ok(statx(directory, path, AtFlags::EMPTY_PATH, StatxFlags::INO)?.stx_ino)
}

/// Root field and mount point of every cgroup2 mount in a mountinfo file (`proc_pid_mountinfo(5)`).
fn cgroup2_mounts(mountinfo: &[u8]) -> Vec<(&[u8], PathBuf)> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let root = fields.nth(3)?;
            let point = fields.next()?;
            // Optional fields follow, as many as there are, then a hyphen.
            (fields.by_ref().any(|field| field == b"-") && fields.next()? == b"cgroup2").then(
                || {
                    (
                        root,
                        PathBuf::from(std::ffi::OsString::from_vec(unescape(point))),
                    )
                },
            )
        })
        .collect()
}

/// mountinfo writes space, tab, newline and backslash as `\ooo` (octal).
pub(super) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() {
            tail.get(3..).unwrap_or_default()
        } else {
            tail
        };
    }
    bytes
}

/// Names of cgroups by id.
///
/// An id (64 bits: the inode number of its directory on 64-bit kernels) is never used again before the next boot, and
/// cgroup2 knows no rename, so what was found once stays right.
#[derive(Debug)]
pub struct CgroupPaths {
    paths: BoundedMap<u64, Text>,
    /// Ids that were nowhere in the tree: their cgroup was removed before it was asked for.
    gone: BoundedMap<u64, ()>,
    walked_at: Option<BootTime>,
    unknown: u64,
}

impl CgroupPaths {
    /// Remembers at most `capacity` names.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            paths: BoundedMap::new(capacity),
            gone: BoundedMap::new(capacity),
            walked_at: None,
            unknown: 0,
        }
    }

    /// The path of a cgroup below the root (`/` for the root itself), empty when not known.
    ///
    /// An id not seen before is first looked for where process `member` is now (one small file to read), then in the whole
    /// tree, at most once in 50 ms of `now`. Whatever the walk meets is remembered.
    pub fn path(&mut self, root: &CgroupRoot, id: u64, member: Option<u32>, now: BootTime) -> Text {
        let path = self.find(root, id, member, now);
        self.unknown += u64::from(path.is_none());
        path.unwrap_or_default()
    }

    /// As [`Self::path`], of whom the answer would only refine: no answer is not counted.
    pub fn find(
        &mut self,
        root: &CgroupRoot,
        id: u64,
        member: Option<u32>,
        now: BootTime,
    ) -> Option<Text> {
        if let Some(path) = self.paths.get(id) {
            return Some(path.clone());
        }
        if id == 0 || self.gone.get(id).is_some() {
            return None;
        }
        let found = member.and_then(|tgid| path_of_member(root, id, tgid));
        if let Some(path) = found {
            self.paths.insert(id, path.clone());
            return Some(path);
        }
        let due = self
            .walked_at
            .is_none_or(|at| now.abs_diff(at) >= WALK_INTERVAL_NS);
        if due { self.walk(root, id, now) } else { None }
    }

    /// Questions that had no answer, since the beginning.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Names forgotten for want of room, since the beginning.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.paths.evicted()
    }

    fn walk(&mut self, root: &CgroupRoot, wanted: u64, now: BootTime) -> Option<Text> {
        self.walked_at = Some(now);
        let mut found = None;
        let complete = walk(root, |id, path| {
            let path = Text::from(path);
            if id == wanted {
                found = Some(path.clone());
            }
            self.paths.insert(id, path);
        });
        if found.is_none() && complete {
            self.gone.insert(wanted, ());
        }
        found
    }
}

/// Whether this host has cgroup v1 hierarchies beside cgroup2. There a container may be known by those alone: runc and
/// what builds on it leave its cgroup2 membership as it was.
#[must_use]
pub fn is_hybrid() -> bool {
    let own = PidDir::open(Path::new("/proc"), std::process::id());
    own.and_then(|own| own.read("cgroup", pid_dir::CGROUP))
        .is_ok_and(|cgroup| cgroup.split(|byte| *byte == b'\n').any(is_v1))
}

/// Whether a line of `/proc/PID/cgroup` is of a v1 hierarchy; those have numbers from 1 on.
fn is_v1(line: &[u8]) -> bool {
    !line.is_empty() && !line.starts_with(b"0:")
}

/// The paths of a process in v1 hierarchies ([`pid_dir::cgroup1_paths`]); `None` when it has ended, also when its pid
/// was given to another meanwhile.
#[must_use]
pub fn v1_paths(process: ProcessKey) -> Option<Vec<Text>> {
    let directory = PidDir::open(Path::new("/proc"), process.tgid).ok()?;
    let cgroup = directory.read("cgroup", pid_dir::CGROUP).ok()?;
    // The same to the clock tick, to which `/proc` cuts it.
    let began = directory.key().ok()?.start_ns;
    let late = process.start_ns.checked_sub(began)?;
    (late < pid_dir::tick_ns()).then(|| pid_dir::cgroup1_paths(&cgroup))
}

/// Where a process is, if that is the cgroup that was asked for.
fn path_of_member(root: &CgroupRoot, id: u64, tgid: u32) -> Option<Text> {
    let process = PidDir::open(Path::new("/proc"), tgid).ok()?;
    let path = pid_dir::cgroup2_path(&process.read("cgroup", pid_dir::CGROUP).ok()?)?;
    (root.id_of(path.as_bytes()) == Some(id)).then_some(path)
}

/// Tells every cgroup's id and path. False when it gave up before the end.
fn walk(root: &CgroupRoot, mut tell: impl FnMut(u64, &[u8])) -> bool {
    tell(root.id, b"/");
    let mut left = WALK_MAX;
    let mut directories = vec![Vec::new()];
    while let Some(directory) = directories.pop() {
        // Relative to the root, whose empty path is `.`; a cgroup that was removed meanwhile is not there.
        let name = if directory.is_empty() {
            OsStr::new(".")
        } else {
            OsStr::from_bytes(&directory)
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(entries) = openat(root, name, flags, Mode::empty()).and_then(Dir::new) else {
            continue;
        };
        for entry in entries.map_while(Result::ok) {
            let name = entry.file_name().to_bytes();
            if entry.file_type() != FileType::Directory || name == b"." || name == b".." {
                continue;
            }
            let Some(rest) = left.checked_sub(1) else {
                return false;
            };
            left = rest;
            let mut path = directory.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            tell(entry.ino(), &[b"/", &path[..]].concat());
            directories.push(path);
        }
    }
    true
}

#[cfg(test)]
mod tests;
