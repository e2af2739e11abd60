//! Records for tests: one of each kind, with everything in it, hostile text included.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Access, Alert, Attribution, BlindKind, BlindUse, Clock, Container, Coverage, CoverageEvidence,
    CoverageLoss, Destination, DeviceState, Direction, Events, FileAccess, FileEvidence, FileId,
    FileRef, Flow, FlowDelta, FlowId, Gap, GapReason, Health, HookState, HookStatus, HostAlert,
    Identity, Interface, Interfaces, Job, JobId, Ledger, LostDetail, Mark, NameSource, Named,
    OutletBooks, Process, ProcessKey, Reason, Record, Rule, Scheduler, Scope, Script, Signal,
    SignalKind, Stdio, Text, Transmitted, Transport,
};
use crate::outlet::Host;

/// Text that would act if it were not escaped.
pub(crate) const HOSTILE: &[u8] = b"a\x1b[2J\"\\\xff\xe2\x80\xae\n{}";

pub(crate) fn host() -> Host {
    Host {
        hostname: "web-1".into(),
        boot_id: "c2a2a9f4-6d0e-4a53-9d0f-0c6d3a1b2c3d".into(),
        clock: Clock {
            boot_wall_ns: 1_700_000_000_000_000_000,
        },
    }
}

fn file(path: &str) -> FileRef {
    FileRef {
        id: FileId {
            dev: 0x0080_0001,
            ino: 4242,
            generation: 1,
        },
        path: path.into(),
        size: 1 << 20,
        mode: 0o100_640,
        nlink: 1,
    }
}

pub(crate) fn process() -> Arc<Process> {
    Arc::new(Process {
        key: ProcessKey {
            tgid: 4321,
            start_ns: 5_000_000_000,
        },
        parent: Some(ProcessKey {
            tgid: 4000,
            start_ns: 4_000_000_000,
        }),
        executable: file("/usr/bin/curl"),
        name: HOSTILE.into(),
        args: vec!["curl".into(), "-T".into(), HOSTILE.into()],
        args_truncated: true,
        script: None,
        cwd: "/srv".into(),
        identity: Identity {
            uid: 1000,
            euid: 0,
            gid: 1000,
            loginuid: Some(1001),
            session_id: Some(7),
            tty: None,
        },
        user_name: Some("backup".into()),
        login_name: Some("alice".into()),
        cgroup_id: 99,
        cgroup_path: "/kubepods/pod1/c1".into(),
        container: Some(Container {
            id: "0123abcd".into(),
            runtime: "containerd".into(),
            pod_uid: Some("2f3c".into()),
        }),
        unit: Some("cron.service".into()),
        netns: 4_026_531_840,
        stdio: [Stdio::None; 3],
        start_ns: 5_000_000_000,
        exec_id: Some(1),
        exec_ns: 5_000_000_000,
        exit_ns: None,
        seeded: false,
    })
}

pub(crate) fn job() -> Arc<Job> {
    Arc::new(Job {
        id: JobId("0123456789abcdef".into()),
        executable: "/usr/bin/curl".into(),
        script: Some(Arc::new(Script {
            path: "/opt/sync.sh".into(),
            file: None,
            sha256: Some("ab".repeat(32).into()),
        })),
        scheduler: Scheduler::Cron(Some("* * * * * /opt/sync.sh".into())),
        uid: 1000,
        interactive: false,
    })
}

pub(crate) fn destination() -> Arc<Destination> {
    Arc::new(Destination {
        ip: [203, 0, 113, 9].into(),
        port: 443,
        transport: Transport::TCP,
        scope: Scope::Public,
        domain: Some("drop.example\u{202e}".into()),
        name: Some(Named {
            source: NameSource::TlsSni,
            shared: false,
            dns: Some("other.example\x1b".into()),
        }),
    })
}

/// A flow of `executable` that gained `wire_bytes`, with or without a process.
pub(crate) fn flow_of(executable: &str, wire_bytes: u64, attribution: Attribution) -> Flow {
    let process = Process {
        executable: file(executable),
        ..Arc::unwrap_or_clone(process())
    };
    let owned = !matches!(attribution, Attribution::None(_));
    Flow {
        delta: FlowDelta {
            id: FlowId(17),
            cookie: 3,
            owner: Some(process.key),
            owner_name: Text::from(HOSTILE),
            owner_uid: Some(1000),
            owner_gid: None,
            owner_login: None,
            owner_exec: Some(1),
            cgroup_id: 99,
            cgroup_path: Text::default(),
            netns: 4_026_531_840,
            local: Some("[::ffff:198.51.100.2]:50000".parse().unwrap()),
            remote: Some("203.0.113.9:443".parse().unwrap()),
            transport: Transport::TCP,
            family: egress_common::slot::AF_INET,
            direction: Direction::Initiated,
            first: 5_000_000_000,
            last: 6_000_000_000,
            closed: owned.then_some(6_000_000_000),
            app_bytes: wire_bytes / 2,
            app_calls: 2,
            wire_bytes,
            wire_packets: 3,
            rx_bytes: 10,
            mark: Mark::default(),
        },
        process: owned.then(|| Arc::new(process)),
        job: owned.then(job),
        destination: owned.then(destination),
        attribution,
    }
}

pub(crate) fn flow() -> Record {
    Record::Flow(Arc::new(flow_of("/usr/bin/curl", 2000, Attribution::Exact)))
}

pub(crate) fn exec() -> Record {
    Record::Exec {
        at: 5_000_000_000,
        process: process(),
        parent: Some(process()),
        job: job(),
    }
}

pub(crate) fn file_opened() -> Record {
    let access = FileAccess {
        process: process().key,
        file: file("/srv/customers.db"),
        access: Access {
            read: true,
            write: false,
            create: false,
        },
        truncated: false,
    };
    Record::File {
        at: 5_500_000_000,
        access: Arc::new(access),
        labels: vec!["business".into()],
        process: Some(process()),
    }
}

pub(crate) fn blind_spot(process: Option<Arc<Process>>) -> Record {
    Record::Blind {
        at: 5_600_000_000,
        using: Arc::new(BlindUse {
            process: self::process().key,
            kind: BlindKind::PacketRing,
            operation: "setsockopt(SOL_PACKET, PACKET_TX_RING)".into(),
            why: "frames are sent from shared memory",
            opens_file: false,
            netns: 4_026_531_840,
        }),
        job: process.as_ref().map(|_| job()),
        process,
    }
}

pub(crate) fn alert() -> Record {
    let signal = |kind, holds, value, baseline| Signal {
        kind,
        holds,
        score: 0.9,
        value,
        threshold: 0.5,
        baseline,
        sentence: "12 transfers, 60 s apart".into(),
    };
    Record::Alert(Arc::new(Alert {
        id: "alert-1".into(),
        at: 9_000_000_000,
        rule: Rule::AutomatedExfiltration,
        techniques: vec!["T1020", "T1029", "T1048.003", "T9999"],
        score: 87,
        job: job(),
        process: process(),
        destination: destination(),
        signals: vec![
            signal(SignalKind::Cadence, true, 0.98, Some(0.1)),
            signal(SignalKind::Volume, false, f64::INFINITY, Some(f64::NAN)),
        ],
        files: vec![FileEvidence {
            file: file("/srv/customers.db"),
            labels: vec!["business".into()],
            read_at: 5_500_000_000,
        }],
        episodes: 12,
        period_ns: Some(60_000_000_000),
        app_bytes: 12_000_000,
        wire_bytes: 12_500_000,
        rx_bytes: 4_000,
        first: 5_000_000_000,
        last: 8_000_000_000,
        blind: vec![BlindKind::IoUring, BlindKind::RawSocket],
        coverage: Coverage::Degraded,
    }))
}

/// One device of a hostile name, and others.
fn interfaces() -> Interfaces {
    let transmitted = Transmitted {
        tx_bytes: 1_290,
        tx_packets: 12,
        bytes: [1_000, 100, 52, 60, 42, 0],
        packets: [10, 1, 1, 1, 1, 0],
        framing: 6,
        unseen: 50,
        uncounted: 20,
    };
    Interfaces {
        devices: vec![Interface {
            netns: 4_026_531_840,
            ifindex: 2,
            name: HOSTILE.into(),
            kind: Text::default(),
            state: DeviceState::Compared,
            transmitted,
        }],
        others: 1,
        other: Transmitted::default(),
        total: transmitted,
        namespaces: 1,
        hidden_namespaces: 1,
    }
}

pub(crate) fn host_alert() -> Record {
    Record::HostAlert(Arc::new(HostAlert {
        id: "alert-2".into(),
        at: 9_500_000_000,
        score: 70,
        techniques: vec!["T1562.006"],
        evidence: vec![CoverageEvidence {
            kind: CoverageLoss::Unseen,
            value: 4_096.0,
            threshold: 1_024.0,
            since: 8_500_000_000,
            sentence: "4096 bytes left that no hook saw.".into(),
        }],
    }))
}

/// A health record whose wire ledger has this total, with what is not attributed in two reasons.
pub(crate) fn health_of(total: u64) -> Health {
    let ledger = |total: u64| Ledger {
        total,
        attributed: total - total / 4,
        unattributed: BTreeMap::from([
            (Reason::NoSocket, total / 4 - total / 8),
            (Reason::InFlight, total / 8),
        ]),
    };
    Health {
        at: 10_000_000_000,
        started: 1_000_000_000,
        attached: 500_000_000,
        epoch: 0,
        counted: Default::default(),
        wire_bytes: ledger(total),
        app_bytes: ledger(total / 2),
        interfaces: Some(interfaces()),
        hooks: vec![
            HookStatus {
                hook: "send",
                method: "tp_btf/sock_send_length".into(),
                state: HookState::Ok,
                reason: None,
                gives: "application bytes",
            },
            HookStatus {
                hook: "file_open",
                method: "lsm/file_open".into(),
                state: HookState::Unsupported,
                reason: Some("\"lsm\" has no bpf".into()),
                gives: "files",
            },
        ],
        lost: vec![LostDetail {
            kind: "exec",
            cause: "ring_full",
            count: 3,
        }],
        blind: BTreeMap::from([(BlindKind::XdpSocket, 2)]),
        events: vec![Events {
            kind: "file",
            seen: 100,
            told: 40,
            repeated: 30,
            filtered: 20,
            lost: 10,
        }],
        outlets: vec![OutletBooks {
            outlet: "jsonl",
            record: "flow",
            given: 50,
            lost: 7,
            lost_app_bytes: 700,
            lost_wire_bytes: 1000,
        }],
        coverage: Coverage::Degraded,
        live_flows: 5,
        live_processes: 120,
        live_names: 30,
    }
}

pub(crate) fn health() -> Record {
    Record::Health(Arc::new(health_of(1_000_001)))
}

pub(crate) fn gap() -> Record {
    Record::Gap(Arc::new(Gap {
        start: 4_000_000_000,
        end: 9_500_000_000,
        reason: GapReason::Upgrade,
        blind_ns: 2_000_000,
        missing: vec!["recv"],
        lost: vec![LostDetail {
            kind: "file",
            cause: "ring_full",
            count: 7,
        }],
    }))
}

/// One of each kind, and the poor ones: no process, no address.
pub(crate) fn all() -> Vec<Record> {
    let mut unaddressed = flow_of("/x", 60, Attribution::None(Reason::NoSocket));
    unaddressed.delta.owner = None;
    unaddressed.delta.local = None;
    unaddressed.delta.remote = None;
    unaddressed.delta.transport = Transport(47);
    let orphan = flow_of("/x", 60, Attribution::None(Reason::BeforeStart));
    vec![
        flow(),
        Record::Flow(Arc::new(unaddressed)),
        Record::Flow(Arc::new(orphan)),
        exec(),
        file_opened(),
        blind_spot(Some(process())),
        blind_spot(None),
        alert(),
        host_alert(),
        health(),
        gap(),
    ]
}
