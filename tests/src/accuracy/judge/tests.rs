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
    let sender = Sender {
        pid: 7,
        app_bytes: 100,
        source_port: Some(40_000),
        ..Sender::default()
    };
    judged_with(scenario, vec![sender], records)
}

/// These processes sent it.
fn judged_with(scenario: &'static Scenario, senders: Vec<Sender>, records: &[Value]) -> Outcome {
    let address: IpAddr = TO.parse().expect("an address");
    let done = Done {
        scenario,
        address,
        senders,
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

/// What the senders of `process-fork` sent: process id, app bytes, uid.
fn judged_of(senders: &[(u64, u64, u64)], records: &[Value]) -> String {
    let senders = senders.iter().map(|(pid, app_bytes, user)| Sender {
        pid: *pid,
        app_bytes: *app_bytes,
        user: Some(*user),
        ..Sender::default()
    });
    complaints(&judged_with(
        scenario("process-fork"),
        senders.collect(),
        records,
    ))
}

/// A part of the 100 bytes.
fn part(pid: u64, entity: &str, user: &str, app: u64, wire: u64, attribution: &str) -> Value {
    let mut part = flow();
    (part["process"]["pid"], part["process"]["entity_id"]) = (pid.into(), entity.into());
    part["user"]["id"] = user.into();
    (part["egress"]["app_bytes"], part["egress"]["wire_bytes"]) = (app.into(), wire.into());
    part["egress"]["attribution"] = attribution.into();
    part
}

#[test]
fn bytes_of_a_shared_socket_are_each_process_own() {
    let (opener, child) = ((7, 0, 0), (8, 100, 0));
    let exact = part(7, "a", "0", 0, 200, "exact");
    let told = judged_of(
        &[opener, child],
        &[exact.clone(), part(8, "b", "0", 100, 100, "inherited")],
    );
    assert_eq!(told, "Exact");
    // Nobody has inherited it.
    let told = judged_of(
        &[opener, child],
        &[exact.clone(), part(8, "b", "0", 100, 100, "exact")],
    );
    assert!(told.contains("2 are told as exact"), "{told}");
    // The opener's bytes are the child's.
    let told = judged_of(
        &[opener, child],
        &[
            part(7, "a", "0", 100, 200, "exact"),
            part(8, "b", "0", 0, 100, "inherited"),
        ],
    );
    assert!(told.contains("nothing told of process 8"), "{told}");
    assert!(told.contains("that are not its own"), "{told}");
}

#[test]
fn a_process_id_is_several_by_entity_and_by_user() {
    // The id came again.
    let twice = [(7, 60, 0), (7, 40, 0)];
    let parts = |first: &str, second: &str| {
        [
            part(7, first, "0", 60, 200, "exact"),
            part(7, second, "0", 40, 100, "inherited"),
        ]
    };
    assert_eq!(judged_of(&twice, &parts("a", "b")), "Exact");
    let told = judged_of(&twice, &parts("a", "a"));
    assert!(told.contains("100 app bytes told of process 7"), "{told}");
    // Another user.
    let users = [(7, 60, 0), (7, 40, 65_534)];
    let parts = |second: &str| {
        [
            part(7, "a", "0", 60, 200, "exact"),
            part(7, "b", second, 40, 100, "inherited"),
        ]
    };
    assert_eq!(judged_of(&users, &parts("65534")), "Exact");
    let told = judged_of(&users, &parts("0"));
    assert!(told.contains("uid 65534"), "{told}");
}

#[test]
fn the_parent_and_the_container_are_asked_for() {
    let told = |parent: u64, container: &str| {
        let mut told = flow();
        told["process"]["parent"] = json!({ "pid": parent });
        told["container"] = json!({ "id": container });
        let sender = Sender {
            pid: 7,
            app_bytes: 100,
            parent: Some(5),
            container: Some("c".into()),
            ..Sender::default()
        };
        complaints(&judged_with(scenario("tcp-bulk"), vec![sender], &[told]))
    };
    assert_eq!(told(5, "c"), "Exact");
    assert!(told(1, "c").contains("process.parent.pid"));
    assert!(told(5, "d").contains("container.id"));
}
