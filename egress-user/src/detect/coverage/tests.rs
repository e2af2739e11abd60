use super::*;
use crate::model::{
    Counts, Coverage, DeviceState, HookStatus, Interface, Interfaces, Ledger, LostDetail,
    Transmitted,
};

const SECOND: u64 = 1_000_000_000;

fn watch() -> CoverageWatch {
    let config = Detection {
        unattributed_percent: 20,
        coverage_min_bytes: 1_000,
        ..Detection::default()
    };
    CoverageWatch::new(&config, SECOND)
}

/// A record at `at` seconds.
fn health(at: u64, total: u64, kernel: u64, unseen: u64) -> Health {
    let ledger = Ledger {
        total,
        attributed: total - kernel,
        unattributed: BTreeMap::from([(Reason::Kernel, kernel), (Reason::InFlight, 0)]),
    };
    let transmitted = Transmitted {
        unseen,
        ..Transmitted::default()
    };
    Health {
        at: at * SECOND,
        started: SECOND,
        attached: SECOND,
        epoch: 0,
        counted: Counts::default(),
        live_names: 0,
        events: Vec::new(),
        outlets: Vec::new(),
        blind: BTreeMap::new(),
        app_bytes: ledger.clone(),
        wire_bytes: ledger,
        interfaces: Some(Interfaces {
            devices: vec![Interface {
                netns: 4_026_531_840,
                ifindex: 2,
                name: "wan\n0".into(),
                kind: "veth".into(),
                state: DeviceState::Compared,
                transmitted,
            }],
            total: transmitted,
            ..Interfaces::default()
        }),
        hooks: vec![HookStatus {
            hook: "wire",
            method: String::new(),
            state: HookState::Ok,
            reason: None,
            gives: "wire bytes",
        }],
        lost: vec![],
        coverage: Coverage::Full,
        live_flows: 0,
        live_processes: 0,
    }
}

fn kinds(alert: Option<HostAlert>) -> Vec<CoverageLoss> {
    alert
        .map(|alert| alert.evidence.iter().map(|part| part.kind).collect())
        .unwrap_or_default()
}

#[test]
fn unseen_bytes_are_told_once_then_when_tenfold_then_after_they_were_over() {
    let mut watch = watch();
    assert_eq!(watch.judge(&health(2, 9_000, 0, 999)), None, "below");
    let alert = watch.judge(&health(3, 9_000, 0, 1_200)).expect("adds up");
    assert_eq!(alert.evidence[0].since, 2 * SECOND);
    assert_eq!(
        (alert.score, &alert.techniques[..]),
        (70, &["T1562.006"][..])
    );
    let sentence = &alert.evidence[0].sentence;
    assert!(
        sentence.starts_with("1200 bytes") && sentence.contains(r"wan\x0a0 (index 2)"),
        "{sentence}"
    );
    assert_eq!(watch.judge(&health(4, 9_000, 0, 5_000)), None, "goes on");
    assert!(
        watch.judge(&health(5, 9_000, 0, 12_000)).is_some(),
        "tenfold"
    );
    assert_eq!(watch.judge(&health(60, 9_000, 0, 12_000)), None);
    assert_eq!(watch.judge(&health(70, 9_000, 0, 12_000)), None, "over");
    assert_eq!(watch.judge(&health(71, 9_000, 0, 12_500)), None, "below");
    let again = watch.judge(&health(72, 9_000, 0, 13_000));
    assert_eq!(kinds(again), [CoverageLoss::Unseen]);
}

#[test]
fn bytes_without_a_process_are_told_from_a_share_and_a_floor_on() {
    let mut watch = watch();
    assert_eq!(watch.judge(&health(2, 10_000, 2_000, 0)), None, "20 %");
    assert_eq!(watch.judge(&health(3, 11_800, 2_900, 0)), None, "900 bytes");
    let alert = watch.judge(&health(4, 13_800, 3_900, 0)).expect("half");
    assert!((alert.evidence[0].value - 0.5).abs() < 1e-9);
    assert_eq!(watch.judge(&health(5, 15_800, 4_900, 0)), None, "goes on");
    assert_eq!(watch.judge(&health(66, 99_000, 4_900, 0)), None, "over");
    let again = watch.judge(&health(67, 101_000, 5_900, 0));
    assert_eq!(kinds(again), [CoverageLoss::Unattributed]);
}

#[test]
fn a_hook_that_goes_is_told_and_one_that_never_was_is_not() {
    let mut watch = watch();
    let mut record = health(2, 0, 0, 0);
    record.hooks.push(HookStatus {
        hook: "recv",
        state: HookState::Unsupported,
        ..record.hooks[0].clone()
    });
    assert_eq!(watch.judge(&record), None);
    record.hooks[0].state = HookState::Broken;
    record.at += SECOND;
    let alert = watch.judge(&record).expect("a hook is gone");
    assert_eq!(
        (alert.score, &alert.techniques[..]),
        (80, &["T1562.001"][..])
    );
    assert!(alert.evidence[0].sentence.contains("wire (wire bytes)"));
    record.at += SECOND;
    assert_eq!(watch.judge(&record), None, "once");
    record.hooks[0].state = HookState::Ok;
    for _ in 0..2 {
        record.at += OVER_NS;
        assert_eq!(watch.judge(&record), None);
    }
    record.hooks[0].state = HookState::Broken;
    record.at += SECOND;
    assert!(watch.judge(&record).is_some(), "again");
}

#[test]
fn lost_detail_is_told_but_not_what_was_only_cut() {
    let mut watch = watch();
    let mut record = health(2, 0, 0, 0);
    let lost = |kind, cause, count| LostDetail { kind, cause, count };
    record.lost = vec![lost("exec", "truncated", 5)];
    assert_eq!(watch.judge(&record), None);
    record.lost.push(lost("file", "ring_full", 7));
    record.lost.push(lost("openat", "skipped", 1));
    record.at += SECOND;
    let alert = watch.judge(&record).expect("a full ring");
    assert!((alert.evidence[0].value - 8.0).abs() < 1e-9);
    assert!(alert.evidence[0].sentence.contains("7 file (ring_full)"));
    record.at += SECOND;
    assert_eq!(watch.judge(&record), None, "no more than before");
}
