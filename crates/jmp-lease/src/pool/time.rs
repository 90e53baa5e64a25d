//! Lengths and windows of leases (facts: controller 3.5).

use std::time::Duration;

use jmp_types::Timestamp;
use jmp_types::resource::{GoDuration, Lease, LeaseSpec};

use super::api::{GivenDuration, Refusal, RefusalKind};

/// `time` that much later; the end of time if that is too far.
pub(super) fn after(time: Timestamp, span: Duration) -> Timestamp {
    time.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// From `earlier` to `later`; zero if they are the other way round.
pub(super) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

/// A time for people, to the second.
pub(super) fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A duration for people, to the second.
pub(super) fn shown_duration(span: Duration) -> String {
    GoDuration(Duration::from_secs(span.as_secs())).to_string()
}

/// When the lease ends if its exporter is assigned at `begin`.
pub(super) fn end_from(spec: &LeaseSpec, begin: Timestamp) -> Timestamp {
    if let Some(end) = spec.end_time {
        return end;
    }
    let duration = spec.duration.unwrap_or_default().0;
    after(spec.begin_time.unwrap_or(begin), duration)
}

/// The end that does not depend on the assignment.
pub(super) fn fixed_end(spec: &LeaseSpec) -> Option<Timestamp> {
    match (spec.end_time, spec.begin_time) {
        (Some(end), _) => Some(end),
        (None, Some(begin)) => Some(after(begin, spec.duration.unwrap_or_default().0)),
        (None, None) => None,
    }
}

/// When the lease ends; now, if it could not be told otherwise.
pub(super) fn expiry(lease: &Lease, now: Timestamp) -> Timestamp {
    end_from(&lease.spec, lease.status.begin_time.unwrap_or(now))
}

/// What policies compare with their maximum.
pub(super) fn requested(lease: &Lease) -> Duration {
    let spec = &lease.spec;
    let begin = spec
        .begin_time
        .or(lease.status.begin_time)
        .or(lease.metadata.creation_timestamp);
    match (spec.duration, spec.end_time, begin) {
        (Some(duration), ..) => duration.0,
        (None, Some(end), Some(begin)) => between(begin, end),
        _ => Duration::ZERO,
    }
}

fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::InvalidArgument, text)
}

/// A duration off the wire.
pub(super) fn read(given: GivenDuration, most: Duration) -> Result<Duration, Refusal> {
    let not_positive = || invalid("duration must be positive");
    let GivenDuration {
        seconds,
        nanoseconds,
    } = given;
    if seconds < 0 || nanoseconds < 0 || (seconds == 0 && nanoseconds == 0) {
        return Err(not_positive());
    }
    let seconds = u64::try_from(seconds).map_err(|_| not_positive())?;
    let nanoseconds = u32::try_from(nanoseconds).map_err(|_| not_positive())?;
    if nanoseconds >= 1_000_000_000 {
        return Err(invalid(
            "duration is malformed: more than a second of nanoseconds",
        ));
    }
    let duration = Duration::new(seconds, nanoseconds);
    not_longer(duration, most)?;
    Ok(duration)
}

fn not_longer(duration: Duration, most: Duration) -> Result<(), Refusal> {
    if duration > most {
        return Err(invalid(format!(
            "duration is too long: at most {} can be asked for",
            shown_duration(most)
        )));
    }
    Ok(())
}

/// The time fields of a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) begin: Option<Timestamp>,
    pub(super) end: Option<Timestamp>,
    pub(super) duration: Option<Duration>,
}

// === impl Times ===

impl Times {
    pub(super) fn of(spec: &LeaseSpec) -> Self {
        Self {
            begin: spec.begin_time,
            end: spec.end_time,
            duration: spec.duration.map(|duration| duration.0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn write(self, spec: &mut LeaseSpec) {
        spec.begin_time = self.begin;
        spec.end_time = self.end;
        spec.duration = self.duration.map(GoDuration);
    }

    /// What a new lease asks for, completed: the duration is always there afterwards.
    pub(super) fn completed(self, now: Timestamp, most: Duration) -> Result<Self, Refusal> {
        let mut times = self;
        match (times.begin, times.end, times.duration) {
            (Some(begin), Some(end), given) => {
                if end <= begin {
                    return Err(invalid(format!(
                        "end_time {} is not after begin_time {}: duration must be positive",
                        shown(end),
                        shown(begin)
                    )));
                }
                let span = between(begin, end);
                if given.is_some_and(|given| given != span) {
                    return Err(invalid("duration conflicts with begin_time and end_time"));
                }
                times.duration = Some(span);
            }
            (None, Some(end), Some(duration)) => {
                let begin = end.checked_sub(duration);
                times.begin = Some(begin.map_err(|_| invalid("end_time is out of range"))?);
            }
            (_, _, Some(_)) => {}
            (_, _, None) => {
                return Err(invalid(
                    "duration is required unless both begin_time and end_time are given",
                ));
            }
        }
        not_longer(times.duration.unwrap_or_default(), most)?;
        let begin = times.begin.unwrap_or(now);
        let end = begin.checked_add(times.duration.unwrap_or_default());
        let end = end.map_err(|_| invalid("the lease would end after the end of time"))?;
        if end <= now {
            return Err(invalid(format!(
                "the lease would have ended at {}, which has passed",
                shown(end)
            )));
        }
        if between(now, begin) > most {
            return Err(invalid(format!(
                "begin_time is too far away: at most {} from now",
                shown_duration(most)
            )));
        }
        Ok(times)
    }

    /// These changes on top of what a lease has: what was said explicitly stays, the rest follows.
    /// `started` is the effective begin of a lease that has its exporter.
    pub(super) fn merged(
        self,
        stored: Self,
        started: Option<Timestamp>,
        now: Timestamp,
        most: Duration,
    ) -> Result<Self, Refusal> {
        if let Some(started) = started {
            let same = |begin| Some(begin) == stored.begin || begin == started;
            if self.begin.is_some_and(|begin| !same(begin)) {
                return Err(Refusal::new(
                    RefusalKind::FailedPrecondition,
                    "cannot update BeginTime: lease has already started",
                ));
            }
            return self.extended(stored, started, now, most);
        }
        let merged = match (self.begin, self.end, self.duration) {
            (Some(begin), None, None) => Self {
                begin: Some(begin),
                end: stored.end,
                duration: if stored.end.is_some() {
                    None
                } else {
                    stored.duration
                },
            },
            (None, Some(end), None) => Self {
                begin: stored.begin,
                end: Some(end),
                duration: if stored.begin.is_some() {
                    None
                } else {
                    stored.duration
                },
            },
            (begin, None, Some(duration)) => {
                let begin = begin.or(stored.begin);
                let end = begin.filter(|_| stored.end.is_some());
                Self {
                    begin,
                    end: end.and_then(|begin| begin.checked_add(duration).ok()),
                    duration: Some(duration),
                }
            }
            _ => self,
        };
        merged.completed(now, most)
    }

    /// The same for a lease that has begun: only its end can move.
    fn extended(
        self,
        stored: Self,
        started: Timestamp,
        now: Timestamp,
        most: Duration,
    ) -> Result<Self, Refusal> {
        let origin = stored.begin.unwrap_or(started);
        let given_end = self.end;
        let times = match (given_end, self.duration) {
            (Some(end), duration) => {
                let window = Self {
                    begin: Some(origin),
                    end: Some(end),
                    duration,
                };
                let window = window.completed(now, most)?;
                Self {
                    begin: stored.begin,
                    end: Some(end),
                    duration: window.duration,
                }
            }
            (None, Some(duration)) => Self {
                begin: stored.begin,
                end: stored.end.map(|_| after(origin, duration)),
                duration: Some(duration),
            },
            (None, None) => stored,
        };
        let end = times
            .end
            .unwrap_or_else(|| after(origin, times.duration.unwrap_or_default()));
        if end <= now {
            return Err(invalid(format!(
                "the lease would have ended at {}, which has passed; release it instead",
                shown(end)
            )));
        }
        Ok(times)
    }
}
