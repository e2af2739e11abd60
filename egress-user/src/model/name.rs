//! What tells the names of destinations.

use std::net::SocketAddr;

use serde::Serialize;

use super::{ProcessKey, Text};

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// A DNS message that arrived over UDP.
    DnsUdp,
    /// A piece of a stream of DNS messages that arrives over TCP.
    DnsTcp,
    /// A piece of a TLS ClientHello that this host sent.
    TlsHello,
    /// Datagrams that this host sent, the first of which is a QUIC Initial packet.
    QuicInitial,
}

/// The beginning of a payload that tells a name, as it was on the wire: nothing in it can be trusted.
#[derive(Clone, Debug)]
pub struct NamePayload {
    /// What it is.
    pub kind: NameKind,
    /// The process that the kernel side knows to use the socket.
    pub process: Option<ProcessKey>,
    /// Socket cookie.
    pub cookie: u64,
    /// cgroup v2 id of the process, or else of the socket; 0 when not known.
    pub cgroup_id: u64,
    /// Its path below the cgroup2 root, empty when not known.
    pub cgroup_path: Text,
    /// Network namespace; 0 when not known.
    pub netns: u32,
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// TCP sequence number of the first byte.
    pub seq: u32,
    /// Bytes that there were: more than `payload` has, when it was cut.
    pub length: u32,
    /// The bytes.
    pub payload: Box<[u8]>,
}

/// How a destination's name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// The client named it on this very connection (TLS, RFC 6066 3). A claim: the server need not be that.
    TlsSni,
    /// The same over QUIC (RFC 9001).
    QuicSni,
    /// An address in a DNS answer that this process, or one of its container or host, received. A hint: an address may
    /// have many names.
    Dns,
    /// An address hint in a DNS answer about the service (HTTPS record, RFC 9460 7.3).
    HttpsHint,
}

/// A name, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Named {
    /// How.
    pub source: NameSource,
    /// For a name from DNS: another process had asked.
    pub shared: bool,
    /// For a name that the client claimed: the one that DNS gave, if it is another.
    pub dns: Option<String>,
}
