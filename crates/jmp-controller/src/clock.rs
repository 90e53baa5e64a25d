//! The time of day, from one place, so that tests and simulations can own it.
//!
//! Waiting is `tokio::time`'s, which tests can pause; only the time of day is asked for here. The two may
//! drift apart: clocks of machines are set.

use std::fmt;
use std::sync::Arc;

use jmp_lease::Moment;
use jmp_types::Timestamp;
use tokio::time::Instant;

/// Tells the time of day.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Now.
    fn wall(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A time of day that advances with `tokio::time` and can be set while it runs.
#[derive(Debug)]
pub struct VirtualClock {
    start: Instant,
    at_start: std::sync::Mutex<Timestamp>,
}

/// Both times.
#[derive(Clone, Debug)]
pub struct Time {
    clock: Arc<dyn Clock>,
    start: Instant,
}

// === impl VirtualClock ===

impl VirtualClock {
    /// It is `time` now. Needs the runtime whose time it follows.
    #[must_use]
    pub fn new(time: Timestamp) -> Self {
        Self {
            start: Instant::now(),
            at_start: std::sync::Mutex::new(time),
        }
    }

    /// Sets the clock forward, or back, by that many seconds.
    pub fn jump(&self, seconds: i64) {
        let mut at_start = self.lock();
        let changed = at_start.as_second().saturating_add(seconds);
        if let Ok(changed) = Timestamp::new(changed, at_start.subsec_nanosecond()) {
            *at_start = changed;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Timestamp> {
        self.at_start
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for VirtualClock {
    fn wall(&self) -> Timestamp {
        let at_start = *self.lock();
        at_start
            .checked_add(self.start.elapsed())
            .unwrap_or(at_start)
    }
}

// === impl Time ===

impl Time {
    /// Monotonic time begins now.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            start: Instant::now(),
        }
    }

    /// The time of day.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// The time that only goes forward.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment::since_start(self.start.elapsed())
    }

    /// When `moment` is, for waiting.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.elapsed()
    }
}
