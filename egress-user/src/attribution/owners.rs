//! Whose a socket is: what was seen of it, and three ways to infer it.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use crate::lineage::Lineage;
use crate::model::{Attribution, BootTime, Direction, FlowDelta, ProcessKey, SocketOwner};

/// How long a closed socket is remembered, ns: 60 s, the length of `TIME_WAIT` (Linux `TCP_TIMEWAIT_LEN`).
const CLOSED_NS: u64 = 60_000_000_000;
/// How long a silent socket whose end was not told is remembered, ns: 24 hours.
const SILENT_NS: u64 = 24 * 3600 * 1_000_000_000;
/// Sockets remembered.
const SOCKETS_MAX: usize = 262_144;
/// Listening ports, and closed connections, remembered.
const JOINS_MAX: usize = 65_536;

/// What is known of a socket. 40 bytes: there are as many as live sockets.
#[derive(Clone, Copy, Debug, Default)]
struct Socket {
    /// Who was first known to use it, or held it when we started.
    first: User,
    /// Who used it last.
    last: User,
    /// When it was last seen, s.
    seen: u32,
    /// Several held it when we started: nobody knows who opened it.
    shared: bool,
    /// It was there before us.
    before: bool,
    closed: bool,
}

/// A process, or nobody: thread-group id and start, both halves of it. Without the padding of a [`ProcessKey`].
#[derive(Clone, Copy, Debug, Default)]
struct User([u32; 3]);

impl User {
    /// `None` for nobody: no process has thread-group id 0 (Linux `kernel/pid.c`: that is the idle task's).
    fn key(self) -> Option<ProcessKey> {
        let [tgid, low, high] = self.0;
        let start_ns = u64::from(high) << 32 | u64::from(low);
        (tgid != 0).then_some(ProcessKey { tgid, start_ns })
    }
}

impl From<ProcessKey> for User {
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    fn from(key: ProcessKey) -> Self {
        Self([key.tgid, key.start_ns as u32, (key.start_ns >> 32) as u32])
    }
}

/// Whole seconds, as far as 136 years of them.
fn seconds(at: BootTime) -> u32 {
    u32::try_from(at / 1_000_000_000).unwrap_or(u32::MAX)
}

/// A port of a network namespace: namespace, IP protocol, port.
type Port = (u32, u16, u16);
/// A connection: namespace, IP protocol, local and remote end.
type Connection = (u32, u16, (IpAddr, u16), (IpAddr, u16));

/// All sockets.
#[derive(Default)]
pub(super) struct Owners {
    sockets: HashMap<u64, Socket>,
    listeners: HashMap<Port, ProcessKey>,
    closed: HashMap<Connection, ProcessKey>,
    closed_queue: VecDeque<(BootTime, Connection)>,
    /// Sockets forgotten because the room was needed.
    pub(super) evicted: u64,
}

impl Owners {
    /// Sockets, listening ports and closed connections remembered.
    pub(super) fn len(&self) -> (usize, usize, usize) {
        (self.sockets.len(), self.listeners.len(), self.closed.len())
    }

    /// A socket that was there before us. What the kernel has told since is better.
    pub(super) fn held(&mut self, owner: &SocketOwner, at: BootTime) {
        let holder = (owner.holders > 0).then_some(owner.process);
        if let Some(holder) = holder
            && owner.listening
        {
            let port = (owner.netns, owner.protocol, owner.local.port());
            self.listen(port, holder);
        }
        if let Some(socket) = self.socket(owner.cookie, at) {
            socket.before = true;
            if socket.first.key().is_none() {
                let holder = holder.map(User::from).unwrap_or_default();
                socket.first = holder;
                if socket.last.key().is_none() {
                    socket.last = holder;
                }
                socket.shared = owner.holders > 1;
            }
        }
    }

    /// A process was seen to use a socket.
    ///
    /// *Exact*: it is the first one known to use it, or the only one that held it when we started. *Inherited*:
    /// another one was (the socket was passed on by fork, exec or `SCM_RIGHTS`), or several held it when we started.
    pub(super) fn used(
        &mut self,
        delta: &FlowDelta,
        by: ProcessKey,
        lineage: &Lineage,
        at: BootTime,
    ) -> Attribution {
        if let Some(local) = delta.local {
            let port = (delta.netns, delta.transport.0, local.port());
            match delta.direction {
                Direction::Listening if delta.closed.is_some() => {
                    self.listeners.remove(&port);
                }
                Direction::Listening => self.listen(port, by),
                // Who served this port once may serve it again.
                Direction::Accepted if !self.listeners.contains_key(&port) => self.listen(port, by),
                _ => {}
            }
        }
        let Some(socket) = self.socket(delta.cookie, at) else {
            return Attribution::Exact;
        };
        socket.last = by.into();
        let first = socket.first.key().unwrap_or(by);
        socket.first = first.into();
        if socket.shared || lineage.resolve(first) != lineage.resolve(by) {
            Attribution::Inherited
        } else {
            Attribution::Exact
        }
    }

    /// Whose an unclaimed flow must be: the last user of the same socket; else, for one that the peer began or may
    /// have begun, who listens on its port (an accepted connection on which nothing was sent or received yet); else
    /// whoever had the same connection until a minute ago (the kernel answers for it through a socket of its own).
    pub(super) fn infer(&self, delta: &FlowDelta, lineage: &Lineage) -> Option<ProcessKey> {
        if let Some(last) = self
            .sockets
            .get(&delta.cookie)
            .and_then(|socket| socket.last.key())
            && delta.cookie != 0
        {
            return Some(last);
        }
        let alive = |key: &ProcessKey| {
            let process = lineage.process(*key);
            process.is_none_or(|process| process.exit_ns.is_none_or(|end| end >= delta.first))
        };
        if delta.direction != Direction::Initiated
            && let Some(local) = delta.local
            && let Some(listener) =
                self.listeners
                    .get(&(delta.netns, delta.transport.0, local.port()))
            && alive(listener)
        {
            return Some(*listener);
        }
        self.closed.get(&connection(delta)?).copied()
    }

    /// Who began a TCP connection that was there before us: the peer, if its port is one that is listened on here. The
    /// kernel side could only tell who was first to speak since.
    pub(super) fn direction(&self, delta: &FlowDelta) -> Direction {
        // IANA: TCP.
        if delta.transport.0 != 6
            || delta.direction == Direction::Listening
            || !self.was_before(delta.cookie)
        {
            return delta.direction;
        }
        let Some(local) = delta.local else {
            return delta.direction;
        };
        let port = (delta.netns, delta.transport.0, local.port());
        if self.listeners.contains_key(&port) {
            Direction::Accepted
        } else {
            Direction::Initiated
        }
    }

    /// Who used a socket last, as far as is known.
    pub(super) fn last(&self, cookie: u64) -> Option<ProcessKey> {
        self.sockets.get(&cookie)?.last.key()
    }

    /// Whether a socket was there before us.
    pub(super) fn was_before(&self, cookie: u64) -> bool {
        cookie != 0
            && self
                .sockets
                .get(&cookie)
                .is_some_and(|socket| socket.before)
    }

    /// A flow of a known process ended.
    pub(super) fn ended(&mut self, delta: &FlowDelta, owner: ProcessKey, at: BootTime) {
        if let Some(socket) = self.socket(delta.cookie, at) {
            socket.closed = true;
        }
        if let Some(connection) = connection(delta) {
            let until = at.saturating_add(CLOSED_NS);
            self.closed.insert(connection, owner);
            self.closed_queue.push_back((until, connection));
            while self.closed_queue.len() > JOINS_MAX {
                self.pop_closed();
            }
        }
    }

    /// Forgets what is over.
    pub(super) fn age(&mut self, now: BootTime) {
        while self
            .closed_queue
            .front()
            .is_some_and(|(until, _)| *until <= now)
        {
            self.pop_closed();
        }
        self.sockets.retain(|_, socket| {
            let keep = if socket.closed { CLOSED_NS } else { SILENT_NS };
            u64::from(socket.seen) * 1_000_000_000 + keep > now
        });
    }

    fn pop_closed(&mut self) {
        if let Some((_, connection)) = self.closed_queue.pop_front() {
            self.closed.remove(&connection);
        }
    }

    fn listen(&mut self, port: Port, by: ProcessKey) {
        if self.listeners.len() >= JOINS_MAX && !self.listeners.contains_key(&port) {
            self.listeners.clear();
        }
        self.listeners.insert(port, by);
    }

    /// The memory of a socket; none for a socket without a cookie.
    fn socket(&mut self, cookie: u64, at: BootTime) -> Option<&mut Socket> {
        if cookie == 0 {
            return None;
        }
        if self.sockets.len() >= SOCKETS_MAX && !self.sockets.contains_key(&cookie) {
            self.evict();
        }
        let socket = self.sockets.entry(cookie).or_default();
        socket.seen = socket.seen.max(seconds(at));
        Some(socket)
    }

    /// Forgets the half that was silent for longest: rarely, so that it costs little for each socket.
    fn evict(&mut self) {
        let mut seen: Vec<_> = self
            .sockets
            .iter()
            .map(|(cookie, socket)| (socket.seen, *cookie))
            .collect();
        let half = seen.len() / 2;
        seen.select_nth_unstable(half);
        for (_, cookie) in seen.into_iter().take(half) {
            self.sockets.remove(&cookie);
            self.evicted += 1;
        }
    }
}

fn connection(delta: &FlowDelta) -> Option<Connection> {
    let end = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    let (local, remote) = (end(delta.local?), end(delta.remote?));
    (remote.1 != 0).then_some((delta.netns, delta.transport.0, local, remote))
}
