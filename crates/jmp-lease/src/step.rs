//! From one event to the next state: the rules of protocol 6.2 to 6.6.

use crate::event::{Effect, EndSessionReply, Event, Mode, StatusUpdate};
use crate::exporter::{
    AVAILABLE_MESSAGE, AfterFailure, Exporter, FAILURE_SHOWN, HOOK_MARGIN, Phase, READY_MESSAGE,
    REGISTERED_MESSAGE, RELEASE_LIMIT, RELEASE_PAUSE, SHUTDOWN_MESSAGE, Shutdown,
};
use crate::hook::{HOOK_WARNING_PREFIX, Hook, HookOutcome, HookRun, OnFailure};
use crate::status::ExporterStatus;
use crate::time::Moment;

/// What `event` at time `now` makes of an exporter, and what has to be done for that.
#[must_use]
pub fn step(mut exporter: Exporter, event: Event, now: Moment) -> (Exporter, Vec<Effect>) {
    let mut effects = Vec::new();
    let mut step = Step {
        exporter: &mut exporter,
        effects: &mut effects,
        now,
    };
    // Each expiry leads to a phase with a later deadline or none, so this ends.
    while step.exporter.deadline().is_some_and(|at| at <= now) {
        step.expire();
    }
    step.handle(event);
    (exporter, effects)
}

/// One call of [`step`].
struct Step<'a> {
    exporter: &'a mut Exporter,
    effects: &'a mut Vec<Effect>,
    now: Moment,
}

// === impl Step ===

impl Step<'_> {
    fn handle(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::Registered => self.registered(),
            Event::SessionStarted { mode } => self.session_started(mode),
            Event::SessionFailed { mode, reason } => self.session_failed(mode, reason),
            Event::HookFinished { run, outcome } => self.hook_finished(run, outcome),
            Event::EndSessionRequested => self.end_session_requested(),
            Event::LeaseEnded => self.lease_ended(),
            Event::ShutdownRequested {
                graceful,
                exit_code,
            } => self.shutdown_requested(graceful, exit_code),
        }
    }

    /// Lets the deadline of the current phase take effect.
    fn expire(&mut self) {
        match self.exporter.phase.clone() {
            Phase::Idle | Phase::Ready | Phase::Stopped => {}
            Phase::Before { run, .. } | Phase::After { run, .. } => {
                self.effects.push(Effect::CancelHook { run });
                let reason = "no answer from whoever runs it".to_owned();
                self.hook_finished(run, HookOutcome::Failed { reason });
            }
            Phase::Failed { then, .. } => self.after_failure(then),
            Phase::Ended {
                release_at: Some(_),
                give_up_at,
            } => {
                self.release();
                self.exporter.phase = Phase::Ended {
                    release_at: None,
                    give_up_at,
                };
            }
            Phase::Ended { .. } => self.session_closed(),
            Phase::Leaving { code, .. } => self.stop(code, SHUTDOWN_MESSAGE),
        }
    }

    fn registered(&mut self) {
        if self.exporter.phase != Phase::Stopped {
            self.exporter.registered = true;
            if self.exporter.phase == Phase::Idle {
                self.report(ExporterStatus::Available, REGISTERED_MESSAGE.to_owned());
            }
        }
    }

    fn session_started(&mut self, mode: Mode) {
        match self.exporter.phase {
            Phase::Idle => {}
            // The end of the earlier lease was never heard of.
            Phase::Ended { .. } => {
                self.session_closed();
                if self.exporter.phase == Phase::Stopped {
                    return;
                }
            }
            _ => return,
        }
        self.exporter.mode = Some(mode);
        self.exporter.lease_over = mode != Mode::Leased;
        self.exporter.release_asked = false;
        self.start_turn(READY_MESSAGE.to_owned());
    }

    fn session_failed(&mut self, mode: Mode, reason: String) {
        match self.exporter.phase {
            Phase::Idle => {
                self.exporter.mode = Some(mode);
                self.exporter.lease_over = mode != Mode::Leased;
                self.exporter.release_asked = false;
            }
            Phase::Before { run, .. } | Phase::After { run, .. } => {
                self.effects.push(Effect::CancelHook { run });
            }
            Phase::Ready => {}
            // It was about to be closed anyway.
            _ => return,
        }
        let status = match self.exporter.phase {
            Phase::After { .. } => ExporterStatus::AfterLeaseHookFailed,
            _ => ExporterStatus::BeforeLeaseHookFailed,
        };
        let message = format!("session failed: {reason}");
        let then = match self.exporter.mode {
            Some(Mode::Leased) => AfterFailure::Release,
            _ => AfterFailure::Exit(message.clone()),
        };
        self.show_failure(status, message, then);
    }

    fn hook_finished(&mut self, finished: HookRun, outcome: HookOutcome) {
        match self.exporter.phase {
            Phase::Before { run, over, .. } if run == finished => {
                self.before_finished(over, outcome);
            }
            Phase::After { run, .. } if run == finished => self.after_finished(outcome),
            // A run that was cancelled or given up.
            _ => {}
        }
    }

    fn before_finished(&mut self, over: bool, outcome: HookOutcome) {
        let policy = self.exporter.hooks.before_lease.unwrap_or_default();
        let message = match outcome {
            HookOutcome::Success => READY_MESSAGE.to_owned(),
            // Cancelled for the shutdown: there is no user to clean up after.
            HookOutcome::Failed { .. } if self.exporter.stopping_now() => {
                return self.turn_over(SHUTDOWN_MESSAGE.to_owned());
            }
            HookOutcome::Failed { reason } => match policy.on_failure {
                OnFailure::Warn => warning(Hook::BeforeLease, &reason),
                OnFailure::EndLease => {
                    return self.hook_failed(Hook::BeforeLease, &reason, false);
                }
                OnFailure::Exit => return self.hook_failed(Hook::BeforeLease, &reason, true),
            },
        };
        if over {
            self.end_turn();
        } else {
            self.ready(message);
        }
    }

    fn after_finished(&mut self, outcome: HookOutcome) {
        let policy = self.exporter.hooks.after_lease.unwrap_or_default();
        match outcome {
            HookOutcome::Success => self.turn_over(AVAILABLE_MESSAGE.to_owned()),
            HookOutcome::Failed { reason } => match policy.on_failure {
                OnFailure::Warn => self.turn_over(warning(Hook::AfterLease, &reason)),
                OnFailure::EndLease => self.hook_failed(Hook::AfterLease, &reason, false),
                OnFailure::Exit => self.hook_failed(Hook::AfterLease, &reason, true),
            },
        }
    }

    fn hook_failed(&mut self, hook: Hook, reason: &str, exit: bool) {
        let message = format!("{} hook failed: {reason}", hook.name());
        let then = match (exit, self.exporter.mode, hook) {
            (false, Some(Mode::Leased), _) => AfterFailure::Release,
            (false, _, Hook::AfterLease) => AfterFailure::NextTurn,
            // A direct session has no lease that could be ended but the process itself.
            _ => AfterFailure::Exit(message.clone()),
        };
        let status = match hook {
            Hook::BeforeLease => ExporterStatus::BeforeLeaseHookFailed,
            Hook::AfterLease => ExporterStatus::AfterLeaseHookFailed,
        };
        self.show_failure(status, message, then);
    }

    fn show_failure(&mut self, status: ExporterStatus, message: String, then: AfterFailure) {
        self.report(status, message);
        self.exporter.phase = Phase::Failed {
            until: self.now + FAILURE_SHOWN,
            then,
        };
    }

    fn after_failure(&mut self, then: AfterFailure) {
        match then {
            AfterFailure::Exit(message)
                if self.exporter.lease_over || self.exporter.stopping_now() =>
            {
                self.stop(1, &message);
            }
            AfterFailure::Exit(message) => {
                // Kept, the lease would hold up its user until it expires.
                self.release();
                self.report(ExporterStatus::Offline, message);
                self.exporter.phase = Phase::Leaving {
                    until: self.now + RELEASE_LIMIT,
                    code: 1,
                };
            }
            AfterFailure::NextTurn => self.turn_over(AVAILABLE_MESSAGE.to_owned()),
            AfterFailure::Release => {
                if !self.exporter.lease_over {
                    self.release();
                }
                self.turn_over(AVAILABLE_MESSAGE.to_owned());
            }
        }
    }

    fn end_session_requested(&mut self) {
        let (success, message) = match (&self.exporter.phase, self.exporter.mode) {
            (Phase::Idle, _) => (false, "no session is active"),
            (Phase::Leaving { .. } | Phase::Stopped, _) => (false, "the exporter goes offline"),
            (_, Some(Mode::Local)) => (
                false,
                "a local session has no lease to end; leave its shell instead",
            ),
            (Phase::Before { over: false, .. } | Phase::Ready, _) => (true, "session ends"),
            _ => (true, "session is ending already"),
        };
        let reply = EndSessionReply {
            success,
            message: message.to_owned(),
        };
        // First, even before the end of the process that a deadline in this step has brought.
        self.effects.insert(0, Effect::ReplyEndSession(reply));
        if success {
            self.end_turn_when_possible();
        }
    }

    /// After the beforeLease hook: two hooks never run at once.
    fn end_turn_when_possible(&mut self) {
        match &mut self.exporter.phase {
            Phase::Before { over, .. } => *over = true,
            Phase::Ready => self.end_turn(),
            _ => {}
        }
    }

    fn lease_ended(&mut self) {
        if self.exporter.mode != Some(Mode::Leased) {
            return;
        }
        self.exporter.lease_over = true;
        match self.exporter.phase {
            Phase::Before { .. } | Phase::Ready => self.end_turn_when_possible(),
            Phase::Ended { .. } => self.session_closed(),
            Phase::Leaving { code, .. } => self.stop(code, SHUTDOWN_MESSAGE),
            Phase::Idle | Phase::After { .. } | Phase::Failed { .. } | Phase::Stopped => {}
        }
    }

    fn shutdown_requested(&mut self, graceful: bool, code: u8) {
        let leased = self.exporter.mode == Some(Mode::Leased);
        // Without a controller no lease end would ever come.
        let graceful = graceful && leased;
        let repeated = self.exporter.stopping_now();
        if !repeated {
            self.exporter.shutdown = Some(Shutdown { graceful, code });
        }
        match self.exporter.phase {
            Phase::Idle => self.stop(code, SHUTDOWN_MESSAGE),
            _ if graceful => {}
            Phase::Before { run, .. } => {
                self.effects.push(Effect::CancelHook { run });
                let reason = "cancelled by the shutdown".to_owned();
                self.hook_finished(run, HookOutcome::Failed { reason });
            }
            Phase::Ready => self.end_turn(),
            // Somebody insists: not even the clean-up is waited for.
            Phase::After { run, .. } if repeated => {
                self.effects.push(Effect::CancelHook { run });
                self.turn_over(SHUTDOWN_MESSAGE.to_owned());
            }
            Phase::Ended { .. } => self.stop(code, SHUTDOWN_MESSAGE),
            Phase::Leaving { code, .. } => self.stop(code, SHUTDOWN_MESSAGE),
            // The clean-up is bounded by its own timeout, the display by a second.
            Phase::After { .. } | Phase::Failed { .. } | Phase::Stopped => {}
        }
    }

    /// Prepares the devices for their next user, who is told `message` if there is no hook.
    fn start_turn(&mut self, message: String) {
        let hooked = self.exporter.mode != Some(Mode::Local);
        match self.exporter.hooks.before_lease {
            Some(policy) if hooked => {
                self.report(
                    ExporterStatus::BeforeLeaseHook,
                    "Running beforeLease hook".to_owned(),
                );
                let run = self.run_hook(Hook::BeforeLease);
                self.exporter.phase = Phase::Before {
                    run,
                    until: self.now + policy.timeout + HOOK_MARGIN,
                    over: false,
                };
            }
            _ => self.ready(message),
        }
    }

    fn ready(&mut self, message: String) {
        self.report(ExporterStatus::LeaseReady, message);
        self.exporter.phase = Phase::Ready;
    }

    /// Takes the devices back from their user.
    fn end_turn(&mut self) {
        self.effects.push(Effect::CloseClientStreams);
        let hooked = self.exporter.mode != Some(Mode::Local);
        match self.exporter.hooks.after_lease {
            Some(policy) if hooked => {
                self.report(
                    ExporterStatus::AfterLeaseHook,
                    "Running afterLease hook".to_owned(),
                );
                let run = self.run_hook(Hook::AfterLease);
                self.exporter.phase = Phase::After {
                    run,
                    until: self.now + policy.timeout + HOOK_MARGIN,
                };
            }
            _ => self.turn_over(AVAILABLE_MESSAGE.to_owned()),
        }
    }

    /// The devices are nobody's: what next?
    fn turn_over(&mut self, message: String) {
        if let Some(Shutdown { code, .. }) = self.exporter.shutdown.filter(|shutdown| {
            // A graceful one waits until the controller has the lease back.
            !shutdown.graceful || self.exporter.lease_over
        }) {
            return self.stop(code, SHUTDOWN_MESSAGE);
        }
        let warned = message.starts_with(HOOK_WARNING_PREFIX);
        self.report(ExporterStatus::Available, message.clone());
        if self.exporter.mode != Some(Mode::Leased) {
            // A clean-up that failed concerns the next user, too.
            self.start_turn(if warned {
                message
            } else {
                READY_MESSAGE.to_owned()
            });
        } else if self.exporter.lease_over {
            self.session_closed();
        } else {
            let release_at = self.now + RELEASE_PAUSE;
            self.exporter.phase = Phase::Ended {
                release_at: (!self.exporter.release_asked).then_some(release_at),
                give_up_at: release_at + RELEASE_LIMIT,
            };
        }
    }

    fn session_closed(&mut self) {
        if let Some(Shutdown { code, .. }) = self.exporter.shutdown {
            return self.stop(code, SHUTDOWN_MESSAGE);
        }
        self.effects.push(Effect::CloseSession);
        self.exporter.mode = None;
        self.exporter.lease_over = true;
        self.exporter.phase = Phase::Idle;
    }

    /// Goes offline for good.
    fn stop(&mut self, code: u8, message: &str) {
        if self.exporter.status != ExporterStatus::Offline {
            self.report(ExporterStatus::Offline, message.to_owned());
        }
        if self.exporter.mode.take().is_some() {
            self.effects.push(Effect::CloseSession);
        }
        if self.exporter.registered {
            self.effects.push(Effect::Unregister);
        }
        self.effects.push(Effect::ExitProcess(code));
        self.exporter.phase = Phase::Stopped;
    }

    fn release(&mut self) {
        if !self.exporter.release_asked {
            self.exporter.release_asked = true;
            self.effects.push(Effect::ReleaseLease);
        }
    }

    fn run_hook(&mut self, hook: Hook) -> HookRun {
        self.exporter.runs = self.exporter.runs.wrapping_add(1);
        let run = HookRun(self.exporter.runs);
        self.effects.push(Effect::RunHook { hook, run });
        run
    }

    fn report(&mut self, status: ExporterStatus, message: String) {
        let previous = std::mem::replace(&mut self.exporter.status, status);
        self.exporter.previous = Some(previous);
        self.exporter.version += 1;
        self.exporter.message.clone_from(&message);
        self.effects.push(Effect::ReportStatus(StatusUpdate {
            status,
            previous,
            message,
            version: self.exporter.version,
        }));
    }
}

fn warning(hook: Hook, reason: &str) -> String {
    format!("{HOOK_WARNING_PREFIX}{} hook failed: {reason}", hook.name())
}
