//! The rows of the status table (protocol 6.5), one history each.

use std::time::Duration;

use jmp_lease::{
    Effect, Event, Exporter, Hook, HookOutcome, HookPolicy, HookRun, Hooks, Mode, Moment,
    OnFailure, step,
};

/// Plays events one second apart and writes down what was done, briefly.
struct Play {
    exporter: Exporter,
    now: Moment,
    run: Option<HookRun>,
    done: Vec<String>,
}

impl Play {
    fn new(before: Option<OnFailure>, after: Option<OnFailure>) -> Self {
        let policy = |on_failure| HookPolicy {
            on_failure,
            ..HookPolicy::default()
        };
        let exporter = Exporter::new(Hooks {
            before_lease: before.map(policy),
            after_lease: after.map(policy),
        });
        Self {
            exporter,
            now: Moment::default(),
            run: None,
            done: Vec::new(),
        }
    }

    /// Feeds one event; returns what came of it since the last question.
    fn event(&mut self, event: Event) -> Vec<String> {
        let (exporter, effects) = step(self.exporter.clone(), event, self.now);
        self.exporter = exporter;
        for effect in effects {
            self.done.push(match effect {
                Effect::ReplyEndSession(reply) => format!("reply {}", reply.success),
                Effect::ReportStatus(update) => {
                    format!("{} v{}: {}", update.status, update.version, update.message)
                }
                Effect::RunHook { hook, run } => {
                    self.run = Some(run);
                    let before = hook == Hook::BeforeLease;
                    if before { "run before" } else { "run after" }.into()
                }
                other => format!("{other:?}"),
            });
        }
        self.now = self.now + Duration::from_millis(10);
        std::mem::take(&mut self.done)
    }

    fn start(&mut self, mode: Mode) -> Vec<String> {
        self.event(Event::SessionStarted { mode })
    }

    fn hook(&mut self, outcome: HookOutcome) -> Vec<String> {
        let run = self.run.take().expect("a hook runs");
        self.event(Event::HookFinished { run, outcome })
    }

    fn hook_fails(&mut self) -> Vec<String> {
        let reason = "exit status 3".into();
        self.hook(HookOutcome::Failed { reason })
    }

    fn deadline(&mut self) -> Vec<String> {
        self.now = self.exporter.deadline().expect("something is pending");
        self.event(Event::Tick)
    }

    fn shutdown(&mut self, graceful: bool) -> Vec<String> {
        self.event(Event::ShutdownRequested {
            graceful,
            exit_code: 143,
        })
    }
}

const READY_1: &str = "LEASE_READY v1: Ready for commands";

#[test]
fn local_sessions_are_ready_at_once_and_refuse_to_end() {
    let mut play = Play::new(Some(OnFailure::Exit), Some(OnFailure::Exit));
    assert_eq!(play.start(Mode::Local), [READY_1]);
    assert_eq!(play.event(Event::EndSessionRequested), ["reply false"]);
    assert_eq!(play.event(Event::LeaseEnded), [""; 0]);
    assert_eq!(
        play.shutdown(true),
        [
            "CloseClientStreams",
            "OFFLINE v2: Exporter shutting down",
            "CloseSession",
            "ExitProcess(143)"
        ]
    );
}

#[test]
fn direct_sessions_go_on_after_end_session() {
    let mut play = Play::new(None, None);
    assert_eq!(play.start(Mode::Direct), [READY_1]);
    assert_eq!(
        play.event(Event::EndSessionRequested),
        [
            "reply true",
            "CloseClientStreams",
            "AVAILABLE v2: Available for new lease",
            "LEASE_READY v3: Ready for commands"
        ]
    );

    let mut play = Play::new(None, Some(OnFailure::Warn));
    play.start(Mode::Direct);
    play.event(Event::EndSessionRequested);
    assert_eq!(play.event(Event::EndSessionRequested), ["reply true"]);
    let warning = "[HOOK_WARNING] afterLease hook failed: exit status 3";
    assert_eq!(
        play.hook_fails(),
        [
            format!("AVAILABLE v3: {warning}"),
            format!("LEASE_READY v4: {warning}")
        ]
    );
    // The clean-up at a shutdown runs; whoever insists need not wait for it.
    play.shutdown(false);
    let insisted = play.shutdown(false);
    assert!(insisted[0].starts_with("CancelHook"), "{insisted:?}");
    assert_eq!(insisted.last().unwrap(), "ExitProcess(143)");
}

#[test]
fn a_direct_session_without_its_preparation_ends_the_process() {
    for on_failure in [OnFailure::EndLease, OnFailure::Exit] {
        let mut play = Play::new(Some(on_failure), Some(OnFailure::Warn));
        play.start(Mode::Direct);
        assert_eq!(
            play.hook_fails(),
            ["BEFORE_LEASE_HOOK_FAILED v2: beforeLease hook failed: exit status 3"]
        );
        assert_eq!(
            play.deadline(),
            [
                "OFFLINE v3: beforeLease hook failed: exit status 3",
                "CloseSession",
                "ExitProcess(1)"
            ]
        );
    }
}

#[test]
fn a_lease_with_hooks_that_succeed() {
    let mut play = Play::new(Some(OnFailure::Warn), Some(OnFailure::Warn));
    assert_eq!(
        play.event(Event::Registered),
        ["AVAILABLE v1: Exporter registered and available"]
    );
    assert_eq!(
        play.start(Mode::Leased),
        [
            "BEFORE_LEASE_HOOK v2: Running beforeLease hook",
            "run before"
        ]
    );
    assert_eq!(play.start(Mode::Leased), [""; 0]);
    assert_eq!(
        play.hook(HookOutcome::Success),
        ["LEASE_READY v3: Ready for commands"]
    );
    assert_eq!(
        play.event(Event::EndSessionRequested),
        [
            "reply true",
            "CloseClientStreams",
            "AFTER_LEASE_HOOK v4: Running afterLease hook",
            "run after"
        ]
    );
    assert_eq!(
        play.hook(HookOutcome::Success),
        ["AVAILABLE v5: Available for new lease"]
    );
    assert_eq!(play.deadline(), ["ReleaseLease"]);
    assert_eq!(play.event(Event::LeaseEnded), ["CloseSession"]);
    assert!(play.exporter.accepts_session());
}

#[test]
fn a_failed_preparation_warns_ends_the_lease_or_the_exporter() {
    let mut play = Play::new(Some(OnFailure::Warn), None);
    play.start(Mode::Leased);
    assert_eq!(
        play.hook_fails(),
        ["LEASE_READY v2: [HOOK_WARNING] beforeLease hook failed: exit status 3"]
    );

    let failed = ["BEFORE_LEASE_HOOK_FAILED v2: beforeLease hook failed: exit status 3"];
    let mut play = Play::new(Some(OnFailure::EndLease), Some(OnFailure::Warn));
    play.start(Mode::Leased);
    assert_eq!(play.hook_fails(), failed);
    assert_eq!(
        play.deadline(),
        ["ReleaseLease", "AVAILABLE v3: Available for new lease"]
    );
    assert_eq!(play.event(Event::LeaseEnded), ["CloseSession"]);

    let mut play = Play::new(Some(OnFailure::Exit), Some(OnFailure::Warn));
    play.event(Event::Registered);
    play.start(Mode::Leased);
    play.hook_fails();
    assert_eq!(
        play.deadline(),
        [
            "ReleaseLease",
            "OFFLINE v4: beforeLease hook failed: exit status 3"
        ]
    );
    assert_eq!(
        play.event(Event::LeaseEnded),
        ["CloseSession", "Unregister", "ExitProcess(1)"]
    );
}

#[test]
fn a_lease_that_ends_first_does_not_leave_the_exporter_unleasable() {
    // A defect of 0.9.0: afterLease fails with endLease after the lease has ended.
    let mut play = Play::new(None, Some(OnFailure::EndLease));
    play.start(Mode::Leased);
    play.event(Event::LeaseEnded);
    assert_eq!(
        play.hook_fails(),
        ["AFTER_LEASE_HOOK_FAILED v3: afterLease hook failed: exit status 3"]
    );
    assert_eq!(
        play.deadline(),
        ["AVAILABLE v4: Available for new lease", "CloseSession"]
    );
}

#[test]
fn a_lease_that_ends_during_the_preparation_is_cleaned_up_after() {
    let mut play = Play::new(Some(OnFailure::Warn), Some(OnFailure::Warn));
    play.start(Mode::Leased);
    assert_eq!(play.event(Event::LeaseEnded), [""; 0]);
    assert_eq!(
        play.hook(HookOutcome::Success),
        [
            "CloseClientStreams",
            "AFTER_LEASE_HOOK v2: Running afterLease hook",
            "run after"
        ]
    );
    assert_eq!(
        play.deadline(),
        [
            "CancelHook { run: HookRun(2) }",
            "AVAILABLE v3: [HOOK_WARNING] afterLease hook failed: no answer from whoever runs it",
            "CloseSession"
        ]
    );
}

#[test]
fn devices_that_do_not_come_up_give_the_lease_back_with_the_reason() {
    let mut play = Play::new(Some(OnFailure::Warn), Some(OnFailure::Warn));
    let reason = "cannot open /dev/ttyUSB0".into();
    assert_eq!(
        play.event(Event::SessionFailed {
            mode: Mode::Leased,
            reason
        }),
        ["BEFORE_LEASE_HOOK_FAILED v1: session failed: cannot open /dev/ttyUSB0"]
    );
    assert_eq!(play.deadline()[0], "ReleaseLease");
    // The controller never answers: the exporter goes on nevertheless.
    assert_eq!(play.deadline(), ["CloseSession"]);
    assert!(play.exporter.accepts_session());
}

#[test]
fn shutdowns_wait_for_the_lease_when_graceful() {
    let offline = [
        "OFFLINE v3: Exporter shutting down",
        "CloseSession",
        "Unregister",
        "ExitProcess(143)",
    ];
    let mut play = Play::new(None, None);
    play.event(Event::Registered);
    play.start(Mode::Leased);
    assert_eq!(play.shutdown(true), [""; 0]);
    assert!(!play.exporter.accepts_session());
    let mut impatient = Play {
        exporter: play.exporter.clone(),
        done: Vec::new(),
        ..play
    };
    assert_eq!(play.event(Event::LeaseEnded)[1..], offline);
    assert_eq!(impatient.shutdown(false)[1..], offline);
}

#[test]
fn a_shutdown_cancels_the_preparation() {
    let mut play = Play::new(Some(OnFailure::Warn), Some(OnFailure::Warn));
    play.start(Mode::Leased);
    assert_eq!(
        play.shutdown(false),
        [
            "CancelHook { run: HookRun(1) }",
            "OFFLINE v2: Exporter shutting down",
            "CloseSession",
            "ExitProcess(143)"
        ]
    );
}
