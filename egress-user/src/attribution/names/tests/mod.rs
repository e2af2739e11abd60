//! Payloads to names: real ones, published ones, and any bytes at all.

mod hostile;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::dns::{self, Address};
use super::tls::{self, Hello};
use super::{Names, quic};
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

#[test]
fn the_name_asked_for_and_not_its_aliases() {
    let v6 = "2001:db8::9".parse::<std::net::Ipv6Addr>().unwrap();
    let message = answer(
        "WWW.Example",
        A,
        &[
            ("www.example", CNAME, 60, labels("cdn.example.net")),
            ("cdn.example.net", CNAME, 60, labels("edge7.example.org")),
            ("edge7.example.org", A, 30, vec![203, 0, 113, 9]),
            ("edge7.example.org", AAAA, 31, v6.octets().to_vec()),
            ("bank.example", A, 9000, vec![203, 0, 113, 10]),
        ],
    );
    let want = [
        address("203.0.113.9", 30, NameSource::Dns),
        address("2001:db8::9", 31, NameSource::Dns),
    ];
    assert_eq!(read(&message), ("www.example".into(), want.into()));
}

#[test]
fn hints_of_a_service() {
    // Priority 1, target ".", ipv4hint (4) and ipv6hint (6): RFC 9460 2.2, 7.3.
    let mut data = vec![0, 1, 0, 0, 4, 0, 4, 203, 0, 113, 7, 0, 6, 0, 16];
    data.extend(
        "2001:db8::7"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    let message = answer(
        "_8443._https.example.com",
        HTTPS,
        &[("_8443._https.example.com", HTTPS, 300, data)],
    );
    let want = [
        address("203.0.113.7", 300, NameSource::HttpsHint),
        address("2001:db8::7", 300, NameSource::HttpsHint),
    ];
    assert_eq!(read(&message), ("example.com".into(), want.into()));
}

#[test]
fn odd_bytes_in_names_cannot_act() {
    let message = answer(
        "a\x1b[2J\u{e9}.example",
        A,
        &[("a\x1b[2J\u{e9}.example", A, 1, vec![203, 0, 113, 9])],
    );
    assert_eq!(read(&message).0, r"a\027[2j\195\169.example");
}

#[test]
fn what_gives_no_address() {
    let records = [("x.example", A, 1, vec![203, 0, 113, 9])];
    let whole = answer("x.example", A, &records);
    let with = |at: usize, byte: u8| {
        let mut message = whole.clone();
        message[at] = byte;
        dns::read(&message, false)
    };
    assert!(with(2, 0x01).is_err(), "a query");
    assert_eq!(with(3, 0x83), Ok(None), "NXDOMAIN");
    assert!(dns::read(&whole[..11], false).is_err());
    assert!(dns::read(&whole[..whole.len() - 1], false).is_err());
    assert_eq!(
        dns::read(&whole[..whole.len() - 1], true),
        Ok(None),
        "cut by us"
    );
    // Aliases of each other, for ever.
    let circle = [
        ("x.example", CNAME, 1, labels("y.example")),
        ("y.example", CNAME, 1, labels("x.example")),
    ];
    assert!(dns::read(&answer("x.example", A, &circle), false).is_err());
    // A name that is a pointer to itself (RFC 1035 4.1.4).
    let mut pointer = answer("", A, &[]);
    pointer.truncate(12);
    pointer.extend([0xc0, 12, 0, 1, 0, 1]);
    assert!(dns::read(&pointer, false).is_err());
}

#[test]
fn published_initials_of_both_versions() {
    for packet in [v1(), v2()] {
        let mut id = Vec::new();
        let pieces = quic::pieces(&packet, &mut id).unwrap();
        assert_eq!(id, [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08]);
        let [piece] = &pieces[..] else {
            panic!("{pieces:?}")
        };
        assert_eq!((piece.offset, piece.bytes.len()), (0, 241));
        let name = Hello::Name(Some(Box::from(*b"example.com")));
        assert_eq!(tls::message(&piece.bytes), Ok(name));
        for at in [0, 5, 20, 30, 600, 1199] {
            let mut broken = packet.clone();
            broken[at] ^= 0x80;
            let pieces = quic::pieces(&broken, &mut Vec::new()).unwrap_or_default();
            assert!(pieces.is_empty(), "byte {at}");
        }
    }
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

#[test]
fn answers_are_for_those_who_asked_and_theirs() {
    let mut world = World::new();
    world.answer(HOST, "host.example");
    world.answer(FIRST, "first.example");
    let dns = |name, shared| Some((name, NameSource::Dns, shared, None));
    assert_eq!(told(&world.flow(HOST)), dns("host.example", false));
    assert_eq!(told(&world.flow(HOST_TOO)), dns("host.example", true));
    assert_eq!(told(&world.flow(FIRST)), dns("first.example", false));
    assert_eq!(told(&world.flow(SECOND_ONE)), None);
    assert_eq!(told(&world.flow(UNKNOWN)), None);
    world.answer(UNKNOWN, "unknown.example");
    assert_eq!(told(&world.flow(UNKNOWN)), dns("unknown.example", false));
    assert_eq!(told(&world.flow(HOST)), dns("host.example", false));
}

#[test]
fn a_flow_keeps_its_name_and_gets_none_from_later() {
    let mut world = World::new();
    let before = world.now + 1;
    assert_eq!(told(&world.flow_since(HOST, before, None)), None);
    world.now += 10;
    world.answer(HOST, "a.example");
    assert_eq!(
        told(&world.flow_since(HOST, before, None)),
        None,
        "it went there before"
    );
    let began = world.now + 5;
    world.now = began;
    let first = world.flow_since(HOST, began, None);
    world.answer(HOST, "b.example");
    world.now += 3600 * SECOND;
    world.names.age(world.now);
    assert_eq!(world.names.stats().addresses, 0);
    assert!(Arc::ptr_eq(&first, &world.flow_since(HOST, began, None)));
    world.flow_since(HOST, began, Some(world.now));
    assert_eq!(
        told(&world.flow_since(HOST, began, None)),
        None,
        "it has ended"
    );
}

#[test]
fn a_claim_is_of_its_connection_and_beats_dns() {
    let mut world = World::new();
    world.answer(HOST, "dns.example");
    let began = world.now + 1;
    world.now = began;
    let before = world.flow_since(HOST, began, None);
    assert_eq!(
        told(&before),
        Some(("dns.example", NameSource::Dns, false, None))
    );
    // In two segments, the second of which comes twice.
    let bytes = hello(1 << 14);
    let (head, tail) = bytes.split_at(100);
    let seq = u32::MAX - 50;
    world.tell(NameKind::TlsHello, HOST, seq, head);
    let behind = seq.wrapping_add(100);
    world.tell(NameKind::TlsHello, HOST, behind, tail);
    world.tell(NameKind::TlsHello, HOST, behind, tail);
    let after = world.flow_since(HOST, began, None);
    let want = Some((
        "example.com",
        NameSource::TlsSni,
        false,
        Some("dns.example"),
    ));
    assert_eq!(told(&after), want);
    assert_eq!(told(&world.flow(FIRST)), None, "another socket");
    world.flow_since(HOST, began, Some(world.now));
    world.now += 60 * SECOND;
    world.names.age(world.now);
    assert_eq!(world.names.stats().connections, 0);
}

#[test]
fn hellos_in_small_records_and_out_of_order_and_over_quic() {
    for size in [1, 7, 100] {
        let name = Hello::Name(Some(Box::from(*b"example.com")));
        assert_eq!(tls::records(&hello(size)), Ok(name), "{size}");
    }
    let mut world = World::new();
    world.tell(NameKind::QuicInitial, HOST, 0, &v1());
    world.tell(NameKind::QuicInitial, FIRST, 0, &v2());
    for tgid in [HOST, FIRST] {
        let want = Some(("example.com", NameSource::QuicSni, false, None));
        assert_eq!(told(&world.flow(tgid)), want);
    }
    // Later datagrams with keys that are not the packet's own.
    let mut other = v1();
    other[6] ^= 1;
    world.tell(NameKind::QuicInitial, HOST, 0, &other);
    assert_eq!(world.names.stats().malformed_quic, 0);
    world.tell(NameKind::QuicInitial, HOST_TOO, 0, &other);
    assert_eq!(world.names.stats().malformed_quic, 1);
}

#[test]
fn dns_over_tcp_in_any_pieces() {
    let one = answer(
        "one.example",
        A,
        &[("one.example", A, 300, vec![203, 0, 113, 9])],
    );
    let framed = |message: &[u8]| {
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        [&length[..], message].concat()
    };
    let two = answer(
        "two.example",
        A,
        &[("two.example", A, 300, vec![203, 0, 113, 9])],
    );
    let stream = [framed(&one), framed(&two)].concat();
    for size in [1, 2, 3, 50, 1000] {
        let mut world = World::new();
        let mut seq = u32::MAX - 20;
        for piece in stream.chunks(size) {
            world.tell(NameKind::DnsTcp, HOST, seq, piece);
            // Again, as after a lost acknowledgement.
            world.tell(NameKind::DnsTcp, HOST, seq, piece);
            seq = seq.wrapping_add(u32::try_from(piece.len()).unwrap());
        }
        let named = world.flow(HOST);
        assert_eq!(
            told(&named).map(|told| told.0),
            Some("two.example"),
            "{size}"
        );
        assert_eq!(world.names.stats().gaps, 0);
        assert_eq!(world.names.stats().malformed_dns, 0);
    }
    // A gap: what is behind it is not guessed at.
    let mut world = World::new();
    world.tell(NameKind::DnsTcp, HOST, 10, &stream[..20]);
    world.tell(NameKind::DnsTcp, HOST, 31, &stream[21..]);
    world.tell(NameKind::DnsTcp, HOST, 30 + 1000, &stream);
    assert_eq!(told(&world.flow(HOST)), None);
    assert_eq!(world.names.stats().gaps, 1);
}

#[test]
fn names_for_addresses_as_they_are_compared() {
    assert_eq!(super::host_name(b"EXAMPLE.com."), "example.com");
    assert_eq!(super::host_name(b"a\x1b[2J\xff"), r"a\x1b[2j\xff");
    let mapped: IpAddr = "::ffff:203.0.113.9".parse().unwrap();
    let IpAddr::V6(mapped) = mapped else { panic!() };
    let records = [("x.example", AAAA, 1, mapped.octets().to_vec())];
    let (_, addresses) = read(&answer("x.example", AAAA, &records));
    assert_eq!(addresses, [address("203.0.113.9", 1, NameSource::Dns)]);
}
