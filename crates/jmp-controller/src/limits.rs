//! How much one caller may ask for.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jmp_auth::{Place, Places};
use tokio::time::Instant;
use tonic::Status;

/// The longest text of a selector in bytes.
pub const SELECTOR_LIMIT: usize = 16 * 1024;

/// How many identities or addresses are told apart.
const CALLERS: usize = 65_536;
/// Changing calls of one identity.
const CHANGES: Rate = Rate {
    per_second: 100.0,
    burst: 500.0,
};
/// Dials of one identity: each connection of a program through a lease is one.
const DIALS: Rate = Rate {
    per_second: 100.0,
    burst: 2000.0,
};
/// Reports of one exporter.
const REPORTS: Rate = Rate {
    per_second: 100.0,
    burst: 500.0,
};
/// Looks of one identity at leases, exporters and the like.
const READS: Rate = Rate {
    per_second: 200.0,
    burst: 2000.0,
};
/// Rows about refused calls of one identity, or of the strangers of one network.
const REFUSALS: Rate = Rate {
    per_second: 2.0,
    burst: 100.0,
};
/// Rows about refused calls of all strangers together. They are kept for a year, and being refused
/// costs a stranger nothing: some three million rows at most.
const STRANGERS: Rate = Rate {
    per_second: 0.1,
    burst: 500.0,
};
/// Watching calls of one identity at one time.
const WATCHES: usize = 64;

/// What one caller may ask for.
#[derive(Debug)]
pub(crate) struct Guards {
    /// Changing calls, by identity.
    pub changes: RateLimiter<String>,
    /// Calls that change nothing, by identity.
    pub reads: RateLimiter<String>,
    /// Dials, by identity.
    pub dials: RateLimiter<String>,
    /// Reports and registrations of exporters, by identity.
    pub reports: RateLimiter<String>,
    /// Audit rows about refused calls, by identity or network.
    pub refusals: RateLimiter<String>,
    /// Those about strangers.
    pub strangers: RateLimiter<()>,
    /// Watching calls, by identity.
    pub watches: Arc<Places<String>>,
}

/// How often something may be done: `burst` times at once, `per_second` times for ever.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Refill, in calls per second.
    pub per_second: f64,
    /// Calls that may be made at once after a pause.
    pub burst: f64,
}

/// Counts calls by caller and refuses those beyond a [`Rate`]. Holds a bounded number of callers:
/// when they are more, the newcomers share one allowance until others have paused.
#[derive(Debug)]
pub struct RateLimiter<K> {
    rate: Rate,
    capacity: usize,
    buckets: Mutex<Buckets<K>>,
}

#[derive(Debug)]
struct Buckets<K> {
    known: HashMap<K, Bucket>,
    others: Bucket,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    updated: Instant,
}

// === impl RateLimiter ===

impl<K: Eq + Hash> RateLimiter<K> {
    /// A limiter that tells at most `capacity` callers apart.
    #[must_use]
    pub fn new(rate: Rate, capacity: usize) -> Self {
        Self {
            rate,
            capacity,
            buckets: Mutex::new(Buckets {
                known: HashMap::new(),
                others: Bucket {
                    left: rate.burst,
                    updated: Instant::now(),
                },
            }),
        }
    }

    /// Counts one call of `caller`.
    ///
    /// # Errors
    /// How long to wait before the next one.
    pub fn take(&self, caller: K) -> Result<(), Duration> {
        let now = Instant::now();
        let rate = self.rate;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.known.contains_key(&caller) && buckets.known.len() >= self.capacity {
            // Whoever has a full allowance is no different from one never seen.
            buckets
                .known
                .retain(|_, bucket| bucket.at(now, rate) < rate.burst);
            if buckets.known.len() >= self.capacity {
                return buckets.others.take(now, rate);
            }
        }
        buckets
            .known
            .entry(caller)
            .or_insert(Bucket {
                left: rate.burst,
                updated: now,
            })
            .take(now, rate)
    }

    /// The same with the status of a refused call.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED with the time to wait.
    pub fn check(&self, caller: K) -> Result<(), Status> {
        self.take(caller).map_err(|wait| {
            Status::resource_exhausted(format!(
                "too many calls by this identity: wait {} ms before the next one",
                wait.as_millis().max(1)
            ))
        })
    }
}

// === impl Guards ===

impl Default for Guards {
    fn default() -> Self {
        Self {
            changes: RateLimiter::new(CHANGES, CALLERS),
            reads: RateLimiter::new(READS, CALLERS),
            dials: RateLimiter::new(DIALS, CALLERS),
            reports: RateLimiter::new(REPORTS, CALLERS),
            refusals: RateLimiter::new(REFUSALS, CALLERS),
            strangers: RateLimiter::new(STRANGERS, 1),
            watches: Places::new(WATCHES),
        }
    }
}

/// A place for a watch of that caller.
///
/// # Errors
/// RESOURCE_EXHAUSTED when it has as many as it may.
pub(crate) fn watch(places: &Arc<Places<String>>, caller: String) -> Result<Place<String>, Status> {
    places.take(caller.clone()).ok_or_else(|| {
        Status::resource_exhausted(format!(
            "{caller} has {} watches open already: close one first",
            places.limit()
        ))
    })
}

// === impl Bucket ===

impl Bucket {
    fn at(&self, now: Instant, rate: Rate) -> f64 {
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        (self.left + passed * rate.per_second).min(rate.burst)
    }

    fn take(&mut self, now: Instant, rate: Rate) -> Result<(), Duration> {
        self.left = self.at(now, rate);
        self.updated = now;
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - self.left) / rate.per_second.max(f64::MIN_POSITIVE);
        Err(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 2.0,
        burst: 3.0,
    };

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_counts() {
        let limiter = RateLimiter::new(RATE, 10);
        for _ in 0..3 {
            limiter.take("a").unwrap();
        }
        assert_eq!(limiter.take("a"), Err(Duration::from_millis(500)));
        limiter.take("b").unwrap();
        tokio::time::advance(Duration::from_millis(500)).await;
        limiter.take("a").unwrap();
        let refused = limiter.check("a").unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("500 ms"));
    }

    #[tokio::test(start_paused = true)]
    async fn many_callers_take_bounded_memory() {
        let limiter = RateLimiter::new(RATE, 100);
        let passed = (0..10_000).filter(|caller| limiter.take(*caller).is_ok());
        // The known ones and one shared allowance.
        assert_eq!(passed.count(), 103);
        assert_eq!(limiter.buckets.lock().unwrap().known.len(), 100);
        tokio::time::advance(Duration::from_secs(10)).await;
        limiter.take(20_000).unwrap();
        assert_eq!(limiter.buckets.lock().unwrap().known.len(), 1);
    }
}
