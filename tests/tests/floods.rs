//! More than the daemon can tell, as fast as two cores can make it: totals stay exact, and what detail is lost is counted, by
//! kind and cause, and equal to what is missing.
//!
//! Others on this host open files and start processes as well, and are in the same counters. So the books are held to
//! equality for the whole host ([`egress_tests::tally::Tally::check`]), and a generator's own count to what it can be at most.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::json;
use egress_tests::daemon::Daemon;
use egress_tests::http;
use egress_tests::lab::{self, Lab, SINK_V4};
use egress_tests::records::{flows_to, number, sum};
use egress_tests::require::ready;
use egress_tests::tally::Tally;
use serde_json::Value;

/// Rings of 64 KiB, and all that is lost must be lost there.
const SMALL: &str = "
[sensor]
process_ring_bytes = \"64KiB\"
file_ring_bytes = \"64KiB\"
[events]
flow_interval = \"1s\"
health_interval = \"1s\"
files = \"all\"
rotate_bytes = \"64GiB\"
";

/// Runs `flood` while /healthz is asked ten times a second; gives what it made and the longest answer.
fn answered<T>(listen: SocketAddr, flood: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| -> Result<Duration> {
            let mut longest = Duration::ZERO;
            while !done.load(Relaxed) {
                let asked = Instant::now();
                let (status, body) = http::get(listen, "/healthz")?;
                ensure!(status == 200, "/healthz: {status}: {body}");
                longest = longest.max(asked.elapsed());
                thread::sleep(Duration::from_millis(100));
            }
            Ok(longest)
        });
        let flooded = flood();
        done.store(true, Relaxed);
        let longest = asking.join().ok().context("/healthz panicked")??;
        Ok((flooded?, longest))
    })
}

fn told(value: &Value, field: &str) -> Result<u64> {
    number(value, field).with_context(|| format!("no {field}: {value}"))
}

/// A generator on the host itself.
fn generate(args: &[&str]) -> Result<Value> {
    json(Command::new(lab::generator()?).args(args))
}

#[test]
fn a_million_opens_are_told_repeated_or_lost() -> Result<()> {
    const FILES: &str = "100000";
    const OPENS: u64 = 1_000_000;
    if !ready(&[]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_str().context("a path")?;
    generate(&["flood", "files", "--count", FILES, "--dir", path])?;
    let daemon = Daemon::start(SMALL)?;
    let listen = daemon.setup().listen;
    let (made, longest) = answered(listen, || {
        let count = OPENS.to_string();
        let opens = [
            "flood", "opens", "--files", FILES, "--count", &count, "--dir", path,
        ];
        generate(&opens)
    })?;
    let tally = daemon.stop_tallied()?;
    let (opens, pid) = (told(&made, "opens")?, told(&made, "pid")?);
    ensure!(opens == OPENS, "{made}");
    let file = |state| tally.events("file", state);
    let (seen, of_generator) = (file("seen")?, tally.of_process("file", pid));
    // Whatever was seen beyond the generator's opens, others made; they made at least what is told of them.
    let others = tally.of("file") - of_generator;
    let made_by_others = seen.checked_sub(opens);
    let made_by_others = made_by_others.with_context(|| format!("{seen} seen, of {opens}"))?;
    println!(
        "{made}: {of_generator} told, {} repeated, {} lost, {} filtered; others made {made_by_others}; \
         /healthz took {longest:?} at most",
        file("repeated")?,
        file("lost")?,
        file("filtered")?,
    );
    ensure!(
        made_by_others >= others,
        "{made_by_others} by others, {others} of them told"
    );
    let (repeated, lost) = (file("repeated")?, file("lost")?);
    ensure!(
        of_generator + repeated + lost + file("filtered")? <= opens + made_by_others
            && of_generator + repeated + lost >= opens,
        "{of_generator} told, {repeated} repeated, {lost} lost, of {opens}"
    );
    ensure!(
        lost == tally.lost("file", "ring_full") + tally.lost("file", "unreadable"),
        "by cause"
    );
    ensure!(
        lost > 0,
        "a ring of 64 KiB was never full: nothing is shown"
    );
    skipped(&tally, &["open", "openat", "openat2", "creat"])?;
    Ok(())
}

/// The kernel skips a program that would interrupt itself: then it has not seen what it is there for.
fn skipped(tally: &Tally, hooks: &[&str]) -> Result<()> {
    let skipped: Vec<_> = hooks
        .iter()
        .map(|hook| (*hook, tally.lost(hook, "skipped")))
        .filter(|(_, count)| *count > 0)
        .collect();
    ensure!(skipped.is_empty(), "runs were skipped: {skipped:?}");
    Ok(())
}

#[test]
fn each_process_is_told_or_lost() -> Result<()> {
    const COUNT: u64 = 3000;
    if !ready(&[]) {
        return Ok(());
    }
    // Drained once a second, so that a ring of 64 KiB fills up.
    let daemon = Daemon::start(&SMALL.replace("[sensor]", "[sensor]\ndrain_interval = \"1s\""))?;
    let listen = daemon.setup().listen;
    let (made, longest) = answered(listen, || {
        generate(&["flood", "processes", "--count", &COUNT.to_string()])
    })?;
    let tally = daemon.stop_tallied()?;
    let (forks, execs) = (told(&made, "forks")?, told(&made, "execs")?);
    println!(
        "{made}: {:?}; /healthz took {longest:?} at most",
        tally.health["egress"]["events"]
    );
    // The generator itself was forked and executed and ended, too.
    for (kind, least) in [("fork", forks), ("exec", execs), ("exit", forks)] {
        let (seen, lost) = (tally.events(kind, "seen")?, tally.events(kind, "lost")?);
        ensure!(seen >= least, "{kind}: {seen} seen, of {least}");
        ensure!(lost == tally.lost(kind, "ring_full"), "{kind}: by cause");
        ensure!(
            lost > 0,
            "{kind}: a ring of 64 KiB was never full: nothing is shown"
        );
    }
    let (written, lost) = (tally.of("exec"), tally.events("exec", "lost")?);
    ensure!(
        written + lost >= execs
            && written + tally.written("exec", "lost")? == tally.events("exec", "told")?,
        "{written} exec records, {lost} lost, of {execs}"
    );
    skipped(&tally, &["fork", "exec", "exit"])
}

#[test]
fn two_hundred_thousand_connections_lose_no_byte() -> Result<()> {
    const COUNT: u64 = 200_000;
    const PORTS: &str = "32";
    if !ready(&[]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    // More connections than the truth has room for: one counter for all.
    let rules = "add table inet flood; add counter inet flood bytes_in; \
                 add chain inet flood arrived { type filter hook prerouting priority -301; }; \
                 add rule inet flood arrived iifname wire ip protocol tcp counter name bytes_in; delete table inet truth";
    lab.sink.run("nft", &[rules])?;
    let ports = "net.ipv4.ip_local_port_range=1024 65535";
    lab.source.run("sysctl", &["-q", "-w", ports])?;
    // Each connection keeps its slot until a moment after its end, so that late packets are still its own.
    let daemon = Daemon::start(&SMALL.replace("[sensor]", "[sensor]\nslots = 131072"))?;
    let to = SocketAddr::new(SINK_V4, 700);
    let sink = lab.serve(&lab.sink, &["flood", "sink", "--ports", PORTS], to)?;
    let (made, longest) = answered(daemon.setup().listen, || {
        let (count, to) = (COUNT.to_string(), to.to_string());
        let connects = [
            "flood", "connects", "--ports", PORTS, "--count", &count, "--to", &to,
        ];
        json(&mut lab.generator(&connects)?)
    })?;
    sink.finish()?;
    let counter = lab.sink.run(
        "nft",
        &["--json", "list", "counter", "inet", "flood", "bytes_in"],
    )?;
    let counter: Value = serde_json::from_str(&counter)?;
    let mut counters = counter["nftables"].as_array().into_iter().flatten();
    let arrived = counters
        .find_map(|item| number(item, "counter.bytes"))
        .with_context(|| format!("no counter: {counter}"))?;
    let tally = daemon.stop_tallied()?;
    let (pid, sent) = (told(&made, "pid")?, told(&made, "app_bytes")?);
    let flows = tally.flows.get(&pid).copied().unwrap_or_default();
    println!(
        "{made}: {flows:?} is told, of {arrived} wire bytes; /healthz took {longest:?} at most; {:?}",
        tally.health["egress"]["outlets"]
    );
    ensure!(
        told(&made, "connections")? == COUNT && sent == COUNT * 100,
        "{made}"
    );
    for (side, flows, made) in [
        ("app", flows.app_bytes, sent),
        ("wire", flows.wire_bytes, arrived),
    ] {
        let ledger = tally.ledger(side)?;
        let lost = tally.written("flow", &format!("lost_{side}_bytes"))?;
        let elsewhere = lost + ledger.unattributed.values().sum::<u64>();
        ensure!(
            flows <= made && flows + elsewhere >= made,
            "{side}: {flows} is told and {elsewhere} counted by reason, of {made}: {ledger:?}"
        );
        // Most of it is told all the same, by a daemon that was built to be fast.
        ensure!(
            cfg!(debug_assertions) || flows * 2 > made,
            "{side}: only {flows} is told, of {made}: {ledger:?}"
        );
    }
    Ok(())
}

/// One socket, more destinations than the kernel side's table had room for once: each keeps its one slot.
#[test]
fn one_socket_takes_one_slot_for_each_destination() -> Result<()> {
    const PORTS: u64 = 20_000;
    const ROUNDS: u64 = 3;
    if !ready(&[]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let daemon = Daemon::start(SMALL)?;
    // Loopback of the source: nothing is lost on a wire, and nobody has to listen.
    let (ports, rounds) = (PORTS.to_string(), ROUNDS.to_string());
    let fan = [
        "flood",
        "fan",
        "--to",
        "127.0.0.1:30000",
        "--ports",
        &ports,
        "--rounds",
        &rounds,
    ];
    let made = json(&mut lab.generator(&fan)?)?;
    let (status, metrics) = http::get(daemon.setup().listen, "/metrics")?;
    ensure!(status == 200, "/metrics: {status}");
    let tally = daemon.stop_tallied()?;
    let (pid, sent) = (told(&made, "pid")?, told(&made, "app_bytes")?);
    let flows = tally.flows.get(&pid).copied().unwrap_or_default();
    let ledger = tally.ledger("app")?;
    let lost = tally.written("flow", "lost_app_bytes")?;
    ensure!(sent == PORTS * ROUNDS * 100, "{made}");
    ensure!(
        flows.app_bytes <= sent && flows.app_bytes + lost >= sent,
        "{flows:?} is told and {lost} bytes were lost, of {sent}: {ledger:?}"
    );
    let of_generator = tally.of_process("flow", pid);
    // Each destination is told once or, when a drain fell in between, once more in each interval.
    println!(
        "{of_generator} records of {PORTS} flows; {}",
        metrics.lines().count()
    );
    ensure!(
        ledger
            .unattributed
            .get("no_slot")
            .is_none_or(|bytes| *bytes == 0),
        "destinations took more slots than there are: {ledger:?}"
    );
    ensure!(
        tally.lost("flow", "table_full") == 0,
        "the table of destinations was full"
    );
    Ok(())
}

/// A send that fails leaves nothing behind: what the same thread sends next goes to its own destination.
#[test]
fn a_failed_send_does_not_lend_its_destination() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let rules = "add table inet deny; add chain inet deny out { type filter hook output priority 0; }; \
                 add rule inet deny out udp dport 9100 drop";
    lab.source.run("nft", &[rules])?;
    let daemon = Daemon::start(SMALL)?;
    let (denied, allowed) = (
        SocketAddr::new(SINK_V4, 9100),
        SocketAddr::new(SINK_V4, 9101),
    );
    let _sink = lab.serve(&lab.sink, &["udp-sink"], allowed)?;
    let (first, second) = (denied.to_string(), allowed.to_string());
    let made =
        json(&mut lab.generator(&["flood", "denied", "--denied", &first, "--to", &second])?)?;
    let arrived = lab.truth()?.at("udp", allowed);
    let records = daemon.stop()?.records;
    let flows = sum(flows_to(&records, allowed));
    ensure!(told(&made, "failed")? > 0, "no send failed: {made}");
    ensure!(
        flows.app_bytes == told(&made, "app_bytes")? && flows.wire_bytes == arrived.bytes,
        "{flows:?} is told, of {made} and {arrived:?}"
    );
    ensure!(
        sum(flows_to(&records, denied)).app_bytes == 0,
        "a refused send counts as sent"
    );
    Ok(())
}
