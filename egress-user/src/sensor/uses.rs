//! Blind spots in use now, also by what was there before us.
//!
//! In: `/proc`. Out: which process holds an io_uring, a packet, raw or XDP socket, in every network namespace that a process
//! lives in.
//!
//! Not found: an io_uring without a descriptor (`IORING_SETUP_REGISTERED_FD_ONLY`), sockets that only a namespace without
//! processes has, vsock sockets (no table lists them). Which memory-mapped socket is an XDP socket is told by elimination.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::Path;

use super::clock::boot_now;
use super::gaps::Gaps;
use super::paths::until_nul;
use super::pid_dir::{PidDir, bracketed, ended};
use crate::model::{BlindKind, BlindUse, Event, Observation, ProcessKey, Text};

/// Longest table or list of mappings that is read, bytes.
const TABLE_MAX: usize = 64 << 20;

/// A process that uses one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which; its start is cut to 10 ms, as `/proc` tells it.
    pub process: ProcessKey,
    /// `comm`.
    pub name: Text,
    /// Network namespace (inode number).
    pub netns: u32,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Uses {
    /// By kind, in the order of process ids.
    pub by_kind: BTreeMap<BlindKind, Vec<Holder>>,
    /// XDP sockets in all namespaces; their holders may not all be known.
    pub xdp_sockets: u64,
    /// What could not be read.
    pub gaps: Gaps,
}

/// One namespace's sockets, by inode number.
#[derive(Default)]
struct Tables {
    packet: HashSet<u64>,
    raw: HashSet<u64>,
    /// Where there are XDP sockets: those that can be mapped too, but are none.
    tcp: HashSet<u64>,
    xdp_sockets: u64,
}

/// Looks through every process and namespace.
#[must_use]
pub fn uses(proc_root: &Path) -> Uses {
    let mut uses = Uses::default();
    let tgids = PidDir::list(proc_root).unwrap_or_else(|error| {
        uses.gaps
            .note("proc", format!("{}: {error}", proc_root.display()));
        Vec::new()
    });
    let mut namespaces: BTreeMap<u32, Tables> = BTreeMap::new();
    for tgid in tgids {
        match one(proc_root, tgid, &mut namespaces, &mut uses.gaps) {
            Ok((_, kinds)) if kinds.is_empty() => {}
            Ok((holder, kinds)) => {
                for kind in kinds {
                    uses.by_kind.entry(kind).or_default().push(holder.clone());
                }
            }
            Err(error) if ended(&error) => {}
            Err(error) => uses.gaps.note("fd", format!("pid {tgid}: {error}")),
        }
    }
    uses.xdp_sockets = namespaces.values().map(|tables| tables.xdp_sockets).sum();
    uses
}

/// The same as observations, for the start.
#[must_use]
pub fn seed(proc_root: &Path) -> (Vec<Observation>, Gaps) {
    let uses = uses(proc_root);
    let at = boot_now();
    let observations = uses.by_kind.into_iter().flat_map(|(kind, holders)| {
        holders.into_iter().map(move |holder| Observation {
            at,
            event: Event::Blind(BlindUse {
                process: holder.process,
                kind,
                operation: "held since before the start".into(),
                why: "found in /proc; its next use is told with the operation",
                opens_file: false,
                netns: holder.netns,
            }),
        })
    });
    (observations.collect(), uses.gaps)
}

/// A process, and what it uses.
fn one(
    proc_root: &Path,
    tgid: u32,
    namespaces: &mut BTreeMap<u32, Tables>,
    gaps: &mut Gaps,
) -> io::Result<(Holder, BTreeSet<BlindKind>)> {
    let process = PidDir::open(proc_root, tgid)?;
    let netns = process.namespace("net")?;
    let tables = match namespaces.entry(netns) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => new.insert(Tables::read(&process)?),
    };
    let mut kinds = BTreeSet::new();
    let (mut packet, mut other) = (HashSet::new(), HashSet::new());
    for fd in process.names("fd")? {
        // A descriptor that was closed meanwhile is no error.
        let Ok(link) = process.link(&format!("fd/{fd}")) else {
            continue;
        };
        if link == b"anon_inode:[io_uring]" {
            kinds.insert(BlindKind::IoUring);
        } else if let Some(inode) = bracketed(&link, "socket") {
            if tables.packet.contains(&inode) {
                kinds.insert(BlindKind::PacketSocket);
                packet.insert(inode);
            } else if tables.raw.contains(&inode) {
                kinds.insert(BlindKind::RawSocket);
            } else if tables.xdp_sockets > 0 && !tables.tcp.contains(&inode) {
                other.insert(inode);
            }
        }
    }
    if !packet.is_empty() || !other.is_empty() {
        let maps = process.read("maps", TABLE_MAX).unwrap_or_else(|error| {
            gaps.note("maps", format!("pid {tgid}: {error}"));
            Vec::new()
        });
        for inode in mapped_sockets(&maps) {
            if packet.contains(&inode) {
                kinds.insert(BlindKind::PacketRing);
            } else if other.contains(&inode) {
                kinds.insert(BlindKind::XdpSocket);
            }
        }
    }
    let holder = Holder {
        process: process.key()?,
        name: until_nul(process.read("comm", 64)?.trim_ascii_end()),
        netns,
    };
    Ok((holder, kinds))
}

impl Tables {
    /// Those of the namespace that a process lives in. The one of all protocols comes last and is always there, so that a
    /// process which ends meanwhile is not taken for one without sockets; any other that is missing has none.
    fn read(process: &PidDir) -> io::Result<Self> {
        let table = |name: &str| match process.read(&format!("net/{name}"), TABLE_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            result => result,
        };
        // `packet_seq_show` (Linux `net/packet/af_packet.c`), `raw_sock_seq_show` (`net/ipv4/raw.c`), `get_tcp4_sock`.
        let (packet, inet) = (8, 9);
        let columns = |names: [&str; 2]| -> io::Result<HashSet<u64>> {
            let mut inodes = column(&table(names[0])?, inet);
            inodes.extend(column(&table(names[1])?, inet));
            Ok(inodes)
        };
        let (packet, raw) = (column(&table("packet")?, packet), columns(["raw", "raw6"])?);
        let xdp_sockets = in_use(&process.read("net/protocols", TABLE_MAX)?, b"XDP");
        let tcp = if xdp_sockets > 0 {
            columns(["tcp", "tcp6"])?
        } else {
            HashSet::new()
        };
        Ok(Self {
            packet,
            raw,
            tcp,
            xdp_sockets,
        })
    }
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// The numbers in one column, below the heading.
fn column(table: &[u8], at: usize) -> HashSet<u64> {
    table
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter_map(|line| number(fields(line).nth(at)?))
        .collect()
}

/// Sockets of a protocol, from `/proc/net/protocols`: name, size, sockets, ... (`proto_seq_printf`, Linux `net/core/sock.c`).
fn in_use(table: &[u8], protocol: &[u8]) -> u64 {
    table
        .split(|byte| *byte == b'\n')
        .filter(|line| fields(line).next() == Some(protocol))
        .filter_map(|line| number(fields(line).nth(2)?))
        .sum()
}

/// Inode numbers of sockets in a list of mappings, whose last column is `socket:[N]`.
fn mapped_sockets(maps: &[u8]) -> impl Iterator<Item = u64> {
    maps.split(|byte| *byte == b'\n')
        .filter_map(|line| bracketed(fields(line).nth(5)?, "socket"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tables_are_read() {
        let packet = b"sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
            000000008f1d1b1b 3      3    0003   2     1 0      0      23456\n";
        assert_eq!(column(packet, 8), HashSet::from([23456]));
        let raw = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            1: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 777 2 0000000000000000 0\n";
        assert_eq!(column(raw, 9), HashSet::from([777]));
        let protocols = b"protocol  size sockets  memory press maxhdr  slab module     cl co\n\
            XDP       1088      2      -1   NI       0   no   kernel      n  n\n\
            PACKET    1600      1      -1   NI       0   no   kernel      n  n\n";
        assert_eq!(in_use(protocols, b"XDP"), 2);
        let maps = b"7f0000000000-7f0000001000 rw-s 00000000 00:08 23456                      socket:[23456]\n\
            7f0000001000-7f0000002000 r-xp 00000000 fe:00 77                         /lib/socket:[9]\n\
            7f0000002000-7f0000003000 rw-p 00000000 00:00 0\n";
        assert_eq!(mapped_sockets(maps).collect::<Vec<_>>(), [23456]);
    }

    #[test]
    fn a_raw_socket_of_this_process_is_found() {
        let made = rustix::net::socket_with(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::RAW,
            rustix::net::SocketFlags::CLOEXEC,
            Some(rustix::net::ipproto::ICMP),
        );
        let Ok(_socket) = made else {
            return; // takes CAP_NET_RAW
        };
        let uses = uses(Path::new("/proc"));
        let raw = uses.by_kind.get(&BlindKind::RawSocket);
        let own = std::process::id();
        assert!(
            raw.is_some_and(|holders| holders.iter().any(|holder| holder.process.tgid == own)),
            "{uses:?}"
        );
    }

    proptest! {
        #[test]
        fn no_table_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (column(&bytes, 8), in_use(&bytes, b"XDP"), mapped_sockets(&bytes).count());
        }
    }
}
