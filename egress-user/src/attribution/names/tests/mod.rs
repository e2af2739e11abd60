//! Payloads to names: real ones, published ones, and any bytes at all.

mod flows;
mod hostile;
mod reading;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::dns::{self, Address};
use super::tls::{self, Hello};
use super::{Names, host_name, quic};
use crate::config::Limits;
use crate::lineage::Lineage;
use crate::lineage::tests::{SECOND, exec, key};
use crate::model::{
    Destination, Direction, Event, FlowDelta, FlowId, Mark, NameKind, NamePayload, NameSource,
    Observation, Scope, Text, Transport,
};

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const HTTPS: u16 = 65;

/// The client Initial of RFC 9001 A.2 and that of RFC 9369 A.2, as published: the server is example.com.
fn published(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn v1() -> Vec<u8> {
    published(include_str!("rfc9001-a2.hex"))
}

fn v2() -> Vec<u8> {
    published(include_str!("rfc9369-a2.hex"))
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// A record: owner, type, TTL, data.
type Rr<'a> = (&'a str, u16, u32, Vec<u8>);

/// An answer, names not compressed.
fn answer(question: &str, kind: u16, records: &[Rr<'_>]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x81, 0x80, 0, 1];
    message.extend(u16::try_from(records.len()).unwrap().to_be_bytes());
    message.extend([0; 4]);
    message.extend(labels(question));
    message.extend([kind.to_be_bytes(), [0, 1]].concat());
    for (owner, kind, ttl, data) in records {
        message.extend(labels(owner));
        message.extend([kind.to_be_bytes(), [0, 1]].concat());
        message.extend(ttl.to_be_bytes());
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
    }
    message
}

fn read(message: &[u8]) -> (String, Vec<Address>) {
    let answer = dns::read(message, false).unwrap().unwrap();
    (answer.name.into(), answer.addresses)
}

fn address(ip: &str, ttl: u32, source: NameSource) -> Address {
    let ip = ip.parse().unwrap();
    Address { ip, ttl, source }
}

/// The published ClientHello in TLS records of at most `size` bytes.
fn hello(size: usize) -> Vec<u8> {
    let pieces = quic::pieces(&v1(), &mut Vec::new()).unwrap();
    let records = pieces[0].bytes.chunks(size).map(|part| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 1], &length[..], part].concat()
    });
    records.collect::<Vec<_>>().concat()
}

/// A world of two processes on the host and one in each of two containers.
struct World {
    names: Names,
    lineage: Lineage,
    now: u64,
}

const HOST: u32 = 2;
const HOST_TOO: u32 = 3;
const FIRST: u32 = 4;
const SECOND_ONE: u32 = 5;
/// No record of it came.
const UNKNOWN: u32 = 9;
const REMOTE: &str = "203.0.113.9:443";

impl World {
    fn new() -> Self {
        let mut lineage = Lineage::offline(&Limits::default());
        let container = |digit: char| format!("/docker/{}", String::from(digit).repeat(64));
        let rows = [
            (HOST, "/".to_owned()),
            (HOST_TOO, "/".to_owned()),
            (FIRST, container('a')),
            (SECOND_ONE, container('b')),
        ];
        for (tgid, path) in rows {
            let mut image = exec(tgid, "/bin/x", &[]);
            image.cgroup_path = Text::from(path.as_str());
            image.cgroup_id = u64::from(tgid);
            lineage.observe(&Observation {
                at: SECOND,
                event: Event::Exec(Box::new(image)),
            });
        }
        Self {
            names: Names::new(1000),
            lineage,
            now: 2 * SECOND,
        }
    }

    fn tell(&mut self, kind: NameKind, tgid: u32, seq: u32, payload: &[u8]) {
        self.now += 1;
        let payload = NamePayload {
            kind,
            process: Some(key(tgid)),
            cookie: u64::from(tgid),
            cgroup_id: u64::from(tgid),
            cgroup_path: Text::default(),
            netns: 1,
            local: "192.0.2.1:40000".parse().unwrap(),
            remote: REMOTE.parse().unwrap(),
            seq,
            length: u32::try_from(payload.len()).unwrap(),
            payload: payload.into(),
        };
        self.names.observe(&payload, None, self.now, &self.lineage);
    }

    fn answer(&mut self, tgid: u32, name: &str) {
        let message = answer(name, A, &[(name, A, 300, vec![203, 0, 113, 9])]);
        self.tell(NameKind::DnsUdp, tgid, 0, &message);
    }

    /// What a flow that begins now is called.
    fn flow(&mut self, tgid: u32) -> Arc<Destination> {
        self.now += 1;
        self.flow_since(tgid, self.now, None)
    }

    fn flow_since(&mut self, tgid: u32, first: u64, closed: Option<u64>) -> Arc<Destination> {
        let remote: SocketAddr = REMOTE.parse().unwrap();
        let delta = FlowDelta {
            mark: Mark::default(),
            id: FlowId(first),
            cookie: u64::from(tgid),
            owner: Some(key(tgid)),
            owner_name: Text::default(),
            owner_uid: None,
            owner_exec: None,
            owner_gid: None,
            owner_login: None,
            cgroup_path: Text::default(),
            cgroup_id: u64::from(tgid),
            netns: 1,
            local: None,
            remote: Some(remote),
            transport: Transport::TCP,
            family: 2,
            direction: Direction::Initiated,
            first,
            last: self.now,
            closed,
            app_bytes: 1,
            app_calls: 1,
            wire_bytes: 1,
            wire_packets: 1,
            rx_bytes: 0,
        };
        let destination = Arc::new(Destination {
            ip: remote.ip(),
            port: remote.port(),
            transport: Transport::TCP,
            scope: Scope::Public,
            domain: None,
            name: None,
        });
        let process = self.lineage.process(key(tgid)).cloned();
        self.names
            .name(destination, &delta, process.as_deref(), self.now)
    }
}

fn told(destination: &Destination) -> Option<(&str, NameSource, bool, Option<&str>)> {
    let name = destination.name.as_ref()?;
    let domain = destination.domain.as_deref()?;
    Some((domain, name.source, name.shared, name.dns.as_deref()))
}
