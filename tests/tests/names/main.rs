//! Destinations have the names that their processes knew them by: from a real DNS server's answers, from real TLS clients,
//! from a published QUIC packet; nobody has another container's names; and hostile answers cost nothing but a count.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::run;
use egress_tests::daemon::{Daemon, TELL_ALL};
use egress_tests::lab::{Lab, SINK_V4, SINK_V6};
use egress_tests::records::{at, flows_to, number, of, text};
use egress_tests::require::ready;
use serde_json::Value;

use container::Container;
use servers::{dns_server, http, lose_segments, resolver, resolving, tls_server};

mod container;
mod servers;

const TOOLS: &[&str] = &["curl", "dig", "dnsmasq", "openssl"];
/// Known by a hint of an HTTPS record only.
const HINTED: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77));
/// Asked for in containers only.
const SHARED: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 78));

/// What records say a destination is called: name, source, whether another process had asked, what DNS said.
type Said = (String, String, Option<bool>, Option<String>);

fn said(name: &str, source: &str, shared: Option<bool>, dns: Option<&str>) -> Said {
    (name.into(), source.into(), shared, dns.map(Into::into))
}

/// What the last record of each flow to `to` says.
fn names(records: &[Value], to: SocketAddr) -> BTreeSet<Option<Said>> {
    let ended =
        flows_to(records, to).filter(|flow| at(flow, "egress.closed") == Some(&Value::Bool(true)));
    let names = ended.map(|flow| {
        let name = "egress.destination_name";
        Some((
            text(flow, "destination.domain")?.to_owned(),
            text(flow, &format!("{name}.source"))?.to_owned(),
            at(flow, &format!("{name}.shared")).and_then(Value::as_bool),
            text(flow, &format!("{name}.dns")).map(Into::into),
        ))
    });
    names.collect()
}

#[track_caller]
fn called(records: &[Value], to: (IpAddr, u16), want: impl Into<Option<Said>>) {
    let flows: Vec<_> = flows_to(records, to.into()).collect();
    assert_eq!(
        names(records, to.into()),
        BTreeSet::from([want.into()]),
        "{to:?}: {flows:#?}"
    );
}

fn get(lab: &Lab, resolver: &Path, url: &str, args: &[&str]) -> Result<()> {
    let all = [
        &["-sS", "--max-time", "20", "-o", "/dev/null"],
        args,
        &[url],
    ]
    .concat();
    run(&mut resolving(&lab.source, resolver, "curl", &all)).map(drop)
}

#[test]
fn names_from_dns_answers() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let daemon = Daemon::start(TELL_ALL)?;
    let lab = Lab::new()?;
    lab.sink.run(
        "ip",
        &["address", "add", &format!("{HINTED}/32"), "dev", "wire"],
    )?;
    let _dns = dns_server(
        &lab,
        &[
            &format!("--host-record=www.lab.example,{SINK_V4},{SINK_V6}"),
            "--cname=mid.lab.example,www.lab.example",
            "--cname=alias.lab.example,mid.lab.example",
            // Priority 1, target ".", ipv4hint=198.51.100.77 (RFC 9460).
            "--dns-rr=svc.lab.example,65,00010000040004c633644d",
        ],
    )?;
    let (udp, tcp) = (resolver(&lab, "")?, resolver(&lab, "use-vc")?);
    let _servers = [
        http(&lab, SINK_V4, 8081)?,
        http(&lab, SINK_V6, 8082)?,
        http(&lab, SINK_V4, 8083)?,
        http(&lab, HINTED, 8084)?,
        http(&lab, HINTED, 8085)?,
    ];
    get(&lab, &udp, "http://WWW.lab.example:8081/bytes/10", &["-4"])?;
    get(&lab, &udp, "http://www.lab.example:8082/bytes/10", &["-6"])?;
    get(
        &lab,
        &tcp,
        "http://alias.lab.example:8083/bytes/10",
        &["-4"],
    )?;
    get(&lab, &udp, &format!("http://{HINTED}:8085/bytes/10"), &[])?;
    let question = [&format!("@{SINK_V4}"), "+tcp", "svc.lab.example", "HTTPS"];
    let told = lab.source.run("dig", &question)?;
    ensure!(told.contains("198.51.100.77"), "dig: {told}");
    get(&lab, &udp, &format!("http://{HINTED}:8084/bytes/10"), &[])?;
    let run = daemon.stop()?;
    let own = Some(false);
    called(
        &run.records,
        (SINK_V4, 8081),
        said("www.lab.example", "dns", own, None),
    );
    called(
        &run.records,
        (SINK_V6, 8082),
        said("www.lab.example", "dns", own, None),
    );
    called(
        &run.records,
        (SINK_V4, 8083),
        said("alias.lab.example", "dns", own, None),
    );
    called(
        &run.records,
        (HINTED, 8084),
        said("svc.lab.example", "https_hint", Some(true), None),
    );
    called(&run.records, (HINTED, 8085), None);
    let health = of(&run.records, "health")
        .last()
        .context("no health record")?;
    ensure!(number(health, "egress.live_names") > Some(2), "{health}");
    assert_eq!(
        lost(health, "name", |cause| cause.starts_with("malformed")),
        0,
        "{health}"
    );
    Ok(())
}

/// Sum of what was lost of a kind, for some causes.
fn lost(health: &Value, kind: &str, cause: impl Fn(&str) -> bool) -> u64 {
    let lost = at(health, "egress.lost").and_then(Value::as_array);
    lost.into_iter()
        .flatten()
        .filter(|lost| text(lost, "kind") == Some(kind) && text(lost, "cause").is_some_and(&cause))
        .filter_map(|lost| number(lost, "count"))
        .sum()
}

/// Sends the client Initials of RFC 9001 A.2 and RFC 9369 A.2 as they were published.
fn published_initials(lab: &Lab) -> Result<()> {
    let data =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../egress-user/src/attribution/names/tests");
    for (packet, to) in [
        ("rfc9001-a2", (SINK_V4, 443)),
        ("rfc9369-a2", (SINK_V6, 4433)),
    ] {
        let hex = data.join(format!("{packet}.hex"));
        run(lab
            .generator(&[
                "datagram",
                "--to",
                &SocketAddr::from(to).to_string(),
                "--hex",
            ])?
            .arg(hex))?;
    }
    Ok(())
}

#[test]
fn names_from_tls_and_quic() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let daemon = Daemon::start(TELL_ALL)?;
    let lab = Lab::new()?;
    let _dns = dns_server(
        &lab,
        &[&format!("--host-record=front.lab.example,{SINK_V4}")],
    )?;
    let _servers = [
        tls_server(&lab, SINK_V4, 8443)?,
        tls_server(&lab, SINK_V6, 8444)?,
        tls_server(&lab, SINK_V4, 8445)?,
        tls_server(&lab, SINK_V4, 8446)?,
        tls_server(&lab, SINK_V4, 8447)?,
        lab.serve(&lab.sink, &["udp-sink"], SocketAddr::new(SINK_V4, 443))?,
        lab.serve(&lab.sink, &["udp-sink"], SocketAddr::new(SINK_V6, 4433))?,
    ];
    let client = |ip: IpAddr, port: u16, args: &[&str]| {
        let to = SocketAddr::new(ip, port).to_string();
        lab.source
            .run("openssl", &[&["s_client", "-connect", &to], args].concat())
    };
    client(SINK_V4, 8443, &["-servername", "One.tls.example"])?;
    // A hello of more than 2,000 bytes: two segments.
    let protocols: Vec<_> = (0..9).map(|n| n.to_string().repeat(230)).collect();
    client(
        SINK_V6,
        8444,
        &[
            "-servername",
            "two.tls.example",
            "-alpn",
            &protocols.join(","),
        ],
    )?;
    // The same, and segments of it are lost and sent again.
    lose_segments(&lab, 8447)?;
    let lost = [
        "-servername",
        "three.tls.example",
        "-alpn",
        &protocols.join(","),
    ];
    client(SINK_V4, 8447, &lost)?;
    ensure!(lab.source.retransmissions()? > 0, "nothing was sent again");
    client(SINK_V4, 8446, &["-noservername"])?;
    get(
        &lab,
        &resolver(&lab, "")?,
        "https://other.tls.example/",
        &["-4", "-k", "--connect-to", "::front.lab.example:8445"],
    )?;
    published_initials(&lab)?;
    let run = daemon.stop()?;
    called(
        &run.records,
        (SINK_V4, 8443),
        said("one.tls.example", "tls_sni", None, None),
    );
    called(
        &run.records,
        (SINK_V6, 8444),
        said("two.tls.example", "tls_sni", None, None),
    );
    called(
        &run.records,
        (SINK_V4, 8447),
        said("three.tls.example", "tls_sni", None, None),
    );
    // Nothing claimed, and others had asked for the address only later.
    called(&run.records, (SINK_V4, 8446), None);
    let want = said(
        "other.tls.example",
        "tls_sni",
        None,
        Some("front.lab.example"),
    );
    called(&run.records, (SINK_V4, 8445), want);
    called(
        &run.records,
        (SINK_V4, 443),
        said("example.com", "quic_sni", None, Some("front.lab.example")),
    );
    called(
        &run.records,
        (SINK_V6, 4433),
        said("example.com", "quic_sni", None, None),
    );
    Ok(())
}

#[test]
fn names_stay_in_their_container_and_their_network() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let daemon = Daemon::start(TELL_ALL)?;
    let (lab, other) = (Lab::new()?, Lab::new()?);
    for lab in [&lab, &other] {
        lab.sink.run(
            "ip",
            &["address", "add", &format!("{SHARED}/32"), "dev", "wire"],
        )?;
    }
    let _dns = dns_server(
        &lab,
        &[
            &format!("--host-record=a.lab.example,{SHARED}"),
            &format!("--host-record=b.lab.example,{SHARED}"),
            &format!("--host-record=host.lab.example,{SINK_V4}"),
        ],
    )?;
    let _dns_there = dns_server(
        &other,
        &[&format!("--host-record=there.lab.example,{SINK_V4}")],
    )?;
    let resolver = resolver(&lab, "")?;
    let servers: Result<Vec<_>> = (8101..=8105)
        .map(|port| http(&lab, SHARED, port))
        .chain((8106..=8107).map(|port| http(&lab, SINK_V4, port)))
        .chain([http(&other, SINK_V4, 8108)])
        .collect();
    let _servers = servers?;
    let url = |host: &str, port: u16| format!("http://{host}:{port}/bytes/10");
    let (a, b) = (Container::new('a')?, Container::new('b')?);
    let shared = SHARED.to_string();
    a.get(&lab, &resolver, &url("a.lab.example", 8101))?;
    b.get(&lab, &resolver, &url(&shared, 8102))?;
    get(&lab, &resolver, &url(&shared, 8103), &[])?;
    a.get(&lab, &resolver, &url(&shared, 8104))?;
    b.get(&lab, &resolver, &url("b.lab.example", 8105))?;
    // What the host asked is not for a container on its network.
    get(&lab, &resolver, &url("host.lab.example", 8106), &["-4"])?;
    b.get(&lab, &resolver, &url(&SINK_V4.to_string(), 8107))?;
    // The same address in another network.
    get(&other, &resolver, &url("there.lab.example", 8108), &["-4"])?;
    let ids: Vec<_> = [&a, &b].map(|container| container.0.clone()).into();
    drop((a, b));
    ensure!(
        ids.iter().all(|path| !path.exists()),
        "a cgroup stays behind"
    );
    let run = daemon.stop()?;
    let (own, another) = (Some(false), Some(true));
    let records = &run.records;
    called(
        records,
        (SHARED, 8101),
        said("a.lab.example", "dns", own, None),
    );
    called(records, (SHARED, 8102), None);
    called(records, (SHARED, 8103), None);
    called(
        records,
        (SHARED, 8104),
        said("a.lab.example", "dns", another, None),
    );
    called(
        records,
        (SHARED, 8105),
        said("b.lab.example", "dns", own, None),
    );
    called(
        records,
        (SINK_V4, 8106),
        said("host.lab.example", "dns", own, None),
    );
    called(records, (SINK_V4, 8107), None);
    called(
        records,
        (SINK_V4, 8108),
        said("there.lab.example", "dns", own, None),
    );
    let container = flows_to(records, SocketAddr::new(SHARED, 8101))
        .find_map(|flow| text(flow, "container.id"));
    assert_eq!(
        container,
        Some("a".repeat(64).as_str()),
        "the test's containers are some"
    );
    Ok(())
}

#[test]
fn hostile_answers_are_counted_and_bounded() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let daemon = Daemon::start(&format!("{TELL_ALL}\n[limits]\nnames = 1000\n"))?;
    let lab = Lab::new()?;
    let to = SocketAddr::new(SINK_V4, 53);
    let _server = lab.serve(&lab.sink, &["dns-hostile"], to)?;
    let ask = |prefix: &str, count: &str| {
        let args = ["dns-ask", "--prefix", prefix, "--count", count, "--to"];
        run(lab.generator(&args)?.arg(to.to_string()))
    };
    ask("l", "100")?;
    ask("j", "100")?;
    ask("n", "10000")?;
    let run = daemon.stop()?;
    let health = of(&run.records, "health")
        .last()
        .context("no health record")?;
    let live = number(health, "egress.live_names").context("no live names")?;
    let count = |cause: &str| lost(health, "name", |lost| lost == cause);
    ensure!(live <= 1000 && live > 0, "{live} names");
    assert_eq!(count("malformed_dns"), 200, "{health}");
    assert_eq!(
        live + count("evicted") + count("ring_full"),
        10_000,
        "{health}"
    );
    Ok(())
}
