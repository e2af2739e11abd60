//! What hooks see only in part is told when it is used: once, soon, and with its process.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::{Running, json};
use egress_tests::daemon::{Daemon, HostLock, TELL_ALL, binary};
use egress_tests::http;
use egress_tests::lab::{Lab, SINK_V4};
use egress_tests::records::{at, flows_to, number, of, sum, text};
use egress_tests::require::ready;
use serde_json::Value;

/// How soon a use has to be told.
const SOON: Duration = Duration::from_secs(2);

/// What a generator is asked for, and what has to be told of it.
const USES: &[(&str, &[(&str, &str)])] = &[
    (
        "xdp",
        &[
            ("xdp_socket", "socket(AF_XDP, SOCK_RAW)"),
            ("xdp_socket", "setsockopt(SOL_XDP, XDP_TX_RING)"),
        ],
    ),
    (
        "packet-ring",
        &[
            ("packet_socket", "socket(AF_PACKET, SOCK_RAW)"),
            ("packet_ring", "setsockopt(SOL_PACKET, PACKET_TX_RING)"),
            (
                "queue_bypass",
                "setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS)",
            ),
        ],
    ),
    ("raw", &[("raw_socket", "socket(AF_INET, SOCK_RAW)")]),
    ("raw6", &[("raw_socket", "socket(AF_INET6, SOCK_RAW)")]),
    ("vsock", &[("vsock", "socket(AF_VSOCK, SOCK_STREAM)")]),
    ("uring-socket", &[("io_uring", "IORING_OP_SOCKET")]),
    ("common", &[]),
];

/// What was told of a process: kind and operation, in order.
fn told(records: &[Value], pid: u64) -> Vec<(&str, &str)> {
    let mut told: Vec<_> = of(records, "blind_spot")
        .filter(|record| number(record, "process.pid") == Some(pid))
        .filter_map(|record| {
            Some((
                text(record, "egress.blind_spot.kind")?,
                text(record, "egress.blind_spot.operation")?,
            ))
        })
        .collect();
    told.sort_unstable();
    told
}

#[test]
fn each_use_is_told_once_with_its_process() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let mut daemon = Daemon::start(TELL_ALL)?;
    let lab = Lab::new()?;
    let netns = std::fs::metadata(lab.source.path())?.ino();
    let mut asked: Vec<(u64, Vec<(&str, &str)>)> = Vec::new();
    for (kind, uses) in USES {
        let made = json(&mut lab.generator(&["blind", "--kind", kind])?)?;
        asked.push((number(&made, "pid").context("pid")?, uses.to_vec()));
    }
    let file = lab.path("secret");
    std::fs::write(&file, "data")?;
    let made = json(lab.generator(&["uring-open", "--path"])?.arg(&file))?;
    let opener = number(&made, "pid").context("pid")?;
    asked.push((opener, vec![("io_uring", "IORING_OP_OPENAT")]));
    for (_, uses) in &mut asked {
        uses.sort_unstable();
    }
    // The last was asked for just now.
    daemon.wait_records("each use", SOON, |records| {
        asked
            .iter()
            .all(|(pid, uses)| told(records, *pid).len() >= uses.len())
    })?;
    // Health records come each second.
    daemon.wait_records("a health record with them", SOON * 2, |records| {
        of(records, "health").any(|health| health.to_string().contains("\"kind\":\"queue_bypass\""))
    })?;
    let (_, metrics) = http::get(daemon.setup().listen, "/metrics")?;
    let records = daemon.stop()?.records;
    for (pid, uses) in &asked {
        ensure!(
            told(&records, *pid) == *uses,
            "of {pid}: {:?}, not {uses:?}",
            told(&records, *pid)
        );
        for record in of(&records, "blind_spot").filter(|r| number(r, "process.pid") == Some(*pid))
        {
            ensure!(
                text(record, "process.executable")
                    .is_some_and(|path| path.ends_with("/egress-gen"))
                    && text(record, "user.id") == Some("0")
                    && number(record, "egress.netns") == Some(netns)
                    && at(record, "egress.job.id").is_some()
                    && text(record, "egress.blind_spot.why").is_some_and(|why| !why.is_empty()),
                "{record}"
            );
        }
    }
    // Where files are observed in the kernel's own open this would be told as a file; here, no hook sees it.
    let also_file = of(&records, "file").any(|record| {
        number(record, "process.pid") == Some(opener) && text(record, "file.path") == file.to_str()
    });
    ensure!(
        !also_file,
        "{} is told as a file, and as a blind spot",
        file.display()
    );
    for kind in [
        "io_uring",
        "packet_socket",
        "packet_ring",
        "xdp_socket",
        "raw_socket",
        "vsock",
        "queue_bypass",
    ] {
        let line = format!("egress_blind_spot_uses_total{{kind=\"{kind}\"}} ");
        let uses = metrics
            .lines()
            .find_map(|metric| metric.strip_prefix(&line)?.parse::<u64>().ok());
        ensure!(uses.is_some_and(|uses| uses > 0), "{line}{uses:?}");
    }
    Ok(())
}

#[test]
fn what_is_seen_is_no_blind_spot() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let daemon = Daemon::start(TELL_ALL)?;
    let lab = Lab::new()?;
    let senders = [
        ("uring-send", 9001, 1_000_000),
        ("tcp-upload", 9002, 100_000),
        ("udp-burst", 9003, 100_000),
    ];
    let mut sent = Vec::new();
    for (generator, port, bytes) in senders {
        let to = SocketAddr::new(SINK_V4, port);
        let sink = if generator == "udp-burst" {
            "udp-sink"
        } else {
            "tcp-sink"
        };
        let server = lab.serve(&lab.sink, &[sink], to)?;
        let arguments = [
            generator,
            "--to",
            &to.to_string(),
            "--bytes",
            &bytes.to_string(),
            "--pause",
            "1000",
        ];
        sent.push((to, bytes, json(&mut lab.generator(&arguments)?)?));
        server.finish()?;
    }
    let records = daemon.stop()?.records;
    for (to, bytes, made) in sent {
        let pid = number(&made, "pid").context("pid")?;
        ensure!(number(&made, "app_bytes") == Some(bytes), "{made}");
        ensure!(
            told(&records, pid).is_empty(),
            "{made}: {:?}",
            told(&records, pid)
        );
        let flows = flows_to(&records, to).filter(|flow| number(flow, "process.pid") == Some(pid));
        let flows = sum(flows);
        ensure!(flows.app_bytes == bytes, "{made}: {flows:?}");
    }
    Ok(())
}

/// What was there before the daemon: doctor says who holds it, and the daemon tells it as it starts.
#[test]
fn what_was_there_before_is_found() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let host = HostLock::take()?;
    let lab = Lab::new()?;
    let mut held = Vec::new();
    for (generator, kinds) in [
        ("xdp", &["xdp_socket"][..]),
        ("packet-ring", &["packet_socket", "packet_ring"]),
        ("raw6", &["raw_socket"]),
        ("uring-socket", &["io_uring"]),
    ] {
        let mut command = lab.generator(&["blind", "--hold", "--kind", generator])?;
        let mut holder = Running::start(&mut command, lab.dir())?;
        holder.wait_lines(Duration::from_secs(10), |lines| !lines.is_empty())?;
        held.push((holder, kinds));
    }
    let doctor = Command::new(binary()?)
        .args(["doctor", "--json"])
        .stdin(Stdio::null())
        .output()?;
    let report: Value = serde_json::from_slice(&doctor.stdout).context("doctor's JSON")?;
    let spots = at(&report, "blind")
        .and_then(Value::as_array)
        .context("blind")?;
    for (holder, kinds) in &held {
        for kind in *kinds {
            let spot = spots.iter().find(|spot| text(spot, "name") == Some(kind));
            let spot = spot.with_context(|| format!("no {kind}: {report}"))?;
            let by = at(spot, "by")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let mut by = by.filter(|user| number(user, "pid") == Some(holder.pid().into()));
            ensure!(
                at(spot, "in_use") == Some(&Value::Bool(true))
                    && by.any(|user| text(user, "name") == Some("egress-gen")),
                "{kind} of {}: {spot}",
                holder.pid()
            );
        }
    }
    let mut daemon = Daemon::start_on(host, TELL_ALL)?;
    daemon.wait_records("what was held before", SOON, |records| {
        held.iter().all(|(holder, kinds)| {
            let mut wanted: Vec<_> = kinds
                .iter()
                .map(|kind| (*kind, "held since before the start"))
                .collect();
            wanted.sort_unstable();
            told(records, holder.pid().into()) == wanted
        })
    })?;
    for (holder, _) in held {
        holder.finish()?;
    }
    daemon.stop()?;
    Ok(())
}
