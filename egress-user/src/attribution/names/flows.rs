//! The names of flows: what the client claimed on the very connection, before what DNS said of the address.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use super::table::Known;
use crate::model::{BootTime, Destination, FlowDelta, FlowId, NameSource, Named};

/// Flows with a name that are remembered.
const FLOWS_MAX: usize = 131_072;
/// How long a claim is kept after its connection closed, ns: other processes' flows of it are placed within this.
const ENDED_NS: u64 = 10_000_000_000;

type Connection = (u64, SocketAddr);

/// Names that clients claimed, by socket and remote end.
pub(super) struct Claims {
    names: HashMap<Connection, (u64, Arc<str>, NameSource)>,
    /// In the order in which they were made, with the number that tells whether it is still the same claim.
    made: VecDeque<(u64, Connection)>,
    ended: VecDeque<(BootTime, u64, Connection)>,
    next: u64,
    limit: usize,
    /// Forgotten because the room was needed.
    pub(super) evicted: u64,
}

impl Claims {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            names: HashMap::new(),
            made: VecDeque::new(),
            ended: VecDeque::new(),
            next: 0,
            limit,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn get(&self, cookie: u64, remote: SocketAddr) -> Option<(&Arc<str>, NameSource)> {
        let (_, name, source) = self.names.get(&(cookie, remote))?;
        Some((name, *source))
    }

    pub(super) fn insert(
        &mut self,
        cookie: u64,
        remote: SocketAddr,
        name: String,
        source: NameSource,
    ) {
        self.next += 1;
        let connection = (cookie, remote);
        self.names
            .insert(connection, (self.next, name.into(), source));
        self.made.push_back((self.next, connection));
        // More in the queue than twice the table: most of it is over.
        if self.made.len() > self.limit.saturating_mul(2) {
            let names = &self.names;
            self.made
                .retain(|(number, key)| names.get(key).is_some_and(|claim| claim.0 == *number));
        }
        while self.names.len() > self.limit
            && let Some((number, connection)) = self.made.pop_front()
        {
            self.evicted += u64::from(self.remove(number, &connection));
        }
    }

    fn remove(&mut self, number: u64, connection: &Connection) -> bool {
        let same = self
            .names
            .get(connection)
            .is_some_and(|claim| claim.0 == number);
        same && self.names.remove(connection).is_some()
    }

    /// The flow's connection closed.
    pub(super) fn ended(&mut self, delta: &FlowDelta, at: BootTime) {
        if let Some(remote) = delta.remote
            && let Some((number, ..)) = self.names.get(&(delta.cookie, remote))
        {
            let end = (at.saturating_add(ENDED_NS), *number, (delta.cookie, remote));
            self.ended.push_back(end);
        }
    }

    pub(super) fn age(&mut self, now: BootTime) {
        while let Some((end, number, connection)) = self.ended.front().copied()
            && end <= now
        {
            self.ended.pop_front();
            self.remove(number, &connection);
        }
    }
}

/// What flows were called. A name, once told of a flow, stays, though the answer that it came from expires.
#[derive(Default)]
pub(super) struct FlowNames {
    flows: HashMap<FlowId, Arc<Destination>>,
    /// Flows whose name was not remembered because there were too many.
    pub(super) refused: u64,
}

impl FlowNames {
    /// The destination with the flow's name. `dns` looks it up; its second value is whether another process had asked.
    pub(super) fn name(
        &mut self,
        destination: &Destination,
        delta: &FlowDelta,
        claims: &Claims,
        dns: impl FnOnce() -> Option<(Known, bool)>,
    ) -> Option<Arc<Destination>> {
        let told = self.flows.get(&delta.id).filter(|told| {
            (told.ip, told.port, told.transport)
                == (destination.ip, destination.port, destination.transport)
        });
        let claim = delta
            .remote
            .and_then(|remote| claims.get(delta.cookie, remote));
        if let Some(told) = told {
            let is_claim = matches!(
                told.name.as_ref().map(|name| name.source),
                Some(NameSource::TlsSni | NameSource::QuicSni)
            );
            if claim.is_none() || is_claim {
                return Some(told.clone());
            }
        }
        let (dns_name, source, shared) = match (told, dns()) {
            // What was told before the claim came.
            (Some(told), _) => (told.domain.clone(), None, false),
            (None, Some((known, shared))) => {
                (Some(known.name.to_string()), Some(known.source), shared)
            }
            (None, None) => (None, None, false),
        };
        let named = match (claim, source) {
            (Some((name, source)), _) => Destination {
                domain: Some(name.to_string()),
                name: Some(Named {
                    source,
                    shared: false,
                    dns: dns_name.filter(|dns| **dns != **name),
                }),
                ..destination.clone()
            },
            (None, Some(source)) => Destination {
                domain: dns_name,
                name: Some(Named {
                    source,
                    shared,
                    dns: None,
                }),
                ..destination.clone()
            },
            (None, None) => return None,
        };
        let named = Arc::new(named);
        if self.flows.len() < FLOWS_MAX || self.flows.contains_key(&delta.id) {
            self.flows.insert(delta.id, named.clone());
        } else {
            self.refused += 1;
        }
        Some(named)
    }

    /// The flow is over.
    pub(super) fn ended(&mut self, id: FlowId) {
        self.flows.remove(&id);
    }
}
