//! The sockets that were there before us.
//!
//! In: socket diagnostics (`sock_diag(7)`) of every network namespace that a process lives in, and `/proc/PID/fd`. Out: one
//! [`Event::SocketOwner`] for each TCP and UDP socket that a process holds, and what could not be read.
//!
//! Not seen: sockets of a namespace in which only single threads live, or none (its name is all that keeps it); they are
//! known from their first send on. Sockets without a holder (time-wait, orphaned, not yet accepted) are counted.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::clock::boot_now;
use super::diag::{self, DiagSocket};
use super::gaps::Gaps;
use super::pid_dir::{PidDir, ended};
use crate::model::{Event, Observation, ProcessKey, SocketOwner};

/// Most sockets seeded; beyond, they are counted as gaps.
const SOCKETS_MAX: usize = 262_144;
/// Most network namespaces entered.
const NAMESPACES_MAX: usize = 4_096;

/// What the seed found.
#[derive(Debug, Default)]
pub struct SocketSeed {
    /// Every socket with its holder.
    pub observations: Vec<Observation>,
    /// Sockets that no process holds.
    pub unheld: u64,
    /// What could not be read.
    pub gaps: Gaps,
}

/// Sockets and their holders.
#[must_use]
pub fn sockets(proc_root: &Path) -> SocketSeed {
    let mut gaps = Gaps::default();
    let tgids = PidDir::list(proc_root).unwrap_or_else(|error| {
        gaps.note("proc", format!("{}: {error}", proc_root.display()));
        Vec::new()
    });
    let namespaces = namespaces(proc_root, &tgids, &mut gaps);
    let (found, unheld) = dump_all(namespaces, &mut gaps);
    let holders = holders(proc_root, &tgids, &found, &mut gaps);

    let at = boot_now();
    let mut seed = SocketSeed {
        observations: Vec::new(),
        unheld,
        gaps,
    };
    for (netns, socket) in found {
        let Some(holder) = holders.get(&socket.inode).filter(|holder| holder.count > 0) else {
            seed.unheld += 1;
            continue;
        };
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let owner = SocketOwner {
            cookie: socket.cookie,
            process: holder.first,
            holders: holder.count,
            local: canonical(socket.local),
            remote: canonical(socket.remote),
            protocol: socket.protocol.into(),
            listening: socket.listening,
            netns,
        };
        seed.observations.push(Observation {
            at,
            event: Event::SocketOwner(owner),
        });
    }
    seed
}

/// A network namespace: its inode number, and a way in unless it is this thread's own.
struct Namespace {
    inode: u32,
    entry: Option<OwnedFd>,
}

/// The namespaces of all processes, each once, our own first.
fn namespaces(proc_root: &Path, tgids: &[u32], gaps: &mut Gaps) -> Vec<Namespace> {
    let mut seen = BTreeMap::new();
    let own = std::fs::read_link("/proc/thread-self/ns/net").ok();
    let own =
        own.and_then(|link| super::pid_dir::bracketed(link.as_os_str().as_encoded_bytes(), "net"));
    match own.and_then(|inode| u32::try_from(inode).ok()) {
        Some(inode) => _ = seen.insert(inode, None),
        None => gaps.note("netns", "/proc/thread-self/ns/net: cannot be read"),
    }
    for &tgid in tgids {
        let look = || -> io::Result<Option<(u32, OwnedFd)>> {
            let process = PidDir::open(proc_root, tgid)?;
            let inode = process.namespace("net")?;
            if seen.contains_key(&inode) {
                return Ok(None);
            }
            Ok(Some((inode, process.open_namespace("net")?)))
        };
        match look() {
            Ok(Some((inode, _))) if seen.len() >= NAMESPACES_MAX => {
                gaps.note(
                    "netns",
                    format!("net:[{inode}]: more than {NAMESPACES_MAX} namespaces"),
                );
            }
            Ok(Some((inode, entry))) => _ = seen.insert(inode, Some(entry)),
            Ok(None) => {}
            Err(error) if ended(&error) => {}
            Err(error) => gaps.note("netns", format!("pid {tgid}: {error}")),
        }
    }
    let mut namespaces: Vec<_> = seen
        .into_iter()
        .map(|(inode, entry)| Namespace { inode, entry })
        .collect();
    namespaces.sort_by_key(|namespace| namespace.entry.is_some());
    namespaces
}

/// Every socket of every namespace that a file is open on, with the namespace, and how many others there are (time-wait,
/// orphaned, not yet accepted: their inode number is 0). On a thread of its own, which ends with the last one: a thread that
/// entered another namespace must do nothing else.
fn dump_all(namespaces: Vec<Namespace>, gaps: &mut Gaps) -> (Vec<(u32, DiagSocket)>, u64) {
    let work = || {
        let (mut found, mut unheld, mut gaps) = (Vec::new(), 0, Gaps::default());
        for Namespace { inode, entry } in namespaces {
            if let Some(entry) = entry
                && let Err(error) = diag::enter(&entry)
            {
                gaps.note(
                    "netns",
                    format!("net:[{inode}]: {error} (entering it takes CAP_SYS_ADMIN)"),
                );
                continue;
            }
            diag::dump(&mut gaps, |socket| {
                if socket.inode == 0 {
                    unheld += 1;
                } else if found.len() < SOCKETS_MAX {
                    found.push((inode, socket));
                } else {
                    return false;
                }
                true
            });
        }
        (found, unheld, gaps)
    };
    let ended = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("socket-seed".into())
            .spawn_scoped(scope, work)?;
        thread
            .join()
            .map_err(|_| io::Error::other("the thread panicked"))
    });
    match ended {
        Ok((found, unheld, noted)) => {
            gaps.merge(noted);
            (found, unheld)
        }
        Err(error) => {
            gaps.note("sock_diag", error);
            (Vec::new(), 0)
        }
    }
}

/// Who holds a socket.
#[derive(Clone, Copy, Default)]
struct Holder {
    /// The lowest by start and number.
    first: ProcessKey,
    count: u32,
}

/// The processes that hold the sockets, by inode number.
fn holders(
    proc_root: &Path,
    tgids: &[u32],
    found: &[(u32, DiagSocket)],
    gaps: &mut Gaps,
) -> HashMap<u64, Holder> {
    let mut holders: HashMap<u64, Holder> = found
        .iter()
        .map(|(_, socket)| (socket.inode, Holder::default()))
        .collect();
    for &tgid in tgids {
        match held(proc_root, tgid, &holders) {
            Ok((_, inodes)) if inodes.is_empty() => {}
            Ok((key, inodes)) => {
                for inode in inodes {
                    let Some(holder) = holders.get_mut(&inode) else {
                        continue;
                    };
                    let order = |key: ProcessKey| (key.start_ns, key.tgid);
                    if holder.count == 0 || order(key) < order(holder.first) {
                        holder.first = key;
                    }
                    holder.count += 1;
                }
            }
            Err(error) if ended(&error) => {}
            Err(error) => gaps.note("fd", format!("pid {tgid}: {error}")),
        }
    }
    holders
}

/// Which of the wanted sockets a process holds, each once.
fn held(
    proc_root: &Path,
    tgid: u32,
    wanted: &HashMap<u64, Holder>,
) -> io::Result<(ProcessKey, Vec<u64>)> {
    let process = PidDir::open(proc_root, tgid)?;
    let key = process.key()?;
    let mut inodes = Vec::new();
    for fd in process.names("fd")? {
        // A descriptor that was closed meanwhile is no error.
        if let Ok(Some(inode)) = process.link_inode(&format!("fd/{fd}"), "socket")
            && wanted.contains_key(&inode)
        {
            inodes.push(inode);
        }
    }
    inodes.sort_unstable();
    inodes.dedup();
    Ok((key, inodes))
}

#[cfg(test)]
mod tests;
