//! How flows become episodes, and that nothing grows without bound.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::detect::pair::{FILES, Pair, PairKey, RECENT};

/// The one pair of a host.
fn only<'a>(host: &'a Host, job: &Job, to: &Destination) -> &'a Pair {
    let key = Arc::new(PairKey::new(job, to, Direction::Initiated));
    host.detector.pair(&key).unwrap()
}

#[test]
fn parallel_flows_are_one_episode() {
    let mut host = Host::new(|_| ());
    let (job, to) = (Arc::new(job("x")), Arc::new(destination(1)));
    let who = host.spawn("/usr/bin/x", &[]);
    let (a, b) = (host.next_flow(), host.next_flow());
    let begin = host.now;
    for (id, at) in [(a, 0), (b, SECOND / 4), (a, SECOND / 2)] {
        host.until(begin + at);
        let mut told = flow(id, &who, &job, &to, begin + if id == b { at } else { 0 });
        told.delta.app_bytes = 100;
        told.delta.last = host.now;
        told.delta.closed = (id == a && at > 0).then_some(host.now);
        host.observe(&told);
    }
    host.tick();
    assert_eq!(host.detector.stats().open_episodes, 1, "b is open");
    let mut told = flow(b, &who, &job, &to, begin + SECOND / 4);
    host.after(SECOND / 4);
    told.delta.last = host.now;
    told.delta.closed = Some(host.now);
    told.delta.rx_bytes = 7;
    host.observe(&told);
    host.tick();
    let stats = host.detector.stats();
    assert_eq!((stats.open_episodes, stats.episodes), (0, 1));
    let episode = only(&host, &job, &to).recent[0];
    assert_eq!((episode.start, episode.end), (begin, host.now));
    assert_eq!((episode.moved.app, episode.moved.rx), (300, 7));
}

#[test]
fn late_bytes_have_their_place() {
    let mut host = Host::new(|_| ());
    let (job, to) = (Arc::new(job("x")), Arc::new(destination(1)));
    let who = host.spawn("/usr/bin/x", &[]);
    host.send(&who, &job, &to, &Sent::out(1000));
    let mut fin = flow(FlowId(host.flows), &who, &job, &to, host.now - SECOND / 20);
    fin.delta.wire_bytes = 52;
    fin.delta.closed = Some(host.now);
    host.after(SECOND);
    fin.delta.last = host.now;
    host.observe(&fin);
    host.tick();
    let pair = only(&host, &job, &to);
    assert_eq!(
        (pair.begun, pair.moved.wire, pair.recent[0].moved.wire),
        (1, 1452, 1452)
    );
}

#[test]
fn a_probe_is_no_episode() {
    let mut host = Host::new(|_| ());
    let (job, to) = (Arc::new(job("x")), Arc::new(destination(1)));
    let who = host.spawn("/usr/bin/x", &[]);
    host.send(
        &who,
        &job,
        &to,
        &Sent {
            rx: 0,
            ..Sent::out(0)
        },
    );
    host.after(2 * SECOND);
    let stats = host.detector.stats();
    assert_eq!(
        (stats.pairs, stats.episodes, stats.open_episodes),
        (0, 0, 0)
    );
}

#[test]
fn pairs_are_bounded_and_counted() {
    let mut host = Host::new(|_| ());
    host.detector = host.detector.with_pairs(4);
    let job = Arc::new(job("x"));
    let who = host.spawn("/usr/bin/x", &[]);
    for to in 0..10 {
        let id = host.next_flow();
        let mut told = flow(id, &who, &job, &Arc::new(destination(to)), host.now);
        told.delta.app_bytes = 1;
        host.observe(&told);
    }
    let stats = host.detector.stats();
    assert_eq!((stats.pairs, stats.open_episodes), (4, 4));
    assert_eq!((stats.evicted.pairs, stats.evicted.open_episodes), (6, 6));
    host.after(2 * SECOND);
    assert_eq!(host.detector.stats().episodes, 4);
}

#[derive(Clone, Debug)]
struct Any {
    id: u64,
    to: u8,
    job: u8,
    first: u64,
    last: u64,
    closed: Option<u64>,
    bytes: [u64; 3],
    direction: u8,
    tick: bool,
}

fn any_flow() -> impl Strategy<Value = Any> {
    let time = || prop_oneof![0..100 * SECOND, any::<u64>()];
    let bytes = || prop_oneof![Just(0), 1..100_000_u64, any::<u64>()];
    (
        (0..8_u64, 0..6_u8, 0..3_u8, 0..4_u8),
        (time(), time(), proptest::option::of(time())),
        [bytes(), bytes(), bytes()],
        any::<bool>(),
    )
        .prop_map(
            |((id, to, job, direction), (first, last, closed), bytes, tick)| Any {
                id,
                to,
                job,
                first,
                last,
                closed,
                bytes,
                direction,
                tick,
            },
        )
}

proptest! {
    #[test]
    fn no_flow_breaks_it(flows in proptest::collection::vec(any_flow(), 0..200)) {
        let mut host = Host::new(|config| {
            config.min_episodes = 3;
            config.learning = std::time::Duration::ZERO;
        });
        host.detector = host.detector.with_pairs(5);
        let reads = (0..50).map(|i| (i, "/srv/x", u64::MAX)).collect::<Vec<_>>();
        let who = host.spawn("/tmp/x", &reads);
        for any in flows {
            let mut told = flow(FlowId(any.id), &who, &Arc::new(job(&any.job.to_string())), &Arc::new(destination(any.to)), any.first);
            told.delta.last = any.last;
            told.delta.closed = any.closed;
            [told.delta.app_bytes, told.delta.wire_bytes, told.delta.rx_bytes] = any.bytes;
            told.delta.direction = [Direction::Initiated, Direction::Accepted, Direction::Listening, Direction::Unknown][usize::from(any.direction)];
            host.observe(&told);
            if any.tick {
                host.now = any.last;
                host.tick();
            }
            let stats = host.detector.stats();
            prop_assert!(stats.pairs <= 5 && stats.open_episodes <= stats.pairs);
        }
        for pair in host.detector.all_pairs() {
            prop_assert!(pair.recent.len() <= RECENT && pair.files.len() <= FILES);
        }
        for alert in &host.alerts {
            prop_assert!(alert.score <= 100 && alert.files.len() <= FILES);
            prop_assert!(alert.signals.iter().all(|s| (0.0..=1.0).contains(&s.score) && s.value.is_finite()));
        }
    }
}
