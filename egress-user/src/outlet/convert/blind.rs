//! Blind spots in use: a record of one, and a health record's list.

use super::{Document, bare};
use crate::model::{BlindUse, BootTime, Health};
use crate::outlet::ecs;
use crate::outlet::host::Host;

impl<'a> Document<'a> {
    pub(super) fn blind_spot(at: BootTime, using: &'a BlindUse, host: &'a Host) -> Self {
        let mut document = Self::of(host, at, "blind_spot", &["host"], &["info"]);
        document.process = Some(bare(using.process));
        document.egress.netns = Some(using.netns).filter(|netns| *netns != 0);
        document.egress.blind_spot = Some(ecs::BlindSpot {
            kind: using.kind.name(),
            operation: &using.operation,
            why: using.why,
        });
        document
    }
}

/// The kinds that were used.
pub(super) fn uses(health: &Health) -> Vec<ecs::BlindSpotUses> {
    let kinds = health.blind.iter();
    kinds
        .map(|(kind, uses)| ecs::BlindSpotUses {
            kind: kind.name(),
            uses: *uses,
        })
        .collect()
}
