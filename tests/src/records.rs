//! The daemon's JSON lines: looked up, summed, and held to their promises.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Reasons of unattributed bytes that have no flow record: there was no slot in which they could have been told.
const WITHOUT_FLOW: [&str; 4] = ["no_socket", "no_slot", "no_storage", "in_flight"];

/// The value at a path such as `process.entity_id`.
#[must_use]
pub fn at<'a>(record: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(record, |value, key| value.get(key))
        .filter(|value| !value.is_null())
}

/// The text at a path.
#[must_use]
pub fn text<'a>(record: &'a Value, path: &str) -> Option<&'a str> {
    at(record, path)?.as_str()
}

/// The whole number at a path.
#[must_use]
pub fn number(record: &Value, path: &str) -> Option<u64> {
    at(record, path)?.as_u64()
}

/// Records of one kind: `flow`, `exec`, `file`, `health`, `alert`.
pub fn of<'a>(records: &'a [Value], action: &str) -> impl Iterator<Item = &'a Value> {
    records
        .iter()
        .filter(move |record| text(record, "event.action") == Some(action))
}

/// Flow records to this port of this address.
pub fn flows_to(records: &[Value], to: std::net::SocketAddr) -> impl Iterator<Item = &Value> {
    of(records, "flow").filter(move |flow| {
        number(flow, "destination.port") == Some(to.port().into())
            && text(flow, "destination.ip") == Some(to.ip().to_string().as_str())
    })
}

/// Sums of flow records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Application bytes sent.
    pub app_bytes: u64,
    /// Bytes at the IP layer.
    pub wire_bytes: u64,
    /// Packets.
    pub wire_packets: u64,
    /// Application bytes received.
    pub rx_bytes: u64,
}

impl std::ops::AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.app_bytes += other.app_bytes;
        self.wire_bytes += other.wire_bytes;
        self.wire_packets += other.wire_packets;
        self.rx_bytes += other.rx_bytes;
    }
}

/// The element of a health record's list whose texts are these.
///
/// # Errors
/// When there is none.
pub fn of_kind<'a>(health: &'a Value, list: &str, texts: &[(&str, &str)]) -> Result<&'a Value> {
    let mut elements = at(health, list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    elements
        .find(|element| {
            texts
                .iter()
                .all(|(key, value)| text(element, key) == Some(value))
        })
        .with_context(|| format!("no {texts:?} in {list}: {health}"))
}

/// Adds flow records up. A missing figure is zero.
pub fn sum<'a>(flows: impl IntoIterator<Item = &'a Value>) -> Sum {
    flows.into_iter().fold(Sum::default(), |sum, flow| {
        let figure = |name: &str| number(flow, &format!("egress.{name}")).unwrap_or_default();
        Sum {
            app_bytes: sum.app_bytes + figure("app_bytes"),
            wire_bytes: sum.wire_bytes + figure("wire_bytes"),
            wire_packets: sum.wire_packets + figure("wire_packets"),
            rx_bytes: sum.rx_bytes + figure("rx_bytes"),
        }
    })
}

/// Sums by `process.entity_id`; flows without a process under the empty text.
#[must_use]
pub fn by_process<'a>(
    flows: impl IntoIterator<Item = &'a Value>,
) -> BTreeMap<&'a str, (Sum, Vec<&'a Value>)> {
    let mut groups: BTreeMap<&str, (Sum, Vec<&Value>)> = BTreeMap::new();
    for flow in flows {
        let (_, group) = groups
            .entry(text(flow, "process.entity_id").unwrap_or_default())
            .or_default();
        group.push(flow);
    }
    for (total, group) in groups.values_mut() {
        *total = sum(group.iter().copied());
    }
    groups
}

/// One side of a health record's ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Every byte.
    pub total: u64,
    /// With a process.
    pub attributed: u64,
    /// Without, by reason.
    pub unattributed: BTreeMap<String, u64>,
}

impl Ledger {
    /// Bytes that have no flow record: there was no slot in which they could have been told.
    #[must_use]
    pub fn without_flow(&self) -> u64 {
        let reasons = WITHOUT_FLOW.iter();
        reasons
            .filter_map(|reason| self.unattributed.get(*reason))
            .sum()
    }
}

/// The `wire` or `app` side of a health record.
///
/// # Errors
/// When a part is missing or not a number.
pub fn ledger(health: &Value, side: &str) -> Result<Ledger> {
    let path = format!("egress.ledger.{side}");
    let ledger = at(health, &path).with_context(|| format!("a health record without {path}"))?;
    let reasons = at(ledger, "unattributed")
        .and_then(Value::as_object)
        .context("no reasons in the ledger")?;
    let unattributed = reasons.iter().map(|(reason, bytes)| {
        Ok((
            reason.clone(),
            bytes
                .as_u64()
                .with_context(|| format!("{path}.unattributed.{reason}: {bytes}"))?,
        ))
    });
    Ok(Ledger {
        total: number(ledger, "total").context("no total in the ledger")?,
        attributed: number(ledger, "attributed").context("no attributed in the ledger")?,
        unattributed: unattributed.collect::<Result<_>>()?,
    })
}

/// Holds a run, finished or killed, to this: each health record balances, and no total ever falls. Gives the last ledgers,
/// of the wire and of applications.
///
/// # Errors
/// With the record that breaks it.
pub fn check_balances(records: &[Value]) -> Result<[Ledger; 2]> {
    let mut last = [Ledger::default(), Ledger::default()];
    for health in of(records, "health") {
        for (side, before) in ["wire", "app"].iter().zip(&mut last) {
            let now = ledger(health, side)?;
            let places = now.attributed + now.unattributed.values().sum::<u64>();
            ensure!(
                places == now.total,
                "{side}: {places} bytes have a place, of {}: {health}",
                now.total
            );
            ensure!(
                now.total >= before.total,
                "{side}: the total fell from {}: {health}",
                before.total
            );
            *before = now;
        }
    }
    Ok(last)
}

/// Holds a finished run to promise 1, every byte has a place, and promise 2, totals never depend on events:
/// each health record balances and no total ever falls; the flow records add up to the last ledger; and nothing is in
/// flight once the daemon has drained the kernel for the last time.
///
/// # Errors
/// With the record that breaks one.
pub fn check_books(records: &[Value]) -> Result<()> {
    let last = check_balances(records)?;
    let end = of(records, "health").last().context("no health record")?;
    let losses = at(end, "egress.lost")
        .and_then(Value::as_array)
        .context("no egress.lost")?;
    for lost in losses {
        let count = number(lost, "count").with_context(|| format!("no count: {lost}"))?;
        let told = !matches!(text(lost, "kind"), Some("flow" | "record"));
        ensure!(
            told || count == 0,
            "records were lost, so they cannot add up: {lost}"
        );
    }
    check_events(end)?;
    let flows: Vec<&Value> = of(records, "flow").collect();
    let all = sum(flows.iter().copied());
    let has_owner =
        |flow: &Value| text(flow, "egress.attribution").is_some_and(|quality| quality != "none");
    let owned = sum(flows.iter().copied().filter(|flow| has_owner(flow)));
    let told = [
        (all.wire_bytes, owned.wire_bytes),
        (all.app_bytes, owned.app_bytes),
    ];
    for ((side, ledger), (all, owned)) in ["wire", "app"].iter().zip(&last).zip(told) {
        let placeless = ledger.without_flow();
        ensure!(
            ledger
                .unattributed
                .get("in_flight")
                .is_none_or(|bytes| *bytes == 0),
            "{side}: in flight at rest: {end}"
        );
        ensure!(
            all + placeless == ledger.total,
            "{side}: flow records add up to {all}, not to {ledger:?}"
        );
        ensure!(
            owned == ledger.attributed,
            "{side}: flow records with an owner add up to {owned}, not to {ledger:?}"
        );
    }
    Ok(())
}

/// Each event of a process or a file is told, repeated, filtered or lost, once all has been read.
///
/// # Errors
/// With the kind of which that is not so.
pub fn check_events(health: &Value) -> Result<()> {
    let events = at(health, "egress.events").and_then(Value::as_array);
    for events in events.into_iter().flatten() {
        let state = |state| number(events, state).with_context(|| format!("{events}: no {state}"));
        let places = state("told")? + state("repeated")? + state("filtered")? + state("lost")?;
        ensure!(places == state("seen")?, "{places} have a place: {events}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::check_books;

    fn run(attributed: u64, in_flight: u64, flow: u64, lost: u64) -> Vec<Value> {
        let side = json!({ "total": 110, "attributed": attributed, "unattributed": { "kernel": 10, "in_flight": in_flight } });
        let health = json!({
            "event": { "action": "health" },
            "egress": { "ledger": { "wire": side, "app": side }, "lost": [{ "kind": "flow", "cause": "queue_full", "count": lost }] },
        });
        let record = |bytes: u64, attribution: &str| {
            json!({
                "event": { "action": "flow" },
                "egress": { "app_bytes": bytes, "wire_bytes": bytes, "attribution": attribution },
            })
        };
        vec![
            record(40, "exact"),
            record(flow - 40, "inferred"),
            record(10, "none"),
            health,
        ]
    }

    #[test]
    fn books_that_do_not_balance_are_refused() {
        check_books(&run(100, 0, 100, 0)).expect("balanced");
        for (broken, why) in [
            (run(99, 0, 100, 0), "have a place"),
            (run(90, 10, 90, 0), "in flight"),
            (run(100, 0, 99, 0), "add up"),
            (run(100, 0, 100, 1), "lost"),
            (vec![], "no health"),
        ] {
            let error = check_books(&broken).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
