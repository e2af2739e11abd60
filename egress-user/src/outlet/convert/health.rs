//! The daemon's own records: how it does, and what it missed.

use super::{Document, blind, interfaces, time};
use crate::model::{Events, Gap, Health, HookStatus, Ledger, LostDetail, OutletBooks, Reason};
use crate::outlet::ecs;
use crate::outlet::host::Host;
use crate::outlet::words::{coverage, hook_state};

impl<'a> Document<'a> {
    pub(super) fn health(health: &'a Health, host: &'a Host) -> Self {
        let mut document = Self::of(host, health.at, "health", &["host"], &["info"]);
        let egress = &mut document.egress;
        egress.coverage = Some(coverage(health.coverage));
        egress.ledger = Some(ecs::Ledgers {
            wire: ledger(&health.wire_bytes),
            app: ledger(&health.app_bytes),
        });
        egress.interfaces = health.interfaces.as_ref().map(interfaces::interfaces);
        egress.hooks = health.hooks.iter().map(hook).collect();
        egress.lost = health.lost.iter().map(lost).collect();
        egress.blind_spots = blind::uses(health);
        egress.events = health.events.iter().copied().map(events).collect();
        egress.outlets = health.outlets.iter().copied().map(outlet).collect();
        egress.started = Some(time(host, health.started));
        egress.counting_since = Some(time(host, health.attached));
        egress.live_flows = Some(health.live_flows);
        egress.live_processes = Some(health.live_processes);
        egress.live_names = Some(health.live_names);
        document
    }

    pub(super) fn gap(gap: &'a Gap, host: &'a Host) -> Self {
        let mut document = Self::of(host, gap.end, "gap", &["host"], &["info"]);
        document.event.start = Some(time(host, gap.start));
        document.event.end = Some(time(host, gap.end));
        document.egress.gap = Some(ecs::Gap {
            reason: gap.reason.name(),
            seconds: seconds(gap.end.saturating_sub(gap.start)),
            blind_seconds: seconds(gap.blind_ns),
            missing: gap.missing.clone(),
        });
        document.egress.lost = gap.lost.iter().map(lost).collect();
        document
    }
}

fn ledger(ledger: &Ledger) -> ecs::Ledger {
    let bytes = |reason| {
        ledger
            .unattributed
            .get(&reason)
            .copied()
            .unwrap_or_default()
    };
    ecs::Ledger {
        total: ledger.total,
        attributed: ledger.attributed,
        unattributed: Reason::ALL
            .into_iter()
            .map(|reason| (reason.name(), bytes(reason)))
            .collect(),
    }
}

fn hook(hook: &HookStatus) -> ecs::Hook<'_> {
    ecs::Hook {
        hook: hook.hook,
        method: &hook.method,
        state: hook_state(hook.state),
        reason: hook.reason.as_deref(),
        gives: hook.gives,
    }
}

fn lost(lost: &LostDetail) -> ecs::Lost {
    ecs::Lost {
        kind: lost.kind,
        cause: lost.cause,
        count: lost.count,
    }
}

/// A duration in seconds, to the nanosecond.
fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

fn events(events: Events) -> ecs::Events {
    ecs::Events {
        kind: events.kind,
        seen: events.seen,
        told: events.told,
        repeated: events.repeated,
        filtered: events.filtered,
        lost: events.lost,
    }
}

fn outlet(books: OutletBooks) -> ecs::OutletBooks {
    ecs::OutletBooks {
        outlet: books.outlet,
        record: books.record,
        given: books.given,
        lost: books.lost,
        lost_app_bytes: books.lost_app_bytes,
        lost_wire_bytes: books.lost_wire_bytes,
    }
}
