//! The ledger at the devices: what each device counted is what the hook before its driver saw, to the byte, whatever
//! sent it; and what no hook sees is told as that, with an alert of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::json;
use egress_tests::daemon::Daemon;
use egress_tests::lab::{Lab, Namespace, SINK_V4, SOURCE_V4};
use egress_tests::records::{at, flows_to, number, of, sum, text};
use egress_tests::require::ready;
use egress_tests::wait_for;
use serde_json::Value;

const CONFIG: &str = "[events]\nflow_interval = \"500ms\"\nhealth_interval = \"1s\"\n\
                      [detection]\ncoverage_min_bytes = \"64KiB\"\nunattributed_percent = 100\n";

/// The source's address towards the third namespace, and the address there (RFC 5737).
const SOURCE_BEYOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const BEYOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// Bytes of 500 frames: 700 of payload, 8 of UDP, 20 of IPv4, 14 of Ethernet.
const FRAMES: u64 = 500 * 742;

/// Where 50 datagrams of 4,000 bytes and a header of 8 go, and what they are on the wire.
const FRAGMENTS: [(&str, u64); 2] = [
    // In fragments of at most 1,480 bytes: three IPv4 headers.
    ("198.51.100.2:9101", 50 * (4008 + 3 * 20)),
    // Of at most 1,448 bytes, behind 40 bytes of header and 8 of fragment header.
    ("[2001:db8::2]:9101", 50 * (4008 + 3 * 48)),
];

/// A lab whose source routes for a third namespace, behind a wire that keeps its offloads.
struct Routed {
    lab: Lab,
    beyond: Namespace,
}

impl Routed {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let beyond = Namespace::new()?;
        let wire = format!(
            "link add inner index 30 type veth peer name inner index 40 netns {}",
            beyond.pid()
        );
        lab.source.run("ip", &wire.split(' ').collect::<Vec<_>>())?;
        for (namespace, address) in [(&lab.source, SOURCE_BEYOND), (&beyond, BEYOND)] {
            let address = format!("{address}/24");
            namespace.run("ip", &["address", "add", &address, "dev", "inner"])?;
            namespace.run("ip", &["link", "set", "inner", "up"])?;
        }
        lab.source
            .run("sysctl", &["-q", "-w", "net.ipv4.ip_forward=1"])?;
        for (namespace, net, via) in [
            (&beyond, "198.51.100.0/24", IpAddr::from(SOURCE_BEYOND)),
            (&lab.sink, "203.0.113.0/24", SOURCE_V4),
        ] {
            namespace.run("ip", &["route", "add", net, "via", &via.to_string()])?;
        }
        Ok(Self { lab, beyond })
    }

    /// Every device, with its namespace.
    fn devices(&self) -> [(&Namespace, &'static str); 4] {
        [
            (&self.lab.source, "wire"),
            (&self.lab.sink, "wire"),
            (&self.lab.source, "inner"),
            (&self.beyond, "inner"),
        ]
    }
}

/// What `ip` says of a device.
fn link(namespace: &Namespace, name: &str) -> Result<Value> {
    let listing = namespace.run("ip", &["-json", "-s", "link", "show", name])?;
    let mut listing: Value = serde_json::from_str(&listing)?;
    Ok(listing[0].take())
}

/// Link-layer address of a namespace's end of the wire.
fn address(namespace: &Namespace) -> Result<String> {
    let link = link(namespace, "wire")?;
    let address = text(&link, "address").context("an address")?;
    Ok(address.to_owned())
}

/// Bytes that a device has sent.
fn transmitted(namespace: &Namespace, name: &str) -> Result<u64> {
    number(&link(namespace, name)?, "stats64.tx.bytes").context("ip's counters")
}

/// Inode number of a namespace.
fn netns(namespace: &Namespace) -> Result<u64> {
    let name = std::fs::read_link(namespace.path())?;
    let name = name.to_string_lossy();
    let digits = name.trim_start_matches("net:[").trim_end_matches(']');
    digits.parse().with_context(|| name.to_string())
}

/// A device's entry in a health record.
fn told(health: &Value, namespace: &Namespace, name: &str) -> Result<Value> {
    let netns = netns(namespace)?;
    let devices = at(health, "egress.interfaces.devices").and_then(Value::as_array);
    let device = devices.into_iter().flatten().find(|device| {
        number(device, "netns") == Some(netns) && text(device, "name") == Some(name)
    });
    device
        .cloned()
        .with_context(|| format!("{name} in net:[{netns}] is not in {health}"))
}

fn figure(device: &Value, path: &str) -> Result<u64> {
    number(device, &format!("transmitted.{path}")).with_context(|| format!("{path} in {device}"))
}

/// Waits for a health record in which each device's counter is what `ip` says now: nothing moves any more.
fn settled(daemon: &mut Daemon, routed: &Routed) -> Result<Value> {
    let (mut health, mut wanted) = (Value::Null, Vec::new());
    let agree = wait_for("the devices' counters", Duration::from_secs(10), || {
        wanted.clear();
        for (namespace, name) in routed.devices() {
            wanted.push((namespace, name, transmitted(namespace, name)?));
        }
        health = of(daemon.records()?, "health")
            .last()
            .cloned()
            .unwrap_or_default();
        let agrees = wanted.iter().all(|(namespace, name, bytes)| {
            told(&health, namespace, name)
                .and_then(|device| figure(&device, "tx_bytes"))
                .is_ok_and(|told| told == *bytes)
        });
        Ok(agrees.then_some(()))
    });
    agree.with_context(|| format!("{wanted:?} in {health:#}"))?;
    Ok(health)
}

/// Everything that can be seen: the device's counter is the sum of the classes.
fn check(health: &Value, namespace: &Namespace, name: &str, unseen: u64) -> Result<Value> {
    let device = told(health, namespace, name)?;
    let classes = at(&device, "transmitted.bytes").and_then(Value::as_object);
    let seen: u64 = classes
        .context("classes")?
        .values()
        .filter_map(Value::as_u64)
        .sum();
    ensure!(
        figure(&device, "tx_bytes")? == seen + unseen
            && figure(&device, "unseen")? == unseen
            && figure(&device, "uncounted")? == 0
            && figure(&device, "framing")? == 0
            && text(&device, "state") == Some("compared")
            && text(&device, "kind") == Some("veth"),
        "{name}: {device}"
    );
    Ok(device)
}

#[test]
fn devices_count_what_the_hook_sees_and_the_rest_is_told() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let mut daemon = Daemon::start(CONFIG)?;
    let routed = Routed::new()?;
    let lab = &routed.lab;
    let to = SocketAddr::new(SINK_V4, 9100);
    let sent = frames(lab, to, &[])?;
    for (to, _) in FRAGMENTS {
        let to = SocketAddr::from_str(to)?;
        let _sink = lab.serve(&lab.sink, &["udp-sink"], to)?;
        let burst = [
            "udp-burst",
            "--bytes",
            "200000",
            "--chunk",
            "4000",
            "--pause",
            "100",
            "--to",
        ];
        json(lab.generator(&burst)?.arg(to.to_string()))?;
    }
    tcp(&routed)?;
    through_and_refused(&routed)?;
    let health = settled(&mut daemon, &routed)?;
    for (namespace, name) in routed.devices() {
        check(&health, namespace, name, 0)?;
    }
    check_classes(&told(&health, &lab.source, "wire")?)?;

    // What no hook sees.
    frames(lab, SocketAddr::new(SINK_V4, 9104), &["--bypass"])?;
    let health = settled(&mut daemon, &routed)?;
    check(&health, &lab.source, "wire", FRAMES)?;
    check(&health, &lab.sink, "wire", 0)?;
    daemon.wait_records("the alert", Duration::from_secs(5), |records| {
        of(records, "alert").next().is_some()
    })?;
    let records = daemon.stop()?.records;
    check_alert(&records)?;
    check_flows(&records, to, &sent)
}

/// A bridge and its port both count a packet; the process that sent it is given its bytes once.
#[test]
fn a_packet_that_passes_two_devices_is_its_processs_once() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let mut daemon = Daemon::start(CONFIG)?;
    let routed = Routed::new()?;
    let lab = &routed.lab;
    let address = format!("{SOURCE_V4}/24");
    for change in [
        "link add bridge index 50 type bridge",
        "link set wire master bridge",
        "link set bridge up",
        &format!("address del {address} dev wire"),
        &format!("address add {address} dev bridge"),
    ] {
        lab.source
            .run("ip", &change.split(' ').collect::<Vec<_>>())?;
    }
    let to = SocketAddr::new(SINK_V4, 9100);
    let sent = frames_by(lab, "bridge", to, &[])?;
    let (fragments, wire_bytes) = FRAGMENTS[0];
    let fragments = SocketAddr::from_str(fragments)?;
    let _sink = lab.serve(&lab.sink, &["udp-sink"], fragments)?;
    let burst = [
        "udp-burst",
        "--bytes",
        "200000",
        "--chunk",
        "4000",
        "--pause",
        "100",
        "--to",
    ];
    json(lab.generator(&burst)?.arg(fragments.to_string()))?;
    let health = settled(&mut daemon, &routed)?;
    let wire = told(&health, &lab.source, "wire")?;
    let bridge = told(&health, &lab.source, "bridge")?;
    for device in [&wire, &bridge] {
        ensure!(
            figure(device, "bytes.packet")? == FRAMES
                && figure(device, "unseen")? == 0
                && figure(device, "uncounted")? == 0,
            "{device}"
        );
    }
    let records = daemon.stop()?.records;
    let frames = sum(flows_to(&records, to));
    ensure!(
        frames.wire_bytes == 500 * 728 && frames.app_bytes == FRAMES,
        "{frames:?}, of {sent}"
    );
    let told = sum(flows_to(&records, fragments));
    ensure!(
        told.wire_bytes == wire_bytes && told.wire_packets == 150,
        "{told:?}, not {wire_bytes}"
    );
    Ok(())
}

/// 500 frames of 700 bytes in UDP, by a packet socket.
fn frames(lab: &Lab, to: SocketAddr, more: &[&str]) -> Result<Value> {
    frames_by(lab, "wire", to, more)
}

/// The same, by another device.
fn frames_by(lab: &Lab, device: &str, to: SocketAddr, more: &[&str]) -> Result<Value> {
    let mac = address(&lab.sink)?;
    let from = SocketAddr::new(SOURCE_V4, 4000).to_string();
    let mut command = lab.generator(&["frames", "--device", device, "--count", "500"])?;
    command.args(["--size", "700", "--mac", &mac, "--from", &from]);
    let sent = json(command.args(["--to", &to.to_string()]).args(more))?;
    ensure!(number(&sent, "app_bytes") == Some(FRAMES), "{sent}");
    Ok(sent)
}

/// Routed through the source, by the third namespace; and to a port for which the source answers by itself.
fn through_and_refused(routed: &Routed) -> Result<()> {
    let lab = &routed.lab;
    let to = SocketAddr::new(SINK_V4, 9103);
    let _sink = lab.serve(&lab.sink, &["udp-sink"], to)?;
    let to = to.to_string();
    let mut through = routed.beyond.command(egress_tests::lab::generator()?);
    json(through.args([
        "udp-burst",
        "--bytes",
        "30000",
        "--chunk",
        "300",
        "--to",
        &to,
    ]))?;
    let closed = SocketAddr::new(SOURCE_V4, 9).to_string();
    let mut refused = lab.sink.command(egress_tests::lab::generator()?);
    json(refused.args(["one-packet", "--to", &closed]))?;
    Ok(())
}

/// What left through the source's device, by class.
fn check_classes(source: &Value) -> Result<()> {
    let packets = at(source, "transmitted.packets").and_then(Value::as_object);
    let packets: u64 = packets
        .context("packets")?
        .values()
        .filter_map(Value::as_u64)
        .sum();
    let mini = figure(source, "packets.mini_socket")?;
    ensure!(
        figure(source, "bytes.packet")? == FRAMES
            && figure(source, "packets.packet")? == 500
            // 100 datagrams of 300 bytes with their headers.
            && figure(source, "bytes.forwarded")? == 100 * (14 + 20 + 8 + 300)
            && figure(source, "bytes.kernel")? > 0
            // A SYN-ACK of 74 bytes; acknowledgements of 66 bytes in TIME_WAIT, and perhaps on the way into it.
            && mini >= 2
            && figure(source, "bytes.mini_socket")? == 74 + 66 * (mini - 1)
            && packets == figure(source, "tx_packets")?,
        "{source}"
    );
    Ok(())
}

/// One, about what left unseen.
fn check_alert(records: &[Value]) -> Result<()> {
    let alerts: Vec<&Value> = of(records, "alert").collect();
    let evidence = alerts
        .iter()
        .filter(|alert| text(alert, "rule.id") == Some("coverage"))
        .filter_map(|alert| at(alert, "egress.evidence")?.as_array())
        .flatten()
        .filter(|evidence| text(evidence, "kind") == Some("unseen"));
    // A number with a fraction of zero.
    let values: Vec<String> = evidence
        .filter_map(|evidence| Some(evidence["value"].as_f64()?.to_string()))
        .collect();
    ensure!(values == [FRAMES.to_string()], "{values:?} in {alerts:?}");
    Ok(())
}

/// The frames have their process and destination, and fragments all their headers.
fn check_flows(records: &[Value], to: SocketAddr, sent: &Value) -> Result<()> {
    let frames = sum(flows_to(records, to));
    ensure!(
        frames.app_bytes == FRAMES && frames.wire_bytes == 500 * 728 && frames.wire_packets == 500,
        "{frames:?}"
    );
    ensure!(
        flows_to(records, to).all(|flow| number(flow, "process.pid") == number(sent, "pid")),
        "another process sent the frames"
    );
    for (to, wire_bytes) in FRAGMENTS {
        let told = sum(flows_to(records, SocketAddr::from_str(to)?));
        ensure!(
            told.app_bytes == 200_000 && told.wire_bytes == wire_bytes && told.wire_packets == 150,
            "{to}: {told:?}, not {wire_bytes}"
        );
    }
    Ok(())
}

/// TCP to the sink, closed here first, and a late segment that the connection in `TIME_WAIT` answers; and TCP from the
/// third namespace, in packets that are segmented nowhere.
fn tcp(routed: &Routed) -> Result<()> {
    let lab = &routed.lab;
    let own = address(&lab.source)?;
    let to = SocketAddr::new(SINK_V4, 9102);
    let _sink = lab.serve(&lab.sink, &["tcp-sink"], to)?;
    let upload = ["tcp-upload", "--bytes", "300000", "--to"];
    let told = json(lab.generator(&upload)?.arg(to.to_string()))?;
    let port = number(&told, "source_port").context("a port")?;
    // proc_pid_net(5): addresses and ports in hexadecimal, then the state; 06 is TIME_WAIT.
    let table = format!("/proc/{}/net/tcp", lab.source.pid());
    wait_for("TIME_WAIT", Duration::from_secs(5), || {
        let sockets = std::fs::read_to_string(&table)?;
        let mut lines = sockets.lines().map(str::split_whitespace);
        let waits = lines.any(|mut fields| {
            let local = fields
                .nth(1)
                .is_some_and(|local| local.ends_with(&format!(":{port:04X}")));
            local && fields.nth(1) == Some("06")
        });
        Ok(waits.then_some(()))
    })?;
    let mut late = lab.sink.command(egress_tests::lab::generator()?);
    late.args([
        "frames", "--device", "wire", "--tcp", "--size", "1", "--mac", &own,
    ]);
    late.args([
        "--from",
        &to.to_string(),
        "--to",
        &format!("{SOURCE_V4}:{port}"),
    ]);
    json(&mut late)?;
    // The source answers a connection: its SYN-ACK is of no socket yet.
    let here = SocketAddr::new(SOURCE_V4, 9105);
    let _server = lab.serve(&lab.source, &["tcp-sink"], here)?;
    let mut from_sink = lab.sink.command(egress_tests::lab::generator()?);
    json(from_sink.args(["tcp-upload", "--bytes", "50000", "--to", &here.to_string()]))?;
    let here = SocketAddr::new(SOURCE_BEYOND.into(), 9106);
    let _server = lab.serve(&lab.source, &["tcp-sink"], here)?;
    let mut whole = routed.beyond.command(egress_tests::lab::generator()?);
    let here = here.to_string();
    json(whole.args([
        "tcp-upload",
        "--bytes",
        "3000000",
        "--chunk",
        "65536",
        "--to",
        &here,
    ]))?;
    Ok(())
}
