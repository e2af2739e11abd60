//! A map that cannot grow beyond its bound.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

/// Two generations: a full young one becomes the old one, a use of an old entry makes it young again, and what was not
/// used meanwhile is forgotten. That keeps at least the `capacity / 2` entries last used, in constant time and without
/// a list to maintain.
#[derive(Debug)]
pub struct BoundedMap<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
    evicted: u64,
}

impl<K: Eq + Hash + Copy, V> BoundedMap<K, V> {
    /// A map of at most `capacity` entries, at least two.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: (capacity / 2).max(1),
            evicted: 0,
        }
    }

    /// The value of `key`, which counts as a use.
    pub fn get(&mut self, key: K) -> Option<&V> {
        if let Some(value) = self.old.remove(&key) {
            self.insert(key, value);
        }
        self.young.get(&key)
    }

    /// Puts or replaces the value of `key`.
    pub fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.evicted += self.old.len() as u64;
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries forgotten for want of room, since the beginning.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut map = BoundedMap::new(100);
        map.insert(0, "hot");
        for key in 1..10_000 {
            map.insert(key, "cold");
            assert_eq!(map.get(0), Some(&"hot"), "after {key}");
            assert!(map.len() <= 100);
        }
        assert_eq!(map.get(1), None);
        // Each use of the hot one kept it: all others but those left were forgotten.
        assert_eq!(map.evicted() + map.len() as u64, 10_000);
    }

    #[test]
    fn the_last_used_half_is_there() {
        let mut map = BoundedMap::new(10);
        for key in 0..1_000_u32 {
            map.insert(key, key);
            for recent in key.saturating_sub(4)..=key {
                assert!(
                    map.young.contains_key(&recent) || map.old.contains_key(&recent),
                    "{recent} of {key}"
                );
            }
        }
    }

    #[test]
    fn a_replaced_value_is_not_an_entry_more() {
        let mut map = BoundedMap::new(4);
        for value in 0..100 {
            map.insert(1, value);
        }
        assert_eq!(map.get(1), Some(&99));
        assert_eq!((map.len(), map.evicted()), (1, 0));
        map.insert(2, 0);
        map.insert(3, 0);
        map.insert(1, 100);
        assert_eq!(map.get(1), Some(&100));
        assert_eq!(map.len(), 3);
    }
}
