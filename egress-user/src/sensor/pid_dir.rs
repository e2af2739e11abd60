//! One process's directory in `/proc`, held open.
//!
//! A held `/proc/PID` stands for that very process: once it has ended every read fails, also when its pid was given
//! to another meanwhile. Everything in it is what the process wrote or could write; reads are bounded.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, openat, readlinkat, statx};
use rustix::io::Errno;
use rustix::param::clock_ticks_per_second;

use crate::model::{BootTime, FileId, FileRef, ProcessKey, Text};

/// Bound for files whose contents the kernel writes, bytes.
pub const SMALL: usize = 16 << 10;
/// Bound for `cgroup`, bytes: a line for each hierarchy, with a path of up to 4 KiB; that of cgroup2 is the last.
pub const CGROUP: usize = 64 << 10;
/// Most hierarchies whose paths are taken: the kernel has 14 controllers.
const HIERARCHIES_MAX: usize = 16;

/// A process's directory.
#[derive(Debug)]
pub struct PidDir {
    tgid: u32,
    directory: OwnedFd,
}

/// Of `/proc/PID/stat` what is needed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `comm`; for a kernel worker, what it does too.
    pub name: Text,
    /// One letter (`proc_pid_stat(5)`).
    pub state: u8,
    /// Thread-group id of the parent.
    pub parent: u32,
    /// Device number of the controlling terminal, 0 for none.
    pub tty: u32,
    /// Threads.
    pub threads: u32,
    /// Start, cut to 10 ms.
    pub start_ns: BootTime,
}

impl PidDir {
    /// Opens `/proc/TGID`.
    ///
    /// # Errors
    /// When there is no such process, or it may not be seen.
    pub fn open(proc_root: &Path, tgid: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(proc_root.join(tgid.to_string()), flags, Mode::empty())?;
        Ok(Self { tgid, directory })
    }

    /// The thread-group ids that `/proc` lists now, ascending.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn list(proc_root: &Path) -> io::Result<Vec<u32>> {
        let mut tgids = Vec::new();
        for entry in std::fs::read_dir(proc_root)? {
            tgids.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<u32>().ok()),
            );
        }
        tgids.sort_unstable();
        Ok(tgids)
    }

    /// Which.
    #[must_use]
    pub fn tgid(&self) -> u32 {
        self.tgid
    }

    /// The first `limit` bytes of a file.
    ///
    /// # Errors
    /// When it cannot be read; `ESRCH` or `ENOENT` when the process has ended.
    pub fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let file = openat(
            &self.directory,
            name,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut bytes = Vec::new();
        File::from(file)
            .take(limit as u64)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A file that holds one number.
    ///
    /// # Errors
    /// When it cannot be read, or is no number.
    pub fn number(&self, name: &str) -> io::Result<u32> {
        let bytes = self.read(name, SMALL)?;
        number(bytes.trim_ascii()).ok_or_else(|| malformed(name))
    }

    /// Where a link leads.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn link(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.directory, name, Vec::new())?.into_bytes())
    }

    /// The inode number in a link such as `socket:[17]` or `net:[4026531840]`; `None` when it is another kind.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn link_inode(&self, name: &str, kind: &str) -> io::Result<Option<u64>> {
        Ok(bracketed(&self.link(name)?, kind))
    }

    /// Inode number of a namespace, by its name in `/proc/PID/ns`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn namespace(&self, kind: &str) -> io::Result<u32> {
        let inode = self.link_inode(&format!("ns/{kind}"), kind)?;
        inode
            .and_then(|inode| inode.try_into().ok())
            .ok_or_else(|| malformed(kind))
    }

    /// Opens a namespace, for setns(2).
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_namespace(&self, kind: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(openat(
            &self.directory,
            format!("ns/{kind}"),
            flags,
            Mode::empty(),
        )?)
    }

    /// The file behind a link, without a path. Asks the file system for nothing: a file server that does not answer
    /// cannot stop us.
    ///
    /// The device is that of `stat`, which for btrfs subvolumes and overlayfs is not the `s_dev` of the super block that
    /// the kernel side tells; the inode generation is not told here at all (0).
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(&self, name: &str) -> io::Result<FileRef> {
        let stat = statx(
            &self.directory,
            name,
            AtFlags::STATX_DONT_SYNC,
            StatxFlags::BASIC_STATS,
        )?;
        let id = FileId {
            dev: (stat.stx_dev_major << 20) | (stat.stx_dev_minor & 0xf_ffff),
            ino: stat.stx_ino,
            generation: 0,
        };
        Ok(FileRef {
            id,
            path: Text::default(),
            size: stat.stx_size,
            mode: stat.stx_mode.into(),
            nlink: stat.stx_nlink,
        })
    }

    /// Names in a subdirectory, with the entries that vanished left out.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn names(&self, directory: &str) -> io::Result<impl Iterator<Item = u32>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(&self.directory, directory, flags, Mode::empty())?;
        let entries = rustix::fs::Dir::new(directory)?;
        Ok(entries
            .map_while(Result::ok)
            .filter_map(|entry| number(entry.file_name().to_bytes())))
    }

    /// `stat`.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn stat(&self) -> io::Result<Stat> {
        parse_stat(&self.read("stat", SMALL)?).ok_or_else(|| malformed("stat"))
    }

    /// The process's key, its start cut to 10 ms.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn key(&self) -> io::Result<ProcessKey> {
        Ok(ProcessKey {
            tgid: self.tgid,
            start_ns: self.stat()?.start_ns,
        })
    }
}

/// A clock tick, ns: starts in `/proc` are cut to it.
#[must_use]
pub fn tick_ns() -> u64 {
    1_000_000_000 / clock_ticks_per_second().max(1)
}

/// Whether an error only says that the process has ended meanwhile.
#[must_use]
pub fn ended(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::SRCH, Errno::NOENT]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// The cgroup2 path in a `/proc/PID/cgroup` file: the line of hierarchy 0 (cgroups(7)).
#[must_use]
pub fn cgroup2_path(cgroup: &[u8]) -> Option<Text> {
    cgroup
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))
        .map(Text::from)
}

/// The distinct paths of the other lines, those of cgroup v1 hierarchies (`id:controllers:path`), without the root.
#[must_use]
pub fn cgroup1_paths(cgroup: &[u8]) -> Vec<Text> {
    let mut paths: Vec<&[u8]> = Vec::new();
    for line in cgroup.split(|byte| *byte == b'\n') {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        if let (Some(id), Some(_), Some(path)) = (fields.next(), fields.next(), fields.next())
            && id != b"0"
            && path != b"/"
            && !paths.contains(&path)
            && paths.len() < HIERARCHIES_MAX
        {
            paths.push(path);
        }
    }
    paths.into_iter().map(Text::from).collect()
}

/// Decimal digits as a number.
#[must_use]
pub fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// 17 in `socket:[17]`, if it is of that kind.
#[must_use]
pub fn bracketed(link: &[u8], kind: &str) -> Option<u64> {
    number(
        link.strip_prefix(kind.as_bytes())?
            .strip_prefix(b":[")?
            .strip_suffix(b"]")?,
    )
}

/// `comm` may hold spaces, parentheses and newlines; what follows its last parenthesis does not.
fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let name = stat.get(open + 1..close)?;
    let fields: Vec<_> = stat
        .get(close + 1..)?
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
        .collect();
    // proc_pid_stat(5) counts from 1, and the state is the third.
    let field = |position: usize| fields.get(position - 3).copied();
    let ticks: u64 = number(field(22)?)?;
    Some(Stat {
        name: name.into(),
        state: *field(3)?.first()?,
        parent: number(field(4)?)?,
        // A signed figure in the file, an unsigned one in the kernel.
        tty: number::<i32>(field(7)?)?.cast_unsigned(),
        threads: number(field(20)?)?,
        start_ns: ticks.checked_mul(tick_ns())?,
    })
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what}: not as proc(5) describes it"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str =
        "17 (a) R 9 (b\n) S 9 17 17 34816 17 4194560 1 2 3 4 5 6 7 8 20 0 3 0 4242 1 2";

    #[test]
    fn a_hostile_name_cannot_shift_the_fields() {
        let stat = parse_stat(STAT.as_bytes()).expect("well-formed");
        let expected = Stat {
            name: "a) R 9 (b\n".into(),
            state: b'S',
            parent: 9,
            tty: 34816,
            threads: 3,
            start_ns: 4242 * (1_000_000_000 / clock_ticks_per_second()),
        };
        assert_eq!(stat, expected);
        for length in 0..STAT.len() - "42 1 2".len() - 2 {
            assert_eq!(parse_stat(&STAT.as_bytes()[..length]), None, "{length}");
        }
    }

    #[test]
    fn this_process_is_read() {
        let root = Path::new("/proc");
        assert!(
            PidDir::list(root)
                .expect("lists")
                .contains(&std::process::id())
        );
        let own = PidDir::open(root, std::process::id()).expect("opens");
        let stat = own.stat().expect("reads");
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        assert!(stat.start_ns > 0 && stat.start_ns <= super::super::clock::boot_now());
        let before = own.names("fd").expect("lists").count();
        let file = tempfile::tempfile().expect("temporary file");
        assert!(own.names("fd").expect("lists").count() > 0 && before > 0);
        drop(file);
        assert!(own.namespace("net").expect("reads") > 0);
        let cgroup = cgroup2_path(&own.read("cgroup", SMALL).expect("reads"));
        assert!(cgroup.expect("cgroup2").as_bytes().starts_with(b"/"));
        assert_eq!(own.link_inode("exe", "socket").expect("reads"), None);
    }

    #[test]
    fn paths_of_all_hierarchies_are_read() {
        let paths = |file: &[u8]| {
            cgroup1_paths(file)
                .iter()
                .map(Text::to_string)
                .collect::<Vec<_>>()
        };
        let hybrid =
            b"3:name=systemd:/\n2:cpu,cpuacct:/docker/a:b\n1:pids:/docker/a:b\n0::/init.scope\n";
        assert_eq!(paths(hybrid), ["/docker/a:b"]);
        assert_eq!(cgroup2_path(hybrid), Some("/init.scope".into()));
        assert!(paths(b"0::/system.slice/x.service\n").is_empty());
        let many: Vec<u8> = (1..100)
            .flat_map(|id| format!("{id}:x:/{id}\n").into_bytes())
            .collect();
        assert_eq!(paths(&many).len(), HIERARCHIES_MAX);
    }

    #[test]
    fn a_process_that_ended_is_told_so() {
        let root = Path::new("/proc");
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        let directory = PidDir::open(root, child.id()).expect("opens");
        child.wait().expect("ends");
        assert!(ended(&directory.stat().expect_err("gone")));
        assert!(ended(&directory.link("exe").expect_err("gone")));
        assert!(ended(&PidDir::open(root, child.id()).expect_err("gone")));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_stat(&bytes), cgroup2_path(&bytes), cgroup1_paths(&bytes), bracketed(&bytes, "socket"));
            let mut damaged = STAT.as_bytes().to_vec();
            damaged.splice(20..30, bytes);
            let _ = parse_stat(&damaged);
        }
    }
}
