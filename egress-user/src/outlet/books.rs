//! What became of the records of one outlet, by kind: what it was given is what it wrote and what it lost, also in bytes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::model::{OutletBooks, Record};

/// Kinds of record, as `event.action` names them.
const KINDS: [&str; 7] = [
    "flow",
    "exec",
    "file",
    "health",
    "alert",
    "blind_spot",
    "gap",
];

/// Counts of one outlet.
#[derive(Debug, Default)]
pub(super) struct Books([Book; KINDS.len()]);

#[derive(Debug, Default)]
struct Book {
    given: AtomicU64,
    lost: AtomicU64,
    lost_app_bytes: AtomicU64,
    lost_wire_bytes: AtomicU64,
}

impl Books {
    /// A record was handed to the outlet.
    pub(super) fn given(&self, record: &Record) {
        self.of(record).given.fetch_add(1, Relaxed);
    }

    /// One that was given did not get through.
    pub(super) fn lost(&self, record: &Record) {
        let book = self.of(record);
        book.lost.fetch_add(1, Relaxed);
        if let Record::Flow(flow) = record {
            book.lost_app_bytes.fetch_add(flow.delta.app_bytes, Relaxed);
            book.lost_wire_bytes
                .fetch_add(flow.delta.wire_bytes, Relaxed);
        }
    }

    /// As a health record tells them.
    pub(super) fn tell(&self, outlet: &'static str) -> impl Iterator<Item = OutletBooks> + '_ {
        KINDS
            .iter()
            .zip(&self.0)
            .map(move |(record, book)| OutletBooks {
                outlet,
                record,
                given: book.given.load(Relaxed),
                lost: book.lost.load(Relaxed),
                lost_app_bytes: book.lost_app_bytes.load(Relaxed),
                lost_wire_bytes: book.lost_wire_bytes.load(Relaxed),
            })
    }

    fn of(&self, record: &Record) -> &Book {
        let [flow, exec, file, health, alert, blind, gap] = &self.0;
        match record {
            Record::Flow(_) => flow,
            Record::Exec { .. } => exec,
            Record::File { .. } => file,
            Record::Health(_) => health,
            Record::Alert(_) | Record::HostAlert(_) => alert,
            Record::Blind { .. } => blind,
            Record::Gap(_) => gap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Books;
    use crate::model::Record;
    use crate::outlet::samples;

    #[test]
    fn lost_flows_leave_their_bytes() {
        let books = Books::default();
        let flow = samples::flow();
        let Record::Flow(inner) = &flow else {
            unreachable!("a flow")
        };
        for _ in 0..3 {
            books.given(&flow);
        }
        books.lost(&flow);
        books.given(&samples::alert());
        let told: Vec<_> = books.tell("jsonl").collect();
        let (flows, alerts) = (&told[0], &told[4]);
        assert_eq!((flows.record, flows.given, flows.lost), ("flow", 3, 1));
        assert_eq!(flows.lost_app_bytes, inner.delta.app_bytes);
        assert_eq!(flows.lost_wire_bytes, inner.delta.wire_bytes);
        assert_eq!((alerts.record, alerts.given, alerts.lost), ("alert", 1, 0));
    }
}
