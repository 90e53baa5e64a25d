//! Time, from one place, so that tests can own it.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

/// Tells the time. Waiting is `tokio::time`'s, which tests can pause.
pub trait Clock: Send + Sync + 'static {
    /// Time that only goes forward.
    fn now(&self) -> Instant;
    /// The time of day.
    fn wall(&self) -> SystemTime;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The clock of the machine, shared.
pub fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}
