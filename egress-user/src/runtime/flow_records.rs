//! Gathers what flows gain, so that each is told once in an interval and once at its end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{BootTime, Flow, FlowId};

/// Flows that wait to be told.
pub struct FlowRecords {
    interval: u64,
    waiting: HashMap<FlowId, Flow>,
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
        let who = |flow: &Flow| {
            let process = flow.process.as_ref();
            process.map(|process| (process.key, process.identity))
        };
        if let Some(waiting) = self.waiting.get(&id)
            && (who(waiting) != who(flow) || waiting.attribution != flow.attribution)
            && let Some(waiting) = self.waiting.remove(&id)
        {
            tell(Arc::new(waiting));
        }
        let ends = flow.delta.closed.is_some();
        match self.waiting.get_mut(&id) {
            Some(waiting) => merge(waiting, flow),
            None if ends => return tell(Arc::clone(flow)),
            None => {
                self.due
                    .push_back((flow.delta.last.saturating_add(self.interval), id));
                self.waiting.insert(id, Flow::clone(flow));
            }
        }
        if ends && let Some(waiting) = self.waiting.remove(&id) {
            tell(Arc::new(waiting));
        }
    }

    /// Hands on what is due; everything, at the end.
    pub fn flush(&mut self, now: Option<BootTime>, mut tell: impl FnMut(Arc<Flow>)) {
        while let Some((due, id)) = self.due.front().copied()
            && now.is_none_or(|now| due <= now)
        {
            self.due.pop_front();
            // Not there: told at its end, or told and begun again, and then due again later.
            if self
                .waiting
                .get(&id)
                .is_some_and(|waiting| now.is_none_or(|now| waiting.delta.first <= now))
                && let Some(waiting) = self.waiting.remove(&id)
            {
                tell(Arc::new(waiting));
            }
        }
    }
}

/// Adds the figures of `new`, and takes over what became known.
fn merge(waiting: &mut Flow, new: &Flow) {
    let (old, gained) = (&mut waiting.delta, &new.delta);
    let sums = (
        old.app_bytes + gained.app_bytes,
        old.app_calls + gained.app_calls,
        old.wire_bytes + gained.wire_bytes,
        old.wire_packets + gained.wire_packets,
        old.rx_bytes + gained.rx_bytes,
    );
    *waiting = new.clone();
    let delta = &mut waiting.delta;
    (
        delta.app_bytes,
        delta.app_calls,
        delta.wire_bytes,
        delta.wire_packets,
        delta.rx_bytes,
    ) = sums;
}
