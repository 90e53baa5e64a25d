//! Points in time without a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time on some monotonic clock of the caller, as the time since that clock's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The moment that long after the caller's clock started.
    #[must_use]
    pub fn since_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// Time since the caller's clock started.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// A time too far to be told is as good as never.
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// Zero when `earlier` is in fact later.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
