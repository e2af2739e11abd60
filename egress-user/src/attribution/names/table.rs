//! Names of addresses, by who may use them: bounded, ageing, and fair between those who fill it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{BootTime, NameSource, ProcessKey};

/// A name holds for at least this, ns: 60 s. Programs connect some time after they asked, whatever the TTL says.
const HOLDS_MIN_NS: u64 = 60_000_000_000;
/// And at most this, ns: a day, as resolvers have it (Unbound's `cache-max-ttl`).
const HOLDS_MAX_NS: u64 = 86_400_000_000_000;
/// Names of one address in one place; beyond, the oldest goes: the newest are the likely ones.
const NAMES_MAX: usize = 8;

/// Within which a name is known. Names do not leave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    /// Network namespace: an address in another one is another machine.
    pub(super) netns: u32,
    pub(super) realm: Realm,
}

/// Who shares what they know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Realm {
    /// What runs in no container.
    Host,
    /// One container, by its id.
    Container(Arc<str>),
    /// A cgroup whose path is not known: it may be a container's.
    Cgroup(u64),
}

/// A name of an address.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) name: Arc<str>,
    pub(super) source: NameSource,
    /// Who received the answer.
    pub(super) process: Option<ProcessKey>,
    pub(super) told: BootTime,
    expires: BootTime,
}

/// What is known in one place.
#[derive(Default)]
struct Room {
    names: HashMap<IpAddr, Vec<Known>>,
    /// Addresses in the order in which their last name expires.
    order: BTreeSet<(BootTime, IpAddr)>,
}

/// All places.
pub(super) struct Table {
    rooms: BTreeMap<Place, Room>,
    addresses: usize,
    limit: usize,
    /// Addresses forgotten before their time because the room was needed.
    pub(super) evicted: u64,
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            rooms: BTreeMap::new(),
            addresses: 0,
            limit,
            evicted: 0,
        }
    }

    /// Addresses with a name.
    pub(super) fn len(&self) -> usize {
        self.addresses
    }

    /// Enters a name. `ttl` in seconds.
    pub(super) fn insert(
        &mut self,
        place: &Place,
        ip: IpAddr,
        ttl: u32,
        (name, source, process): (&Arc<str>, NameSource, Option<ProcessKey>),
        told: BootTime,
    ) {
        let holds = u64::from(ttl).saturating_mul(1_000_000_000);
        let expires = told.saturating_add(holds.clamp(HOLDS_MIN_NS, HOLDS_MAX_NS));
        if !self.rooms.contains_key(place) {
            self.rooms.insert(place.clone(), Room::default());
        }
        let Some(room) = self.rooms.get_mut(place) else {
            return;
        };
        let names = room.names.entry(ip).or_default();
        match latest(names) {
            Some(latest) => _ = room.order.remove(&(latest, ip)),
            None => self.addresses += 1,
        }
        names.retain(|known| {
            known.name != *name || known.process != process || known.source != source
        });
        if names.len() >= NAMES_MAX {
            names.remove(0);
        }
        names.push(Known {
            name: name.clone(),
            source,
            process,
            told,
            expires,
        });
        room.order.insert((latest(names).unwrap_or(expires), ip));
        while self.addresses > self.limit {
            self.evict(place);
        }
    }

    /// The best name of an address for what `process` began at `began`: its own answers before those of others, the
    /// latest first. What became known later is not why it went there.
    pub(super) fn get(
        &self,
        place: &Place,
        ip: IpAddr,
        process: Option<ProcessKey>,
        began: BootTime,
    ) -> Option<&Known> {
        let names = self.rooms.get(place)?.names.get(&ip)?.iter();
        names
            .filter(|known| known.told <= began && began <= known.expires)
            .max_by_key(|known| (process.is_some() && known.process == process, known.told))
    }

    /// Forgets what has expired.
    pub(super) fn age(&mut self, now: BootTime) {
        for room in self.rooms.values_mut() {
            while let Some(&(expires, ip)) = room.order.first()
                && expires < now
            {
                room.order.pop_first();
                self.addresses -= usize::from(room.names.remove(&ip).is_some());
            }
        }
        self.rooms.retain(|_, room| !room.names.is_empty());
    }

    /// Forgets the address whose names would expire first: in `place` if that has more than its share, so that whoever
    /// floods it loses their own; else in the place that has most.
    fn evict(&mut self, place: &Place) {
        let share = self.limit / self.rooms.len().max(1);
        let own = self.rooms.get(place).map_or(0, |room| room.names.len());
        let room = if own > share {
            self.rooms.get_mut(place)
        } else {
            self.rooms.values_mut().max_by_key(|room| room.names.len())
        };
        let Some(room) = room else { return };
        if let Some((_, ip)) = room.order.pop_first() {
            room.names.remove(&ip);
            self.addresses -= 1;
            self.evicted += 1;
        }
    }
}

fn latest(names: &[Known]) -> Option<BootTime> {
    names.iter().map(|known| known.expires).max()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn place(netns: u32, realm: Realm) -> Place {
        Place { netns, realm }
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    fn process(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start_ns: 1 }
    }

    fn put(table: &mut Table, at: &Place, ip: IpAddr, name: &str, by: u32, ttl: u32, told: u64) {
        let entry = (&Arc::from(name), NameSource::Dns, Some(process(by)));
        table.insert(at, ip, ttl, entry, told);
    }

    fn get(table: &Table, at: &Place, ip: IpAddr, by: u32, began: u64) -> Option<String> {
        let known = table.get(at, ip, Some(process(by)), began)?;
        Some(known.name.to_string())
    }

    #[test]
    fn names_stay_where_they_were_asked() {
        let mut table = Table::new(100);
        let host = place(1, Realm::Host);
        let places = [
            host.clone(),
            place(2, Realm::Host),
            place(1, Realm::Container("a".into())),
            place(1, Realm::Container("b".into())),
            place(1, Realm::Cgroup(7)),
        ];
        for (at, name) in places.iter().zip(["host", "other", "a", "b", "c"]) {
            put(&mut table, at, ip(1), name, 1, 300, SECOND);
        }
        for (at, name) in places.iter().zip(["host", "other", "a", "b", "c"]) {
            assert_eq!(get(&table, at, ip(1), 1, 2 * SECOND).as_deref(), Some(name));
        }
        let nobody = place(1, Realm::Container("c".into()));
        assert_eq!(get(&table, &nobody, ip(1), 1, 2 * SECOND), None);
    }

    #[test]
    fn ones_own_then_the_latest_and_never_what_came_later() {
        let mut table = Table::new(100);
        let at = place(1, Realm::Host);
        put(&mut table, &at, ip(1), "mine", 1, 300, SECOND);
        put(&mut table, &at, ip(1), "first", 2, 300, 2 * SECOND);
        put(&mut table, &at, ip(1), "second", 3, 300, 3 * SECOND);
        assert_eq!(
            get(&table, &at, ip(1), 1, 4 * SECOND).as_deref(),
            Some("mine")
        );
        assert_eq!(
            get(&table, &at, ip(1), 9, 4 * SECOND).as_deref(),
            Some("second")
        );
        assert_eq!(
            get(&table, &at, ip(1), 9, 2 * SECOND).as_deref(),
            Some("first")
        );
        assert_eq!(get(&table, &at, ip(1), 1, SECOND / 2), None);
    }

    #[test]
    fn holds_a_minute_at_least_and_a_day_at_most() {
        let mut table = Table::new(100);
        let at = place(1, Realm::Host);
        put(&mut table, &at, ip(1), "short", 1, 0, 0);
        put(&mut table, &at, ip(2), "long", 1, u32::MAX, 0);
        table.age(60 * SECOND);
        assert_eq!(
            get(&table, &at, ip(1), 1, 60 * SECOND).as_deref(),
            Some("short")
        );
        assert_eq!(get(&table, &at, ip(1), 1, 61 * SECOND), None);
        table.age(61 * SECOND);
        assert_eq!(table.len(), 1);
        table.age(86_401 * SECOND);
        assert_eq!((table.len(), table.rooms.len(), table.evicted), (0, 0, 0));
    }

    #[test]
    fn a_flood_forgets_its_own() {
        let mut table = Table::new(1000);
        let (quiet, loud) = (
            place(1, Realm::Host),
            place(1, Realm::Container("loud".into())),
        );
        for last in 0..100 {
            put(&mut table, &quiet, ip(last), "quiet.example", 1, 60, 0);
        }
        for n in 0..10_000_u32 {
            let ip = IpAddr::from(n.to_be_bytes());
            put(&mut table, &loud, ip, "flood.example", 2, 86_400, 1);
        }
        assert_eq!((table.len(), table.evicted), (1000, 9100));
        for last in 0..100 {
            assert!(get(&table, &quiet, ip(last), 1, 2).is_some());
        }
    }

    proptest! {
        #[test]
        fn counts_and_bounds_hold(entries in prop::collection::vec((0..4_u32, 0..40_u8, 0..12_u32, 0..200_u32, any::<bool>()), 0..300)) {
            let mut table = Table::new(20);
            let mut now = 0;
            for (netns, last, by, ttl, age) in entries {
                now += SECOND;
                put(&mut table, &place(netns, Realm::Host), ip(last), &by.to_string(), by, ttl, now);
                if age {
                    now += 30 * SECOND;
                    table.age(now);
                }
                let rooms = table.rooms.values();
                let held: usize = rooms.clone().map(|room| room.names.len()).sum();
                let ordered: usize = rooms.clone().map(|room| room.order.len()).sum();
                prop_assert_eq!((held, ordered), (table.len(), table.len()));
                prop_assert!(table.len() <= 20);
                prop_assert!(rooms.clone().flat_map(|room| room.names.values()).all(|names| names.len() <= NAMES_MAX));
            }
        }
    }
}
