//! How much somebody may have open at one time.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what each caller has open: connections of an address, watches of an identity. Holds those only
/// who have something open.
#[derive(Debug)]
pub struct Places<K: Eq + Hash> {
    limit: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// One place among [`Places`], free again when dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    caller: K,
}

// === impl Places ===

impl<K: Clone + Eq + Hash> Places<K> {
    /// That many places for each.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            taken: Mutex::default(),
        })
    }

    /// How many each may have.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a place for the caller; none if it has as many as it may.
    #[must_use]
    pub fn take(self: &Arc<Self>, caller: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let held = taken.get(&caller).copied().unwrap_or_default();
        if held >= self.limit {
            return None;
        }
        taken.insert(caller.clone(), held + 1);
        Some(Place {
            places: Arc::clone(self),
            caller,
        })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self
            .places
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

/// What counts as one network peer: an address, or for IPv6 the network of one host.
#[must_use]
pub fn peer_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(bits.into())
        }
        short => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let places = Places::new(3);
        let held: Vec<_> = (0..3).map(|_| places.take("a").unwrap()).collect();
        assert!(places.take("a").is_none());
        assert!(places.take("b").is_some());
        drop(held);
        assert!(places.take("a").is_some());
        assert!(places.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn hosts_with_many_addresses_are_one_peer() {
        let network = |text: &str| peer_network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
