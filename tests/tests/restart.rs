//! A daemon that is killed and comes back: no byte is lost and none told twice, processes stay who they are, and the time
//! between is a record.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::{Running, json, run};
use egress_tests::daemon::{Daemon, HostLock, TELL_ALL};
use egress_tests::kernel::{left, pinned, programs};
use egress_tests::lab::{Lab, SINK_V4, SINK_V6};
use egress_tests::records::{at, by_process, check_balances, flows_to, number, of, sum, text};
use egress_tests::require::ready;
use serde_json::Value;

/// How long senders go on at least: longer than a gap, and the start after it.
const SENDING: Duration = Duration::from_secs(14);
/// How long they rest after 64 calls of 1,400 bytes.
const REST: Duration = Duration::from_millis(50);

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
    let lines = sender.wait_lines(Duration::from_secs(60), |lines| !lines.is_empty())?;
    sender.wait(Duration::from_secs(5))?;
    lines.into_iter().next().context("a line")
}

fn close_after(bytes: u128) -> Vec<String> {
    ["tcp-sink", "--close-after"]
        .map(String::from)
        .into_iter()
        .chain([bytes.to_string()])
        .collect()
}

/// Kills a daemon under load after `alive`, starts it again after `gone`, with another configuration if there is one.
fn killed_and_back(
    host: HostLock,
    (alive, gone): (Duration, Duration),
    config: (&str, Option<&str>),
    reason: &str,
) -> Result<HostLock> {
    let daemon = Daemon::start_on(host, config.0)?;
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

    let (first, mut daemon) = killed.restart(config.1)?;
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
    let gaps: Vec<&Value> = of(&records, "gap").collect();
    ensure!(gaps.len() == 1, "{gaps:?}");
    let gap = gaps[0];
    let seconds = at(gap, "egress.gap.seconds")
        .and_then(Value::as_f64)
        .context("seconds")?;
    ensure!(
        text(gap, "egress.gap.reason") == Some(reason)
            && seconds >= gone.as_secs_f64() - 0.2
            && seconds < since.elapsed().as_secs_f64(),
        "{gap}"
    );
    for sent in &sent {
        let arrived = truth.at(sent.transport, sent.to);
        sent.check(&first, &run.records, arrived.bytes)
            .with_context(|| format!("{}: {}", sent.name, sent.told))?;
    }
    ensure!(
        at(gap, "egress.gap.blind_seconds").and_then(Value::as_f64) == Some(0.0),
        "{gap}"
    );
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
        let processes = by_process(flows);
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
        let times = (Duration::from_millis(alive), Duration::from_millis(gone));
        host = killed_and_back(host, times, (TELL_ALL, None), "not_running")
            .with_context(|| format!("killed after {alive} ms"))?;
    }
    let left = pinned()?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
