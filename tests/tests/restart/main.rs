//! A daemon that is killed and comes back: no byte is lost and none told twice, processes stay who they are, and the time
//! between is a record.

mod left;

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::{Running, json};
use egress_tests::daemon::{Daemon, HostLock, TELL_ALL};
use egress_tests::kernel::pinned;
use egress_tests::lab::{Lab, SINK_V4, SINK_V6};
use egress_tests::records::{Sum, at, by_process, check_balances, flows_to, number, of, sum, text};
use egress_tests::require::ready;
use serde_json::Value;

/// How long senders go on at least: longer than a gap, and the start after it.
const SENDING: Duration = Duration::from_secs(14);
/// How long they rest after 64 calls of 1,400 bytes.
const REST: Duration = Duration::from_millis(50);

type Processes<'a> = std::collections::BTreeMap<&'a str, (Sum, Vec<&'a Value>)>;

/// What was sent to one place, by whom.
struct Sent {
    name: &'static str,
    transport: &'static str,
    to: SocketAddr,
    told: Value,
}

/// A sender that goes on for [`SENDING`].
fn long(lab: &Lab, kind: &str, to: SocketAddr) -> Result<Running> {
    let rounds = SENDING.as_millis() / REST.as_millis();
    let bytes = (rounds * 64 * 1400).to_string();
    let rest = REST.as_micros().to_string();
    let to = to.to_string();
    let mut args = vec![kind, "--bytes", &bytes, "--pause", &rest, "--to", &to];
    if kind == "tcp-upload" {
        args.push("--wait-close");
    }
    Running::start(&mut lab.generator(&args)?, lab.dir())
}

/// Waits for a generator's end and its line.
fn told(mut sender: Running) -> Result<Value> {
    let lines = sender.wait_lines(Duration::from_mins(1), |lines| !lines.is_empty())?;
    sender.wait(Duration::from_secs(5))?;
    lines.into_iter().next().context("a line")
}

/// Flows by process. Those without are resets of the kernel's own, which answer a segment that came twice: a daemon that
/// saw the connection end infers whose it was, and one that has just begun cannot.
fn of_processes(records: &[Value], to: SocketAddr) -> Result<Processes<'_>> {
    let mut processes = by_process(flows_to(records, to));
    for flow in processes
        .remove("")
        .into_iter()
        .flat_map(|(_, flows)| flows)
    {
        ensure!(
            text(flow, "egress.unattributed_reason") == Some("kernel")
                && number(flow, "egress.app_bytes") == Some(0),
            "without a process: {flow}"
        );
    }
    Ok(processes)
}

fn close_after(bytes: u128) -> Vec<String> {
    ["tcp-sink", "--close-after"]
        .map(String::from)
        .into_iter()
        .chain([bytes.to_string()])
        .collect()
}

/// One gap, as long as nobody looked, in which every hook counted.
fn check_gap(records: &[Value], least: Duration, most: Duration) -> Result<()> {
    let gaps: Vec<&Value> = of(records, "gap").collect();
    ensure!(gaps.len() == 1, "{gaps:?}");
    let gap = gaps[0];
    let seconds = |name: &str| at(gap, &format!("egress.gap.{name}")).and_then(Value::as_f64);
    let length = seconds("seconds").context("seconds")?;
    ensure!(
        text(gap, "egress.gap.reason") == Some("not_running")
            && seconds("blind_seconds") == Some(0.0)
            && at(gap, "egress.gap.missing").is_none()
            && length >= least.as_secs_f64() - 0.2
            && length < most.as_secs_f64(),
        "{gap}"
    );
    Ok(())
}

/// Kills a daemon under load after `alive`, and starts it again after `gone`.
fn killed_and_back(host: HostLock, alive: Duration, gone: Duration) -> Result<HostLock> {
    let daemon = Daemon::start_on(host, TELL_ALL)?;
    let lab = Lab::new()?;
    let [tcp, udp, short, between, short_udp] = [9100, 9101, 9102, 9103, 9104]
        .map(|port| SocketAddr::new(if port % 2 == 0 { SINK_V4 } else { SINK_V6 }, port));
    let total = (SENDING.as_millis() / REST.as_millis()) * 64 * 1400;
    let serve = |args: &[String], to| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        lab.serve(&lab.sink, &args, to)
    };
    let _sinks = [
        serve(&close_after(total), tcp)?,
        serve(&["udp-sink".into()], udp)?,
        serve(&close_after(3_000_000), short)?,
        serve(&close_after(500_000), between)?,
        serve(&["udp-sink".into()], short_udp)?,
    ];
    let began = Instant::now();
    let (tcp_sender, udp_sender) = (
        long(&lab, "tcp-upload", tcp)?,
        long(&lab, "udp-burst", udp)?,
    );
    sleep(alive);
    // Ends when nobody looks: about a second of sending.
    let short_to = short.to_string();
    let ends = [
        "tcp-upload",
        "--bytes",
        "3000000",
        "--pause",
        "30000",
        "--wait-close",
        "--to",
        &short_to,
    ];
    let ends = Running::start(&mut lab.generator(&ends)?, lab.dir())?;
    sleep(Duration::from_millis(200));

    let killed = daemon.kill()?;
    let since = Instant::now();
    ensure!(
        !pinned()?.is_empty(),
        "a killed daemon leaves nothing pinned"
    );
    let between_to = between.to_string();
    let upload = [
        "tcp-upload",
        "--bytes",
        "500000",
        "--wait-close",
        "--to",
        &between_to,
    ];
    let all_between = json(&mut lab.generator(&upload)?)?;
    let udp_to = short_udp.to_string();
    let packet = json(&mut lab.generator(&["one-packet", "--size", "777", "--to", &udp_to])?)?;
    let ended_between = told(ends)?;
    sleep(gone.saturating_sub(since.elapsed()));

    let (first, mut daemon) = killed.restart(None)?;
    daemon.wait_records("the gap to be told", Duration::from_secs(10), |records| {
        of(records, "gap").count() == 1
    })?;
    ensure!(
        began.elapsed() < SENDING,
        "this machine is too slow: the senders ended before the daemon was back"
    );
    let sent = [
        ("tcp over the gap", "tcp", tcp, told(tcp_sender)?),
        ("udp over the gap", "udp", udp, told(udp_sender)?),
        ("ended in the gap", "tcp", short, ended_between),
        ("all in the gap", "tcp", between, all_between),
        ("a packet in the gap", "udp", short_udp, packet),
    ]
    .map(|(name, transport, to, told)| Sent {
        name,
        transport,
        to,
        told,
    });
    let truth = lab.truth()?;
    // Holds the second run to its own books.
    let run = daemon.stop()?;
    check_balances(&first)?;
    let records: Vec<Value> = first.iter().chain(&run.records).cloned().collect();
    check_gap(&records, gone, since.elapsed())?;
    for sent in &sent {
        let arrived = truth.at(sent.transport, sent.to);
        sent.check(&first, &run.records, arrived.bytes)
            .with_context(|| format!("{}: {}", sent.name, sent.told))?;
    }
    Ok(run.host)
}

impl Sent {
    fn check(&self, first: &[Value], second: &[Value], arrived: u64) -> Result<()> {
        let flows: Vec<&Value> = flows_to(first, self.to)
            .chain(flows_to(second, self.to))
            .collect();
        let all = sum(flows.iter().copied());
        ensure!(
            Some(all.app_bytes) == number(&self.told, "app_bytes") && all.wire_bytes == arrived,
            "{all:?} is told, of {arrived} on the wire"
        );
        let records: Vec<Value> = flows.into_iter().cloned().collect();
        let processes = of_processes(&records, self.to)?;
        ensure!(processes.len() == 1, "processes: {:?}", processes.keys());
        let pid = number(&self.told, "pid");
        for (entity, (_, flows)) in &processes {
            ensure!(
                flows.iter().all(|flow| number(flow, "process.pid") == pid)
                    && Some(entity.split('-').next().unwrap_or_default())
                        == pid.map(|pid| pid.to_string()).as_deref(),
                "{entity} is not {pid:?}"
            );
        }
        if self.name.ends_with("over the gap") {
            let of_run = |records| -> Vec<&Value> { flows_to(records, self.to).collect() };
            let (before, after) = (of_run(first), of_run(second));
            ensure!(!after.is_empty(), "nothing after the gap");
            let places: [&str; 5] = [
                "process.executable",
                "egress.job.id",
                "egress.flow_id",
                "egress.attribution",
                "user.id",
            ];
            let told = |flow: &Value| places.map(|place| at(flow, place).cloned());
            for flow in before.iter().chain(&after) {
                ensure!(
                    told(flow) == told(after[0]),
                    "not the same: {:?} and {:?}",
                    told(flow),
                    told(after[0])
                );
            }
        }
        Ok(())
    }
}

#[test]
fn a_kill_under_load_loses_no_byte_and_doubles_none() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let mut host = HostLock::take()?;
    for (alive, gone) in [(2300, 5000), (0, 1000), (777, 1500)] {
        let [alive, gone] = [alive, gone].map(Duration::from_millis);
        host = killed_and_back(host, alive, gone)
            .with_context(|| format!("killed after {alive:?}"))?;
    }
    let left = pinned()?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Often, at moments that have nothing to do with one another, while it writes as often as it can.
#[test]
fn many_kills_lose_no_byte_and_double_none() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let config = "[sensor]\ndrain_interval = \"10ms\"\n\
                  [events]\nflow_interval = \"100ms\"\nhealth_interval = \"100ms\"\n";
    let mut daemon = Daemon::start(config)?;
    let lab = Lab::new()?;
    let (tcp, udp, many) = (
        SocketAddr::new(SINK_V4, 9200),
        SocketAddr::new(SINK_V6, 9201),
        SocketAddr::new(SINK_V4, 9202),
    );
    let total = (SENDING.as_millis() / REST.as_millis()) * 64 * 1400;
    let closing = close_after(total);
    let closing: Vec<&str> = closing.iter().map(String::as_str).collect();
    let _sinks = [
        lab.serve(&lab.sink, &closing, tcp)?,
        lab.serve(&lab.sink, &["udp-sink"], udp)?,
        lab.serve(&lab.sink, &["tcp-sink", "--close-after", "1000"], many)?,
    ];
    let (tcp_sender, udp_sender) = (
        long(&lab, "tcp-upload", tcp)?,
        long(&lab, "udp-burst", udp)?,
    );
    let many_to = many.to_string();
    let each = [
        "repeat",
        "--count",
        "700",
        "--",
        "tcp-upload",
        "--bytes",
        "1000",
        "--wait-close",
        "--to",
        &many_to,
    ];
    let many_senders = Running::start(&mut lab.generator(&each)?, lab.dir())?;
    let mut records: Vec<Value> = Vec::new();
    for alive in [950, 1010, 130, 400, 990, 57] {
        sleep(Duration::from_millis(alive));
        let (told, next) = daemon.kill()?.restart(None)?;
        check_balances(&told)?;
        records.extend(told);
        daemon = next;
    }
    let sent = [
        ("tcp", tcp, told(tcp_sender)?),
        ("udp", udp, told(udp_sender)?),
    ];
    let many_told = told(many_senders)?;
    let truth = lab.truth()?;
    records.extend(daemon.stop()?.records);
    for (transport, to, told) in &sent {
        let (flows, arrived) = (sum(flows_to(&records, *to)), truth.at(transport, *to));
        ensure!(
            Some(flows.app_bytes) == number(told, "app_bytes")
                && (flows.wire_bytes, flows.wire_packets) == (arrived.bytes, arrived.packets),
            "{transport}: {flows:?} is told, of {told} and {arrived:?}"
        );
        let processes = of_processes(&records, *to)?;
        ensure!(processes.len() == 1, "{transport}: {:?}", processes.keys());
    }
    let (flows, arrived) = (sum(flows_to(&records, many)), truth.at("tcp", many));
    ensure!(
        flows.app_bytes == 700_000 && flows.wire_bytes == arrived.bytes,
        "{flows:?} is told, of 700 times 1,000 bytes and {arrived:?}"
    );
    let processes = of_processes(&records, many)?;
    let children = many_told["children"].as_array().context("children")?;
    let pids: std::collections::BTreeSet<_> = children
        .iter()
        .filter_map(|child| number(child, "pid"))
        .collect();
    ensure!(
        processes.len() == pids.len() && processes.values().all(|(sum, _)| sum.app_bytes == 1000),
        "{} processes are told, of {}; not 1,000 bytes: {:?}",
        processes.len(),
        pids.len(),
        processes.iter().find(|(_, (sum, _))| sum.app_bytes != 1000)
    );
    ensure!(of(&records, "gap").count() == 6, "a gap for each kill");
    Ok(())
}
