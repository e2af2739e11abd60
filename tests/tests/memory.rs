//! Memory stays within its bound: what the daemon takes at 100,000 live flows and 20,000 known processes, as measured and
//! written down in `egress.example.toml`.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::{Running, json};
use egress_tests::daemon::Daemon;
use egress_tests::lab::{self, Namespace};
use egress_tests::require::ready;
use egress_tests::{http, wait_for};

/// Flows that are live, in as many slots as a configuration for them has.
const FLOWS: u64 = 100_000;
const CONFIG: &str = "[sensor]\nslots = 102400\n";
/// Processes, each of which is remembered: half of them only forked, half executed a program.
const PROCESSES: &str = "20000";
/// A process may not have more sockets than this here.
const SHARE: u64 = 12_500;

/// What it may take, KiB. Measured: 78,000 of its own, 109,000 in all, 118,000 at most.
const OWN: u64 = 84 << 10;
const ALL: u64 = 120 << 10;
const PEAK: u64 = 132 << 10;

/// `VmRSS`, `VmHWM`, `RssAnon` and the like, KiB (`proc_pid_status(5)`).
fn resident(pid: u32, what: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let line = line.with_context(|| format!("no {what} in {status}"))?;
    let number = line.trim_start_matches(':').split_ascii_whitespace().next();
    Ok(number.context("a number")?.parse()?)
}

fn metric(listen: SocketAddr, name: &str) -> Result<Option<u64>> {
    let (_, text) = http::get(listen, "/metrics")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    Ok(lines.find_map(|rest| rest.trim().parse().ok()))
}

#[test]
fn a_hundred_thousand_flows_and_twenty_thousand_processes_have_their_room() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let daemon = Daemon::start(CONFIG)?;
    let (pid, listen) = (daemon.pid().context("the daemon")?, daemon.setup().listen);
    let tell = |when: &str| -> Result<()> {
        let of = |what| resident(pid, what);
        println!(
            "{when}: VmRSS {} KiB, RssAnon {}, RssFile {}, VmHWM {}",
            of("VmRSS")?,
            of("RssAnon")?,
            of("RssFile")?,
            of("VmHWM")?
        );
        Ok(())
    };
    tell("idle")?;
    json(Command::new(lab::generator()?).args(["flood", "processes", "--count", PROCESSES]))?;
    tell("20,000 processes")?;

    let namespace = Namespace::new()?;
    let ports = "net.ipv4.ip_local_port_range=1024 65535";
    namespace.run("sysctl", &["-q", "-w", ports])?;
    let dir = tempfile::tempdir()?;
    let generator = lab::generator()?;
    let start =
        |args: &[&str]| Running::start(namespace.command(&generator).args(args), dir.path());
    let to = "127.0.0.1:700";
    let mut sink = start(&["udp-sink", "--listen", to])?;
    sink.wait_lines(Duration::from_secs(10), |lines| !lines.is_empty())?;
    let mut senders = Vec::new();
    let share = SHARE.to_string();
    for _ in 0..FLOWS / SHARE {
        senders.push(start(&[
            "flood", "sockets", "--to", to, "--count", &share, "--rounds", "3",
        ])?);
    }
    for sender in &mut senders {
        sender.wait_lines(Duration::from_mins(1), |lines| lines.len() == 3)?;
    }
    let mut live = 0;
    wait_for("100,000 live flows", Duration::from_secs(30), || {
        live = metric(listen, "egress_live_flows ")?.unwrap_or_default();
        Ok((live >= FLOWS).then_some(()))
    })
    .with_context(|| format!("{live} are live"))?;
    tell("100,000 flows")?;
    ensure!(
        resident(pid, "RssAnon")? <= OWN,
        "more memory of its own than {OWN} KiB"
    );
    // A debug build is larger by itself.
    if !cfg!(debug_assertions) {
        ensure!(resident(pid, "VmRSS")? <= ALL, "more memory than {ALL} KiB");
        ensure!(
            resident(pid, "VmHWM")? <= PEAK,
            "there was more memory than {PEAK} KiB"
        );
    }
    drop(senders);
    let tally = daemon.stop_tallied()?;
    for side in ["wire", "app"] {
        let none = tally.ledger(side)?.unattributed.get("no_slot").copied();
        ensure!(
            none.unwrap_or_default() == 0,
            "{side}: {none:?} bytes had no slot"
        );
    }
    Ok(())
}
