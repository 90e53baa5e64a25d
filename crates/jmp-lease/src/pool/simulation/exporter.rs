//! Exporter processes as they were released, with their habits and defects (facts: protocol 6.5,
//! 7.2).

use super::super::api::Notice;
use super::Dice;
use crate::status::ExporterStatus;

/// How old it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// 0.7: never reports, restarts when a lease ends.
    Silent,
    /// 0.8, 0.9 without hooks.
    Plain,
    /// 0.9 with hooks, which may fail in all the ways that it has.
    Hooks,
}

/// What a process does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Register,
    Report(ExporterStatus, &'static str),
    Connect,
    Release(String),
    /// The session is gone, a new one can begin.
    Idle,
    Exit,
}

/// One exporter process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) age: Age,
    pub(super) up: bool,
    /// Counts starts; what an earlier process still had to do is void.
    pub(super) run: u64,
    pub(super) connection: Option<u64>,
    /// The lease that it serves, by its own belief.
    pub(super) session: Option<String>,
}

// === impl Process ===

impl Process {
    pub(super) fn new(age: Age) -> Self {
        Self {
            age,
            up: false,
            run: 0,
            connection: None,
            session: None,
        }
    }

    /// Starts; what it does, and after how many milliseconds.
    pub(super) fn start(&mut self) -> Vec<(u64, Act)> {
        self.up = true;
        self.run += 1;
        self.session = None;
        let mut acts = vec![(0, Act::Register)];
        if self.age != Age::Silent {
            acts.push((
                5,
                Act::Report(
                    ExporterStatus::Available,
                    "Exporter registered and available",
                ),
            ));
        }
        acts.push((10, Act::Connect));
        acts
    }

    /// Hears from its Status stream.
    pub(super) fn hear(&mut self, notice: &Notice, dice: &mut Dice) -> Vec<(u64, Act)> {
        match (&notice.lease, &self.session) {
            // A lease that changes without leased=false between goes unnoticed.
            (Some(_), Some(_)) | (None, None) => Vec::new(),
            (Some(lease), None) => {
                self.session = Some(lease.clone());
                self.begin(lease.clone(), dice)
            }
            (None, Some(_)) => self.end(dice),
        }
    }

    fn begin(&mut self, lease: String, dice: &mut Dice) -> Vec<(u64, Act)> {
        use ExporterStatus as S;
        let took = dice.between(10, 500);
        match self.age {
            Age::Silent => Vec::new(),
            Age::Plain => vec![(took, Act::Report(S::LeaseReady, "Ready for commands"))],
            Age::Hooks => {
                let mut acts = vec![(
                    5,
                    Act::Report(S::BeforeLeaseHook, "Running beforeLease hook"),
                )];
                match dice.below(10) {
                    // endLease: released a second later.
                    0 => {
                        acts.push((took, Act::Report(S::BeforeLeaseHookFailed, "exit 1")));
                        acts.push((took + 1000, Act::Release(lease)));
                        acts.push((took + 1100, Act::Report(S::Available, "")));
                    }
                    // Internal error: nothing follows.
                    1 => acts.push((took, Act::Report(S::BeforeLeaseHookFailed, "internal"))),
                    // The hook hangs.
                    2 => {}
                    // exit: keeps the lease until it ends.
                    3 => acts.push((took, Act::Report(S::Offline, "hook failed, exiting"))),
                    _ => acts.push((took, Act::Report(S::LeaseReady, "Ready for commands"))),
                }
                acts
            }
        }
    }

    fn end(&mut self, dice: &mut Dice) -> Vec<(u64, Act)> {
        use ExporterStatus as S;
        let took = dice.between(10, 1500);
        match self.age {
            Age::Silent => vec![(took, Act::Exit)],
            Age::Plain => vec![
                (took, Act::Report(S::Available, "Available for new lease")),
                (took + 200, Act::Idle),
            ],
            Age::Hooks => {
                let mut acts = vec![(5, Act::Report(S::AfterLeaseHook, "Running afterLease hook"))];
                match dice.below(8) {
                    // The lease ended first: AVAILABLE is forgotten, though the next lease is taken.
                    0 => acts.push((took, Act::Report(S::AfterLeaseHookFailed, "exit 1"))),
                    1 => acts.push((took, Act::Exit)),
                    // The hook hangs.
                    2 => return acts,
                    _ => acts.push((took, Act::Report(S::Available, "Available for new lease"))),
                }
                acts.push((took + 200, Act::Idle));
                acts
            }
        }
    }

    /// A client has called EndSession.
    pub(super) fn end_session(&self, lease: &str) -> Vec<(u64, Act)> {
        use ExporterStatus as S;
        if self.session.as_deref() != Some(lease) || self.age == Age::Silent {
            return Vec::new();
        }
        let mut acts = vec![(10, Act::Report(S::Available, "Available for new lease"))];
        if self.age == Age::Hooks {
            acts.push((1010, Act::Release(lease.to_owned())));
        }
        acts
    }
}
