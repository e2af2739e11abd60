//! Every byte has a place, also when there is none left for it; and totals never depend on events.
//!
//! That each health record of each run balances, and that flow records add up to the last one, is checked whenever a
//! test stops its daemon ([`egress_tests::records::check_books`]).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::json;
use egress_tests::daemon::Daemon;
use egress_tests::lab::{Lab, SINK_V4};
use egress_tests::records::{at, ledger, number, of, sum, text};
use egress_tests::require::ready;
use serde_json::Value;

/// The fewest slots that can be configured.
const SLOTS: u16 = 1024;

/// One socket reaches four times as many destinations as there are slots.
#[test]
fn bytes_without_a_slot_are_counted_as_such() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let config = format!(
        "[sensor]\nslots = {SLOTS}\n[events]\nflow_interval = \"500ms\"\nhealth_interval = \"1s\"\n"
    );
    let daemon = Daemon::start(&config)?;
    let lab = Lab::new()?;
    let (to, ports) = (SocketAddr::new(SINK_V4, 20_000), 4 * SLOTS);
    let told = json(
        lab.generator(&["udp-fan", "--ports", &ports.to_string(), "--to"])?
            .arg(to.to_string()),
    )?;
    let truth = lab.truth()?;
    let arrived: u64 = truth.0.iter().map(|flow| flow.arrived.bytes).sum();
    ensure!(
        arrived == u64::from(ports) * 128
            && number(&told, "app_bytes") == Some(u64::from(ports) * 100),
        "{told}"
    );
    let records = daemon.stop()?.records;
    let ip = to.ip().to_string();
    let flows =
        sum(of(&records, "flow").filter(|flow| text(flow, "destination.ip") == Some(ip.as_str())));
    let end = of(&records, "health").last().context("a health record")?;
    for (side, told, sent) in [
        ("wire", flows.wire_bytes, arrived),
        ("app", flows.app_bytes, u64::from(ports) * 100),
    ] {
        let no_slot = ledger(end, side)?
            .unattributed
            .get("no_slot")
            .copied()
            .unwrap_or_default();
        // Slots come back as the daemon drains, so how many go without is not fixed; that some do is.
        ensure!(
            no_slot > 0 && told < sent,
            "{side}: {told} of {sent} bytes have a flow, {no_slot} no slot: not full"
        );
        // Others on this host may have gone without a slot as well.
        ensure!(
            told + no_slot >= sent,
            "{side}: {told} bytes with a flow and {no_slot} without a slot, of {sent}"
        );
    }
    Ok(())
}

/// A ring of one page, drained once a second, for the events of hundreds of processes.
#[test]
fn a_full_ring_costs_detail_and_no_byte() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let config = "[sensor]\nprocess_ring_bytes = 4096\ndrain_interval = \"1s\"\n\
                  [events]\nflow_interval = \"500ms\"\nhealth_interval = \"1s\"\n";
    let mut daemon = Daemon::start(config)?;
    let lab = Lab::new()?;
    let to = SocketAddr::new(SINK_V4, 9000);
    let _sink = lab.serve(&lab.sink, &["udp-sink"], to)?;
    let many = [
        "repeat",
        "--count",
        "300",
        "--",
        "one-packet",
        "--size",
        "100",
        "--to",
        &to.to_string(),
    ];
    json(&mut lab.generator(&many)?)?;
    let lost = |health: &Value| {
        let losses = at(health, "egress.lost")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let full = losses.filter(|lost| text(lost, "cause") == Some("ring_full"));
        full.filter_map(|lost| number(lost, "count")).sum::<u64>()
    };
    daemon.wait_records(
        "a full ring to be told",
        Duration::from_secs(10),
        |records| of(records, "health").any(|health| lost(health) > 0),
    )?;
    let arrived = lab.truth()?.at("udp", to);
    let records = daemon.stop()?.records;
    let degraded =
        of(&records, "health").any(|health| text(health, "egress.coverage") == Some("degraded"));
    ensure!(degraded, "detail was lost, and coverage is said to be full");
    let flows = sum(egress_tests::records::flows_to(&records, to));
    ensure!(
        flows.app_bytes == 300 * 100 && flows.wire_bytes == arrived.bytes,
        "{flows:?} is told, of {arrived:?}"
    );
    Ok(())
}
