//! What must alert.

use std::sync::Arc;

use super::*;
use crate::model::{BlindKind, Rule, Signal, SignalKind};

const SECRET: (u64, &str, u64) = (5, "/srv/customers.csv", 20_000);

/// `while :; do curl -T /srv/customers.csv ...; sleep 3; done`, this many times.
fn looped(host: &mut Host, job: &Arc<Job>, times: u32) {
    let to = Arc::new(destination(1));
    for _ in 0..times {
        let curl = host.spawn(
            "/usr/bin/curl",
            &[SECRET, (6, "/usr/lib/libcurl.so.4", 700_000)],
        );
        host.send(&curl, job, &to, &Sent::out(20_200));
        host.after(3 * SECOND - SECOND / 20);
    }
}

fn signal(alert: &Alert, kind: SignalKind) -> &Signal {
    alert
        .signals
        .iter()
        .find(|signal| signal.kind == kind)
        .unwrap()
}

#[test]
fn a_loop_that_sends_a_sensitive_file() {
    let mut host = Host::new(|_| ());
    let job = Arc::new(job("loop"));
    looped(&mut host, &job, 11);
    assert!(host.alerts.is_empty());
    let twelfth = host.now;
    looped(&mut host, &job, 1);
    let [alert] = &host.alerts[..] else {
        panic!("{:?}", host.alerts)
    };
    assert!(alert.at - twelfth < SECOND, "at once");
    assert_eq!(alert.rule, Rule::AutomatedExfiltration);
    assert_eq!(alert.techniques[..3], ["T1020", "T1029", "T1030"]);
    assert_eq!((alert.episodes, alert.app_bytes), (12, 12 * 20_200));
    assert_eq!((alert.wire_bytes, alert.rx_bytes), (12 * 20_600, 12 * 200));
    assert_eq!(alert.period_ns, Some(3 * SECOND));
    assert_eq!(alert.first, 100 * SECOND);
    assert_eq!(alert.last, twelfth + SECOND / 20);
    assert_eq!(alert.signals.len(), 8);
    assert!(signal(alert, SignalKind::Source).holds);
    assert_eq!(
        signal(alert, SignalKind::Novelty).baseline,
        None,
        "learning"
    );
    assert_eq!(alert.files[0].labels, ["business"]);
    assert_eq!(
        alert.files.len(),
        2,
        "the secret, then the library, each once"
    );
    assert!(alert.score >= 70, "{}", alert.score);
    assert_eq!(alert.process.key.tgid, 1011, "of the last transfer");
    // Once is enough for a day.
    looped(&mut host, &job, 20);
    assert_eq!(host.alerts.len(), 1);
    assert_eq!(host.detector.stats().suppressed, 20);
    host.after(24 * HOUR);
    looped(&mut host, &job, 30);
    assert_eq!(host.alerts.len(), 2);
    assert_eq!(host.alerts[1].episodes, host.alerts[1].app_bytes / 20_200);
    assert_ne!(host.alerts[0].id, host.alerts[1].id);
}

#[test]
fn a_replay_alerts_the_same() {
    let run = || {
        let mut host = Host::new(|_| ());
        looped(&mut host, &Arc::new(job("loop")), 14);
        format!("{:?}", host.alerts)
    };
    let first = run();
    assert!(first.contains("AutomatedExfiltration"));
    assert_eq!(first, run());
}

#[test]
fn three_runs_of_cron() {
    let mut host = Host::new(|_| ());
    let mut job = job("cron");
    job.scheduler = Scheduler::Cron(None);
    let (job, to) = (Arc::new(job), Arc::new(destination(1)));
    for run in 0..3 {
        assert!(host.alerts.is_empty(), "{run}");
        let curl = host.spawn("/usr/bin/curl", &[SECRET]);
        host.send(&curl, &job, &to, &Sent::out(20_200));
        host.after(60 * SECOND + run * SECOND / 10);
    }
    assert_eq!(host.alerts.len(), 1);
    assert!(host.alerts[0].techniques.contains(&"T1029"));
}

#[test]
fn a_daemon_over_one_connection() {
    // One process, one flow that never closes, the file opened once: only silence parts the episodes.
    let mut host = Host::new(|_| ());
    let (job, to) = (Arc::new(job("daemon")), Arc::new(destination(1)));
    let python = host.spawn("/usr/bin/python3.11", &[SECRET]);
    let id = host.next_flow();
    let mut told = flow(id, &python, &job, &to, host.now);
    told.delta.wire_bytes = 60;
    host.observe(&told);
    for _ in 0..12 {
        host.after(5 * SECOND);
        told.delta.app_bytes = 20_000;
        told.delta.wire_bytes = 21_000;
        told.delta.last = host.now;
        host.observe(&told);
    }
    host.after(2 * SECOND);
    assert_eq!(host.alerts.len(), 1);
    assert_eq!(host.alerts[0].episodes, 12);
    assert_eq!(host.alerts[0].period_ns, Some(5 * SECOND));
    assert_eq!(
        host.alerts[0].wire_bytes,
        60 + 12 * 21_000,
        "the handshake too"
    );
    assert!(
        host.alerts[0].first >= 105 * SECOND,
        "not the connect, long before the first byte"
    );
}

#[test]
fn a_pipeline_and_addresses_that_change() {
    // tar /srv | gpg | curl to one name with another address each time.
    let mut host = Host::new(|_| ());
    let job = Arc::new(job("pipe"));
    for turn in 0..12 {
        let tar = host.spawn("/usr/bin/tar", &[SECRET]);
        let curl = host.spawn("/usr/bin/curl", &[]);
        let handed = host.known.reads.get(&tar.key).cloned().unwrap_or_default();
        host.known.reads.insert(curl.key, handed);
        let mut to = destination(turn);
        to.domain = Some("Store.example".into());
        // Compressed, and little of it is the secret.
        host.send(
            &curl,
            &job,
            &Arc::new(to),
            &Sent::out(900_000 + u64::from(turn) * 150_000),
        );
        host.after(30 * SECOND);
    }
    let [alert] = &host.alerts[..] else {
        panic!("{:?}", host.alerts)
    };
    assert!(signal(alert, SignalKind::Source).score > 0.8);
    assert!(!signal(alert, SignalKind::Chunking).holds);
}

#[test]
fn a_new_place_after_learning() {
    let mut host = Host::new(|_| ());
    let (job, old, new) = (
        Arc::new(job("agent")),
        Arc::new(destination(1)),
        Arc::new(destination(2)),
    );
    let beat = |host: &mut Host, to: &Arc<Destination>, times: u32| {
        for _ in 0..times {
            let curl = host.spawn("/usr/bin/curl", &[]);
            host.send(&curl, &job, to, &Sent::out(8_000));
            host.after(600 * SECOND);
        }
    };
    beat(&mut host, &old, 150);
    assert!(host.alerts.is_empty(), "25 hours to one place: usual");
    beat(&mut host, &new, 12);
    assert_eq!(host.alerts.len(), 1);
    assert!(signal(&host.alerts[0], SignalKind::Novelty).holds);
    assert_eq!(*host.alerts[0].destination, *new);
}

#[test]
fn one_bulk_transfer() {
    let big = (9, "/srv/all.tar", 500_000_000);
    let run = |wait: u64| {
        let mut host = Host::new(|_| ());
        let mut job = job("by hand");
        (job.interactive, job.scheduler) = (true, Scheduler::Interactive);
        let (job, to) = (Arc::new(job), Arc::new(destination(7)));
        host.after(wait);
        let scp = host.spawn("/usr/bin/scp", &[big]);
        let id = host.next_flow();
        let mut told = flow(id, &scp, &job, &to, host.now);
        for _ in 0..50 {
            host.after(SECOND / 2);
            told.delta.app_bytes = 10_000_000;
            told.delta.last = host.now;
            host.observe(&told);
        }
        told.delta.closed = Some(host.now);
        host.observe(&told);
        host.after(SECOND);
        host.alerts
    };
    let alerts = run(25 * HOUR);
    let [alert] = &alerts[..] else {
        panic!("{alerts:?}")
    };
    assert_eq!(
        (alert.rule, &alert.techniques[..]),
        (Rule::SensitiveBulkTransfer, &["T1048"][..])
    );
    assert!(
        (67_108_864..100_000_000).contains(&alert.app_bytes),
        "while it goes on: {}",
        alert.app_bytes
    );
    assert_eq!(alert.episodes, 1);
    assert!(
        run(HOUR).is_empty(),
        "while learning, everything would be new"
    );
}

#[test]
fn a_server_that_a_stranger_pulls_from() {
    let mut host = Host::new(|_| ());
    let (job, to) = (Arc::new(job("server")), Arc::new(destination(66)));
    host.after(25 * HOUR);
    let server = host.spawn("/usr/bin/python3.11", &[SECRET]);
    for _ in 0..12 {
        let sent = Sent {
            direction: Direction::Accepted,
            ..Sent::out(20_200)
        };
        host.send(&server, &job, &to, &sent);
        host.after(10 * SECOND);
    }
    assert_eq!(host.alerts.len(), 1);
}

#[test]
fn a_job_that_is_seen_only_in_part() {
    let mut host = Host::new(|_| ());
    let job = Arc::new(job("loop"));
    host.detector.blind(&job, BlindKind::IoUring);
    host.detector.blind(&job, BlindKind::IoUring);
    host.detector
        .blind(&self::job("another"), BlindKind::RawSocket);
    looped(&mut host, &job, 12);
    let [alert] = &host.alerts[..] else {
        panic!("{:?}", host.alerts)
    };
    assert_eq!(alert.blind, [BlindKind::IoUring]);
    assert_eq!(alert.coverage, Coverage::Degraded);
}
