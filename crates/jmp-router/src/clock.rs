//! The time of day, passed in so that a simulation can own it.

use jmp_types::Timestamp;

/// Tells the time of day. Waiting is `tokio::time`'s, which tests can pause.
pub trait Clock: Send + Sync + 'static {
    /// Now, by this machine's clock.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
