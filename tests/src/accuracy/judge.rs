//! Compares what was told of a scenario with the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::{Done, Outcome, Scenario, Sender, Target, Verdict};
use crate::lab::{Flow, Truth, total};
use crate::records::{at, number, of, sum, text};

mod processes;

/// Complaints told of one scenario; the rest is more of the same.
const COMPLAINTS: usize = 8;

/// `egress.attribution` of a socket that another process used before.
const INHERITED: &str = "inherited";

/// The truth of the wire.
#[derive(Debug)]
pub struct Arrivals {
    /// What arrived in the sink.
    pub sink: Truth,
    /// What arrived in the source: from the sink, and over loopback.
    pub source: Truth,
    /// TCP segments that the source sent more than once.
    pub retransmissions: u64,
}

/// Judges one scenario.
#[must_use]
pub fn judge(done: &Done, records: &[Value], arrivals: &Arrivals) -> Outcome {
    let mut judge = Judge::new(done, records, arrivals);
    judge.complaints.extend(done.failed.clone());
    judge.totals(arrivals);
    judge.ports();
    judge.destinations();
    judge.senders();
    judge.holders();
    let Judge {
        mut complaints,
        app,
        wire,
        unseen,
        ..
    } = judge;
    let more = complaints.len().saturating_sub(COMPLAINTS);
    complaints.truncate(COMPLAINTS);
    if more > 0 {
        complaints.push(format!("and {more} more"));
    }
    Outcome {
        scenario: done.scenario,
        app,
        wire,
        unseen,
        attributed: attributed(&judge.flows),
        verdict: if complaints.is_empty() {
            Verdict::Exact
        } else {
            Verdict::Wrong(complaints)
        },
    }
}

struct Judge<'a> {
    done: &'a Done,
    scenario: &'static Scenario,
    /// Flow records of this scenario.
    flows: Vec<&'a Value>,
    /// What arrived of it.
    arrived: Vec<Flow>,
    app: (u64, u64),
    wire: (u64, u64),
    unseen: u64,
    complaints: Vec<String>,
}

impl<'a> Judge<'a> {
    fn new(done: &'a Done, records: &'a [Value], arrivals: &Arrivals) -> Self {
        let scenario = done.scenario;
        let pids: BTreeSet<u64> = done.senders.iter().map(|sender| sender.pid).collect();
        // All that goes to its address, whoever it is told of; and all that its processes send, wherever to.
        let flows = of(records, "flow").filter(|flow| {
            let ours = number(flow, "process.pid").is_some_and(|pid| pids.contains(&pid));
            ours || ip(flow, "destination.ip") == Some(done.address)
        });
        let here = if scenario.to == Target::Loopback {
            &arrivals.source
        } else {
            &arrivals.sink
        };
        let mut arrived: Vec<Flow> = here
            .since(&done.before)
            .0
            .into_iter()
            .filter(|flow| flow.to == done.address)
            .collect();
        if scenario.both {
            let back = arrivals.source.0.iter();
            arrived.extend(
                back.filter(|flow| flow.source.ip() == done.address)
                    .cloned(),
            );
        }
        Self {
            done,
            scenario,
            flows: flows.collect(),
            app: (done.senders.iter().map(|sender| sender.app_bytes).sum(), 0),
            wire: (total(&arrived).bytes, 0),
            arrived,
            unseen: 0,
            complaints: Vec::new(),
        }
    }

    fn expect(&mut self, holds: bool, complaint: impl FnOnce() -> String) {
        if !holds {
            self.complaints.push(complaint());
        }
    }

    /// Sums.
    fn totals(&mut self, arrivals: &Arrivals) {
        let told = sum(self.flows.iter().copied());
        (self.app.1, self.wire.1) = (told.app_bytes, told.wire_bytes);
        let (app, wire) = (self.app, self.wire);
        self.expect(app.0 == app.1, || {
            format!("{} app bytes told, of {}", app.1, app.0)
        });
        let virtually = self.scenario.to == Target::Vsock;
        self.expect(wire.0 > 0 || virtually, || {
            "nothing arrived: the scenario did not run".into()
        });
        let lost = self.scenario.lose > 0;
        self.expect(!lost || arrivals.retransmissions > 0, || {
            "nothing was sent twice".into()
        });
        let unseen = self.scenario.unseen;
        let missing = wire.0.checked_sub(wire.1);
        let owned = missing.filter(|missing| {
            *missing == 0
                || missing.is_multiple_of(unseen.bytes) && missing / unseen.bytes <= unseen.most
        });
        match owned {
            Some(owned) => self.unseen = owned,
            None => self
                .complaints
                .push(format!("{} wire bytes told, of {}", wire.1, wire.0)),
        }
    }

    /// Wire bytes of each socket: by source port and destination.
    fn ports(&mut self) {
        if self.unseen > 0 || self.scenario.nowhere {
            return;
        }
        let mut truth: BTreeMap<(IpAddr, u64, u64), u64> = BTreeMap::new();
        for flow in self.arrived.iter().filter(|flow| flow.source.port() != 0) {
            let key = (flow.to, flow.source.port().into(), flow.port.into());
            *truth.entry(key).or_default() += flow.arrived.bytes;
        }
        let listening = self.flows.iter().any(|flow| is_listening(flow));
        // A listener's SYN-ACKs are told of it, and arrive from the port of its children.
        if truth.is_empty() || listening {
            return;
        }
        let mut told: BTreeMap<(IpAddr, u64, u64), u64> = BTreeMap::new();
        let mut unknown = 0;
        for flow in &self.flows {
            let bytes = number(flow, "egress.wire_bytes").unwrap_or_default();
            let (source, port) = (
                number(flow, "source.port"),
                number(flow, "destination.port"),
            );
            match (ip(flow, "destination.ip"), source, port) {
                (Some(to), Some(source), Some(port)) => {
                    *told.entry((to, source, port)).or_default() += bytes;
                }
                _ => unknown += bytes,
            }
        }
        // Fragments after the first have no ports.
        let whole = self.arrived.iter().all(|flow| flow.source.port() != 0);
        if whole {
            told.retain(|_, bytes| *bytes > 0);
            let wrong = truth
                .iter()
                .filter(|(key, bytes)| told.get(key) != Some(bytes))
                .count();
            let extra = told.keys().filter(|key| !truth.contains_key(key)).count();
            let all = truth.len();
            self.expect(wrong == 0 && extra == 0 && unknown == 0, || {
                format!(
                    "wire bytes of {wrong} of {all} sockets are not those that arrived; {extra} are told that never \
                     sent; {unknown} bytes are told without both ends"
                )
            });
        }
    }

    /// Where the bytes went.
    fn destinations(&mut self) {
        let mut wanted: BTreeMap<(IpAddr, u16), u64> = BTreeMap::new();
        for (to, port, bytes) in self.done.senders.iter().flat_map(|sender| &sender.to) {
            *wanted.entry((*to, *port)).or_default() += bytes;
        }
        for ((to, port), bytes) in wanted {
            let there = self.flows.iter().copied().filter(|flow| {
                ip(flow, "destination.ip") == Some(to)
                    && number(flow, "destination.port") == Some(port.into())
            });
            let told = sum(there).app_bytes;
            self.expect(told == bytes, || {
                format!("{told} app bytes told to {to} port {port}, of {bytes}")
            });
        }
    }

    /// What is wrong with a flow of this process.
    fn flow(&self, flow: &Value, sender: &Sender) -> Option<String> {
        let scenario = self.scenario;
        let (_, user, executable) = self.identity(sender);
        let direction = sender.direction.as_deref().unwrap_or(scenario.direction);
        let listening = is_listening(flow) && direction == "accepted";
        let mut rules = vec![
            ("process.executable", executable.as_str()),
            ("user.id", &user),
        ];
        let attribution = sender.attribution.as_deref();
        match attribution.unwrap_or(scenario.attribution) {
            // Of some flows only: `holders` knows which.
            INHERITED => {}
            wanted => rules.push(("egress.attribution", wanted)),
        }
        if let Some(container) = &sender.container {
            rules.push(("container.id", container));
        }
        if !listening {
            rules.push(("egress.direction", direction));
        }
        if !scenario.transport.is_empty() {
            rules.push(("network.transport", scenario.transport));
        }
        let destination = at(flow, "destination.ip");
        let forth = sender.direction.is_none();
        if scenario.to == Target::Vsock || (destination.is_some() && forth) {
            rules.push(("egress.scope", scenario.to.scope()));
        }
        for (field, wanted) in rules {
            if text(flow, field) != Some(wanted) {
                return Some(format!(
                    "{field} is {:?}, not {wanted}: {}",
                    text(flow, field),
                    brief(flow)
                ));
            }
        }
        let parent = number(flow, "process.parent.pid");
        if sender.parent.is_some() && parent != sender.parent {
            return Some(format!(
                "process.parent.pid is {parent:?}, not {:?}: {}",
                sender.parent,
                brief(flow)
            ));
        }
        if listening || (scenario.nowhere && destination.is_none()) {
            return None;
        }
        // The server of a scenario sends to whatever port the client has.
        let port = number(flow, "destination.port").unwrap_or_default();
        let port_fits =
            !sender.to.is_empty() || direction == "accepted" || port == u64::from(scenario.port);
        let fits = ip(flow, "destination.ip") == Some(self.done.address) && port_fits;
        let source = sender.source_port.filter(|_| sender.to.is_empty());
        // An MPTCP socket has no port of its own: its subflows have.
        let port = number(flow, "source.port");
        let source_fits = source.is_none() || port.is_none() || port == source;
        (forth && !(fits && source_fits))
            .then(|| format!("another destination or port: {}", brief(flow)))
    }
}

fn is_listening(flow: &Value) -> bool {
    text(flow, "egress.direction") == Some("listening")
}

fn ip(flow: &Value, path: &str) -> Option<IpAddr> {
    text(flow, path)?.parse().ok()
}

/// A flow in a few words.
fn brief(flow: &Value) -> String {
    let bytes = sum([flow]);
    format!(
        "{}:{} to {}:{} ({}), {} app and {} wire bytes, {} packets",
        text(flow, "source.ip").unwrap_or("?"),
        number(flow, "source.port").unwrap_or_default(),
        text(flow, "destination.ip").unwrap_or("?"),
        number(flow, "destination.port").unwrap_or_default(),
        text(flow, "network.transport").unwrap_or("?"),
        bytes.app_bytes,
        bytes.wire_bytes,
        bytes.wire_packets,
    )
}

/// Whom the bytes were given to, in a few words.
fn attributed(flows: &[&Value]) -> String {
    let mut groups: BTreeMap<(String, &str, &str, &str), BTreeSet<&str>> = BTreeMap::new();
    for flow in flows {
        let executable = text(flow, "process.executable").unwrap_or("nobody");
        let name = executable
            .rsplit('/')
            .next()
            .unwrap_or(executable)
            .to_owned();
        let user = text(flow, "user.id").unwrap_or("?");
        let direction = text(flow, "egress.direction").unwrap_or("?");
        let container = text(flow, "container.id").unwrap_or_default();
        let group = (name, user, container, direction);
        let processes = groups.entry(group).or_default();
        processes.extend(text(flow, "process.entity_id"));
    }
    let shown = groups.into_iter().map(|(group, processes)| {
        let (name, user, container, direction) = group;
        let many = if processes.len() > 1 {
            format!(" ({} processes)", processes.len())
        } else {
            String::new()
        };
        let container = match container.get(..12) {
            Some(short) => format!(", container {short}"),
            None => String::new(),
        };
        format!("{name}{many}, uid {user}{container}, {direction}")
    });
    shown.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
