//! Names of destinations: DNS answers that this host receives, and the beginnings of TLS and QUIC connections that it
//! makes. Bounded copies; what they say is read in user space.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_sk_cgroup_id, bpf_sk_fullsock,
    bpf_skb_load_bytes, bpf_tcp_sock,
};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use egress_common::counters::{LOST_NAME, NAME_TRUNCATED};
use egress_common::names::{WATCH_QUIC, WATCH_TLS};
use egress_common::records::{
    FLAG_TRUNCATED, Header, KIND_NAME, NAME_DNS_TCP, NAME_DNS_UDP, NAME_PAYLOAD_MAX,
    NAME_QUIC_INITIAL, NAME_TLS_HELLO, Name,
};
use egress_common::slot::{NAMED_DATAGRAMS, NAMED_DONE, NAMED_PIECES, SocketState, YES};

use crate::count::count;
use crate::emit::emit_with;
use crate::maps::{HELLO, NAME_RING, WATCH, loaded};
use crate::slots::{self, Place};
use crate::storage;
use crate::wire::{IPPROTO_TCP, IPPROTO_UDP, PASS, Packet, SOCK_STREAM, load, parse};

const DNS_PORT: u16 = 53;
const UDP_HEADER: u32 = 8;
/// More than any packet has (`gso_max_size` is at most 8 * 65,535, Linux `include/linux/netdevice.h`): what is longer is an
/// offset behind the packet's end.
const PAYLOAD_MAX: u32 = 1 << 20;
/// Smallest TCP header.
const TCP_HEADER: usize = 20;
const TCP_SYN: u8 = 2;

/// TLS record type handshake, major version 3, handshake type ClientHello (RFC 8446 5.1, 4).
const TLS_HANDSHAKE: u8 = 22;
const TLS_MAJOR: u8 = 3;
const CLIENT_HELLO: u8 = 1;
/// TLS record header, and handshake header.
const TLS_RECORD: u32 = 5;
const TLS_MESSAGE: u32 = 4;
/// Longest TLS record, or ClientHello in several records, that is followed.
const HELLO_MAX: u32 = 16_384 + TLS_RECORD;

/// A client's first datagrams are at least this long (RFC 9000 14.1), which few others are.
const QUIC_DATAGRAM: u32 = 1200;
/// Long header, fixed bit, and the type's bits (RFC 9000 17.2).
const QUIC_MASK: u8 = 0b1111_0000;
const QUIC_V1: [u8; 4] = [0, 0, 0, 1];
/// RFC 9000 17.2.2, RFC 9369 3.1 and 3.2.
const QUIC_V1_INITIAL: u8 = 0b1100_0000;
const QUIC_V2: [u8; 4] = [0x6b, 0x33, 0x43, 0xcf];
const QUIC_V2_INITIAL: u8 = 0b1101_0000;

/// A name record where it is put together, with room for some payload.
#[repr(C)]
struct Sheet<const ROOM: usize> {
    record: Name,
    payload: [u8; ROOM],
}

/// A payload that tells a name.
struct Payload {
    what: u16,
    seq: u32,
    /// Where in the packet.
    offset: u32,
    length: u32,
}

/// Every packet that a local socket receives. All but DNS answers leave at once.
#[cgroup_skb(ingress)]
pub fn egress_answer(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    // The socket's: for most packets, this one load is all. In network byte order (`include/uapi/linux/bpf.h`).
    let connected = unsafe { (*skb).remote_port };
    if (connected == 0 || connected == u32::from(DNS_PORT).to_be()) && may_be_answer(skb) {
        answer(skb);
    }
    PASS
}

/// Whether the packet comes from port 53, or has headers that take a closer look. Plain loads, no helper: unconnected
/// UDP servers have each of their packets come here.
#[inline(always)]
fn may_be_answer(skb: *mut __sk_buff) -> bool {
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    if data + 44 > end {
        // Shorter than IPv6 with ports, or not in one piece.
        return true;
    }
    let ip = data as *const u8;
    let (first, ports) = unsafe { (*ip, if *ip >> 4 == 4 { 20 } else { 40 }) };
    if first >> 4 == 4 && first != 0x45 {
        return true;
    }
    let protocol = unsafe { *ip.add(if ports == 20 { 9 } else { 6 }) };
    if protocol != IPPROTO_UDP && protocol != IPPROTO_TCP {
        return ports == 40;
    }
    let port = unsafe {
        if ports == 20 {
            core::ptr::read_unaligned(ip.add(20).cast::<[u8; 2]>())
        } else {
            core::ptr::read_unaligned(ip.add(40).cast::<[u8; 2]>())
        }
    };
    u16::from_be_bytes(port) == DNS_PORT
}

/// Tells a DNS answer.
#[inline(always)]
fn answer(skb: *mut __sk_buff) {
    let Some(packet) = parse(skb) else { return };
    // For a packet that arrives, the "local" end of the headers is the peer's.
    if u16::from_be_bytes(packet.local_port) != DNS_PORT {
        return;
    }
    let (what, seq, offset) = if packet.protocol == IPPROTO_UDP {
        (NAME_DNS_UDP, 0, packet.network_header + UDP_HEADER)
    } else if packet.protocol == IPPROTO_TCP
        && let Some((seq, header)) = tcp(skb, packet.network_header)
    {
        (NAME_DNS_TCP, seq, packet.network_header + header)
    } else {
        return;
    };
    let length = unsafe { (*skb).len }.wrapping_sub(offset);
    if length == 0 || length > PAYLOAD_MAX {
        return;
    }
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return;
    }
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return;
    }
    let state = storage::of(
        sk.cast(),
        || unsafe { bpf_get_socket_cookie(skb.cast()) },
        false,
    );
    let place = state.and_then(|state| slots::find(unsafe { (*state).slot }));
    let payload = Payload {
        what,
        seq,
        offset,
        length,
    };
    let mut record = describe(skb, sk, state, place, &payload);
    (record.daddr, record.dport) = (packet.local, packet.local_port);
    (record.saddr, record.sport) = (packet.remote.addr, packet.remote.port);
    tell(skb, &record, &payload);
}

/// Has [`egress_hello`] look at a packet that leaves, unless its socket was looked at before: then nothing but a load is
/// done. Does not come back when it has.
#[inline(always)]
pub fn watch(skb: *mut __sk_buff, sk: *mut bpf_sock, state: *const SocketState, udp: bool) {
    let watched = loaded(&raw const WATCH);
    let named = unsafe { (*state).named };
    let wanted = if unsafe { (*sk).type_ } == SOCK_STREAM {
        named != NAMED_DONE && watched & WATCH_TLS != 0 && has_sent(sk)
    } else {
        named < NAMED_DATAGRAMS
            && watched & WATCH_QUIC != 0
            && udp
            && unsafe { (*skb).len } >= QUIC_DATAGRAM
    };
    if wanted {
        // Comes back only when user space has not put the program there.
        unsafe { HELLO.tail_call(&SkBuffContext::new(skb), 0) };
    }
}

/// Whether a TCP socket has sent payload. Counted before the packet comes by here (Linux `__tcp_transmit_skb`), so not
/// yet means that this packet has none either.
#[inline(always)]
fn has_sent(sk: *mut bpf_sock) -> bool {
    let tcp = unsafe { bpf_tcp_sock(sk) };
    !tcp.is_null() && unsafe { (*tcp).data_segs_out } != 0
}

/// A packet that [`watch`] wants looked at.
#[cgroup_skb(egress)]
pub fn egress_hello(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return PASS;
    }
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return PASS;
    }
    if let Some(state) = storage::of(
        sk.cast(),
        || unsafe { bpf_get_socket_cookie(skb.cast()) },
        false,
    ) && let Some(packet) = parse(skb)
        && let Some(payload) = if packet.protocol == IPPROTO_TCP {
            hello(skb, state, &packet)
        } else {
            initial(skb, state, &packet)
        }
    {
        let place = slots::find(unsafe { (*state).slot });
        let mut record = describe(skb, sk, Some(state), place, &payload);
        (record.saddr, record.sport) = (packet.local, packet.local_port);
        (record.daddr, record.dport) = (packet.remote.addr, packet.remote.port);
        tell(skb, &record, &payload);
    }
    PASS
}

/// The pieces of a ClientHello: the first payload of a TCP connection, and what it says is still to come.
#[inline(always)]
fn hello(skb: *mut __sk_buff, state: *mut SocketState, packet: &Packet) -> Option<Payload> {
    let (seq, header) = tcp(skb, packet.network_header)?;
    let offset = packet.network_header + header;
    let length = unsafe { (*skb).len }.wrapping_sub(offset);
    if length == 0 || length > PAYLOAD_MAX {
        return None;
    }
    let named = unsafe { (*state).named };
    let left = if named == 0 {
        let Some(left) = hello_length(skb, offset, length) else {
            unsafe { (*state).named = NAMED_DONE };
            return None;
        };
        left
    } else {
        let ahead = seq.wrapping_sub(unsafe { (*state).hello_next });
        if ahead != 0 {
            // Told already; or, if it is ahead, something in between never came by here.
            if ahead < 1 << 31 {
                unsafe { (*state).named = NAMED_DONE };
            }
            return None;
        }
        unsafe { (*state).hello_left }
    };
    let length = if length > left { left } else { length };
    let done = left == length || named + 1 >= NAMED_PIECES;
    unsafe {
        (*state).hello_left = left - length;
        (*state).hello_next = seq.wrapping_add(length);
        (*state).named = if done { NAMED_DONE } else { named + 1 };
    }
    Some(Payload {
        what: NAME_TLS_HELLO,
        seq,
        offset,
        length,
    })
}

/// How many bytes the ClientHello has that begins here; `None` when none does. Too little to say is taken for one.
#[inline(always)]
fn hello_length(skb: *mut __sk_buff, offset: u32, length: u32) -> Option<u32> {
    if length < TLS_RECORD + TLS_MESSAGE {
        let [first] = load::<1>(skb, offset)?;
        return (first == TLS_HANDSHAKE).then_some(HELLO_MAX);
    }
    let head: [u8; (TLS_RECORD + TLS_MESSAGE) as usize] = load(skb, offset)?;
    if head[0] != TLS_HANDSHAKE || head[1] != TLS_MAJOR || head[5] != CLIENT_HELLO {
        return None;
    }
    let record = u32::from(head[3]) << 8 | u32::from(head[4]);
    let message =
        TLS_MESSAGE + (u32::from(head[6]) << 16 | u32::from(head[7]) << 8 | u32::from(head[8]));
    // Cut into several records (RFC 8446 5.1 allows it): all that can be, as nobody knows how many there are.
    let whole = if message > record {
        HELLO_MAX
    } else {
        TLS_RECORD + record
    };
    Some(if whole > HELLO_MAX { HELLO_MAX } else { whole })
}

/// A QUIC Initial packet, among the first long datagrams to a destination.
#[inline(always)]
fn initial(skb: *mut __sk_buff, state: *mut SocketState, packet: &Packet) -> Option<Payload> {
    unsafe { (*state).named += 1 };
    let offset = packet.network_header + UDP_HEADER;
    let head: [u8; 5] = load(skb, offset)?;
    let (kind, version) = (head[0] & QUIC_MASK, [head[1], head[2], head[3], head[4]]);
    if !(kind == QUIC_V1_INITIAL && version == QUIC_V1
        || kind == QUIC_V2_INITIAL && version == QUIC_V2)
    {
        return None;
    }
    let length = unsafe { (*skb).len }.wrapping_sub(offset);
    (length != 0 && length <= PAYLOAD_MAX).then_some(Payload {
        what: NAME_QUIC_INITIAL,
        seq: 0,
        offset,
        length,
    })
}

/// Sequence number of the first payload byte, and bytes of the TCP header.
#[inline(always)]
fn tcp(skb: *mut __sk_buff, offset: u32) -> Option<(u32, u32)> {
    let header: [u8; TCP_HEADER] = load(skb, offset)?;
    let seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    // A SYN takes a sequence number of its own (RFC 9293 3.4).
    let seq = seq.wrapping_add(u32::from(header[13] & TCP_SYN != 0));
    Some((seq, u32::from(header[12] >> 4) * 4))
}

/// Everything but the addresses.
#[inline(always)]
fn describe(
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    state: Option<*mut SocketState>,
    place: Option<Place>,
    payload: &Payload,
) -> Name {
    let max = NAME_PAYLOAD_MAX as u32;
    let cut = payload.length > max;
    let mut record = Name {
        header: Header {
            kind: KIND_NAME,
            flags: if cut { FLAG_TRUNCATED } else { 0 },
            at_ns: unsafe { bpf_ktime_get_boot_ns() },
            ..Header::default()
        },
        cookie: unsafe { bpf_get_socket_cookie(skb.cast()) },
        netns: state.map_or(0, |state| unsafe { (*state).netns }),
        seq: payload.seq,
        length: payload.length,
        what: payload.what,
        payload_len: if cut { max } else { payload.length } as u16,
        ..Name::default()
    };
    match place {
        Some(place) if unsafe { (*place.slot).owned } == YES => unsafe {
            record.header.tgid = (*place.slot).tgid;
            record.header.start_ns = (*place.slot).start_ns;
            record.cgroup_id = (*place.slot).cgroup_id;
        },
        // Where the socket was made.
        _ => record.cgroup_id = unsafe { bpf_sk_cgroup_id(sk.cast()) },
    }
    if let Some(place) = place
        && record.netns == 0
    {
        record.netns = unsafe { (*place.slot).netns };
    }
    if cut {
        count(NAME_TRUNCATED, 0);
    }
    record
}

/// Puts the record and its payload into the ring, with not much more room than they need: most DNS answers are short.
#[inline(always)]
fn tell(skb: *mut __sk_buff, record: &Name, payload: &Payload) {
    if record.payload_len <= 256 {
        tell_in::<256>(skb, record, payload.offset);
    } else if record.payload_len <= 1024 {
        tell_in::<1024>(skb, record, payload.offset);
    } else if record.payload_len <= 2048 {
        tell_in::<2048>(skb, record, payload.offset);
    } else {
        tell_in::<NAME_PAYLOAD_MAX>(skb, record, payload.offset);
    }
}

/// `ROOM` is a power of two and no less than `record.payload_len`.
#[inline(always)]
fn tell_in<const ROOM: usize>(skb: *mut __sk_buff, record: &Name, offset: u32) {
    emit_with(&NAME_RING, LOST_NAME, |sheet: *mut Sheet<ROOM>| unsafe {
        (*sheet).record = *record;
        // Read back, so that the compiler forgets what it knows: else it drops the mask, by which the verifier knows.
        let length = core::ptr::read_volatile(&raw const (*sheet).record.payload_len);
        let length = (u32::from(length).wrapping_sub(1) & (ROOM as u32 - 1)) + 1;
        let payload = (&raw mut (*sheet).payload).cast();
        bpf_skb_load_bytes(skb.cast(), offset, payload, length) == 0
    });
}
