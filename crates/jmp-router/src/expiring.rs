//! Things to remember until a moment, with bounded memory.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use jmp_types::Timestamp;

/// A map whose entries go away at their own times.
pub(crate) struct Expiring<V> {
    entries: HashMap<String, (V, Timestamp)>,
    order: BinaryHeap<Reverse<(Timestamp, String)>>,
    most: usize,
}

// === impl Expiring ===

impl<V> Expiring<V> {
    /// Remembers at most `most` entries.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BinaryHeap::new(),
            most,
        }
    }

    /// Forgets what has expired by `now`.
    pub(crate) fn purge(&mut self, now: Timestamp) {
        while let Some(Reverse((until, _))) = self.order.peek()
            && *until <= now
        {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some(Reverse((until, key))) = self.order.pop() else {
            return;
        };
        // An entry that was replaced has a later moment, and another place in the order.
        if self.entries.get(&key).is_some_and(|(_, at)| *at == until) {
            self.entries.remove(&key);
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    pub(crate) fn is_full(&self) -> bool {
        // Replaced entries still have their place in the order, so that is what is counted.
        self.order.len() >= self.most
    }

    /// Remembers `value` until `until`. True if the entry that would have expired next had to go.
    pub(crate) fn insert(&mut self, key: String, value: V, until: Timestamp) -> bool {
        let full = self.is_full();
        if full {
            self.drop_first();
        }
        self.order.push(Reverse((until, key.clone())));
        self.entries.insert(key, (value, until));
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn entries_go_at_their_time_and_the_number_is_bounded() {
        let mut map = Expiring::new(3);
        assert!(!map.insert("a".into(), 1, at(10)));
        assert!(!map.insert("b".into(), 2, at(20)));
        map.purge(at(9));
        assert_eq!(map.get("a"), Some(&1));
        map.purge(at(10));
        assert_eq!(map.get("a"), None);
        assert_eq!(map.get("b"), Some(&2));
        // Replaced: the later moment counts.
        map.insert("b".into(), 3, at(40));
        map.purge(at(30));
        assert_eq!(map.get("b"), Some(&3));
        map.insert("c".into(), 4, at(35));
        map.insert("d".into(), 5, at(50));
        assert!(map.is_full());
        assert!(map.insert("e".into(), 6, at(60)));
        assert_eq!(map.get("c"), None, "the one that expires first has gone");
        assert_eq!(map.get("b"), Some(&3));
    }
}
