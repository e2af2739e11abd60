//! Names to flows: whose they are, and for how long.

use super::*;

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
    assert_eq!(host_name(b"EXAMPLE.com."), "example.com");
    assert_eq!(host_name(b"a\x1b[2J\xff"), r"a\x1b[2j\xff");
    let mapped: IpAddr = "::ffff:203.0.113.9".parse().unwrap();
    let IpAddr::V6(mapped) = mapped else { panic!() };
    let records = [("x.example", AAAA, 1, mapped.octets().to_vec())];
    let (_, addresses) = read(&answer("x.example", AAAA, &records));
    assert_eq!(addresses, [address("203.0.113.9", 1, NameSource::Dns)]);
}
