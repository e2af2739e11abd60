//! Waiting, and the conservation of bytes.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::HELD_MAX;
use super::{World, delta, one, socket, who};
use crate::lineage::tests::{SECOND, key};
use crate::model::{
    Attribution as Quality, Direction, Event, Flow, FlowDelta, KernelTotals, Ledger, Observation,
    Reason, SocketOwner,
};

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
        let placed = |ledger: &Ledger| {
            let by_kernel = ledger.unattributed[&Reason::NoSlot] + ledger.unattributed[&Reason::NoStorage];
            ledger.total - ledger.unattributed[&Reason::InFlight] - by_kernel
        };
        prop_assert_eq!((placed(&wire), placed(&app)), (wire_told, app_told), "as told in flows");
        prop_assert_eq!(world.attribution.stats().overbooked, 0);
        prop_assert_eq!(world.attribution.stats().held, 0);
    }
}
