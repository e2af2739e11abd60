//! What destinations are called.
//!
//! In: payloads that tell names ([`NamePayload`]), each with who received or sent it; and flows. Out: for each flow its
//! destination, with a name where one is known, and how.
//!
//! Nothing here is proof. A DNS answer is what some server said, an address may have many names, and a process with the
//! right to use port 53 can send answers to its own host. A server name in TLS or QUIC is what the client claimed. So
//! names are shown with their source, and nothing is decided by them. What a container learnt stays with it, also when
//! it shares the host's network, and what the host learnt is not for containers.
//!
//! The payloads are written by whoever likes: every length is checked, every memory bounded, every loss counted.

mod dns;
mod flows;
mod quic;
mod streams;
mod table;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;

use flows::{Claims, FlowNames};
use streams::{DnsStreams, Hellos};
use table::{Place, Realm, Table};
use tls::Hello;

use crate::lineage::{Lineage, cgroup};
use crate::model::{
    BootTime, Destination, Direction, FlowDelta, NameKind, NamePayload, NameSource, Process,
    ProcessKey, Text,
};

/// Which kind of payload cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    Dns,
    Tls,
    Quic,
}

/// Sizes now, and counts since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamesStats {
    /// Addresses with a name.
    pub addresses: usize,
    /// Connections with a name of their own (TLS, QUIC).
    pub connections: usize,
    /// Names forgotten before their time because the room was needed.
    pub evicted: u64,
    /// Connections, and streams of DNS messages, given up because there were too many at once.
    pub streams_given_up: u64,
    /// Gaps in streams of DNS messages: what is behind them was not read.
    pub gaps: u64,
    /// DNS answers that are none.
    pub malformed_dns: u64,
    /// ClientHellos that are none.
    pub malformed_tls: u64,
    /// QUIC Initial packets that could not be read.
    pub malformed_quic: u64,
    /// Answers not remembered, because nothing is known of who received them.
    pub unowned: u64,
}

/// Names.
pub(super) struct Names {
    table: Table,
    streams: DnsStreams,
    hellos: Hellos,
    claims: Claims,
    flows: FlowNames,
    stats: NamesStats,
}

impl Names {
    /// Remembers `limit` names.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            table: Table::new(limit),
            streams: DnsStreams::new(),
            hellos: Hellos::new(),
            claims: Claims::new(limit),
            flows: FlowNames::default(),
            stats: NamesStats::default(),
        }
    }

    /// Takes a payload. `owner` is who is known to use its socket, when the kernel side does not know.
    pub(super) fn observe(
        &mut self,
        payload: &NamePayload,
        owner: Option<ProcessKey>,
        at: BootTime,
        lineage: &Lineage,
    ) {
        let cut = payload.payload.len() < payload.length as usize;
        match payload.kind {
            NameKind::DnsUdp | NameKind::DnsTcp => {
                let process = payload.process.or(owner).map(|key| lineage.resolve(key));
                let known = process.and_then(|key| lineage.process(key)).map(|p| &**p);
                let realm = realm(known, payload.cgroup_id, &payload.cgroup_path);
                let netns = match payload.netns {
                    0 => known.map_or(0, |process| process.netns),
                    netns => netns,
                };
                let Some(realm) = realm else {
                    self.stats.unowned += 1;
                    return;
                };
                let place = Place { netns, realm };
                let (table, streams) = (&mut self.table, &mut self.streams);
                let mut learn =
                    |message: &[u8], cut, stats: &mut NamesStats| match dns::read(message, cut) {
                        Ok(Some(answer)) => {
                            let name = Arc::from(answer.name);
                            for found in answer.addresses {
                                let entry = (&name, found.source, process);
                                table.insert(&place, found.ip, found.ttl, entry, at);
                            }
                        }
                        Ok(None) => {}
                        Err(_) => stats.malformed_dns += 1,
                    };
                if payload.kind == NameKind::DnsUdp {
                    learn(&payload.payload, cut, &mut self.stats);
                } else {
                    streams.take(payload, &mut self.stats, learn);
                }
            }
            NameKind::TlsHello => {
                let read = self.hellos.tls(payload, &mut self.stats);
                self.claim(payload, NameSource::TlsSni, read);
            }
            NameKind::QuicInitial => {
                // The client's later Initials have other keys, and tell nothing new.
                if self.claims.get(payload.cookie, payload.remote).is_none() {
                    let read = self.hellos.quic(payload, &mut self.stats);
                    self.claim(payload, NameSource::QuicSni, read);
                }
            }
        }
    }

    fn claim(&mut self, payload: &NamePayload, source: NameSource, read: Result<Hello, Malformed>) {
        match read {
            Ok(Hello::Name(Some(name))) => {
                let name = host_name(&name);
                self.claims
                    .insert(payload.cookie, payload.remote, name, source);
            }
            Ok(Hello::Name(None) | Hello::Incomplete) => {}
            Err(Malformed::Quic) => self.stats.malformed_quic += 1,
            Err(_) => self.stats.malformed_tls += 1,
        }
    }

    /// The destination with its name, as far as it is known: `destination` itself when none is.
    pub(super) fn name(
        &mut self,
        destination: Arc<Destination>,
        delta: &FlowDelta,
        process: Option<&Process>,
        at: BootTime,
    ) -> Arc<Destination> {
        let named = self.flows.name(&destination, delta, &self.claims, || {
            if matches!(delta.direction, Direction::Accepted | Direction::Listening) {
                // The peer came here: nobody asked for its address.
                return None;
            }
            let place = Place {
                netns: match (delta.netns, process) {
                    (0, Some(process)) => process.netns,
                    (netns, _) => netns,
                },
                realm: realm(process, delta.cgroup_id, &Text::default())?,
            };
            let key = process.map(|process| process.key).or(delta.owner);
            let known = self.table.get(&place, destination.ip, key, delta.first)?;
            Some((known.clone(), known.process != key))
        });
        if delta.closed.is_some() {
            self.flows.ended(delta.id);
            self.claims.ended(delta, at);
        }
        named.unwrap_or(destination)
    }

    /// Forgets what is over.
    pub(super) fn age(&mut self, now: BootTime) {
        self.table.age(now);
        self.claims.age(now);
    }

    /// Sizes and counts.
    pub(super) fn stats(&self) -> NamesStats {
        NamesStats {
            addresses: self.table.len(),
            connections: self.claims.len(),
            evicted: self.table.evicted + self.claims.evicted + self.flows.refused,
            ..self.stats
        }
    }
}

/// Reads hostile bytes with a library: should that panic after all, the bytes are malformed, and the daemon lives on.
fn shielded<T>(
    read: impl FnOnce() -> Result<T, Malformed> + std::panic::UnwindSafe,
    malformed: Malformed,
) -> Result<T, Malformed> {
    std::panic::catch_unwind(read).unwrap_or(Err(malformed))
}

/// Whose knowledge this is. `None` when nothing is known of them: then they could be anybody.
fn realm(process: Option<&Process>, cgroup_id: u64, cgroup_path: &Text) -> Option<Realm> {
    if let Some(process) = process
        && !process.cgroup_path.is_empty()
    {
        let container = process.container.as_ref();
        return Some(container.map_or(Realm::Host, |container| {
            Realm::Container(container.id.as_str().into())
        }));
    }
    if !cgroup_path.is_empty() {
        let (container, _) = cgroup::parse(cgroup_path.as_bytes());
        return Some(container.map_or(Realm::Host, |container| {
            Realm::Container(container.id.into())
        }));
    }
    let id = match (cgroup_id, process) {
        (0, Some(process)) => process.cgroup_id,
        (id, _) => id,
    };
    (id != 0).then_some(Realm::Cgroup(id))
}

/// A server name as it is compared and shown: lower case, without a dot at its end. What is no ASCII, which no server name
/// should have (RFC 6066 3), is escaped byte by byte.
fn host_name(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
    bytes
        .iter()
        .flat_map(|byte| std::ascii::escape_default(byte.to_ascii_lowercase()))
        .map(char::from)
        .collect()
}
