//! Pieces put together: DNS over TCP, ClientHellos in several segments or datagrams. By sequence number, never by guess:
//! what is behind a gap is not read.

use std::collections::HashMap;
use std::hash::Hash;

use super::quic::{self, Piece};
use super::tls::{self, Hello};
use super::{Malformed, NamesStats};
use crate::model::NamePayload;

/// Streams of each kind that are followed; beyond, the oldest is given up.
const STREAMS_MAX: usize = 1024;
/// A DNS message with its length (RFC 1035 4.2.2).
const MESSAGE_MAX: usize = 2 + 65_535;
/// Bytes of DNS messages that wait for their rest, all streams together: 4 MiB.
const WAITING_MAX: usize = 4 << 20;
/// Longest ClientHello that is put together.
const HELLO_MAX: usize = 16 * 1024 + 5;
/// Pieces of one that are kept.
const PIECES_MAX: usize = 64;

/// Streams by what they are known by, the oldest given up when there are too many.
struct Streams<K, S> {
    streams: HashMap<K, (u64, S)>,
    next: u64,
}

impl<K: Copy + Eq + Hash, S: Default> Streams<K, S> {
    fn new() -> Self {
        Self {
            streams: HashMap::new(),
            next: 0,
        }
    }

    /// The stream, made when it is new; and whether another one was given up for it.
    fn of(&mut self, key: K) -> (&mut S, bool) {
        let given_up = self.streams.len() >= STREAMS_MAX
            && !self.streams.contains_key(&key)
            && self.give_up_oldest();
        self.next += 1;
        let next = self.next;
        let stream = self
            .streams
            .entry(key)
            .or_insert_with(|| (next, S::default()));
        (&mut stream.1, given_up)
    }

    fn give_up_oldest(&mut self) -> bool {
        let oldest = self.streams.iter().min_by_key(|(_, (began, _))| *began);
        let oldest = oldest.map(|(key, _)| *key);
        oldest.is_some_and(|key| self.streams.remove(&key).is_some())
    }
}

/// A stream of DNS messages.
#[derive(Default)]
struct Messages {
    /// Sequence number of what comes next; `None` before the first piece.
    next: Option<u32>,
    bytes: Vec<u8>,
    /// There was a gap: where the next message begins is not known any more.
    lost: bool,
}

/// DNS over TCP.
pub(super) struct DnsStreams(Streams<u64, Messages>);

impl DnsStreams {
    pub(super) fn new() -> Self {
        Self(Streams::new())
    }

    /// Takes a piece; hands each message that is complete, and what there is of one that was cut, to `tell`.
    pub(super) fn take(
        &mut self,
        piece: &NamePayload,
        stats: &mut NamesStats,
        mut tell: impl FnMut(&[u8], bool, &mut NamesStats),
    ) {
        let (stream, given_up) = self.0.of(piece.cookie);
        stats.streams_given_up += u64::from(given_up);
        if stream.lost {
            return;
        }
        let next = *stream.next.get_or_insert(piece.seq);
        // What came before comes again after a loss.
        let ahead = piece.seq.wrapping_sub(next).cast_signed();
        let known = usize::try_from(ahead.wrapping_neg()).unwrap_or(0);
        let cut = piece.payload.len() < piece.length as usize;
        if ahead > 0 {
            stats.gaps += 1;
            *stream = Messages {
                lost: true,
                ..Messages::default()
            };
            return;
        }
        let Some(new) = piece.payload.get(known..).filter(|new| !new.is_empty()) else {
            return;
        };
        stream.next = Some(piece.seq.wrapping_add(piece.length));
        stream.bytes.extend_from_slice(new);
        let mut rest = stream.bytes.as_slice();
        while let Some((length, behind)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let Some((message, behind)) = behind.split_at_checked(length) else {
                break;
            };
            tell(message, false, stats);
            rest = behind;
        }
        if cut {
            if let Some(part) = rest.get(2..).filter(|part| !part.is_empty()) {
                tell(part, true, stats);
            }
            stats.gaps += 1;
            stream.lost = true;
            stream.bytes = Vec::new();
            return;
        }
        // At most one message waits for its rest.
        let rest = rest.len().min(MESSAGE_MAX);
        stream.bytes.drain(..stream.bytes.len() - rest);
        if rest == 0 {
            stream.bytes = Vec::new();
        }
        self.bound(stats);
    }

    fn bound(&mut self, stats: &mut NamesStats) {
        let waiting = |streams: &Self| -> usize {
            let streams = streams.0.streams.values();
            streams.map(|(_, stream)| stream.bytes.capacity()).sum()
        };
        while waiting(self) > WAITING_MAX && self.0.give_up_oldest() {
            stats.streams_given_up += 1;
        }
    }
}

/// A ClientHello that is not complete yet.
#[derive(Default)]
struct Waiting {
    /// Sequence number of its first byte (TCP).
    start: Option<u32>,
    /// Destination connection id of the first packet (QUIC).
    first_id: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Waiting {
    fn add(&mut self, piece: Piece) {
        if self.pieces.len() < PIECES_MAX
            && piece.offset.saturating_add(piece.bytes.len()) <= HELLO_MAX
        {
            self.pieces.push(piece);
        }
    }

    /// What there is from the first byte on, without a gap.
    fn joined(&mut self) -> Vec<u8> {
        self.pieces.sort_by_key(|piece| piece.offset);
        let mut joined = Vec::new();
        for piece in &self.pieces {
            let Some(known) = joined.len().checked_sub(piece.offset) else {
                break;
            };
            joined.extend_from_slice(piece.bytes.get(known..).unwrap_or_default());
        }
        joined
    }
}

/// ClientHellos by socket and remote end.
pub(super) struct Hellos(Streams<(u64, std::net::SocketAddr), Waiting>);

impl Hellos {
    pub(super) fn new() -> Self {
        Self(Streams::new())
    }

    /// Takes a piece of TLS records.
    pub(super) fn tls(
        &mut self,
        piece: &NamePayload,
        stats: &mut NamesStats,
    ) -> Result<Hello, Malformed> {
        let key = (piece.cookie, piece.remote);
        let (waiting, given_up) = self.0.of(key);
        stats.streams_given_up += u64::from(given_up);
        let start = *waiting.start.get_or_insert(piece.seq);
        waiting.add(Piece {
            offset: piece.seq.wrapping_sub(start) as usize,
            bytes: piece.payload.to_vec(),
        });
        let read = tls::records(&waiting.joined());
        self.settle(key, read)
    }

    /// Takes datagrams that begin with a QUIC Initial packet.
    pub(super) fn quic(
        &mut self,
        datagram: &NamePayload,
        stats: &mut NamesStats,
    ) -> Result<Hello, Malformed> {
        let key = (datagram.cookie, datagram.remote);
        let (waiting, given_up) = self.0.of(key);
        stats.streams_given_up += u64::from(given_up);
        let read = quic::pieces(&datagram.payload, &mut waiting.first_id).and_then(|pieces| {
            for piece in pieces {
                waiting.add(piece);
            }
            tls::message(&waiting.joined())
        });
        self.settle(key, read)
    }

    fn settle(
        &mut self,
        key: (u64, std::net::SocketAddr),
        read: Result<Hello, Malformed>,
    ) -> Result<Hello, Malformed> {
        if read != Ok(Hello::Incomplete) {
            self.0.streams.remove(&key);
        }
        read
    }
}
