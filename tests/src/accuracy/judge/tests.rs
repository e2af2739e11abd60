//! What is wrong is called wrong.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Arrivals, judge};
use crate::accuracy::{Done, Outcome, Scenario, Sender, Unseen, Verdict, scenarios};
use crate::lab::{Arrived, Flow, Truth};

const TO: &str = "198.51.100.10";

/// The scenario of this name, of the real table.
fn scenario(name: &str) -> &'static Scenario {
    let all = scenarios::all();
    all.into_iter()
        .find(|one| one.name == name)
        .expect("in the table")
}

fn flow() -> Value {
    json!({
        "event": { "action": "flow" },
        "process": { "pid": 7, "executable": "/gen", "entity_id": "7" },
        "user": { "id": "0" },
        "source": { "ip": "198.51.100.1", "port": 40_000 },
        "destination": { "ip": TO, "port": 9000 },
        "network": { "transport": "tcp" },
        "egress": {
            "app_bytes": 100, "wire_bytes": 300, "wire_packets": 4,
            "direction": "initiated", "attribution": "exact", "scope": "public",
        },
    })
}

/// One process sent 100 bytes, of which 300 arrived.
fn judged(scenario: &'static Scenario, records: &[Value]) -> Outcome {
    let address: IpAddr = TO.parse().expect("an address");
    let sender = Sender {
        pid: 7,
        app_bytes: 100,
        source_port: Some(40_000),
        ..Sender::default()
    };
    let done = Done {
        scenario,
        address,
        senders: vec![sender],
        before: Truth::default(),
        executable: "/gen".into(),
        failed: None,
    };
    let flow = Flow {
        source: "198.51.100.1:40000".parse().expect("an address"),
        to: address,
        transport: "tcp".into(),
        port: 9000,
        arrived: Arrived {
            bytes: 300,
            packets: 4,
        },
    };
    let arrivals = Arrivals {
        sink: Truth(vec![flow]),
        source: Truth::default(),
        retransmissions: 0,
    };
    judge(&done, records, &arrivals)
}

fn complaints(outcome: &Outcome) -> String {
    match &outcome.verdict {
        Verdict::Wrong(why) => why.join("; "),
        other => format!("{other:?}"),
    }
}

#[test]
fn what_is_told_right_is_exact() {
    let outcome = judged(scenario("tcp-bulk"), &[flow()]);
    assert_eq!(outcome.verdict, Verdict::Exact);
    assert_eq!((outcome.app, outcome.wire), ((100, 100), (300, 300)));
    assert_eq!(outcome.attributed, "gen, uid 0, initiated");
    // In parts.
    let (mut one, mut two) = (flow(), flow());
    for (part, app, wire) in [(&mut one, 1, 299), (&mut two, 99, 1)] {
        part["egress"]["app_bytes"] = app.into();
        part["egress"]["wire_bytes"] = wire.into();
    }
    assert_eq!(
        judged(scenario("tcp-bulk"), &[one, two]).verdict,
        Verdict::Exact
    );
}

#[test]
fn one_thing_wrong_is_wrong() {
    let rows: [(&str, &str, Value, &str); 13] = [
        (
            "egress",
            "app_bytes",
            99.into(),
            "99 app bytes told, of 100",
        ),
        (
            "egress",
            "app_bytes",
            101.into(),
            "101 app bytes told, of 100",
        ),
        (
            "egress",
            "wire_bytes",
            299.into(),
            "299 wire bytes told, of 300",
        ),
        (
            "egress",
            "wire_bytes",
            301.into(),
            "301 wire bytes told, of 300",
        ),
        ("process", "pid", 8.into(), "are with /gen"),
        (
            "process",
            "executable",
            "/other".into(),
            "process.executable",
        ),
        ("user", "id", "1".into(), "user.id"),
        ("egress", "direction", "accepted".into(), "egress.direction"),
        (
            "egress",
            "attribution",
            "inherited".into(),
            "egress.attribution",
        ),
        ("egress", "scope", "private".into(), "egress.scope"),
        ("network", "transport", "udp".into(), "network.transport"),
        ("destination", "port", 9001.into(), "another destination"),
        (
            "source",
            "port",
            40_001.into(),
            "sockets are not those that arrived",
        ),
    ];
    for (object, field, value, why) in rows {
        let mut wrong = flow();
        wrong[object][field] = value;
        let told = complaints(&judged(scenario("tcp-bulk"), &[wrong]));
        assert!(told.contains(why), "{object}.{field}: {told}");
    }
    // To another address: of this process, so it is seen.
    let mut elsewhere = flow();
    elsewhere["destination"]["ip"] = "198.51.100.11".into();
    let told = complaints(&judged(scenario("tcp-bulk"), &[elsewhere]));
    assert!(told.contains("another destination"), "{told}");
    // With nobody.
    let mut nobodys = flow();
    nobodys["process"] = Value::Null;
    nobodys["egress"]["unattributed_reason"] = "kernel".into();
    let told = complaints(&judged(scenario("tcp-bulk"), &[nobodys]));
    assert!(told.contains("300 wire bytes are with kernel"), "{told}");
    let told = complaints(&judged(scenario("tcp-bulk"), &[]));
    assert!(told.contains("nothing told of process 7"), "{told}");
    // Losses that lost nothing.
    let told = complaints(&judged(scenario("tcp-lossy"), &[flow()]));
    assert!(told.contains("nothing was sent twice"), "{told}");
}

#[test]
fn unseen_bytes_are_only_those_with_a_reason() {
    let scenario = scenario("process-closes-first");
    let Unseen { bytes, .. } = scenario.unseen;
    let told = |wire: u64| {
        let mut flow = flow();
        flow["egress"]["wire_bytes"] = wire.into();
        judged(scenario, &[flow])
    };
    let outcome = told(300 - bytes);
    assert_eq!((&outcome.verdict, outcome.unseen), (&Verdict::Exact, bytes));
    for wire in [300 - bytes - 1, 300 - bytes + 1, 301] {
        assert!(
            complaints(&told(wire)).contains("wire bytes told"),
            "{wire}"
        );
    }
}
