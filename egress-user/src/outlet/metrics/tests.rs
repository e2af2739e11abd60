use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use proptest::prelude::*;

use super::series::{Labels, Moved, RESIDENCE, Series, WINDOW};
use super::{Format, Metrics};
use crate::model::{Attribution, Reason, Record, Transport};
use crate::outlet::{Outlet as _, samples};

fn filled() -> Metrics {
    let metrics = Metrics::new(5);
    for record in samples::all() {
        metrics.outlet().record(&record).unwrap();
    }
    metrics
}

/// The value of a sample, by its whole name with labels.
fn value(text: &str, sample: &str) -> Option<u64> {
    let line = text.lines().find(|line| {
        line.rsplit_once(' ')
            .is_some_and(|(name, _)| name == sample)
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn says_what_happened() {
    let text = filled().encode(Format::Prometheus);
    for (sample, want) in [
        (
            r#"egress_wire_bytes_total{executable="/usr/bin/curl",scope="public",direction="initiated",transport="tcp"}"#,
            2000,
        ),
        (
            r#"egress_app_bytes_total{executable="/usr/bin/curl",scope="public",direction="initiated",transport="tcp"}"#,
            1000,
        ),
        (
            r#"egress_wire_bytes_total{executable="unattributed",scope="unknown",direction="initiated",transport="ip-47"}"#,
            60,
        ),
        (
            r#"egress_wire_bytes_total{executable="other",scope="other",direction="other",transport="other"}"#,
            0,
        ),
        (
            r#"egress_ledger_bytes{layer="wire",state="total",reason=""}"#,
            1_000_001,
        ),
        (
            r#"egress_ledger_bytes{layer="app",state="unattributed",reason="no_slot"}"#,
            0,
        ),
        (r#"egress_lost_total{kind="exec",cause="ring_full"}"#, 3),
        (r#"egress_events_total{kind="file",state="seen"}"#, 100),
        (
            r#"egress_outlet_records_total{outlet="jsonl",record="flow",state="lost"}"#,
            7,
        ),
        (r#"egress_events_total{kind="file",state="repeated"}"#, 30),
        (
            r#"egress_hook_info{hook="send",method="tp_btf/sock_send_length",state="ok"}"#,
            1,
        ),
        (r#"egress_alerts_total{rule="automated_exfiltration"}"#, 1),
        (r#"egress_alerts_total{rule="sensitive_bulk_transfer"}"#, 0),
        ("egress_exec_total", 1),
        ("egress_coverage_full", 0),
        ("egress_live_flows", 5),
        ("egress_live_processes", 120),
        ("egress_live_names", 30),
        ("egress_series_budget", 5),
        ("egress_series_used", 3),
    ] {
        assert_eq!(value(&text, sample), Some(want), "{sample} in\n{text}");
    }
    assert!(text.contains(&format!(
        "egress_build_info{{version=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    )));
}

#[test]
fn hostile_paths_are_escaped_and_bounded() {
    let metrics = Metrics::new(5);
    for path in [
        String::from_utf8_lossy(samples::HOSTILE).as_ref(),
        &"é\n\"".repeat(2000),
    ] {
        let flow = samples::flow_of(path, 10, Attribution::Exact);
        metrics
            .outlet()
            .record(&Record::Flow(Arc::new(flow)))
            .unwrap();
    }
    let text = metrics.encode(Format::OpenMetrics);
    assert!(text.lines().all(|line| line.len() < 1000), "{text}");
    assert!(text.contains(r#"executable="a\\x1b[2J\""#), "{text}");
    check(&metrics.encode(Format::Prometheus));
}

#[test]
fn both_formats_are_well_formed() {
    let metrics = filled();
    let open = metrics.encode(Format::OpenMetrics);
    assert!(
        open.ends_with("# EOF\n") && open.contains("# TYPE egress_exec counter\n"),
        "{open}"
    );
    let text = metrics.encode(Format::Prometheus);
    assert!(
        !text.contains("# EOF") && text.contains("# TYPE egress_exec_total counter\n"),
        "{text}"
    );
    let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(samples(&open), samples(&text));
    check(&text);
    check(&Metrics::new(1).encode(Format::Prometheus));
}

/// By Prometheus's own linter, where there is one.
fn check(text: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(child) => child,
        Err(error) => return eprintln!("promtool: {error}: its check is skipped"),
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{text}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_format_is_the_clients_choice() {
    for (accept, want) in [
        ("", Format::Prometheus),
        ("*/*", Format::Prometheus),
        ("text/plain;version=0.0.4", Format::Prometheus),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            Format::OpenMetrics,
        ),
        (
            "text/plain, Application/OpenMetrics-Text; q=0.7",
            Format::OpenMetrics,
        ),
        (
            "application/openmetrics-text;q=0, text/plain",
            Format::Prometheus,
        ),
    ] {
        assert_eq!(Format::accepted_by(accept), want, "{accept}");
    }
}

#[test]
fn the_ledger_balances_in_every_scrape() {
    let metrics = Arc::new(Metrics::new(5));
    let mut outlet = metrics.outlet();
    outlet.record(&samples::health()).unwrap();
    let writer = std::thread::spawn(move || {
        for total in 0..3000 {
            outlet
                .record(&Record::Health(Arc::new(samples::health_of(total * 7919))))
                .unwrap();
        }
    });
    let mut scrapes = 0;
    while !writer.is_finished() || scrapes == 0 {
        let text = metrics.encode(Format::Prometheus);
        for layer in ["wire", "app"] {
            let cell = |state, reason| {
                let sample = format!(
                    r#"egress_ledger_bytes{{layer="{layer}",state="{state}",reason="{reason}"}}"#
                );
                value(&text, &sample).expect(&sample)
            };
            let reasons: u64 = Reason::ALL
                .iter()
                .map(|reason| cell("unattributed", reason.name()))
                .sum();
            assert_eq!(cell("attributed", "") + reasons, cell("total", ""));
        }
        scrapes += 1;
    }
    writer.join().unwrap();
}

fn labels(executable: &str) -> Labels {
    Labels {
        executable: executable.into(),
        scope: "public".into(),
        direction: "initiated",
        transport: Transport::TCP,
    }
}

fn bytes(wire_bytes: u64) -> Moved {
    Moved {
        wire_bytes,
        ..Moved::default()
    }
}

#[test]
fn a_big_talker_gets_in_late_and_its_bytes_are_counted_once() {
    let mut series = Series::new(2);
    series.add(labels("/a"), bytes(100), 0);
    series.add(labels("/b"), bytes(5), 0);
    series.add(labels("/big"), bytes(1000), 1);
    assert_eq!((series.other(), series.budget()), (bytes(1000), (2, 2)));
    // Too early: whoever has a place keeps it for a while.
    series.add(labels("/big"), bytes(1000), WINDOW);
    assert!(series.shown().all(|(shown, _)| shown.executable != "/big"));
    series.add(labels("/a"), bytes(1), RESIDENCE - 1);
    series.add(labels("/big"), bytes(1000), RESIDENCE - 1);
    series.add(labels("/big"), bytes(1), RESIDENCE + WINDOW);
    let shown: BTreeMap<_, _> = series
        .shown()
        .map(|(l, m)| (l.executable.as_str(), m.wire_bytes))
        .collect();
    assert_eq!(
        shown,
        BTreeMap::from([("/a", 101), ("/big", 1)]),
        "the least has given its place"
    );
    assert_eq!(
        (series.other(), series.retired()),
        (bytes(3000), (bytes(5), 1))
    );
}

proptest! {
    #[test]
    fn no_byte_is_counted_twice_or_not_at_all_and_no_counter_decreases(
        adds in prop::collection::vec((0_usize..40, 0_u64..1 << 40, 0_u64..2 * RESIDENCE), 1..200), budget in 1_usize..8,
    ) {
        let mut series = Series::new(budget);
        let (mut sum, mut at) = (0, 0);
        let mut before = BTreeMap::new();
        for (who, amount, pause) in adds {
            sum += amount;
            at += pause;
            let (_, retired) = series.retired();
            series.add(labels(&format!("/{who}")), bytes(amount), at);
            let now: BTreeMap<_, _> = series.shown().map(|(l, m)| (l.clone(), m.wire_bytes)).collect();
            prop_assert!(now.len() <= budget);
            for (labels, value) in &now {
                if let Some(earlier) = before.get(labels) {
                    prop_assert!(value >= earlier || series.retired().1 > retired);
                }
            }
            prop_assert_eq!(now.values().sum::<u64>() + series.other().wire_bytes + series.retired().0.wire_bytes, sum);
            before = now;
        }
    }
}
