//! A real Prometheus that scrapes the daemon shows the figures of the health records, of the generators and of the wire.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::{Running, json};
use egress_tests::daemon::Daemon;
use egress_tests::lab::{Lab, SINK_V4, generator};
use egress_tests::records::{ledger, number, of};
use egress_tests::require::ready;
use egress_tests::{http, wait_for};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(15);

#[test]
fn prometheus_shows_the_daemon_s_own_figures() -> Result<()> {
    if !ready(&["prometheus", "promtool"]) {
        return Ok(());
    }
    let config = "[networks]\nsink = [\"198.51.100.0/24\"]\n\
                  [events]\nflow_interval = \"500ms\"\nhealth_interval = \"1s\"\n";
    let mut daemon = Daemon::start(config)?;
    let lab = Lab::new()?;
    let (server, api) = prometheus(lab.dir(), daemon.setup().listen)?;
    let to = SocketAddr::new(SINK_V4, 9000);
    let _sink = lab.serve(&lab.sink, &["tcp-sink", "--close-after", "1000000"], to)?;
    let upload = [
        "tcp-upload",
        "--bytes",
        "1000000",
        "--wait-close",
        "--to",
        &to.to_string(),
    ];
    let told = number(&json(&mut lab.generator(&upload)?)?, "app_bytes").context("app_bytes")?;

    // Of one generator, to one named network: exactly what was sent.
    let sent = format!(
        "{{executable=\"{}\",scope=\"sink\",direction=\"initiated\"}}",
        generator()?.display()
    );
    for metric in ["app_bytes", "wire_bytes", "wire_packets"] {
        let query = format!("sum(egress_{metric}_total{sent})");
        let (mut last, mut wanted) = (None, told);
        wait_for(&query, SOON, || {
            // The last ACK may be on its way when the generator has ended.
            let arrived = lab.truth()?.at("tcp", to);
            wanted = match metric {
                "app_bytes" => told,
                "wire_bytes" => arrived.bytes,
                _ => arrived.packets,
            };
            last = value(api, &query)?;
            Ok((last == Some(wanted)).then_some(()))
        })
        .with_context(|| format!("{last:?}, not {wanted}; {}", server.stderr()))?;
    }

    // Of the whole host: what a health record of the last seconds said, and books that balance in each scrape.
    let total = |layer: &str| {
        value(
            api,
            &format!("egress_ledger_bytes{{layer=\"{layer}\",state=\"total\"}}"),
        )
    };
    let shown = wait_for("a ledger", SOON, || Ok(total("wire")?.zip(total("app")?)))?;
    // The file is written at most a second after the metrics are. Two queries can fall on two sides of a scrape, so each
    // figure is looked for by itself.
    wait_for("the shown totals in the health records", SOON, || {
        let records = daemon.records()?;
        let (mut wire, mut app) = (false, false);
        for health in of(records, "health") {
            wire |= ledger(health, "wire")?.total == shown.0;
            app |= ledger(health, "app")?.total == shown.1;
        }
        Ok((wire && app).then_some(()))
    })
    .with_context(|| format!("Prometheus shows {shown:?}"))?;
    let books = "sum by (layer) (egress_ledger_bytes{state!=\"total\"}) == sum by (layer) (egress_ledger_bytes{state=\"total\"})";
    ensure!(
        value(api, &format!("count({books})"))? == Some(2),
        "the books do not balance in a scrape"
    );

    check_metrics(lab.dir(), daemon.setup().listen)?;
    daemon.stop()?;
    Ok(())
}

/// Starts a Prometheus that scrapes `target` every second; gives where it answers.
fn prometheus(dir: &Path, target: SocketAddr) -> Result<(Running, SocketAddr)> {
    let api = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let config = dir.join("prometheus.yml");
    fs::write(
        &config,
        format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: egress\n    static_configs:\n      - targets: [\"{target}\"]\n"
        ),
    )?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "prometheus"]);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!(
        "--storage.tsdb.path={}",
        dir.join("tsdb").display()
    ));
    command.arg(format!("--web.listen-address={api}"));
    let mut server = Running::start(&mut command, dir)?;
    wait_for("Prometheus to be ready", SOON, || {
        ensure!(server.ended()?.is_none(), "{}", server.stderr());
        Ok(http::get(api, "/-/ready")
            .is_ok_and(|(status, _)| status == 200)
            .then_some(()))
    })?;
    Ok((server, api))
}

/// The one value of an instant query; none when there is no series yet.
fn value(api: SocketAddr, query: &str) -> Result<Option<u64>> {
    let encoded = query.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02x}");
        text
    });
    let (status, body) = http::get(api, &format!("/api/v1/query?query={encoded}"))?;
    ensure!(status == 200, "{query}: {status}: {body}");
    let answer: Value = serde_json::from_str(&body)?;
    let series = answer["data"]["result"]
        .as_array()
        .with_context(|| format!("{query}: {body}"))?;
    ensure!(series.len() < 2, "{query}: {} series", series.len());
    let Some(sample) = series.first() else {
        return Ok(None);
    };
    let text = sample["value"][1]
        .as_str()
        .with_context(|| format!("{query}: {body}"))?;
    Ok(Some(
        text.parse().with_context(|| format!("{query}: {text}"))?,
    ))
}

/// Holds `/metrics` to Prometheus' own rules on names, types and help.
fn check_metrics(dir: &Path, target: SocketAddr) -> Result<()> {
    let (status, text) = http::get(target, "/metrics")?;
    ensure!(status == 200, "/metrics: {status}");
    let path = dir.join("metrics.txt");
    fs::write(&path, &text)?;
    let output = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::from(File::open(path)?))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.trim().is_empty(),
        "promtool: {}: {said}\n{text}",
        output.status
    );
    Ok(())
}
