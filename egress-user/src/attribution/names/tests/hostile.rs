//! Whoever likes writes these payloads: no bytes panic, and no flood grows without bound.

use proptest::prelude::*;

use super::*;

fn kinds() -> impl Strategy<Value = NameKind> {
    prop::sample::select(vec![
        NameKind::DnsUdp,
        NameKind::DnsTcp,
        NameKind::TlsHello,
        NameKind::QuicInitial,
    ])
}

/// A real payload, with some bytes changed and its end cut off: that gets further in than random bytes.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let compressed = {
        let mut message = answer(
            "www.example",
            A,
            &[("www.example", CNAME, 60, labels("cdn.example"))],
        );
        message[7] = 2;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 203, 0, 113, 9]);
        message
    };
    let framed = [&[0, 64][..], &compressed].concat();
    let whole = prop::sample::select(vec![
        compressed,
        framed,
        hello(1 << 14),
        hello(9),
        v1(),
        v2(),
    ]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (whole, changes, any::<prop::sample::Index>()).prop_map(|(mut bytes, changes, end)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len() * 2).max(1));
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic(
        payloads in prop::collection::vec(
            (kinds(), 2..10_u32, any::<u32>(), prop_oneof![damaged(), prop::collection::vec(any::<u8>(), 0..600)], 0..3_u32),
            1..8,
        ),
    ) {
        let mut world = World::new();
        let mut seq = 0;
        for (kind, tgid, jump, bytes, more) in payloads {
            // Mostly where the last one ended.
            seq = if jump % 3 == 0 { jump } else { seq };
            world.tell(kind, tgid, seq, &bytes);
            seq = seq.wrapping_add(u32::try_from(bytes.len()).unwrap()).wrapping_add(more);
            world.flow(tgid);
        }
    }

    #[test]
    fn any_quic_packet_reads_or_does_not(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        let mut packet = vec![0xc0, 0, 0, 0, 1];
        packet.extend(bytes);
        let _ = quic::pieces(&packet, &mut Vec::new());
    }
}

#[test]
fn a_flood_of_names_is_bounded_and_counted() {
    let mut world = World::new();
    for n in 0..10_000_u32 {
        let name = format!("n{n}.flood.example");
        let records = [(name.as_str(), A, 86_400, n.to_be_bytes().to_vec())];
        world.tell(NameKind::DnsUdp, FIRST, 0, &answer(&name, A, &records));
        if n == 5_000 {
            world.answer(HOST, "quiet.example");
        }
    }
    let stats = world.names.stats();
    assert_eq!((stats.addresses, stats.evicted), (1000, 9001));
    assert_eq!(
        told(&world.flow(HOST)).map(|told| told.0),
        Some("quiet.example")
    );
}

#[test]
fn a_flood_of_beginnings_is_bounded_and_counted() {
    let mut world = World::new();
    let beginning = &hello(1 << 14)[..100];
    for n in 0..3000_u32 {
        world.tell(NameKind::TlsHello, 10 + n, 7, beginning);
        // A message of 65,535 bytes that never comes.
        world.tell(NameKind::DnsTcp, 10 + n, 7, &[0xff; 4000]);
    }
    let stats = world.names.stats();
    // 1,024 of each are followed; of DNS messages at most 4 MiB wait.
    assert!(stats.streams_given_up >= 2 * (3000 - 1024), "{stats:?}");
    for n in 0..2000_u32 {
        world.tell(NameKind::TlsHello, 9000 + n, 7, &hello(1 << 14));
    }
    let stats = world.names.stats();
    assert_eq!((stats.connections, stats.evicted), (1000, 1000));
}
