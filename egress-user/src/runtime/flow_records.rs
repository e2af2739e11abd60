//! Gathers what flows gain, so that each is told once in an interval and once at its end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::waiting::Waiting;
use crate::model::{BootTime, Flow, FlowId};

/// Flows that wait, at most: 7/8 of a power of two, as full as a hash table gets. Beyond it, the next to be due is told early.
const WAITING_MAX: usize = 114_688;
/// Room for this many flows is kept, needed or not.
const SPARE: usize = 8192;

/// Flows that wait to be told.
pub struct FlowRecords {
    interval: u64,
    waiting: HashMap<FlowId, Waiting>,
    /// In the order in which they are due: the interval is the same for all.
    due: VecDeque<(BootTime, FlowId)>,
}

impl FlowRecords {
    /// Tells each flow at most once in `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            interval: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
            waiting: HashMap::new(),
            due: VecDeque::new(),
        }
    }

    /// Takes what a flow gained; hands on what has to be told now.
    pub fn add(&mut self, flow: &Arc<Flow>, mut tell: impl FnMut(Arc<Flow>)) {
        let id = flow.delta.id;
        // A record is about one process: when a flow's owner becomes known, what was told so far stays with nobody; when
        // somebody logs in, it stays with who acted until then.
        if let Some(waiting) = self.waiting.get(&id)
            && (waiting.acts()
                != flow
                    .process
                    .as_ref()
                    .map(|process| (process.key, process.identity))
                || waiting.attribution() != flow.attribution)
            && let Some(waiting) = self.waiting.remove(&id)
        {
            tell(Arc::new(waiting.into_flow(id)));
        }
        let ends = flow.delta.closed.is_some();
        match self.waiting.get_mut(&id) {
            Some(waiting) => waiting.merge(flow),
            None if ends => return tell(Arc::clone(flow)),
            None => {
                self.due
                    .push_back((flow.delta.last.saturating_add(self.interval), id));
                self.waiting.insert(id, Waiting::of(flow));
            }
        }
        if ends && let Some(waiting) = self.waiting.remove(&id) {
            tell(Arc::new(waiting.into_flow(id)));
        }
        while self.waiting.len() >= WAITING_MAX
            && let Some((_, id)) = self.due.pop_front()
        {
            if let Some(waiting) = self.waiting.remove(&id) {
                tell(Arc::new(waiting.into_flow(id)));
            }
        }
        if self.due.len() > 2 * WAITING_MAX {
            // Most of these were told at their end.
            let waiting = &self.waiting;
            self.due.retain(|(_, id)| waiting.contains_key(id));
        }
    }

    /// Hands on what is due; everything, at the end. Room that a flood took is given back.
    pub fn flush(&mut self, now: Option<BootTime>, mut tell: impl FnMut(Arc<Flow>)) {
        while let Some((due, id)) = self.due.front().copied()
            && now.is_none_or(|now| due <= now)
        {
            self.due.pop_front();
            // Not there: told at its end, or told and begun again, and then due again later.
            if self
                .waiting
                .get(&id)
                .is_some_and(|waiting| now.is_none_or(|now| waiting.first() <= now))
                && let Some(waiting) = self.waiting.remove(&id)
            {
                tell(Arc::new(waiting.into_flow(id)));
            }
        }
        if self.waiting.capacity() > SPARE.max(4 * self.waiting.len()) {
            self.waiting.shrink_to(2 * self.waiting.len());
            self.due.shrink_to(2 * self.due.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{FlowRecords, WAITING_MAX};
    use crate::model::{Flow, FlowId, Record};
    use crate::outlet::samples;

    fn flow(id: u64, closed: bool) -> Arc<Flow> {
        let Record::Flow(flow) = samples::flow() else {
            unreachable!("a flow")
        };
        let mut flow = Flow::clone(&flow);
        flow.delta.id = FlowId(id);
        flow.delta.closed = closed.then_some(1);
        Arc::new(flow)
    }

    #[test]
    fn a_flood_of_flows_is_told_early_and_whole() {
        let mut records = FlowRecords::new(Duration::from_secs(10));
        let (mut told, mut bytes) = (0, 0);
        let mut tell = |flow: Arc<Flow>| {
            told += 1;
            bytes += flow.delta.app_bytes;
        };
        let one = flow(1, false).delta.app_bytes;
        let flows = 3 * WAITING_MAX as u64;
        for id in 0..flows {
            records.add(&flow(id, false), &mut tell);
            records.add(&flow(id, id % 3 == 0), &mut tell);
            assert!(records.waiting.len() < WAITING_MAX + 1);
            assert!(records.due.len() <= 2 * WAITING_MAX);
        }
        records.flush(None, &mut tell);
        assert_eq!((told, bytes), (flows, 2 * flows * one));
        assert!(records.waiting.capacity() <= super::SPARE);
    }
}
