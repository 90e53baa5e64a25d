//! How often somebody may ask.

use std::collections::HashMap;
use std::time::Duration;

use jmp_types::Timestamp;

/// A token bucket for each key (an identity, or a peer's address without its port). Bounded.
///
/// Keys live in two generations: when the young one is full it becomes the old one and the old one is forgotten, so
/// that those who ask often stay known whatever number of strangers appears.
#[derive(Debug)]
pub struct RateLimiter {
    per_second: f64,
    burst: f64,
    /// Keys in one generation.
    capacity: usize,
    young: HashMap<Box<str>, Bucket>,
    old: HashMap<Box<str>, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// Somebody asks too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests; try again in {} s", retry_after.as_secs_f64().ceil())]
pub struct TooFast {
    /// When the next request will be accepted.
    pub retry_after: Duration,
}

// === impl RateLimiter ===

impl RateLimiter {
    /// Allows `burst` requests at once and `per_second` in the long run for each key, and knows at most `capacity`
    /// keys.
    #[must_use]
    pub fn new(per_second: f64, burst: u32, capacity: usize) -> Self {
        Self {
            per_second: per_second.max(1e-6),
            burst: f64::from(burst.max(1)),
            capacity: (capacity / 2).max(1),
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// Notes a request.
    ///
    /// # Errors
    ///
    /// If it comes too early; then it does not count.
    pub fn check(&mut self, key: &str, now: Timestamp) -> Result<(), TooFast> {
        let (per_second, burst) = (self.per_second, self.burst);
        let bucket = self.bucket(key, now);
        // A clock that was set back gives nothing and takes nothing.
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed * per_second).min(burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - bucket.tokens) / per_second;
        Err(TooFast {
            retry_after: Duration::from_secs_f64(wait.min(1e6)),
        })
    }

    /// How many keys are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether nobody asked yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bucket(&mut self, key: &str, now: Timestamp) -> &mut Bucket {
        let fresh = Bucket {
            tokens: self.burst,
            at: now,
        };
        if !self.young.contains_key(key) {
            let known = self.old.remove(key);
            if self.young.len() >= self.capacity {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key.into(), known.unwrap_or(fresh));
        }
        self.young.entry(key.into()).or_insert(fresh)
    }
}

#[cfg(test)]
mod tests {
    use jmp_types::Timestamp;

    use super::RateLimiter;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millisecond).unwrap()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut limiter = RateLimiter::new(2.0, 3, 100);
        for _ in 0..3 {
            limiter.check("a", at(0)).unwrap();
        }
        let refused = limiter.check("a", at(0)).unwrap_err();
        assert_eq!(refused.retry_after.as_millis(), 500);
        limiter.check("b", at(0)).unwrap();
        assert!(limiter.check("a", at(499)).is_err());
        limiter.check("a", at(500)).unwrap();
        assert!(limiter.check("a", at(500)).is_err());
    }

    #[test]
    fn clocks_that_jump_do_not_lock_anybody_out() {
        let mut limiter = RateLimiter::new(1.0, 1, 100);
        limiter.check("a", at(3_600_000)).unwrap();
        assert!(
            limiter.check("a", at(0)).is_err(),
            "an hour back gives nothing"
        );
        limiter.check("a", at(1000)).unwrap();
        for _ in 0..2 {
            let _ = limiter.check("a", at(86_400_000));
        }
        assert!(
            limiter.check("a", at(86_400_000)).is_err(),
            "never more than the burst"
        );
    }

    #[test]
    fn memory_is_bounded_and_the_busy_stay_known() {
        let mut limiter = RateLimiter::new(0.001, 1, 100);
        limiter.check("busy", at(0)).unwrap();
        for stranger in 0..1000 {
            limiter.check(&stranger.to_string(), at(0)).unwrap();
            assert!(limiter.check("busy", at(0)).is_err());
            assert!(limiter.len() <= 101, "{}", limiter.len());
        }
    }
}
