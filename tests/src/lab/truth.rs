//! The ground truth: what arrived in the sink, counted by nftables, which knows nothing of egress.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Namespace;

/// One counter for each (source address, transport, source port, destination port), bytes at the IP layer; before
/// anything could drop or change a packet. TCP and UDP only: neighbour discovery is nobody's traffic.
pub(super) const RULES: &str = "
table inet truth {
    set flows4 { type ipv4_addr . inet_proto . inet_service . inet_service; flags dynamic; size 65535; counter; }
    set flows6 { type ipv6_addr . inet_proto . inet_service . inet_service; flags dynamic; size 65535; counter; }
    chain arrived {
        type filter hook prerouting priority raw; policy accept;
        # A reset that the kernel sends over IPv6 without a socket (`tcp_v6_send_reset`: 60 bytes, as it has no options) passes
        # no cgroup hook. It answers a segment that came twice, which a busy machine causes. A socket's own has options.
        meta nfproto ipv6 tcp flags & rst == rst meta length 60 accept
        iifname lo accept
        ip protocol { tcp, udp } add @flows4 { ip saddr . ip protocol . th sport . th dport }
        ip6 nexthdr { tcp, udp } add @flows6 { ip6 saddr . ip6 nexthdr . th sport . th dport }
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
    /// Who sent them.
    pub source: SocketAddr,
    /// `tcp` or `udp`.
    pub transport: String,
    /// Port in the sink.
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
        for set in ["flows4", "flows6"] {
            let listing = sink.run("nft", &["--json", "list", "set", "inet", "truth", set])?;
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
        flows.fold(Arrived::default(), |sum, flow| Arrived {
            bytes: sum.bytes + flow.arrived.bytes,
            packets: sum.packets + flow.arrived.packets,
        })
    }
}

/// An element of one of the sets.
fn flow(element: &Value) -> Option<Flow> {
    let key = element["val"]["concat"].as_array()?;
    let port = |index: usize| key.get(index)?.as_u64()?.try_into().ok();
    let address: IpAddr = key.first()?.as_str()?.parse().ok()?;
    Some(Flow {
        source: SocketAddr::new(address, port(2)?),
        transport: key.get(1)?.as_str()?.to_owned(),
        port: port(3)?,
        arrived: Arrived {
            bytes: element["counter"]["bytes"].as_u64()?,
            packets: element["counter"]["packets"].as_u64()?,
        },
    })
}
