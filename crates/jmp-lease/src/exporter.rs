//! An exporter between events.
//!
//! Invariant: [`Exporter::deadline`] is `Some` in every phase that waits for somebody who might
//! never answer. [`crate::step()`] first lets overdue
//! deadlines take effect, so it does not matter which event brings the time along.

use std::time::Duration;

use crate::event::Mode;
use crate::hook::{HookRun, Hooks};
use crate::status::ExporterStatus;
use crate::time::Moment;

/// Message of AVAILABLE after registration (protocol 6.5).
pub const REGISTERED_MESSAGE: &str = "Exporter registered and available";
/// Message of AVAILABLE after a lease (protocol 6.5).
pub const AVAILABLE_MESSAGE: &str = "Available for new lease";
/// Message of LEASE_READY (protocol 6.5).
pub const READY_MESSAGE: &str = "Ready for commands";
/// Message of OFFLINE at a shutdown (protocol 6.5).
pub(crate) const SHUTDOWN_MESSAGE: &str = "Exporter shutting down";

/// How long a failed status stays before the next one: clients poll every 0.1 to 0.3 s, and one
/// that misses the failure waits for minutes (protocol 6.5, 8.3).
pub const FAILURE_SHOWN: Duration = Duration::from_secs(1);
/// Time between the end of a session and the release of its lease: the client normally deletes
/// it itself, and gets the chance to.
pub const RELEASE_PAUSE: Duration = Duration::from_secs(1);
/// How long a released lease may take to end before the exporter goes on without that.
pub const RELEASE_LIMIT: Duration = Duration::from_secs(30);
/// How much longer than its timeout a hook may take before its runner is given up.
pub const HOOK_MARGIN: Duration = Duration::from_secs(30);

/// What the exporter is doing. See the crate documentation for the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No session.
    Idle,
    /// The beforeLease hook runs.
    Before {
        /// Which run.
        run: HookRun,
        /// When its runner is given up.
        until: Moment,
        /// The session is to end as soon as the hook has.
        over: bool,
    },
    /// The session is its holder's.
    Ready,
    /// The afterLease hook runs.
    After {
        /// Which run.
        run: HookRun,
        /// When its runner is given up.
        until: Moment,
    },
    /// A failure is on display.
    Failed {
        /// Until when.
        until: Moment,
        /// What comes then.
        then: AfterFailure,
    },
    /// The session is over, its lease is not.
    Ended {
        /// When to release it; `None` once that was asked for.
        release_at: Option<Moment>,
        /// When to go on without its end.
        give_up_at: Moment,
    },
    /// Offline; the lease was released and should end before the exporter unregisters.
    Leaving {
        /// When to unregister without that.
        until: Moment,
        /// Exit code of the process.
        code: u8,
    },
    /// The process ends.
    Stopped,
}

/// What follows a failure that was on display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Release the lease, be available.
    Release,
    /// The next turn of a direct session.
    NextTurn,
    /// Go offline with this message and end.
    Exit(String),
}

/// A shutdown that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shutdown {
    pub(crate) graceful: bool,
    pub(crate) code: u8,
}

/// An exporter between events: what it says about itself, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exporter {
    pub(crate) hooks: Hooks,
    pub(crate) status: ExporterStatus,
    pub(crate) previous: Option<ExporterStatus>,
    pub(crate) message: String,
    pub(crate) version: u64,
    pub(crate) phase: Phase,
    pub(crate) mode: Option<Mode>,
    pub(crate) registered: bool,
    /// The controller has said that the lease is over, or there is none.
    pub(crate) lease_over: bool,
    pub(crate) release_asked: bool,
    pub(crate) shutdown: Option<Shutdown>,
    pub(crate) runs: u32,
}

// === impl Exporter ===

impl Exporter {
    /// An exporter without a session: AVAILABLE, version 0 (observed on 0.9.0).
    #[must_use]
    pub fn new(hooks: Hooks) -> Self {
        Self {
            hooks,
            status: ExporterStatus::Available,
            previous: None,
            message: String::new(),
            version: 0,
            phase: Phase::Idle,
            mode: None,
            registered: false,
            lease_over: true,
            release_asked: false,
            shutdown: None,
            runs: 0,
        }
    }

    /// The current status.
    #[must_use]
    pub fn status(&self) -> ExporterStatus {
        self.status
    }

    /// The status before the last update; `None` before the first one.
    #[must_use]
    pub fn previous_status(&self) -> Option<ExporterStatus> {
        self.previous
    }

    /// What was said with the current status.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Number of status updates so far.
    #[must_use]
    pub fn status_version(&self) -> u64 {
        self.version
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// How the current session is used; `None` without one.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// When [`crate::step()`] has to be called at the latest ([`crate::Event::Tick`] will do); `None` when
    /// nothing is pending.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Idle | Phase::Ready | Phase::Stopped => None,
            Phase::Before { until, .. }
            | Phase::After { until, .. }
            | Phase::Failed { until, .. }
            | Phase::Leaving { until, .. } => Some(*until),
            Phase::Ended {
                release_at,
                give_up_at,
            } => Some(release_at.unwrap_or(*give_up_at)),
        }
    }

    /// Whether a session may be started now. An adapter that knows of a lease asks after every
    /// step and starts its session when it can; [`crate::Event::SessionStarted`] at another time is
    /// taken for a repetition.
    #[must_use]
    pub fn accepts_session(&self) -> bool {
        self.shutdown.is_none() && matches!(self.phase, Phase::Idle | Phase::Ended { .. })
    }

    /// Whether a shutdown that does not wait for the lease was asked for.
    pub(crate) fn stopping_now(&self) -> bool {
        self.shutdown.is_some_and(|shutdown| !shutdown.graceful)
    }
}
