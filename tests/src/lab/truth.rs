//! The ground truth: what arrived in the sink, counted by nftables, which knows nothing of egress.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Namespace;

/// One counter for each (source, destination, protocol, source port, destination port), bytes at the IP layer, of every
/// protocol that IP carries; ports are 0 where there are none, and in fragments after the first. Counted before
/// anything could drop or change a packet. Neighbour discovery and multicast membership (ICMPv6 types 130 to 137 and
/// 143, IGMP) are nobody's traffic. What crosses loopback is counted as well: the namespace receives it.
pub(super) const RULES: &str = "
table inet truth {
    set flows4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service; flags dynamic; size 65535; counter; }
    set flows6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service; flags dynamic; size 65535; counter; }
    set others4 { type ipv4_addr . ipv4_addr . inet_proto; flags dynamic; size 65535; counter; }
    set others6 { type ipv6_addr . ipv6_addr . inet_proto; flags dynamic; size 65535; counter; }
    chain arrived {
        type filter hook prerouting priority raw; policy accept;
        # A reset that the kernel sends over IPv6 without a socket (`tcp_v6_send_reset`: 60 bytes, as it has no options) passes
        # no cgroup hook. It answers a segment that came twice, which a busy machine causes. A socket's own has options.
        meta nfproto ipv6 tcp flags & rst == rst meta length 60 accept
        icmpv6 type { 130-137, 143 } accept
        meta l4proto igmp accept
        # Where a later fragment would have its ports, it has payload.
        ip frag-off & 0x1fff != 0 add @others4 { ip saddr . ip daddr . ip protocol } accept
        frag frag-off != 0 add @others6 { ip6 saddr . ip6 daddr . meta l4proto } accept
        meta nfproto ipv4 meta l4proto { tcp, udp, sctp, udplite } add @flows4 { ip saddr . ip daddr . ip protocol . th sport . th dport } accept
        meta nfproto ipv6 meta l4proto { tcp, udp, sctp, udplite } add @flows6 { ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport } accept
        meta nfproto ipv4 add @others4 { ip saddr . ip daddr . ip protocol }
        meta nfproto ipv6 add @others6 { ip6 saddr . ip6 daddr . meta l4proto }
    }
}";

/// Packets that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Bytes at the IP layer.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// Packets that arrived from one port, for one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sent them; port 0 where the protocol has none.
    pub source: SocketAddr,
    /// For whom.
    pub to: IpAddr,
    /// `tcp`, `udp`, `icmp`, `ipv6-icmp`, `sctp`, or `ip-N`.
    pub transport: String,
    /// Port in the sink; 0 where the protocol has none.
    pub port: u16,
    /// How many.
    pub arrived: Arrived,
}

/// Everything that arrived in a sink.
#[derive(Clone, Debug, Default)]
pub struct Truth(pub Vec<Flow>);

impl Truth {
    pub(super) fn read(sink: &Namespace) -> Result<Self> {
        let mut flows = Vec::new();
        for set in ["flows4", "flows6", "others4", "others6"] {
            let list = ["--json", "-nn", "list", "set", "inet", "truth", set];
            let listing = sink.run("nft", &list)?;
            let listing: Value = serde_json::from_str(&listing).context("nft's JSON")?;
            let sets = listing["nftables"].as_array().into_iter().flatten();
            let elements = sets
                .filter_map(|item| item["set"]["elem"].as_array())
                .flatten();
            for element in elements {
                flows.push(
                    flow(&element["elem"])
                        .with_context(|| format!("an element of nft's set: {element}"))?,
                );
            }
        }
        Ok(Self(flows))
    }

    /// What arrived at a port of the sink, over this transport.
    #[must_use]
    pub fn at(&self, transport: &str, to: SocketAddr) -> Arrived {
        let flows = self.0.iter().filter(|flow| {
            flow.transport == transport
                && flow.port == to.port()
                && flow.source.is_ipv4() == to.is_ipv4()
        });
        total(flows)
    }

    /// What came after `before` was read.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let flows = self.0.iter().cloned().map(|mut flow| {
            let same = |old: &&Flow| {
                let ends = (old.source, old.to, old.port) == (flow.source, flow.to, flow.port);
                ends && old.transport == flow.transport
            };
            if let Some(old) = before.0.iter().find(same) {
                flow.arrived.bytes -= old.arrived.bytes;
                flow.arrived.packets -= old.arrived.packets;
            }
            flow
        });
        Self(flows.collect())
    }
}

/// Adds them up.
pub fn total<'a>(flows: impl IntoIterator<Item = &'a Flow>) -> Arrived {
    flows
        .into_iter()
        .fold(Arrived::default(), |sum, flow| Arrived {
            bytes: sum.bytes + flow.arrived.bytes,
            packets: sum.packets + flow.arrived.packets,
        })
}

/// An element of one of the sets.
fn flow(element: &Value) -> Option<Flow> {
    let key = element["val"]["concat"].as_array()?;
    // Sets of protocols without ports have shorter keys.
    let port = |index: usize| match key.get(index) {
        Some(port) => port.as_u64()?.try_into().ok(),
        None => Some(0),
    };
    let address = |index: usize| key.get(index)?.as_str()?.parse().ok();
    Some(Flow {
        source: SocketAddr::new(address(0)?, port(3)?),
        to: address(1)?,
        transport: transport(key.get(2)?)?,
        port: port(4)?,
        arrived: Arrived {
            bytes: element["counter"]["bytes"].as_u64()?,
            packets: element["counter"]["packets"].as_u64()?,
        },
    })
}

/// What ECS calls the transport of an IP protocol (IANA), which nft tells by number where it is asked to.
fn transport(protocol: &Value) -> Option<String> {
    let name = match protocol.as_u64() {
        Some(1) => "icmp",
        Some(6) => "tcp",
        Some(17) => "udp",
        Some(58) => "ipv6-icmp",
        Some(132) => "sctp",
        Some(other) => return Some(format!("ip-{other}")),
        None => protocol.as_str()?,
    };
    Some(name.to_owned())
}
