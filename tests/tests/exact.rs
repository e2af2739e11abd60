//! Bytes are exact, for each process: those of the application by the generators' own count, those on the wire by the
//! sink's nftables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::json;
use egress_tests::daemon::{Daemon, TELL_ALL};
use egress_tests::lab::{self, Lab, SINK_V4, SINK_V6, Truth};
use egress_tests::records::{by_process, flows_to, number, sum, text};
use egress_tests::require::ready;
use egress_tests::slowness;
use serde_json::Value;

/// Application bytes of an upload.
const UPLOAD: &str = "10000000";
/// Processes that live for one packet.
const SHORT: u64 = 1000;
/// Payload of one packet, bytes.
const PACKET: u64 = 100;

/// One way of sending, and what the generator said of it.
struct Case {
    name: String,
    transport: &'static str,
    to: SocketAddr,
    /// One line for each process that sent.
    told: Vec<Value>,
    /// Wire bytes that no cgroup hook sees, at most.
    unseen: u64,
}

#[test]
fn every_byte_is_told_with_its_process() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let daemon = Daemon::start(TELL_ALL)?;
    let lab = Lab::new()?;
    let mut cases = Vec::new();
    for (family, sink) in [("ipv4", SINK_V4), ("ipv6", SINK_V6)] {
        cases.push(udp_upload(&lab, family, SocketAddr::new(sink, 9001))?);
        cases.push(tcp_upload(&lab, family, SocketAddr::new(sink, 9002))?);
    }
    cases.push(short_datagrams(&lab, SocketAddr::new(SINK_V4, 9003))?);
    cases.push(short_connections(&lab, SocketAddr::new(SINK_V6, 9004))?);
    cases.push(connections_closed_here(
        &lab,
        SocketAddr::new(SINK_V4, 9005),
    )?);
    let truth = lab.truth()?;
    let run = daemon.stop()?;
    for case in &cases {
        case.check(&run.records, &truth)
            .with_context(|| format!("{}, {}", case.name, case.to))?;
    }
    Ok(())
}

fn udp_upload(lab: &Lab, family: &str, to: SocketAddr) -> Result<Case> {
    let _sink = lab.serve(&lab.sink, &["udp-sink"], to)?;
    let told = json(
        lab.generator(&["udp-burst", "--bytes", UPLOAD, "--pause", "200", "--to"])?
            .arg(to.to_string()),
    )?;
    Ok(Case {
        name: format!("udp upload, {family}"),
        transport: "udp",
        to,
        told: vec![told],
        unseen: 0,
    })
}

fn tcp_upload(lab: &Lab, family: &str, to: SocketAddr) -> Result<Case> {
    let _sink = lab.serve(&lab.sink, &["tcp-sink", "--close-after", UPLOAD], to)?;
    let upload = [
        "tcp-upload",
        "--bytes",
        UPLOAD,
        "--chunk",
        "65536",
        "--wait-close",
        "--to",
    ];
    let told = json(lab.generator(&upload)?.arg(to.to_string()))?;
    Ok(Case {
        name: format!("tcp upload, {family}"),
        transport: "tcp",
        to,
        told: vec![told],
        unseen: 0,
    })
}

/// A thousand processes that send one datagram each.
fn short_datagrams(lab: &Lab, to: SocketAddr) -> Result<Case> {
    let _sink = lab.serve(&lab.sink, &["udp-sink"], to)?;
    let told = repeat(
        lab,
        SHORT,
        &[
            "one-packet",
            "--size",
            &PACKET.to_string(),
            "--to",
            &to.to_string(),
        ],
    )?;
    Ok(Case {
        name: "one datagram a process".into(),
        transport: "udp",
        to,
        told,
        unseen: 0,
    })
}

/// A thousand processes that connect, send and close; the sink closes first, so that no packet is sent by a TIME-WAIT.
fn short_connections(lab: &Lab, to: SocketAddr) -> Result<Case> {
    let packet = PACKET.to_string();
    let _sink = lab.serve(&lab.sink, &["tcp-sink", "--close-after", &packet], to)?;
    let upload = [
        "tcp-upload",
        "--bytes",
        &packet,
        "--wait-close",
        "--to",
        &to.to_string(),
    ];
    let told = repeat(lab, SHORT, &upload)?;
    Ok(Case {
        name: "one connection a process".into(),
        transport: "tcp",
        to,
        told,
        unseen: 0,
    })
}

/// Processes that close first. The last acknowledgement of each connection (52 bytes over IPv4) is sent by the kernel in
/// TIME-WAIT, for no full socket: it may be told without a process and destination, and recent kernels do not run
/// cgroup programs for it at all.
fn connections_closed_here(lab: &Lab, to: SocketAddr) -> Result<Case> {
    let packet = PACKET.to_string();
    let mut sink = lab.serve(&lab.sink, &["tcp-sink"], to)?;
    let told = repeat(
        lab,
        200,
        &["tcp-upload", "--bytes", &packet, "--to", &to.to_string()],
    )?;
    let ends = told.len() + 1;
    sink.wait_lines(std::time::Duration::from_secs(5), |lines| {
        lines.len() == ends
    })?;
    let unseen = 52 * told.len() as u64;
    Ok(Case {
        name: "one connection a process, closed here".into(),
        transport: "tcp",
        to,
        told,
        unseen,
    })
}

/// Runs a generator in many processes, each of which has to be short.
fn repeat(lab: &Lab, count: u64, args: &[&str]) -> Result<Vec<Value>> {
    let mut all = lab.generator(&["repeat", "--count", &count.to_string(), "--"])?;
    let told = json(all.args(args))?;
    let children = told["children"].as_array().context("children")?.clone();
    let mut lives: Vec<u64> = children
        .iter()
        .filter_map(|child| number(child, "life_us"))
        .collect();
    lives.sort_unstable();
    let median = *lives.get(lives.len() / 2).context("no lives")?;
    let short = lives.iter().filter(|life| **life < 5000).count();
    println!(
        "{args:?}: {short} of {count} processes lived less than 5 ms, half of them less than {median} µs"
    );
    // How long they live is the machine's to say: a busy one stretches all. Enough of them have to be short.
    ensure!(
        short * 10 >= children.len() || slowness() > 1,
        "the processes are not short: half of them live more than {median} µs"
    );
    Ok(children)
}

impl Case {
    fn check(&self, records: &[Value], truth: &Truth) -> Result<()> {
        let flows: Vec<&Value> = flows_to(records, self.to)
            .filter(|flow| text(flow, "network.transport") == Some(self.transport))
            .collect();
        let app: u64 = self
            .told
            .iter()
            .filter_map(|told| number(told, "app_bytes"))
            .sum();
        let (total, arrived) = (
            sum(flows.iter().copied()),
            truth.at(self.transport, self.to),
        );
        ensure!(
            total.app_bytes == app,
            "{} application bytes are told, of {app}",
            total.app_bytes
        );
        let unseen = arrived.bytes.checked_sub(total.wire_bytes);
        let unseen = unseen
            .with_context(|| format!("{} wire bytes are told, of {arrived:?}", total.wire_bytes))?;
        ensure!(
            unseen <= self.unseen,
            "{} wire bytes are told, of {arrived:?}",
            total.wire_bytes
        );
        ensure!(
            self.unseen > 0 || total.wire_packets == arrived.packets,
            "{total:?} is told, of {arrived:?}"
        );

        let processes = by_process(flows);
        ensure!(
            !processes.contains_key(""),
            "flows without a process: {:?}",
            processes.get("")
        );
        let pids: BTreeSet<u64> = self
            .told
            .iter()
            .filter_map(|told| number(told, "pid"))
            .collect();
        ensure!(
            pids.len() == self.told.len(),
            "a process id came twice: this run cannot tell"
        );
        ensure!(
            processes.len() == pids.len(),
            "{} processes are told, of {}",
            processes.len(),
            pids.len()
        );
        let by_pid: BTreeMap<_, _> = processes
            .values()
            .filter_map(|process| Some((number(process.1.first()?, "process.pid")?, process)))
            .collect();
        let generator = lab::generator()?;
        for told in &self.told {
            let process = number(told, "pid").and_then(|pid| by_pid.get(&pid));
            let (total, flows) =
                process.with_context(|| format!("the process is not told: {told}"))?;
            ensure!(
                Some(total.app_bytes) == number(told, "app_bytes"),
                "{total:?} is told, of {told}"
            );
            // A port is used again: the wire's figure is then that of all processes that had it.
            let wire = self.arrived_from(told, truth);
            let port = number(told, "source_port");
            let sharing = self
                .told
                .iter()
                .filter(|other| number(other, "source_port") == port);
            let told_wire: u64 = sharing
                .filter_map(|other| by_pid.get(&number(other, "pid")?))
                .map(|(total, _)| total.wire_bytes)
                .sum();
            ensure!(
                told_wire <= wire && told_wire + self.unseen / pids.len() as u64 >= wire,
                "{told_wire} wire bytes are told, of {wire}, of {told}"
            );
            for flow in flows {
                ensure!(
                    text(flow, "process.executable").map(AsRef::as_ref)
                        == Some(generator.as_path()),
                    "not ours: {flow}"
                );
                ensure!(
                    number(flow, "source.port") == number(told, "source_port"),
                    "another port: {flow}, of {told}"
                );
                ensure!(
                    text(flow, "egress.attribution") == Some("exact"),
                    "not exact: {flow}"
                );
            }
        }
        Ok(())
    }

    /// What arrived from a process; from all that had its source port, when several had.
    fn arrived_from(&self, told: &Value, truth: &Truth) -> u64 {
        let port = number(told, "source_port");
        let flows = truth.0.iter().filter(|flow| {
            let same = flow.transport == self.transport && flow.port == self.to.port();
            same && flow.source.is_ipv4() == self.to.is_ipv4()
                && Some(flow.source.port().into()) == port
        });
        flows.map(|flow| flow.arrived.bytes).sum()
    }
}
