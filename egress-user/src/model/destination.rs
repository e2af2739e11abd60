//! Where bytes go.

use std::net::IpAddr;

use serde::Serialize;

use super::Named;

/// How far away an address is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This host.
    Loopback,
    /// This link: link-local, broadcast, multicast.
    Link,
    /// RFC 1918, RFC 4193 (unique local) or RFC 6598 (shared) space.
    Private,
    /// Everything else.
    Public,
    /// Another virtual machine, or the host of this one, over virtual sockets (`AF_VSOCK`).
    Vm,
    /// A network that the configuration names.
    #[serde(untagged)]
    Named(String),
}

/// A transport over IP, or what stands in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transport(pub u16);

impl Transport {
    /// TCP (IANA protocol 6).
    pub const TCP: Self = Self(6);
    /// UDP (IANA protocol 17).
    pub const UDP: Self = Self(17);
    /// ICMP (IANA protocol 1).
    pub const ICMP: Self = Self(1);
    /// ICMPv6 (IANA protocol 58).
    pub const ICMPV6: Self = Self(58);

    /// Not IP: frames of packet sockets (`AF_PACKET`). Beyond the range of IP protocols, as Linux's MPTCP (262) is.
    pub const PACKET: Self = Self(0xff00);
    /// Not IP: virtual sockets (`AF_VSOCK`).
    pub const VSOCK: Self = Self(0xff01);

    /// ECS `network.transport`: `tcp`, `udp`, `icmp`, `ipv6-icmp`, `sctp`, `packet`, `vsock`, or `ip-N`.
    #[must_use]
    pub fn name(self) -> std::borrow::Cow<'static, str> {
        match self.0 {
            1 => "icmp".into(),
            6 => "tcp".into(),
            17 => "udp".into(),
            58 => "ipv6-icmp".into(),
            132 => "sctp".into(),
            0xff00 => "packet".into(),
            0xff01 => "vsock".into(),
            other => format!("ip-{other}").into(),
        }
    }
}

impl Serialize for Transport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// Where bytes go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Destination {
    /// Address; v4-mapped IPv6 is told as IPv4.
    pub ip: IpAddr,
    /// Port, 0 where the transport has none.
    pub port: u16,
    /// Transport.
    pub transport: Transport,
    /// How far.
    pub scope: Scope,
    /// Name, when one is known.
    pub domain: Option<String>,
    /// How it is known; `None` for a name that was not seen on the wire.
    pub name: Option<Named>,
}
