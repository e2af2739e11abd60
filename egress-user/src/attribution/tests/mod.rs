//! Short ways to make flows.

mod ledger;
mod owners;

use std::net::SocketAddr;
use std::sync::Arc;

use super::Attribution;
use crate::config::{Limits, Networks};
use crate::lineage::Lineage;
use crate::lineage::tests::{SECOND, cut, exec, key};
use crate::model::{
    Attribution as Quality, Direction, Event, Flow, FlowDelta, FlowId, KernelTotals, Mark,
    Observation, Reason, SocketOwner, Text, Transport,
};

struct World {
    lineage: Lineage,
    attribution: Attribution,
    now: u64,
    totals: KernelTotals,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn delta(id: u64, owner: Option<u32>) -> FlowDelta {
    FlowDelta {
        id: FlowId(id),
        cookie: 1000 + id,
        owner: owner.map(key),
        owner_name: Text::from("comm"),
        owner_uid: owner.map(|_| 33),
        owner_gid: None,
        owner_login: None,
        owner_exec: owner.map(|_| 1),
        cgroup_id: 1,
        cgroup_path: Text::default(),
        netns: 1,
        local: Some(address("192.0.2.1:40000")),
        remote: Some(address("198.51.100.7:443")),
        transport: Transport::TCP,
        family: 2,
        direction: Direction::Initiated,
        first: 0,
        last: 0,
        closed: None,
        app_bytes: 10,
        app_calls: 1,
        wire_bytes: 100,
        wire_packets: 2,
        rx_bytes: 5,
        mark: Mark::default(),
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            lineage: Lineage::offline(&Limits::default()),
            attribution: Attribution::new(&Networks::default(), 1000),
            now: SECOND,
            totals: KernelTotals::default(),
        };
        for tgid in [2, 3] {
            world.tell(Event::Exec(Box::new(exec(
                tgid,
                &format!("/bin/{tgid}"),
                &[],
            ))));
        }
        world
    }

    fn tell(&mut self, event: Event) -> Vec<Arc<Flow>> {
        self.now += 1000;
        let observation = Observation {
            at: self.now,
            event,
        };
        self.lineage.observe(&observation);
        let first = self.attribution.observe(&observation, &mut self.lineage);
        first
            .into_iter()
            .chain(std::iter::from_fn(|| self.attribution.next_flow()))
            .collect()
    }

    /// A delta of a flow that begins now.
    fn flow(&mut self, mut delta: FlowDelta) -> Vec<Arc<Flow>> {
        self.totals.wire_total += delta.wire_bytes;
        self.totals.app_total += delta.app_bytes;
        if delta.first == 0 {
            delta.first = self.now + 1000;
        }
        self.tell(Event::Flow(delta))
    }

    fn wait(&mut self, seconds: u64) -> Vec<Arc<Flow>> {
        self.now += seconds * SECOND;
        self.tell(Event::Tick)
    }

    fn held_before(&mut self, owner: SocketOwner) {
        assert!(self.tell(Event::SocketOwner(owner)).is_empty());
    }

    /// Wire bytes: attributed, in flight, for this reason.
    fn ledger(&mut self, reason: Reason) -> (u64, u64, u64) {
        let (wire, app) = self.attribution.settle(self.totals);
        assert!(wire.balances() && app.balances());
        assert_eq!(
            (wire.total, app.total),
            (self.totals.wire_total, self.totals.app_total)
        );
        (
            wire.attributed,
            wire.unattributed[&Reason::InFlight],
            wire.unattributed[&reason],
        )
    }
}

fn socket(cookie: u64, tgid: u32, holders: u32) -> SocketOwner {
    SocketOwner {
        cookie,
        process: cut(key(tgid)),
        holders,
        local: address("192.0.2.1:40000"),
        remote: address("198.51.100.7:443"),
        protocol: 6,
        listening: false,
        netns: 1,
    }
}

#[track_caller]
fn one(flows: Vec<Arc<Flow>>) -> Arc<Flow> {
    assert_eq!(flows.len(), 1);
    flows.into_iter().next().unwrap()
}

fn who(flow: &Flow) -> (Option<u32>, Quality) {
    (flow.process.as_ref().map(|p| p.key.tgid), flow.attribution)
}
