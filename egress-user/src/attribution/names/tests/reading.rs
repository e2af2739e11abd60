//! Payloads to names.

use super::*;

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
