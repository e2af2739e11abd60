//! Each rule of attribution, and the conservation of bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Attribution, HELD_MAX};
use crate::config::{Limits, Networks};
use crate::lineage::Lineage;
use crate::lineage::tests::{SECOND, cut, exec, key};
use crate::model::{
    Attribution as Quality, Direction, Event, Flow, FlowDelta, FlowId, KernelTotals, Observation,
    Origin, ProcessKey, Reason, Scope, SocketOwner, Text, Transport,
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
        cgroup_id: 1,
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
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            lineage: Lineage::offline(&Limits::default()),
            attribution: Attribution::new(&Networks::default()),
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

#[test]
fn a_claimed_flow_is_exact_and_has_everything() {
    let mut world = World::new();
    let flow = one(world.flow(delta(1, Some(2))));
    assert_eq!(who(&flow), (Some(2), Quality::Exact));
    assert_eq!(flow.job.as_ref().unwrap().executable, Text::from("/bin/2"));
    assert_eq!(flow.destination.as_ref().unwrap().scope, Scope::Public);
    assert_eq!(world.ledger(Reason::Kernel), (100, 0, 0));
}

#[test]
fn a_second_process_on_a_socket_has_inherited_it() {
    let mut world = World::new();
    let same = |id, owner| FlowDelta {
        cookie: 7,
        ..delta(id, Some(owner))
    };
    assert_eq!(one(world.flow(same(1, 2))).attribution, Quality::Exact);
    assert_eq!(one(world.flow(same(2, 3))).attribution, Quality::Inherited);
    assert_eq!(one(world.flow(same(1, 2))).attribution, Quality::Exact);
    // Without a cookie sockets cannot be told apart.
    let none = |id, owner| FlowDelta {
        cookie: 0,
        ..delta(id, Some(owner))
    };
    assert_eq!(one(world.flow(none(3, 2))).attribution, Quality::Exact);
    assert_eq!(one(world.flow(none(4, 3))).attribution, Quality::Exact);
}

#[test]
fn a_socket_from_before_us_is_exact_only_for_its_one_holder() {
    let mut world = World::new();
    world.held_before(socket(1, 2, 1));
    world.held_before(socket(2, 2, 1));
    world.held_before(socket(3, 2, 2));
    let of = |cookie, owner| FlowDelta {
        cookie,
        ..delta(cookie * 10 + u64::from(owner), Some(owner))
    };
    assert_eq!(
        one(world.flow(of(1, 2))).attribution,
        Quality::Exact,
        "by whichever key"
    );
    assert_eq!(one(world.flow(of(2, 3))).attribution, Quality::Inherited);
    assert_eq!(one(world.flow(of(3, 2))).attribution, Quality::Inherited);
}

#[test]
fn what_the_kernel_told_of_a_socket_is_better_than_the_diagnostics() {
    let mut world = World::new();
    one(world.flow(FlowDelta {
        cookie: 9,
        ..delta(1, Some(2))
    }));
    world.held_before(socket(9, 3, 1));
    assert_eq!(
        one(world.flow(FlowDelta {
            cookie: 9,
            ..delta(1, Some(2))
        }))
        .attribution,
        Quality::Exact
    );
}

#[test]
fn bytes_wait_for_the_claim_that_follows() {
    let mut world = World::new();
    assert!(
        world
            .flow(FlowDelta {
                app_bytes: 0,
                app_calls: 0,
                ..delta(1, None)
            })
            .is_empty()
    );
    assert_eq!(world.ledger(Reason::Kernel), (0, 100, 0));
    assert!(world.flow(delta(1, None)).is_empty());
    assert_eq!(world.attribution.stats().held, 1);
    let flow = one(world.flow(delta(1, Some(2))));
    assert_eq!(who(&flow), (Some(2), Quality::Exact));
    assert_eq!((flow.delta.wire_bytes, flow.delta.wire_packets), (300, 6));
    assert_eq!(
        (
            flow.delta.app_bytes,
            flow.delta.app_calls,
            flow.delta.rx_bytes
        ),
        (20, 2, 15)
    );
    assert!(flow.delta.first < flow.delta.last || flow.delta.last == 0);
    assert_eq!(world.ledger(Reason::Kernel), (300, 0, 0));
    assert!(world.wait(2).is_empty(), "nothing is told twice");
}

#[test]
fn bytes_that_nobody_claims_are_the_kernel_s_and_a_place_is_final() {
    let mut world = World::new();
    assert!(world.flow(delta(1, None)).is_empty());
    assert!(world.wait(0).is_empty());
    let flow = one(world.wait(1));
    assert_eq!(who(&flow), (None, Quality::None(Reason::Kernel)));
    assert!(flow.job.is_none() && flow.destination.is_some());
    assert_eq!(world.ledger(Reason::Kernel), (0, 0, 100));
    // It does not wait again,
    assert_eq!(
        one(world.flow(delta(1, None))).attribution,
        Quality::None(Reason::Kernel)
    );
    // and a late claim holds for late bytes.
    assert_eq!(
        one(world.flow(delta(1, Some(2)))).attribution,
        Quality::Exact
    );
    assert_eq!(world.ledger(Reason::Kernel), (100, 0, 200));
}

#[test]
fn a_closed_flow_does_not_wait() {
    let mut world = World::new();
    world.flow(delta(1, None));
    let flow = one(world.flow(FlowDelta {
        closed: Some(5),
        ..delta(1, None)
    }));
    assert_eq!(
        (flow.delta.wire_bytes, flow.attribution),
        (200, Quality::None(Reason::Kernel))
    );
}

#[test]
fn an_unclaimed_flow_of_a_known_socket_is_its_user_s() {
    let mut world = World::new();
    world.held_before(socket(7, 2, 1));
    world.flow(FlowDelta {
        cookie: 7,
        ..delta(1, None)
    });
    assert_eq!(who(&one(world.wait(1))), (Some(2), Quality::Inferred));
    // Another flow of a socket that was used: a new destination of a UDP socket.
    one(world.flow(FlowDelta {
        cookie: 8,
        ..delta(2, Some(3))
    }));
    world.flow(FlowDelta {
        cookie: 8,
        ..delta(3, None)
    });
    assert_eq!(who(&one(world.wait(1))), (Some(3), Quality::Inferred));
    // No cookie is no socket.
    one(world.flow(FlowDelta {
        cookie: 0,
        ..delta(4, Some(3))
    }));
    world.flow(FlowDelta {
        cookie: 0,
        remote: None,
        ..delta(5, None)
    });
    assert_eq!(who(&one(world.wait(1))).0, None);
}

#[test]
fn an_accepted_connection_without_io_is_its_listener_s() {
    let mut world = World::new();
    let listener = SocketOwner {
        listening: true,
        local: address("0.0.0.0:80"),
        ..socket(50, 2, 1)
    };
    world.held_before(listener);
    let local = Some(address("192.0.2.1:80"));
    let accepted = |id| FlowDelta {
        local,
        direction: Direction::Accepted,
        ..delta(id, None)
    };
    let mut placed = |delta| {
        world.flow(delta);
        who(&one(world.wait(1)))
    };
    assert_eq!(placed(accepted(1)), (Some(2), Quality::Inferred));
    assert_eq!(
        placed(FlowDelta {
            direction: Direction::Unknown,
            ..accepted(2)
        })
        .0,
        Some(2)
    );
    assert_eq!(
        placed(FlowDelta {
            direction: Direction::Initiated,
            ..accepted(3)
        })
        .0,
        None
    );
    assert_eq!(
        placed(FlowDelta {
            netns: 2,
            ..accepted(4)
        })
        .0,
        None
    );
    assert_eq!(
        placed(FlowDelta {
            transport: Transport::UDP,
            ..accepted(5)
        })
        .0,
        None
    );
    // A listener of our own time.
    let listening = FlowDelta {
        local: Some(address("[::]:81")),
        remote: None,
        direction: Direction::Listening,
        ..delta(6, Some(3))
    };
    assert_eq!(
        one(world.flow(listening.clone())).attribution,
        Quality::Exact
    );
    let accepted = |id| FlowDelta {
        local: Some(address("192.0.2.1:81")),
        direction: Direction::Accepted,
        ..delta(id, None)
    };
    world.flow(accepted(7));
    assert_eq!(who(&one(world.wait(1))), (Some(3), Quality::Inferred));
    // It ends: whatever comes to that port now is not its.
    world.tell(Event::Exit {
        process: key(3),
        code: 0,
    });
    world.flow(accepted(8));
    assert_eq!(who(&one(world.wait(1))).0, None);
}

#[test]
fn the_kernel_answers_for_a_closed_connection_until_a_minute_later() {
    let mut world = World::new();
    one(world.flow(FlowDelta {
        closed: Some(5),
        ..delta(1, Some(2))
    }));
    // Through a socket of its own, in v4-mapped notation.
    let answer = |id| FlowDelta {
        cookie: 99,
        local: Some(address("[::ffff:192.0.2.1]:40000")),
        direction: Direction::Unknown,
        ..delta(id, None)
    };
    world.flow(answer(2));
    assert_eq!(who(&one(world.wait(1))), (Some(2), Quality::Inferred));
    world.flow(FlowDelta {
        remote: Some(address("198.51.100.8:443")),
        cookie: 98,
        ..answer(3)
    });
    assert_eq!(who(&one(world.wait(1))).0, None);
    world.flow(FlowDelta {
        netns: 2,
        cookie: 97,
        ..answer(4)
    });
    assert_eq!(who(&one(world.wait(1))).0, None);
    world.wait(60);
    world.flow(FlowDelta {
        cookie: 96,
        ..answer(5)
    });
    assert_eq!(who(&one(world.wait(1))).0, None);
    assert_eq!(world.attribution.stats().closed, 0);
}

#[test]
fn the_answer_may_be_told_before_the_close() {
    let mut world = World::new();
    one(world.flow(delta(1, Some(2))));
    world.flow(FlowDelta {
        cookie: 99,
        direction: Direction::Unknown,
        ..delta(2, None)
    });
    one(world.flow(FlowDelta {
        closed: Some(5),
        ..delta(1, Some(2))
    }));
    assert_eq!(who(&one(world.wait(1))), (Some(2), Quality::Inferred));
}

#[test]
fn nobody_s_sockets_from_before_us() {
    let mut world = World::new();
    let old = |id| FlowDelta {
        first: 1,
        ..delta(id, None)
    };
    let mut reason = |delta| {
        world.flow(delta);
        one(world.wait(1)).attribution
    };
    assert_eq!(reason(old(1)), Quality::None(Reason::BeforeStart));
    assert_eq!(
        reason(FlowDelta {
            transport: Transport::UDP,
            ..old(2)
        }),
        Quality::None(Reason::BeforeStart)
    );
    assert_eq!(
        reason(FlowDelta {
            transport: Transport::ICMP,
            ..old(3)
        }),
        Quality::None(Reason::Kernel)
    );
    assert_eq!(reason(delta(4, None)), Quality::None(Reason::Kernel));
    // The diagnostics knew the socket, but nobody who holds it.
    world.held_before(SocketOwner {
        process: ProcessKey::default(),
        ..socket(70, 0, 0)
    });
    world.flow(FlowDelta {
        cookie: 70,
        ..delta(5, None)
    });
    assert_eq!(
        one(world.wait(1)).attribution,
        Quality::None(Reason::BeforeStart)
    );
    assert_eq!(world.ledger(Reason::BeforeStart), (0, 0, 300));
}

#[test]
fn an_owner_without_records_is_made_from_the_flow() {
    let mut world = World::new();
    let flow = one(world.flow(delta(1, Some(77))));
    let process = flow.process.as_ref().unwrap();
    assert_eq!(
        (
            process.key,
            process.name.to_string().as_str(),
            process.identity.uid
        ),
        (key(77), "comm", 33)
    );
    assert_eq!(flow.attribution, Quality::Exact);
    assert!(flow.job.is_some());
    // Also one that only the diagnostics know, by the key of /proc.
    world.held_before(socket(5, 88, 1));
    world.flow(FlowDelta {
        cookie: 5,
        ..delta(2, None)
    });
    assert_eq!(who(&one(world.wait(1))), (Some(88), Quality::Inferred));
    assert_eq!(
        one(world.flow(FlowDelta {
            cookie: 5,
            ..delta(2, Some(88))
        }))
        .attribution,
        Quality::Exact
    );
    world.tell(Event::Exec(Box::new(crate::model::Exec {
        origin: Origin::Kernel,
        ..exec(88, "/bin/88", &[])
    })));
    assert_eq!(
        world.lineage.process(cut(key(88))).unwrap().executable.path,
        Text::from("/bin/88")
    );
}

#[test]
fn a_flow_without_address_has_no_destination() {
    let mut world = World::new();
    assert!(
        one(world.flow(FlowDelta {
            remote: None,
            ..delta(1, Some(2))
        }))
        .destination
        .is_none()
    );
    let nowhere = FlowDelta {
        remote: Some(address("0.0.0.0:0")),
        ..delta(2, Some(2))
    };
    assert!(one(world.flow(nowhere)).destination.is_none());
}

#[test]
fn waiting_is_bounded_and_ends_with_the_run() {
    let mut world = World::new();
    let mut placed = 0;
    for id in 0..HELD_MAX as u64 + 100 {
        placed += world.flow(delta(id, None)).len();
    }
    assert_eq!(
        (placed, world.attribution.stats().released_early),
        (100, 100)
    );
    assert_eq!(world.attribution.stats().held, HELD_MAX);
    world.attribution.finish(world.now, &mut world.lineage);
    while world.attribution.next_flow().is_some() {
        placed += 1;
    }
    assert_eq!(placed, HELD_MAX + 100);
    assert_eq!(world.ledger(Reason::Kernel).1, 0);
}

#[test]
fn flows_are_not_lost_on_a_caller_that_takes_one_at_a_time() {
    let mut world = World::new();
    for id in 0..50 {
        assert!(world.flow(delta(id, None)).is_empty());
    }
    world.now += 2 * SECOND;
    let mut taken = 0;
    for _ in 0..60 {
        world.now += 1;
        let tick = Observation {
            at: world.now,
            event: Event::Tick,
        };
        taken += usize::from(
            world
                .attribution
                .observe(&tick, &mut world.lineage)
                .is_some(),
        );
    }
    assert_eq!((taken, world.attribution.stats().ready), (50, 0));
}

#[test]
fn too_small_a_total_is_told() {
    let mut world = World::new();
    one(world.flow(delta(1, Some(2))));
    let (wire, app) = world.attribution.settle(KernelTotals {
        wire_total: 60,
        app_total: 10,
        ..KernelTotals::default()
    });
    assert!(wire.balances() && app.balances());
    let stats = world.attribution.stats();
    assert_eq!(
        (
            stats.overbooked,
            stats.overbooked_wire_bytes,
            stats.overbooked_app_bytes
        ),
        (1, 40, 0)
    );
}

proptest! {
    /// Every byte has one place, at any moment, whatever comes in which order.
    #[test]
    fn bytes_are_conserved(
        events in prop::collection::vec((0..8_u8, 0..6_u64, 0..4_u64, 0..5_u32, 0..10_000_u64, 0..10_000_u64), 0..300),
    ) {
        let mut world = World::new();
        let (mut wire_told, mut app_told) = (0, 0);
        let (mut wire_before, mut app_before) = (0, 0);
        let mut told = |flows: Vec<Arc<Flow>>| {
            for flow in flows {
                wire_told += flow.delta.wire_bytes;
                app_told += flow.delta.app_bytes;
            }
        };
        for (kind, id, cookie, tgid, wire_bytes, app_bytes) in events {
            let moved = FlowDelta { cookie, app_bytes, wire_bytes, ..delta(id, None) };
            match kind {
                0 => told(world.flow(FlowDelta { owner: Some(key(tgid)), ..moved })),
                1 => told(world.flow(FlowDelta { direction: Direction::Accepted, ..moved })),
                2 => told(world.flow(FlowDelta { closed: Some(1), ..moved })),
                3 => told(world.flow(FlowDelta { closed: Some(1), owner: Some(key(tgid)), ..moved })),
                4 => told(world.tell(Event::SocketOwner(SocketOwner {
                    listening: tgid % 2 == 0,
                    ..socket(cookie, tgid, tgid)
                }))),
                5 => told(world.wait(id / 2)),
                6 => {
                    // Moved, and not read yet; or without a place in the kernel.
                    world.totals.wire_total += wire_bytes;
                    world.totals.app_total += app_bytes;
                    if id % 2 == 0 {
                        world.totals.wire_no_slot += wire_bytes;
                        world.totals.app_no_storage += app_bytes;
                    }
                }
                _ => told(world.flow(moved)),
            }
            let (wire, app) = world.attribution.settle(world.totals);
            prop_assert!(wire.balances() && app.balances());
            prop_assert_eq!((wire.total, app.total), (world.totals.wire_total, world.totals.app_total));
            prop_assert!(wire.attributed >= wire_before && app.attributed >= app_before);
            (wire_before, app_before) = (wire.attributed, app.attributed);
        }
        world.attribution.finish(world.now, &mut world.lineage);
        told(std::iter::from_fn(|| world.attribution.next_flow()).collect());
        let (wire, app) = world.attribution.settle(world.totals);
        let placed = |ledger: &crate::model::Ledger| {
            let by_kernel = ledger.unattributed[&Reason::NoSlot] + ledger.unattributed[&Reason::NoStorage];
            ledger.total - ledger.unattributed[&Reason::InFlight] - by_kernel
        };
        prop_assert_eq!((placed(&wire), placed(&app)), (wire_told, app_told), "as told in flows");
        prop_assert_eq!(world.attribution.stats().overbooked, 0);
        prop_assert_eq!(world.attribution.stats().held, 0);
    }
}
