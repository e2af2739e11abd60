//! How far away an address is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::Networks;
use crate::model::{Destination, Scope, Transport};

/// Destinations in each of the two halves of the memory.
const HALF: usize = 32_768;

/// Gives addresses their scope, and makes one [`Destination`] of equal ones.
pub(super) struct Destinations {
    /// Longest prefix first.
    named: Vec<(IpNet, String)>,
    recent: HashMap<Key, Arc<Destination>>,
    older: HashMap<Key, Arc<Destination>>,
}

type Key = (IpAddr, u16, Transport);

impl Destinations {
    pub(super) fn new(networks: &Networks) -> Self {
        let networks = networks.0.iter();
        let mut named: Vec<_> = networks
            .flat_map(|(name, nets)| nets.iter().map(|net| (*net, name.clone())))
            .collect();
        named.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        Self {
            named,
            recent: HashMap::new(),
            older: HashMap::new(),
        }
    }

    /// The destination of an address; `None` for the unspecified one without a port: nobody has said where to yet.
    pub(super) fn of(
        &mut self,
        remote: SocketAddr,
        transport: Transport,
    ) -> Option<Arc<Destination>> {
        let ip = remote.ip().to_canonical();
        let port = remote.port();
        if ip.is_unspecified() && port == 0 {
            return None;
        }
        let key = (ip, port, transport);
        if let Some(known) = self.recent.get(&key) {
            return Some(known.clone());
        }
        // Two halves: what was used since the last turn stays, what was not goes with the next.
        let destination = self.older.remove(&key).unwrap_or_else(|| {
            Arc::new(Destination {
                ip,
                port,
                transport,
                scope: self.scope(ip),
                domain: None,
                name: None,
            })
        });
        if self.recent.len() >= HALF {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, destination.clone());
        Some(destination)
    }

    /// Destinations remembered.
    pub(super) fn len(&self) -> usize {
        self.recent.len() + self.older.len()
    }

    /// A configured network's name, the longest prefix first; else the standards' own ranges. `ip` is canonical.
    fn scope(&self, ip: IpAddr) -> Scope {
        if let Some((_, name)) = self.named.iter().find(|(net, _)| net.contains(&ip)) {
            return Scope::Named(name.clone());
        }
        match ip {
            IpAddr::V4(ip) => v4(ip),
            IpAddr::V6(ip) => v6(ip),
        }
    }
}

fn v4(ip: Ipv4Addr) -> Scope {
    // RFC 6598, carriers' shared space.
    const SHARED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
    // Linux takes 0.0.0.0 for this host (`net/ipv4/route.c`, `ip_route_output_key_hash_rcu`).
    if ip.is_loopback() || ip.is_unspecified() {
        Scope::Loopback
    } else if ip.is_link_local() || ip.is_multicast() || ip.is_broadcast() {
        Scope::Link
    } else if ip.is_private() || SHARED.contains(&ip) {
        Scope::Private
    } else {
        Scope::Public
    }
}

fn v6(ip: Ipv6Addr) -> Scope {
    const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
    const UNIQUE_LOCAL: Ipv6Net =
        Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);
    if ip.is_loopback() || ip.is_unspecified() {
        Scope::Loopback
    } else if LINK_LOCAL.contains(&ip) || ip.is_multicast() {
        Scope::Link
    } else if UNIQUE_LOCAL.contains(&ip) {
        Scope::Private
    } else {
        Scope::Public
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::{Destinations, HALF};
    use crate::config::Networks;
    use crate::model::{Scope, Transport};

    fn scope(destinations: &mut Destinations, ip: &str) -> Scope {
        let remote = SocketAddr::new(ip.parse().unwrap(), 443);
        destinations
            .of(remote, Transport::TCP)
            .unwrap()
            .scope
            .clone()
    }

    #[test]
    fn scopes_of_the_standards() {
        let rows = [
            ("127.0.0.1", Scope::Loopback),
            ("127.255.255.255", Scope::Loopback),
            ("0.0.0.0", Scope::Loopback),
            ("::1", Scope::Loopback),
            ("::", Scope::Loopback),
            ("::ffff:127.0.0.1", Scope::Loopback),
            ("169.254.169.254", Scope::Link),
            ("224.0.0.251", Scope::Link),
            ("239.255.255.255", Scope::Link),
            ("255.255.255.255", Scope::Link),
            ("fe80::1", Scope::Link),
            ("febf::1", Scope::Link),
            ("ff02::1", Scope::Link),
            ("10.0.0.1", Scope::Private),
            ("172.16.0.1", Scope::Private),
            ("172.31.255.255", Scope::Private),
            ("172.32.0.1", Scope::Public),
            ("192.168.1.1", Scope::Private),
            ("192.169.0.1", Scope::Public),
            ("100.64.0.1", Scope::Private),
            ("100.127.255.255", Scope::Private),
            ("100.128.0.1", Scope::Public),
            ("fc00::1", Scope::Private),
            ("fdff::1", Scope::Private),
            ("fe00::1", Scope::Public),
            ("fec0::1", Scope::Public),
            ("::ffff:10.1.2.3", Scope::Private),
            ("::ffff:198.51.100.1", Scope::Public),
            ("198.51.100.1", Scope::Public),
            ("2001:db8::1", Scope::Public),
        ];
        let mut destinations = Destinations::new(&Networks::default());
        for (ip, expected) in rows {
            assert_eq!(scope(&mut destinations, ip), expected, "{ip}");
        }
    }

    #[test]
    fn the_longest_configured_prefix_wins_over_everything() {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        let mut destinations = Destinations::new(&Networks(BTreeMap::from([
            ("a-wide".into(), nets(&["10.0.0.0/8", "2001:db8::/32"])),
            ("b-narrow".into(), nets(&["10.1.0.0/16"])),
            ("c-host".into(), nets(&["10.1.2.3/32", "127.0.0.53/32"])),
        ])));
        let named = |name: &str| Scope::Named(name.into());
        assert_eq!(scope(&mut destinations, "10.9.9.9"), named("a-wide"));
        assert_eq!(scope(&mut destinations, "10.1.9.9"), named("b-narrow"));
        assert_eq!(scope(&mut destinations, "::ffff:10.1.2.3"), named("c-host"));
        assert_eq!(scope(&mut destinations, "2001:db8::9"), named("a-wide"));
        assert_eq!(scope(&mut destinations, "127.0.0.53"), named("c-host"));
        assert_eq!(scope(&mut destinations, "127.0.0.1"), Scope::Loopback);
    }

    #[test]
    fn equal_destinations_are_one_and_the_memory_is_bounded() {
        let mut destinations = Destinations::new(&Networks::default());
        let mut of = |ip: &str, port| {
            destinations.of(SocketAddr::new(ip.parse().unwrap(), port), Transport::TCP)
        };
        let one = of("198.51.100.1", 443).unwrap();
        assert!(Arc::ptr_eq(&one, &of("::ffff:198.51.100.1", 443).unwrap()));
        assert!(!Arc::ptr_eq(&one, &of("198.51.100.1", 80).unwrap()));
        assert!(of("0.0.0.0", 0).is_none() && of("::", 0).is_none());
        for port in 0..=u16::MAX {
            of("198.51.100.2", port);
            of("198.51.100.3", port);
            of("198.51.100.1", 443);
        }
        assert!(
            Arc::ptr_eq(&one, &of("198.51.100.1", 443).unwrap()),
            "what is used stays"
        );
        assert!(destinations.len() <= 2 * HALF);
    }
}
