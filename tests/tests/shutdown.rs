//! The end: drained and complete under load, by either signal; and after the worst of ends, `egress unload` clears up.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use egress_tests::command::{Running, json};
use egress_tests::daemon::{Daemon, HostLock, TELL_ALL};
use egress_tests::kernel::{left, pinned, programs};
use egress_tests::lab::{Lab, SINK_V4};
use egress_tests::records::{flows_to, number, sum};
use egress_tests::require::ready;
use rustix::process::Signal;

#[test]
fn either_signal_under_load_loses_nothing_and_leaves_nothing() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    for signal in [Signal::TERM, Signal::INT] {
        // Flows are held back for an hour: what has been sent can only be told because the daemon ends.
        let daemon = Daemon::start("[events]\nflow_interval = \"1h\"\nhealth_interval = \"1s\"\n")?;
        let lab = Lab::new()?;
        let (load, upload) = (
            SocketAddr::new(SINK_V4, 9000),
            SocketAddr::new(SINK_V4, 9001),
        );
        let _sinks = [
            lab.serve(&lab.sink, &["tcp-sink"], load)?,
            lab.serve(&lab.sink, &["tcp-sink", "--close-after", "5000000"], upload)?,
        ];
        let endless = [
            "tcp-upload",
            "--bytes",
            "100000000000",
            "--pause",
            "1000",
            "--to",
            &load.to_string(),
        ];
        let _load = Running::start(&mut lab.generator(&endless)?, lab.dir())?;
        let one = load.to_string();
        let short = [
            "repeat",
            "--count",
            "100000",
            "--",
            "tcp-upload",
            "--bytes",
            "10",
            "--to",
            &one,
        ];
        let _short = Running::start(&mut lab.generator(&short)?, lab.dir())?;
        let finite = [
            "tcp-upload",
            "--bytes",
            "5000000",
            "--wait-close",
            "--to",
            &upload.to_string(),
        ];
        let told = json(&mut lab.generator(&finite)?)?;
        let arrived = lab.truth()?.at("tcp", upload);

        let run = daemon.stop_by(signal)?;
        let flows = sum(flows_to(&run.records, upload));
        ensure!(
            Some(flows.app_bytes) == number(&told, "app_bytes"),
            "{signal:?}: {flows:?} is told, of {told}"
        );
        ensure!(
            flows.wire_bytes == arrived.bytes,
            "{signal:?}: {flows:?} is told, of {arrived:?}"
        );
        ensure!(
            sum(flows_to(&run.records, load)).app_bytes > 0,
            "{signal:?}: the load is not told"
        );
    }
    Ok(())
}

#[test]
fn nothing_stays_in_the_kernel() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let host = HostLock::take()?;
    let before = programs()?;
    let daemon = Daemon::start_on(host, TELL_ALL)?;
    ensure!(
        programs()?.keys().any(|id| !before.contains_key(id)),
        "a running daemon has no programs in the kernel"
    );
    let host = daemon.stop()?.host;
    let remaining = left(&before)?;
    ensure!(remaining.is_empty(), "left after SIGTERM: {remaining:?}");
    let pins = pinned()?;
    ensure!(pins.is_empty(), "pinned after SIGTERM: {pins:?}");

    let killed = Daemon::start_on(host, TELL_ALL)?.kill()?;
    let pins = pinned()?;
    ensure!(
        pins.iter().any(|pin| pin.ends_with("/links/wire"))
            && pins.iter().any(|pin| pin.ends_with("/maps/SLOTS")),
        "a killed daemon keeps nothing: {pins:?}"
    );
    let said = killed.unload()?;
    for pin in &pins {
        let path = pin.trim_start_matches("mount ");
        ensure!(said.contains(path), "unload says nothing of {pin}: {said}");
    }
    let pins = pinned()?;
    ensure!(pins.is_empty(), "pinned after unload: {pins:?}");
    let remaining = left(&before)?;
    ensure!(
        remaining.is_empty(),
        "left after SIGKILL and unload: {remaining:?}"
    );
    // With nothing to unload it is not an error.
    killed.unload()?;
    drop(killed);

    // And the next one starts as if nothing had been.
    Daemon::start(TELL_ALL)?.stop()?;
    Ok(())
}
