//! A map that forgets what was used longest ago.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// A map of bounded size. Order of use decides what goes, never the order of hashing, so that a replay forgets the same.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    entries: HashMap<K, (u64, V)>,
    /// Use number to key: the first is the oldest.
    uses: BTreeMap<u64, K>,
    next: u64,
    capacity: usize,
    evicted: u64,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    /// An empty map of at most `capacity` entries, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            uses: BTreeMap::new(),
            next: 0,
            capacity: capacity.max(1),
            evicted: 0,
        }
    }

    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Entries forgotten for lack of room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// An entry, without counting as a use.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// An entry, without counting as a use.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// The entry of `key`, made if need be, now the one used last; and what had to go for it.
    pub(super) fn entry(&mut self, key: &K, make: impl FnOnce() -> V) -> (&mut V, Option<(K, V)>) {
        let number = self.next;
        self.next += 1;
        let mut gone = None;
        if let Some((used, _)) = self.entries.get(key) {
            self.uses.remove(used);
        } else if self.entries.len() >= self.capacity
            && let Some((_, oldest)) = self.uses.pop_first()
        {
            self.evicted += 1;
            gone = self.entries.remove(&oldest).map(|(_, v)| (oldest, v));
        }
        self.uses.insert(number, key.clone());
        let entry = self
            .entries
            .entry(key.clone())
            .or_insert_with(|| (number, make()));
        entry.0 = number;
        (&mut entry.1, gone)
    }

    /// All values, in no order: for tests.
    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|(_, value)| value)
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (used, value) = self.entries.remove(key)?;
        self.uses.remove(&used);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::Lru;

    #[test]
    fn forgets_the_least_recently_used() {
        let mut map = Lru::new(2);
        map.entry(&1, || 'a');
        map.entry(&2, || 'b');
        assert_eq!(*map.entry(&1, || 'x').0, 'a');
        assert_eq!(map.entry(&3, || 'c').1, Some((2, 'b')));
        assert_eq!((map.len(), map.evicted()), (2, 1));
        assert_eq!(map.get(&1), Some(&'a'));
        assert_eq!(map.remove(&1), Some('a'));
        assert_eq!(map.entry(&4, || 'd').1, None);
    }
}
