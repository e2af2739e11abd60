//! What went into files whose writers are forgotten: a file written at 02:00 may be sent at 03:00.
//!
//! When a process that wrote something ends, its sources are worked out while everybody is still remembered, and
//! kept here for a day.

use std::collections::{HashMap, VecDeque};

use super::files::{FILE_AGE_NS, Read};
use crate::model::{BootTime, ProcessKey};

/// The sources of a writer when it ended.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    /// Who read what.
    pub(super) reads: Box<[(ProcessKey, Read)]>,
    /// Whether that is all.
    pub(super) complete: bool,
}

/// Sources by writer.
pub(super) struct Staging {
    frozen: HashMap<ProcessKey, Frozen>,
    queue: VecDeque<(BootTime, ProcessKey)>,
    /// Reads in all of `frozen`.
    reads: usize,
    limit: usize,
    /// Forgotten because the room was needed.
    pub(super) evicted: u64,
}

impl Staging {
    /// `limit`: reads kept.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            frozen: HashMap::new(),
            queue: VecDeque::new(),
            reads: 0,
            limit,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.frozen.len()
    }

    pub(super) fn get(&self, writer: ProcessKey) -> Option<&Frozen> {
        self.frozen.get(&writer)
    }

    pub(super) fn keep(&mut self, writer: ProcessKey, frozen: Frozen, at: BootTime) {
        // A writer without sources takes room as well.
        self.reads += frozen.reads.len() + 1;
        if let Some(before) = self.frozen.insert(writer, frozen) {
            self.reads -= before.reads.len() + 1;
        } else {
            self.queue.push_back((at, writer));
        }
        while self.reads > self.limit && self.pop() {
            self.evicted += 1;
        }
    }

    pub(super) fn age(&mut self, now: BootTime) {
        while let Some((at, _)) = self.queue.front()
            && at.saturating_add(FILE_AGE_NS) <= now
        {
            self.pop();
        }
    }

    fn pop(&mut self) -> bool {
        let Some((_, writer)) = self.queue.pop_front() else {
            return false;
        };
        if let Some(frozen) = self.frozen.remove(&writer) {
            self.reads -= frozen.reads.len() + 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Frozen, Staging};
    use crate::lineage::files::{FILE_AGE_NS, Read};
    use crate::model::{FileId, ProcessKey};

    fn frozen(reads: usize) -> Frozen {
        let read = Read {
            id: FileId::default(),
            name: 0,
            first: 0,
            last: 0,
        };
        Frozen {
            reads: vec![(ProcessKey::default(), read); reads].into(),
            complete: true,
        }
    }

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start_ns: 1 }
    }

    #[test]
    fn is_bounded_by_reads_and_by_age() {
        let mut staging = Staging::new(100);
        for tgid in 0..50 {
            staging.keep(key(tgid), frozen(9), u64::from(tgid));
        }
        assert_eq!(
            (staging.len(), staging.reads, staging.evicted),
            (10, 100, 40)
        );
        assert!(staging.get(key(39)).is_none() && staging.get(key(40)).is_some());
        staging.keep(key(49), frozen(4), 49);
        assert_eq!((staging.len(), staging.reads), (10, 95));
        staging.age(FILE_AGE_NS + 44);
        assert_eq!((staging.len(), staging.evicted), (5, 40));
        staging.age(u64::MAX);
        assert_eq!((staging.len(), staging.reads), (0, 0));
    }
}
