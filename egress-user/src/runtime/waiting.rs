//! A flow that waits to be told, in a third of the room: what its process and destination say anyhow is not kept twice.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::model::{
    Attribution, BootTime, Destination, Direction, Flow, FlowDelta, FlowId, Identity, Job, Login,
    Mark, Process, ProcessKey, Transport,
};

/// See there.
pub(super) enum Waiting {
    /// The usual case.
    Compact(Compact),
    /// A flow without a process or an address, or of which either says something else.
    Whole(Box<Flow>),
}

/// A flow whose process is its owner, and whose destination is its remote end.
pub(super) struct Compact {
    process: Arc<Process>,
    job: Option<Arc<Job>>,
    destination: Arc<Destination>,
    figures: Figures,
    cookie: u64,
    cgroup_id: u64,
    first: BootTime,
    last: BootTime,
    netns: u32,
    owner_exec: Option<u32>,
    mark: Mark,
    /// Unspecified and port 0 when not known.
    local: ([u8; 16], u16),
    transport: Transport,
    family: u16,
    direction: Direction,
    attribution: Attribution,
}

/// What moved.
#[derive(Clone, Copy, Default)]
pub(super) struct Figures {
    app_bytes: u64,
    app_calls: u64,
    wire_bytes: u64,
    wire_packets: u64,
    rx_bytes: u64,
}

impl Figures {
    fn of(delta: &FlowDelta) -> Self {
        Self {
            app_bytes: delta.app_bytes,
            app_calls: delta.app_calls,
            wire_bytes: delta.wire_bytes,
            wire_packets: delta.wire_packets,
            rx_bytes: delta.rx_bytes,
        }
    }

    fn add(&mut self, other: Self) {
        for (sum, part) in [
            (&mut self.app_bytes, other.app_bytes),
            (&mut self.app_calls, other.app_calls),
            (&mut self.wire_bytes, other.wire_bytes),
            (&mut self.wire_packets, other.wire_packets),
            (&mut self.rx_bytes, other.rx_bytes),
        ] {
            *sum = sum.saturating_add(part);
        }
    }

    fn fill(self, delta: &mut FlowDelta) {
        delta.app_bytes = self.app_bytes;
        delta.app_calls = self.app_calls;
        delta.wire_bytes = self.wire_bytes;
        delta.wire_packets = self.wire_packets;
        delta.rx_bytes = self.rx_bytes;
    }
}

impl Waiting {
    /// Takes what is to wait.
    pub(super) fn of(flow: &Flow) -> Self {
        match Compact::of(flow) {
            Some(compact) => Self::Compact(compact),
            None => Self::Whole(Box::new(flow.clone())),
        }
    }

    /// Adds the figures of `new`, and takes over what became known.
    pub(super) fn merge(&mut self, new: &Flow) {
        let mut figures = match self {
            Self::Compact(compact) => compact.figures,
            Self::Whole(flow) => Figures::of(&flow.delta),
        };
        figures.add(Figures::of(&new.delta));
        *self = Self::of(new);
        match self {
            Self::Compact(compact) => compact.figures = figures,
            Self::Whole(flow) => figures.fill(&mut flow.delta),
        }
    }

    /// Whose it is, and as whom.
    pub(super) fn acts(&self) -> Option<(ProcessKey, Identity)> {
        let process = match self {
            Self::Compact(compact) => &compact.process,
            Self::Whole(flow) => flow.process.as_ref()?,
        };
        Some((process.key, process.identity))
    }

    /// How sure that is.
    pub(super) fn attribution(&self) -> Attribution {
        match self {
            Self::Compact(compact) => compact.attribution,
            Self::Whole(flow) => flow.attribution,
        }
    }

    /// When the flow began.
    pub(super) fn first(&self) -> BootTime {
        match self {
            Self::Compact(compact) => compact.first,
            Self::Whole(flow) => flow.delta.first,
        }
    }

    /// The flow, to be told.
    pub(super) fn into_flow(self, id: FlowId) -> Flow {
        match self {
            Self::Compact(compact) => compact.into_flow(id),
            Self::Whole(flow) => *flow,
        }
    }
}

/// Who logged in, of those whom a process acts for.
fn login(process: &Process) -> Login {
    Login {
        uid: process.identity.loginuid,
        session_id: process.identity.session_id,
    }
}

impl Compact {
    fn of(flow: &Flow) -> Option<Self> {
        let delta = &flow.delta;
        let (process, destination) = (flow.process.as_ref()?, flow.destination.as_ref()?);
        let same = delta.owner == Some(process.key)
            && delta.owner_uid == Some(process.identity.uid)
            && delta.owner_gid == Some(process.identity.gid)
            && delta.owner_login == Some(login(process))
            && delta.cgroup_path == process.cgroup_path
            && delta.owner_name == process.name
            && delta.remote == Some(SocketAddr::new(destination.ip, destination.port))
            && delta.closed.is_none();
        same.then(|| Self {
            process: Arc::clone(process),
            job: flow.job.clone(),
            destination: Arc::clone(destination),
            figures: Figures::of(delta),
            cookie: delta.cookie,
            cgroup_id: delta.cgroup_id,
            first: delta.first,
            last: delta.last,
            netns: delta.netns,
            owner_exec: delta.owner_exec,
            mark: delta.mark,
            local: delta.local.map_or(([0; 16], 0), |local| {
                let ip = match local.ip() {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                (ip.octets(), local.port())
            }),
            transport: delta.transport,
            family: delta.family,
            direction: delta.direction,
            attribution: flow.attribution,
        })
    }

    fn into_flow(self, id: FlowId) -> Flow {
        let (ip, port) = self.local;
        let local = (self.local != ([0; 16], 0))
            .then(|| SocketAddr::new(IpAddr::from(ip).to_canonical(), port));
        let mut delta = FlowDelta {
            id,
            cookie: self.cookie,
            owner: Some(self.process.key),
            owner_name: self.process.name.clone(),
            owner_uid: Some(self.process.identity.uid),
            owner_gid: Some(self.process.identity.gid),
            owner_login: Some(login(&self.process)),
            owner_exec: self.owner_exec,
            mark: self.mark,
            cgroup_id: self.cgroup_id,
            cgroup_path: self.process.cgroup_path.clone(),
            netns: self.netns,
            local,
            remote: Some(SocketAddr::new(self.destination.ip, self.destination.port)),
            transport: self.transport,
            family: self.family,
            direction: self.direction,
            first: self.first,
            last: self.last,
            closed: None,
            app_bytes: 0,
            app_calls: 0,
            wire_bytes: 0,
            wire_packets: 0,
            rx_bytes: 0,
        };
        self.figures.fill(&mut delta);
        Flow {
            delta,
            process: Some(self.process),
            job: self.job,
            destination: Some(self.destination),
            attribution: self.attribution,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::{Compact, Waiting};
    use crate::model::{Flow, Record};
    use crate::outlet::samples;

    fn flow() -> Flow {
        let Record::Flow(flow) = samples::flow() else {
            unreachable!("a flow")
        };
        let mut flow = Flow::clone(&flow);
        let process = flow.process.clone().expect("a process");
        let destination = flow.destination.clone().expect("a destination");
        flow.delta.owner = Some(process.key);
        flow.delta.owner_uid = Some(process.identity.uid);
        flow.delta.owner_gid = Some(process.identity.gid);
        flow.delta.owner_login = Some(super::login(&process));
        flow.delta.cgroup_path = process.cgroup_path.clone();
        flow.delta.owner_name = process.name.clone();
        flow.delta.remote = Some(SocketAddr::new(destination.ip, destination.port));
        flow.delta.closed = None;
        // As the sensor tells it: v4-mapped addresses as IPv4.
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        flow.delta.local = flow.delta.local.map(canonical);
        flow
    }

    #[test]
    fn the_usual_flow_is_small_and_comes_back_as_it_was() {
        assert!(size_of::<Compact>() <= 208, "{}", size_of::<Compact>());
        assert_eq!(size_of::<Waiting>(), size_of::<Compact>());
        let flow = flow();
        let waiting = Waiting::of(&flow);
        assert!(matches!(waiting, Waiting::Compact(_)));
        let back = waiting.into_flow(flow.delta.id);
        assert_eq!(format!("{back:?}"), format!("{flow:?}"));
    }

    #[test]
    fn any_other_flow_comes_back_as_it_was() {
        let changes: [fn(&mut Flow); 5] = [
            |flow| flow.process = None,
            |flow| flow.destination = None,
            |flow| flow.delta.owner_uid = Some(77),
            |flow| flow.delta.owner_name = "prctl".into(),
            |flow| flow.delta.local = None,
        ];
        for change in changes {
            let mut flow = flow();
            change(&mut flow);
            let back = Waiting::of(&flow).into_flow(flow.delta.id);
            assert_eq!(format!("{back:?}"), format!("{flow:?}"));
        }
    }

    #[test]
    fn figures_add_up_whatever_becomes_known() {
        let (known, mut unknown) = (flow(), flow());
        unknown.destination = None;
        for (first, second) in [(&known, &unknown), (&unknown, &known), (&known, &known)] {
            let mut waiting = Waiting::of(first);
            waiting.merge(second);
            let told = Arc::new(waiting.into_flow(known.delta.id));
            assert_eq!(told.delta.app_bytes, 2 * known.delta.app_bytes);
            assert_eq!(told.delta.wire_packets, 2 * known.delta.wire_packets);
            assert_eq!(told.destination.is_some(), second.destination.is_some());
        }
    }
}
