//! Pauses between attempts: longer each time, never the same for two programs.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    /// Where a repeatable sequence of chances is.
    static REPEATABLE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Doubling pauses up to a cap. Starts again from the first one after [`Backoff::reset`].
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// Pauses from `first` to `cap`.
    #[must_use]
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            next: first.min(cap),
        }
    }

    /// For connections to controllers: from half a second to ten.
    #[must_use]
    pub fn reconnect() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(10))
    }

    /// The next pause, [`jittered`].
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.cap);
        jittered(pause)
    }

    /// The last attempt has succeeded.
    pub fn reset(&mut self) {
        self.next = self.first.min(self.cap);
    }
}

/// Between half of a pause and the whole, by chance, so that many who lost the same server do
/// not come back at once.
#[must_use]
pub fn jittered(pause: Duration) -> Duration {
    let chance = chance();
    pause / 2 + (pause / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

/// From now on the pauses of this thread are the same for the same seed: for simulations, which have to
/// be repeated.
pub fn repeatable(seed: u64) {
    REPEATABLE.set(Some(seed));
}

fn chance() -> u32 {
    let Some(seed) = REPEATABLE.get() else {
        // Any source of chance will do; this one is there.
        return uuid::Uuid::new_v4().as_u128() as u32;
    };
    // The constants of Knuth's MMIX.
    let next = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    REPEATABLE.set(Some(next));
    (next >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for expected in [1, 2, 4, 5, 5] {
            let pause = backoff.pause().as_secs_f64();
            let whole = f64::from(expected);
            assert!((whole / 2.0..=whole).contains(&pause), "{pause}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(1));
    }
}
