//! What is left by a daemon: of other sizes, of another version, half made, tampered with, or left on purpose.

use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::{Running, json, run};
use egress_tests::daemon::{Daemon, HostLock, Setup, TELL_ALL, binary};
use egress_tests::kernel::{left, pinned, programs};
use egress_tests::lab::{Lab, SINK_V4};
use egress_tests::records::{at, check_balances, flows_to, number, of, sum, text};
use egress_tests::require::ready;
use serde_json::Value;

use super::told;

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

/// Changes bytes of the pinned state.
fn patch(state: &str, bytes: &[(usize, &str)]) -> Result<()> {
    let key = ["pinned", state, "key", "0", "0", "0", "0"];
    let cell = json(
        Command::new("bpftool")
            .args(["--json", "map", "lookup"])
            .args(key),
    )?;
    let mut value: Vec<String> = cell["value"]
        .as_array()
        .context("a value")?
        .iter()
        .filter_map(|byte| Some(byte.as_str()?.trim_start_matches("0x").to_owned()))
        .collect();
    for (position, byte) in bytes {
        (*byte).clone_into(&mut value[*position]);
    }
    let mut update = Command::new("bpftool");
    update
        .args(["map", "update"])
        .args(key)
        .args(["value", "hex"]);
    run(update.args(&value))?;
    Ok(())
}

/// `egress run` does not start, and says why.
fn refused(setup: &Setup, words: &[&str]) -> Result<()> {
    let mut command = Command::new(binary()?);
    let mut process = Running::start(command.args(setup.arguments()), setup.dir())?;
    let status = process.wait(Duration::from_secs(20))?;
    let said = process.stderr();
    ensure!(status.code() == Some(2), "{status}: {said}");
    for words in words {
        ensure!(said.contains(words), "nothing of {words:?} in: {said}");
    }
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
    // `HostState::abi` lies behind eight bytes of magic, in every version.
    patch(state, &[(8, "2a")])?;

    let holds = programs()?;
    refused(killed.setup(), &["version 42", "egress unload", "/egress"])?;
    ensure!(
        pinned()? == there && programs()? == holds,
        "something was touched"
    );
    let doctor = Command::new(binary()?).arg("doctor").output()?;
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

/// A start that did not get to its end left nothing worth keeping; a directory that was tampered with is for people.
#[test]
fn what_is_half_made_goes_and_what_is_damaged_is_refused() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let killed = Daemon::start(TELL_ALL)?.kill()?;
    let pins = pinned()?;
    let pin = |end: &str| {
        let found = pins.iter().find(|path| path.ends_with(end));
        found.with_context(|| format!("no {end} is pinned: {pins:?}"))
    };
    std::fs::remove_file(pin("/maps/FREE_SLOTS")?)?;
    refused(killed.setup(), &["FREE_SLOTS", "egress unload"])?;
    ensure!(!pinned()?.is_empty(), "it was removed all the same");
    // Without its magic, nobody ever got as far as counting.
    patch(
        pin("/maps/STATE")?,
        &[(0, "0"), (1, "0"), (2, "0"), (3, "0"), (4, "0"), (5, "0")],
    )?;
    let (_, mut daemon) = killed.restart(None)?;
    daemon.wait_records("a health record", Duration::from_secs(10), |records| {
        of(records, "health").count() > 0
    })?;
    ensure!(pinned()? == pins, "not pinned anew: {:?}", pinned()?);
    let run = daemon.stop()?;
    ensure!(of(&run.records, "gap").count() == 0, "a gap after nothing");
    ensure!(run.stderr.contains("before it was ready"), "{}", run.stderr);
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
