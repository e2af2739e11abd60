//! The byte ledger.

use std::collections::BTreeMap;

use crate::model::{Ledger, Reason};

/// Bytes that have their place, since start. They only grow, and nothing moves from one place to another.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    attributed: u64,
    unattributed: BTreeMap<Reason, u64>,
}

impl Book {
    /// Bytes with a process.
    pub(super) fn attribute(&mut self, bytes: u64) {
        self.attributed = self.attributed.saturating_add(bytes);
    }

    /// Bytes without one.
    pub(super) fn reason(&mut self, reason: Reason, bytes: u64) {
        let place = self.unattributed.entry(reason).or_default();
        *place = place.saturating_add(bytes);
    }

    /// The ledger beside the kernel side's own `total` and the bytes that it `told` by reason. What has no place yet
    /// is in flight. Also returns by how much the places exceed the total, which should be 0: the total is read after
    /// the slots. The ledger's total is then the sum of its places, so that the books always balance.
    pub(super) fn settle(&self, total: u64, told: &[(Reason, u64)]) -> (Ledger, u64) {
        let mut unattributed: BTreeMap<Reason, u64> =
            Reason::ALL.iter().map(|reason| (*reason, 0)).collect();
        let mut room = u64::MAX - self.attributed;
        let placed = self
            .unattributed
            .iter()
            .map(|(reason, bytes)| (*reason, *bytes));
        for (reason, bytes) in placed.chain(told.iter().copied()) {
            let bytes = bytes.min(room);
            room -= bytes;
            *unattributed.entry(reason).or_default() += bytes;
        }
        let sum = u64::MAX - room;
        *unattributed.entry(Reason::InFlight).or_default() += total.saturating_sub(sum);
        let ledger = Ledger {
            total: total.max(sum),
            attributed: self.attributed,
            unattributed,
        };
        (ledger, sum.saturating_sub(total))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Book;
    use crate::model::Reason;

    #[test]
    fn what_has_no_place_is_in_flight() {
        let mut book = Book::default();
        book.attribute(100);
        book.reason(Reason::Kernel, 20);
        let (ledger, excess) = book.settle(150, &[(Reason::NoSlot, 10), (Reason::NoSocket, 5)]);
        assert!(ledger.balances());
        assert_eq!((ledger.total, ledger.attributed, excess), (150, 100, 0));
        let shown: Vec<_> = ledger.unattributed.into_iter().collect();
        assert_eq!(
            shown,
            [
                (Reason::NoSocket, 5),
                (Reason::Kernel, 20),
                (Reason::BeforeStart, 0),
                (Reason::NoSlot, 10),
                (Reason::NoStorage, 0),
                (Reason::InFlight, 15)
            ]
        );
    }

    #[test]
    fn more_places_than_bytes_is_told_and_still_balances() {
        let mut book = Book::default();
        book.attribute(100);
        let (ledger, excess) = book.settle(90, &[]);
        assert!(ledger.balances());
        assert_eq!((ledger.total, excess), (100, 10));
        assert_eq!(ledger.unattributed[&Reason::InFlight], 0);
    }

    proptest! {
        #[test]
        fn balances_for_any_numbers(total: u64, attributed: u64, parts in prop::collection::vec((0..6_usize, any::<u64>()), 0..8)) {
            let mut book = Book::default();
            book.attribute(attributed);
            book.attribute(1);
            let (placed, told) = parts.split_at(parts.len() / 2);
            for (reason, bytes) in placed {
                book.reason(Reason::ALL[*reason], *bytes);
            }
            let told: Vec<_> = told.iter().map(|(reason, bytes)| (Reason::ALL[*reason], *bytes)).collect();
            let (ledger, _) = book.settle(total, &told);
            let sum: u128 = ledger.unattributed.values().map(|b| u128::from(*b)).sum();
            prop_assert_eq!(u128::from(ledger.attributed) + sum, u128::from(ledger.total));
        }
    }
}
