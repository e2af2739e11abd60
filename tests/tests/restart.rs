//! A daemon that is killed and comes back: no byte is lost and none told twice, processes stay who they are, and the time
//! between is a record.

use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::{Running, json, run};
use egress_tests::daemon::{Daemon, HostLock, TELL_ALL};
use egress_tests::kernel::{left, pinned, programs};
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
    let lines = sender.wait_lines(Duration::from_secs(60), |lines| !lines.is_empty())?;
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
    let gaps: Vec<&Value> = of(&records, "gap").collect();
    ensure!(gaps.len() == 1, "{gaps:?}");
    let gap = gaps[0];
    let seconds = at(gap, "egress.gap.seconds")
        .and_then(Value::as_f64)
        .context("seconds")?;
    ensure!(
        text(gap, "egress.gap.reason") == Some("not_running")
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

/// What the old maps hold is told once, before others take their place.
#[test]
fn other_sizes_drain_what_was_left() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let daemon = Daemon::start(TELL_ALL)?;
    let lab = Lab::new()?;
    let (tcp, udp) = (
        SocketAddr::new(SINK_V4, 9300),
        SocketAddr::new(SINK_V4, 9301),
    );
    let _sinks = [
        lab.serve(&lab.sink, &["tcp-sink", "--close-after", "3000000"], tcp)?,
        lab.serve(&lab.sink, &["udp-sink"], udp)?,
    ];
    let to = tcp.to_string();
    let upload = [
        "tcp-upload",
        "--bytes",
        "3000000",
        "--pause",
        "30000",
        "--wait-close",
        "--to",
        &to,
    ];
    let sender = Running::start(&mut lab.generator(&upload)?, lab.dir())?;
    sleep(Duration::from_millis(600));
    let killed = daemon.kill()?;
    let to = udp.to_string();
    let packet = json(&mut lab.generator(&["one-packet", "--size", "500", "--to", &to])?)?;
    let upload = told(sender)?;
    let config = format!("[sensor]\nslots = 4096\n{TELL_ALL}");
    let (first, mut daemon) = killed.restart(Some(&config))?;
    daemon.wait_records("the gap to be told", Duration::from_secs(10), |records| {
        of(records, "gap").count() == 1
    })?;
    // The new hooks see the new traffic.
    let again = json(&mut lab.generator(&["one-packet", "--size", "600", "--to", &to])?)?;
    let truth = lab.truth()?;
    let run = daemon.stop()?;
    check_balances(&first)?;
    let records: Vec<Value> = first.iter().chain(&run.records).cloned().collect();
    let gap = of(&records, "gap").next().context("a gap")?;
    let blind = at(gap, "egress.gap.blind_seconds")
        .and_then(Value::as_f64)
        .context("blind")?;
    println!("without hooks for {blind} s");
    ensure!(
        text(gap, "egress.gap.reason") == Some("upgrade") && blind > 0.0 && blind < 2.0,
        "{gap}"
    );
    for (transport, to, sent) in [
        ("tcp", tcp, vec![&upload]),
        ("udp", udp, vec![&packet, &again]),
    ] {
        let (flows, arrived) = (sum(flows_to(&records, to)), truth.at(transport, to));
        let app: u64 = sent
            .iter()
            .filter_map(|told| number(told, "app_bytes"))
            .sum();
        ensure!(
            flows.app_bytes == app && flows.wire_bytes == arrived.bytes,
            "{transport}: {flows:?} is told, of {sent:?} and {arrived:?}"
        );
    }
    let left = pinned()?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Maps of another version are refused, and stay as they are until somebody decides.
#[test]
fn another_version_is_refused_and_not_touched() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let host = HostLock::take()?;
    let before = programs()?;
    let killed = Daemon::start_on(host, TELL_ALL)?.kill()?;
    let there = pinned()?;
    let state = there
        .iter()
        .find(|path| path.ends_with("/maps/STATE"))
        .context("no state is pinned")?;
    let lookup = [
        "--json", "map", "lookup", "pinned", state, "key", "0", "0", "0", "0",
    ];
    let cell = json(Command::new("bpftool").args(lookup))?;
    let mut value: Vec<String> = cell["value"]
        .as_array()
        .context("a value")?
        .iter()
        .filter_map(|byte| Some(byte.as_str()?.trim_start_matches("0x").to_owned()))
        .collect();
    // `HostState::abi` lies behind eight bytes of magic, in every version.
    value[8] = "2a".into();
    let mut update = Command::new("bpftool");
    update
        .args([
            "map", "update", "pinned", state, "key", "0", "0", "0", "0", "value", "hex",
        ])
        .args(&value);
    run(&mut update)?;

    let holds = programs()?;
    let setup = killed.setup();
    let mut refused = Running::start(
        Command::new(egress_tests::daemon::binary()?).args(setup.arguments()),
        setup.dir(),
    )?;
    let status = refused.wait(Duration::from_secs(20))?;
    let said = refused.stderr();
    ensure!(status.code() == Some(2), "{status}: {said}");
    for words in ["version 42", "egress unload", "/egress"] {
        ensure!(said.contains(words), "nothing of {words:?} in: {said}");
    }
    ensure!(
        pinned()? == there && programs()? == holds,
        "something was touched"
    );
    let doctor = Command::new(egress_tests::daemon::binary()?)
        .arg("doctor")
        .output()?;
    let report = String::from_utf8_lossy(&doctor.stdout);
    ensure!(
        doctor.status.code() == Some(2) && report.contains("version 42"),
        "{report}"
    );
    killed.unload()?;
    ensure!(
        pinned()?.is_empty() && left(&before)?.is_empty(),
        "unload left something"
    );
    Ok(())
}

/// Whoever takes our link or our pin away is told of, and does not keep it.
#[test]
fn a_link_or_a_pin_that_is_taken_away_is_told_and_made_again() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let mut daemon = Daemon::start(TELL_ALL)?;
    let pins = pinned()?;
    let pin = |end: &str| {
        let found = pins.iter().find(|path| path.ends_with(end));
        found.with_context(|| format!("no {end} is pinned: {pins:?}"))
    };
    let state_of = |health: &Value, name: &str| -> Option<(String, String)> {
        let hooks = at(health, "egress.hooks")?.as_array()?;
        let hook = hooks.iter().find(|hook| hook["hook"] == name)?;
        let reason = text(hook, "reason").unwrap_or_default();
        Some((text(hook, "state")?.to_owned(), reason.to_owned()))
    };
    run(Command::new("bpftool").args(["link", "detach", "pinned", pin("/links/connect4")?]))?;
    std::fs::remove_file(pin("/links/recv")?)?;
    std::fs::remove_file(pin("/maps/SLOTS")?)?;
    for (name, words) in [("connect4", "detached"), ("recv", "pin was removed")] {
        let told = |records: &[Value]| {
            let healths: Vec<_> = of(records, "health")
                .filter_map(|health| state_of(health, name))
                .collect();
            let broken = healths.iter().position(|(state, reason)| {
                state == "broken" && reason.contains(words) && reason.contains("again")
            });
            broken.is_some_and(|broken| healths[broken..].iter().any(|(state, _)| state == "ok"))
        };
        daemon.wait_records(
            &format!("{name} to be told broken, then repaired"),
            Duration::from_secs(10),
            told,
        )?;
    }
    ensure!(pinned()? == pins, "not pinned again: {:?}", pinned()?);
    let lost = |health: &Value| {
        let lost = at(health, "egress.lost").and_then(Value::as_array)?;
        let pin = lost.iter().find(|lost| text(lost, "kind") == Some("pin"))?;
        number(pin, "count")
    };
    let end = of(daemon.records()?, "health").last().and_then(lost);
    ensure!(end == Some(2), "pins removed: {end:?}");
    // It works again: a connection of a process is known from its first packet.
    daemon.stop()?;
    Ok(())
}

/// A daemon that is stopped for a moment leaves its hooks to the next one, when it is told to.
#[test]
fn a_planned_restart_misses_nothing() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let config = format!("[sensor]\nkeep_on_stop = true\n{TELL_ALL}");
    let daemon = Daemon::start(&config)?;
    let lab = Lab::new()?;
    let udp = SocketAddr::new(SINK_V4, 9400);
    let _sink = lab.serve(&lab.sink, &["udp-sink"], udp)?;
    let to = udp.to_string();
    let send =
        |size: &str| json(&mut lab.generator(&["one-packet", "--size", size, "--to", &to])?);
    send("100")?;
    let stopped = daemon.stop_and_keep()?;
    ensure!(!pinned()?.is_empty(), "nothing is kept");
    send("200")?;
    let (first, mut daemon) = stopped.restart(Some(TELL_ALL))?;
    send("300")?;
    daemon.wait_records("the gap to be told", Duration::from_secs(10), |records| {
        of(records, "gap").count() == 1
    })?;
    let truth = lab.truth()?.at("udp", udp);
    let run = daemon.stop()?;
    let (before, after) = (sum(flows_to(&first, udp)), sum(flows_to(&run.records, udp)));
    ensure!(
        (before.app_bytes, after.app_bytes) == (100, 500),
        "{before:?}, then {after:?}"
    );
    ensure!(
        before.wire_bytes + after.wire_bytes == truth.bytes,
        "{truth:?}"
    );
    let left = pinned()?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
