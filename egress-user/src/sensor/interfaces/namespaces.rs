//! The network namespaces of this host, and the devices in each.
//!
//! In: `/proc`, where each namespace that a process lives in, or that is mounted in our mount namespace, has a name.
//! Out: the devices of each that can be entered. No namespace is held open between readings: that would keep it, and
//! its devices, alive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::link::{Link, links};
use crate::model::BootTime;
use crate::sensor::diag;
use crate::sensor::pid_dir::{PidDir, bracketed, ended};

/// Most namespaces that are read.
const NAMESPACES_MAX: usize = 1_024;
/// Most processes that are asked for theirs.
const PROCESSES_MAX: usize = 65_536;
/// How often all processes are asked, ns: 10 s. In between only when a namespace is missed.
const SCAN_NS: u64 = 10_000_000_000;
/// Largest `mountinfo` that is read, bytes.
const MOUNTS_MAX: u64 = 4 << 20;

/// A way into a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// We are in it.
    Own,
    /// Through a process that lives in it.
    Process(u32),
    /// Through a file that it is mounted on (ip-netns(8) makes such).
    Mount(PathBuf),
}

/// What was found.
#[derive(Debug, Default)]
pub struct Reading {
    /// Devices of each namespace that could be entered.
    pub devices: Vec<(u32, Vec<Link>)>,
    /// How many could.
    pub namespaces: u64,
    /// Those that could not.
    pub hidden: BTreeSet<u32>,
    /// Why the first of these could not.
    pub why: Option<String>,
}

/// Ways into namespaces, remembered from one reading to the next.
#[derive(Debug, Default)]
pub struct Namespaces {
    ways: BTreeMap<u32, Way>,
    next_scan: BootTime,
}

impl Namespaces {
    /// Reads the devices of all namespaces. `wanted` are those that packets were seen in: unknown ones are looked for.
    pub fn read(&mut self, now: BootTime, wanted: impl Iterator<Item = u32>) -> Reading {
        let mut wanted = wanted;
        if now >= self.next_scan || wanted.any(|netns| !self.ways.contains_key(&netns)) {
            self.scan(now);
        }
        let (mut reading, stale) = self.enter_all(&BTreeSet::new());
        if stale {
            // Whoever we knew a namespace by has left; another may be in it.
            self.scan(now);
            let known = reading.devices.iter().map(|(netns, _)| *netns).collect();
            let (more, _) = self.enter_all(&known);
            reading.devices.extend(more.devices);
            reading.hidden = more.hidden;
            reading.why = more.why;
        }
        reading.namespaces = reading.devices.len() as u64;
        reading
    }

    /// Asks every process, and the mounts.
    fn scan(&mut self, now: BootTime) {
        self.next_scan = now.saturating_add(SCAN_NS);
        let mut ways = BTreeMap::new();
        let inode = |link: io::Result<PathBuf>| -> Option<u32> {
            let link = link.ok()?;
            bracketed(link.as_os_str().as_bytes(), "net")?
                .try_into()
                .ok()
        };
        if let Some(own) = inode(std::fs::read_link("/proc/thread-self/ns/net")) {
            ways.insert(own, Way::Own);
        }
        let processes = PidDir::list(Path::new("/proc")).unwrap_or_default();
        for tgid in processes.into_iter().take(PROCESSES_MAX) {
            if let Some(netns) = inode(std::fs::read_link(format!("/proc/{tgid}/ns/net")))
                && ways.len() < NAMESPACES_MAX
            {
                ways.entry(netns).or_insert(Way::Process(tgid));
            }
        }
        for (netns, path) in mounted() {
            if ways.len() < NAMESPACES_MAX {
                ways.entry(netns).or_insert(Way::Mount(path));
            }
        }
        self.ways = ways;
    }

    /// On a thread of its own, which ends with the last one: a thread that entered another namespace must do nothing else.
    /// Also whether a way led elsewhere.
    fn enter_all(&self, without: &BTreeSet<u32>) -> (Reading, bool) {
        let work = || {
            let (mut reading, mut stale) = (Reading::default(), false);
            // Our own first, while the thread is in it.
            let (own, others): (Vec<_>, Vec<_>) =
                self.ways.iter().partition(|(_, way)| **way == Way::Own);
            let all = own.into_iter().chain(others);
            for (netns, way) in all.filter(|(netns, _)| !without.contains(*netns)) {
                match enter(*netns, way).and_then(|()| links()) {
                    Ok(links) => reading.devices.push((*netns, links)),
                    Err(error) => {
                        stale |= error.kind() == io::ErrorKind::NotFound || ended(&error);
                        reading.hidden.insert(*netns);
                        reading
                            .why
                            .get_or_insert_with(|| format!("net:[{netns}]: {error}"));
                    }
                }
            }
            (reading, stale)
        };
        let done = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("interfaces".into())
                .spawn_scoped(scope, work)?;
            thread
                .join()
                .map_err(|_| io::Error::other("the thread panicked"))
        });
        done.unwrap_or_else(|error| {
            let reading = Reading {
                hidden: self.ways.keys().copied().collect(),
                why: Some(format!("reading devices: {error}")),
                ..Reading::default()
            };
            (reading, false)
        })
    }
}

/// Moves the calling thread into a namespace, if that is still what the way leads to.
fn enter(netns: u32, way: &Way) -> io::Result<()> {
    let path = match way {
        Way::Own => return Ok(()),
        Way::Process(tgid) => PathBuf::from(format!("/proc/{tgid}/ns/net")),
        Way::Mount(path) => path.clone(),
    };
    let file = OwnedFd::from(File::open(path)?);
    if rustix::fs::fstat(&file)?.st_ino != u64::from(netns) {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "whoever was in it has left",
        ));
    }
    diag::enter(&file).map_err(|error| {
        let why = format!("{error} (entering it takes CAP_SYS_ADMIN)");
        io::Error::new(error.kind(), why)
    })
}

/// Namespaces that are mounted on files (`proc_pid_mountinfo(5)`).
fn mounted() -> Vec<(u32, PathBuf)> {
    use std::io::Read as _;
    let mut table = Vec::new();
    let read = File::open("/proc/thread-self/mountinfo")
        .and_then(|file| file.take(MOUNTS_MAX).read_to_end(&mut table));
    if read.is_err() {
        return Vec::new();
    }
    table
        .split(|byte| *byte == b'\n')
        .filter_map(mount)
        .collect()
}

/// A line of `mountinfo` that is a network namespace: its fourth field is `net:[INODE]`, its fifth the path.
fn mount(line: &[u8]) -> Option<(u32, PathBuf)> {
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    let netns = bracketed(fields.next()?, "net")?.try_into().ok()?;
    let path = unescaped(fields.next()?);
    Some((netns, PathBuf::from(std::ffi::OsString::from_vec(path))))
}

/// Space, tab, newline and backslash are octal there (`\040`).
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.first_chunk::<3>().filter(|digits| {
            first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        });
        if let Some(digits) = octal {
            let value = digits.iter().fold(0_u8, |value, digit| {
                value.wrapping_mul(8).wrapping_add(digit - b'0')
            });
            bytes.push(value);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_namespaces_are_found() {
        let line = br"92 28 0:4 net:[4026532214] /run/netns/a\040b rw shared:52 - nsfs nsfs rw";
        assert_eq!(
            mount(line),
            Some((4_026_532_214, PathBuf::from("/run/netns/a b")))
        );
        let others: [&[u8]; 4] = [
            b"",
            b"28 1 8:1 / / rw - ext4 /dev/root rw",
            b"92 28 0:4 mnt:[4026532214] /run/x rw - nsfs nsfs rw",
            b"92 28 0:4 net:[99999999999] /run/x rw - nsfs nsfs rw",
        ];
        assert!(others.iter().all(|line| mount(line).is_none()));
        assert_eq!(unescaped(br"\134\0\04x\777"), b"\\\\0\\04x\xff");
    }

    #[test]
    fn our_own_namespace_needs_no_right() {
        let mut namespaces = Namespaces::default();
        let reading = namespaces.read(0, std::iter::empty());
        let own = namespaces
            .ways
            .iter()
            .find(|(_, way)| **way == Way::Own)
            .map(|(netns, _)| *netns);
        assert!(own.is_some());
        assert!(reading.devices.iter().any(|(netns, _)| Some(*netns) == own));
    }

    #[test]
    fn a_way_that_leads_elsewhere_is_not_taken() {
        let error = enter(1, &Way::Process(std::process::id())).expect_err("not ours");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
