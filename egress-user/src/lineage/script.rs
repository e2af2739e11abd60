//! Scripts: where they are, and what is in them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use sha2::{Digest as _, Sha256};

use crate::model::Text;

/// Largest script that is hashed, bytes.
const SCRIPT_MAX: u64 = 1 << 20;
/// Hashes remembered.
const CACHE_MAX: usize = 1024;
/// Longest path made here, bytes (the kernel's `PATH_MAX`).
const PATH_MAX: usize = 4096;

/// Reads scripts. A recording is replayed with [`NoScripts`], so that it means the same on every host.
pub trait ScriptReader: Send {
    /// Contents of the script at `path` as a process of mount namespace `mntns` sees it; `None` whenever that is not
    /// certain: another mount namespace, a symbolic link, not a regular file, larger than 1 MiB, gone.
    fn hash(&mut self, path: &Text, mntns: u32) -> Option<Hashed>;
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// SHA-256, 64 hexadecimal digits.
    pub sha256: Arc<str>,
    /// Inode number of the file that was read.
    pub ino: u64,
}

/// Reads nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoScripts;

impl ScriptReader for NoScripts {
    fn hash(&mut self, _path: &Text, _mntns: u32) -> Option<Hashed> {
        None
    }
}

/// Reads from this host's file system.
#[derive(Debug)]
pub struct HostScripts {
    mntns: Option<u32>,
    cache: HashMap<Text, (Version, Hashed)>,
}

/// When a file is the same as before. The change time is in it because a user can set the modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    dev: u64,
    ino: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl HostScripts {
    /// For processes of our own mount namespace.
    #[must_use]
    pub fn new() -> Self {
        let mntns = rustix::fs::stat("/proc/self/ns/mnt")
            .ok()
            .and_then(|stat| u32::try_from(stat.st_ino).ok());
        Self {
            mntns,
            cache: HashMap::new(),
        }
    }
}

impl Default for HostScripts {
    fn default() -> Self {
        Self::new()
    }
}

impl ScriptReader for HostScripts {
    fn hash(&mut self, path: &Text, mntns: u32) -> Option<Hashed> {
        if self.mntns != Some(mntns) || !path.as_bytes().starts_with(b"/") {
            return None;
        }
        // O_PATH does nothing to what is found there, be it a FIFO or a device; it is opened only once it is known
        // to be a regular file, and through the descriptor, so that it is that very file.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(CWD, path.as_path(), flags, Mode::empty()).ok()?;
        let stat = fstat(&found).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let version = Version {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).ok()?),
            changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).ok()?),
        };
        if let Some((cached, hashed)) = self.cache.get(path)
            && *cached == version
        {
            return Some(hashed.clone());
        }
        if u64::try_from(stat.st_size).ok()? > SCRIPT_MAX {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = format!("/proc/self/fd/{}", found.as_raw_fd());
        let file = File::from(openat(CWD, name, flags, Mode::empty()).ok()?);
        let mut contents = Vec::new();
        file.take(SCRIPT_MAX + 1).read_to_end(&mut contents).ok()?;
        if u64::try_from(contents.len()).ok()? > SCRIPT_MAX {
            return None;
        }
        let hashed = Hashed {
            sha256: sha256(&contents),
            ino: stat.st_ino,
        };
        if self.cache.len() >= CACHE_MAX {
            self.cache.clear();
        }
        self.cache.insert(path.clone(), (version, hashed.clone()));
        Some(hashed)
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> Arc<str> {
    hex(&Sha256::digest(bytes)).into()
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `path` from `cwd`, with `.`, `..` and double slashes resolved by their letters alone (the file system is not
/// asked). A relative path stays relative where the working directory is not known.
pub(super) fn absolute(cwd: &Text, path: &[u8]) -> Text {
    let mut whole = Vec::new();
    if !path.starts_with(b"/") {
        if !cwd.as_bytes().starts_with(b"/") {
            return path.into();
        }
        whole.extend_from_slice(cwd.as_bytes());
        whole.push(b'/');
    }
    whole.extend_from_slice(path);
    whole.truncate(PATH_MAX);
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in whole.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut resolved = Vec::with_capacity(whole.len());
    for part in parts {
        resolved.push(b'/');
        resolved.extend_from_slice(part);
    }
    if resolved.is_empty() {
        resolved.push(b'/');
    }
    resolved.into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::{HostScripts, SCRIPT_MAX, ScriptReader as _, absolute, sha256};
    use crate::model::Text;

    #[test]
    fn paths_are_resolved_by_their_letters() {
        let from = |cwd: &str, path: &str| absolute(&Text::from(cwd), path.as_bytes()).to_string();
        assert_eq!(from("/opt", "x.sh"), "/opt/x.sh");
        assert_eq!(from("/opt", "./a/../x.sh"), "/opt/x.sh");
        assert_eq!(from("/opt", "/a//b/./c"), "/a/b/c");
        assert_eq!(from("/", "../../x"), "/x");
        assert_eq!(from("/a", ".."), "/");
        assert_eq!(from("", "x.sh"), "x.sh");
        assert_eq!(from("", "/x/../y"), "/y");
    }

    #[test]
    fn only_what_is_certain_is_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Text::from(folder.path().join(name).to_str().unwrap());
        let ours = u32::try_from(fs::metadata("/proc/self/ns/mnt").unwrap().ino()).unwrap();
        let mut reader = HostScripts::new();

        fs::write(folder.path().join("a"), "#!/bin/sh\n").unwrap();
        let first = reader.hash(&path("a"), ours).unwrap();
        assert_eq!(first.sha256, sha256(b"#!/bin/sh\n"));
        assert_eq!(
            first.ino,
            fs::metadata(folder.path().join("a")).unwrap().ino()
        );
        assert_eq!(reader.hash(&path("a"), ours), Some(first), "from the cache");
        fs::write(folder.path().join("a"), "#!/bin/ex\n").unwrap();
        assert_eq!(
            reader.hash(&path("a"), ours).unwrap().sha256,
            sha256(b"#!/bin/ex\n"),
            "same size, changed"
        );

        assert_eq!(
            reader.hash(&path("a"), ours + 1),
            None,
            "another mount namespace"
        );
        assert_eq!(reader.hash(&path("a"), 0), None, "unknown mount namespace");
        symlink("a", folder.path().join("link")).unwrap();
        assert_eq!(reader.hash(&path("link"), ours), None);
        assert_eq!(reader.hash(&path("none"), ours), None);
        assert_eq!(reader.hash(&path(""), ours), None, "a folder");
        assert_eq!(reader.hash(&Text::from("a"), ours), None, "relative");
        assert_eq!(
            reader.hash(&Text::from("/dev/zero"), ours),
            None,
            "a device"
        );
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert_eq!(
            reader.hash(&path("fifo"), ours),
            None,
            "a FIFO that nobody writes to must not block"
        );
        let large = usize::try_from(SCRIPT_MAX).unwrap();
        fs::write(folder.path().join("large"), vec![b'x'; large + 1]).unwrap();
        assert_eq!(reader.hash(&path("large"), ours), None);
        fs::write(folder.path().join("large"), vec![b'x'; large]).unwrap();
        assert!(reader.hash(&path("large"), ours).is_some());
    }
}
