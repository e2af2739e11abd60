//! The daemon's JSON lines, added up one by one: a flood writes more of them than one wants to hold.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::records::{Ledger, Sum, check_events, ledger, number, of_kind};

/// Sums of a finished run.
#[derive(Debug, Default)]
pub struct Tally {
    /// Records of each kind.
    pub records: BTreeMap<String, u64>,
    /// Records of each kind and process id.
    pub by_pid: BTreeMap<(String, u64), u64>,
    /// Flow records by the process id; 0 without a process.
    pub flows: BTreeMap<u64, Sum>,
    /// The last health record.
    pub health: Value,
    all: Sum,
    owned: Sum,
}

#[derive(Deserialize)]
struct Line {
    event: Event,
    process: Option<Process>,
    egress: Egress,
}

#[derive(Deserialize)]
struct Event {
    action: String,
}

#[derive(Deserialize)]
struct Process {
    pid: u64,
}

#[derive(Deserialize)]
struct Egress {
    #[serde(default)]
    app_bytes: u64,
    #[serde(default)]
    wire_bytes: u64,
    #[serde(default)]
    wire_packets: u64,
    #[serde(default)]
    rx_bytes: u64,
    attribution: Option<String>,
}

impl Tally {
    /// Reads the whole file.
    ///
    /// # Errors
    /// When a line is not a record, or a health record does not balance.
    pub fn read(path: &Path) -> Result<Self> {
        let mut tally = Self::default();
        for line in BufReader::with_capacity(1 << 20, File::open(path)?).lines() {
            let line = line?;
            tally.add(&line).with_context(|| line.clone())?;
        }
        Ok(tally)
    }

    fn add(&mut self, text: &str) -> Result<()> {
        let line: Line = serde_json::from_str(text)?;
        let pid = line.process.map_or(0, |process| process.pid);
        match line.event.action.as_str() {
            "health" => {
                self.health = serde_json::from_str(text)?;
                for side in ["wire", "app"] {
                    let now = ledger(&self.health, side)?;
                    let places = now.attributed + now.unattributed.values().sum::<u64>();
                    ensure!(places == now.total, "{side}: {places} have a place");
                }
            }
            "flow" => {
                let egress = line.egress;
                let sum = Sum {
                    app_bytes: egress.app_bytes,
                    wire_bytes: egress.wire_bytes,
                    wire_packets: egress.wire_packets,
                    rx_bytes: egress.rx_bytes,
                };
                self.all += sum;
                *self.flows.entry(pid).or_default() += sum;
                if egress.attribution.is_some_and(|how| how != "none") {
                    self.owned += sum;
                }
            }
            _ => {}
        }
        let action = line.event.action;
        *self.records.entry(action.clone()).or_default() += 1;
        *self.by_pid.entry((action, pid)).or_default() += 1;
        Ok(())
    }

    /// Records of a kind.
    #[must_use]
    pub fn of(&self, kind: &str) -> u64 {
        self.records.get(kind).copied().unwrap_or_default()
    }

    /// Records of a kind that a process has.
    #[must_use]
    pub fn of_process(&self, kind: &str, pid: u64) -> u64 {
        let key = (kind.to_owned(), pid);
        self.by_pid.get(&key).copied().unwrap_or_default()
    }

    /// The `wire` or `app` ledger in the end.
    ///
    /// # Errors
    /// When there is none.
    pub fn ledger(&self, side: &str) -> Result<Ledger> {
        ledger(&self.health, side)
    }

    /// A number of `egress.events` in the end, such as `seen` of `file`.
    ///
    /// # Errors
    /// When there is none.
    pub fn events(&self, kind: &str, state: &str) -> Result<u64> {
        let events = of_kind(&self.health, "egress.events", &[("kind", kind)])?;
        number(events, state).with_context(|| format!("{events}: no {state}"))
    }

    /// How often this was lost for that cause, in the end.
    #[must_use]
    pub fn lost(&self, kind: &str, cause: &str) -> u64 {
        let matching = of_kind(
            &self.health,
            "egress.lost",
            &[("kind", kind), ("cause", cause)],
        );
        matching
            .ok()
            .and_then(|lost| number(lost, "count"))
            .unwrap_or_default()
    }

    /// A number of the file's own books: of `given`, `lost`, `lost_app_bytes`, `lost_wire_bytes`.
    ///
    /// # Errors
    /// When there is none.
    pub fn written(&self, record: &str, state: &str) -> Result<u64> {
        let key = [("outlet", "jsonl"), ("record", record)];
        let books = of_kind(&self.health, "egress.outlets", &key)?;
        number(books, state).with_context(|| format!("{books}: no {state}"))
    }

    /// Holds the run to its promises, also where detail was lost: each kind of event is told, repeated, filtered or lost;
    /// each record is in the file or counted as lost; and the bytes of the flow records, of those that were lost, and of
    /// what has no flow are the kernel's total.
    ///
    /// # Errors
    /// With the figures that do not add up.
    pub fn check(&self) -> Result<()> {
        check_events(&self.health)?;
        for record in ["flow", "exec", "file"] {
            let (given, lost) = (
                self.written(record, "given")?,
                self.written(record, "lost")?,
            );
            let written = self.of(record);
            ensure!(
                written + lost == given,
                "{record}: {written} are in the file and {lost} were lost, of {given}"
            );
        }
        for (side, all, owned) in [
            ("wire", self.all.wire_bytes, self.owned.wire_bytes),
            ("app", self.all.app_bytes, self.owned.app_bytes),
        ] {
            let ledger = self.ledger(side)?;
            let lost = self.written("flow", &format!("lost_{side}_bytes"))?;
            let placeless = ledger.without_flow();
            ensure!(
                all + lost + placeless == ledger.total,
                "{side}: flow records add up to {all}, {lost} were lost: {ledger:?}"
            );
            ensure!(
                owned <= ledger.attributed && owned + lost >= ledger.attributed,
                "{side}: flow records with an owner add up to {owned}, {lost} were lost: {ledger:?}"
            );
            let in_flight = ledger.unattributed.get("in_flight").copied();
            ensure!(
                in_flight.unwrap_or_default() == 0,
                "{side}: in flight at rest"
            );
        }
        Ok(())
    }
}
