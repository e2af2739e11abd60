//! What must not alert, each as long as it would take to be noticed.

use std::sync::Arc;

use super::*;

/// Every `gap`, for ever the same process, or a new one each time.
fn regular(
    host: &mut Host,
    job: &Job,
    to: Destination,
    gap: u64,
    sent: &Sent,
    fresh: bool,
    reads: &[(u64, &str, u64)],
) {
    let (job, to) = (Arc::new(job.clone()), Arc::new(to));
    let mut who = host.spawn("/usr/bin/sender", reads);
    for _ in 0..40 {
        if fresh {
            who = host.spawn("/usr/bin/sender", reads);
        }
        host.send(&who, &job, &to, sent);
        host.after(gap);
    }
    assert!(host.detector.stats().episodes >= 40);
    assert!(host.alerts.is_empty(), "{:?}", host.alerts);
}

fn learning_is_over(config: &mut config::Detection) {
    config.learning = std::time::Duration::ZERO;
}

fn ntp() -> Destination {
    Destination {
        port: 123,
        transport: Transport::UDP,
        ..destination(1)
    }
}

#[test]
fn a_time_daemon_answered_or_not() {
    for (rx, fresh) in [(48, false), (0, false), (48, true), (0, true)] {
        for change in [|_: &mut _| (), learning_is_over] {
            let sent = Sent {
                rx,
                ..Sent::out(48)
            };
            regular(
                &mut Host::new(change),
                &job("ntp"),
                ntp(),
                2 * SECOND,
                &sent,
                fresh,
                &[],
            );
        }
    }
}

#[test]
fn downloads() {
    let sent = Sent {
        rx: 30_000_000,
        takes: 2 * SECOND,
        ..Sent::out(900)
    };
    let mut apt = job("apt");
    apt.scheduler = Scheduler::Systemd("apt-daily.service".into());
    regular(
        &mut Host::new(learning_is_over),
        &apt,
        destination(1),
        10 * SECOND,
        &sent,
        true,
        &[],
    );
}

#[test]
fn somebody_copies_a_sensitive_file() {
    let mut scp = job("scp");
    (scp.interactive, scp.scheduler) = (true, Scheduler::Interactive);
    let (scp, to) = (Arc::new(scp), Arc::new(destination(1)));
    let mut host = Host::new(learning_is_over);
    // A few times, as people do.
    for gap in [3, 40, 11, 95, 7, 300, 18, 60, 5, 33, 120, 9, 14, 70] {
        let who = host.spawn("/usr/bin/scp", &[(5, "/srv/notes.txt", 4_000)]);
        host.send(&who, &scp, &to, &Sent::out(9_000));
        host.after(gap * SECOND);
    }
    assert!(host.alerts.is_empty(), "{:?}", host.alerts);
}

#[test]
fn servers_that_answer() {
    let answer = Sent {
        rx: 300,
        direction: Direction::Accepted,
        ..Sent::out(50_000)
    };
    let web = [
        (8, "/var/www/index.html", 49_000),
        (9, "/etc/ssl/private/key.pem", 1_700),
    ];
    // A health check, a scraper: one peer, at a beat, mostly outward, after learning.
    regular(
        &mut Host::new(learning_is_over),
        &job("web"),
        destination(1),
        10 * SECOND,
        &answer,
        false,
        &web,
    );
    // Even of a sensitive path, while the host is being learnt.
    let sensitive = [(8, "/srv/www/index.html", 49_000)];
    regular(
        &mut Host::new(|_| ()),
        &job("web"),
        destination(1),
        10 * SECOND,
        &answer,
        false,
        &sensitive,
    );
}

#[test]
fn a_nightly_backup_while_learning() {
    let mut backup = job("backup");
    backup.scheduler = Scheduler::Cron(Some("backup".into()));
    let sent = Sent {
        takes: 60 * SECOND,
        ..Sent::out(3_000_000_000)
    };
    let reads = [
        (1, "/home/u/photo.jpg", 5_000_000),
        (2, "/root/.ssh/id_ed25519", 400),
    ];
    // The key is used, not sent. Learning takes longer than the test.
    let learning = |config: &mut config::Detection| {
        config.learning = std::time::Duration::from_hours(90 * 24);
    };
    regular(
        &mut Host::new(learning),
        &backup,
        destination(1),
        24 * HOUR,
        &sent,
        true,
        &reads,
    );
}

#[test]
fn what_is_ignored_is_counted() {
    let mut host = Host::new(|_| ());
    let (job, who) = (Arc::new(job("x")), host.spawn("/usr/bin/x", &[]));
    let scoped = |scope| {
        Arc::new(Destination {
            scope,
            ..destination(1)
        })
    };
    for scope in [Scope::Loopback, Scope::Link, Scope::Private] {
        host.send(&who, &job, &scoped(scope), &Sent::out(10));
    }
    let mut nobody = flow(FlowId(90), &who, &job, &scoped(Scope::Public), host.now);
    nobody.delta.app_bytes = 10;
    nobody.delta.direction = Direction::Listening;
    host.observe(&nobody);
    nobody.destination = None;
    host.observe(&nobody);
    nobody.process = None;
    host.observe(&nobody);
    let stats = host.detector.stats();
    let ignored = stats.ignored;
    assert_eq!((ignored.scope, ignored.listening), (2, 1));
    assert_eq!((ignored.no_destination, ignored.unattributed), (1, 1));
    assert_eq!((stats.pairs, stats.episodes), (1, 1));
}

#[test]
fn a_named_network_is_ignored_by_its_name() {
    let mut host = Host::new(|config| config.ignore_scopes = vec!["backup".into()]);
    let (job, who) = (Arc::new(job("x")), host.spawn("/usr/bin/x", &[]));
    let to = |name: &str| {
        Arc::new(Destination {
            scope: Scope::Named(name.into()),
            ..destination(1)
        })
    };
    host.send(&who, &job, &to("backup"), &Sent::out(10));
    host.send(&who, &job, &to("other"), &Sent::out(10));
    assert_eq!(host.detector.stats().ignored.scope, 1);
    assert_eq!(host.detector.stats().episodes, 1);
}
