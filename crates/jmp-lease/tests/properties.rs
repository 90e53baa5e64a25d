//! Random histories: whatever happens in whatever order, the exporter keeps its promises and
//! comes to rest where its next user, or a person with a wrench, can go on.

use std::time::Duration;

use jmp_lease::{
    Effect, Event, Exporter, ExporterStatus, Hook, HookOutcome, HookPolicy, HookRun, Hooks, Mode,
    Moment, OnFailure, Phase, step,
};
use proptest::prelude::*;

/// What a history is made of; hook runs are filled in while it is played.
#[derive(Clone, Debug)]
enum Move {
    Event(Event),
    /// The running hook ends, or an earlier one is reported late.
    HookEnds {
        success: bool,
        late: bool,
    },
    Wait(Duration),
    /// Exactly up to the next deadline.
    WaitForDeadline,
}

fn policy() -> impl Strategy<Value = Option<HookPolicy>> {
    let on_failure = prop_oneof![
        Just(OnFailure::Warn),
        Just(OnFailure::EndLease),
        Just(OnFailure::Exit)
    ];
    proptest::option::of(
        (0_u64..200, on_failure).prop_map(|(seconds, on_failure)| HookPolicy {
            timeout: Duration::from_secs(seconds),
            on_failure,
        }),
    )
}

fn a_move(mode: Mode) -> impl Strategy<Value = Move> {
    let event = Move::Event;
    prop_oneof![
        6 => Just(event(Event::SessionStarted { mode })),
        1 => Just(event(Event::SessionFailed { mode, reason: "no such device".into() })),
        2 => Just(event(Event::Registered)),
        4 => Just(event(Event::EndSessionRequested)),
        4 => Just(event(Event::LeaseEnded)),
        1 => (any::<bool>(), any::<u8>()).prop_map(move |(graceful, exit_code)| {
            event(Event::ShutdownRequested { graceful, exit_code })
        }),
        8 => (any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(success, late)| Move::HookEnds { success, late }),
        4 => (0_u64..40_000).prop_map(|millis| Move::Wait(Duration::from_millis(millis))),
        4 => Just(Move::WaitForDeadline),
    ]
}

fn history() -> impl Strategy<Value = (Hooks, Mode, Vec<Move>)> {
    let mode = prop_oneof![
        1 => Just(Mode::Local),
        2 => Just(Mode::Direct),
        4 => Just(Mode::Leased)
    ];
    (policy(), policy(), mode).prop_flat_map(|(before_lease, after_lease, mode)| {
        let hooks = Hooks {
            before_lease,
            after_lease,
        };
        let moves = proptest::collection::vec(a_move(mode), 0..40);
        (Just(hooks), Just(mode), moves)
    })
}

/// The world around the exporter: carries out effects and checks each against what came before.
struct World {
    exporter: Exporter,
    hooks: Hooks,
    mode: Mode,
    now: Moment,
    running: Option<(Hook, HookRun)>,
    last_run: Option<HookRun>,
    /// The beforeLease hook of this turn failed in a way that forbids the afterLease hook.
    spoilt: bool,
    after_ran: bool,
    registered: bool,
    released: bool,
    lease_over: bool,
    exited: bool,
}

impl World {
    fn new(hooks: Hooks, mode: Mode) -> Self {
        Self {
            exporter: Exporter::new(hooks),
            hooks,
            mode,
            now: Moment::default(),
            running: None,
            last_run: None,
            spoilt: false,
            after_ran: false,
            registered: false,
            released: false,
            lease_over: true,
            exited: false,
        }
    }

    fn play(&mut self, a_move: Move) {
        match a_move {
            Move::Event(event) => self.feed(event),
            Move::HookEnds { success, late } => {
                let current = self.running.map(|(_, run)| run);
                let late_run = self.last_run.map(|run| HookRun(run.0.wrapping_sub(1)));
                if let Some(run) = if late { late_run } else { current } {
                    let outcome = if success {
                        HookOutcome::Success
                    } else {
                        let reason = "exit status 1".into();
                        HookOutcome::Failed { reason }
                    };
                    self.feed(Event::HookFinished { run, outcome });
                }
            }
            Move::Wait(time) => self.now = self.now + time,
            Move::WaitForDeadline => {
                if let Some(at) = self.exporter.deadline() {
                    self.now = self.now.max(at);
                    self.feed(Event::Tick);
                }
            }
        }
    }

    fn feed(&mut self, event: Event) {
        if event != Event::Tick && self.exporter.deadline().is_some_and(|at| at <= self.now) {
            // An event that brings an overdue deadline along is as good as both one by one.
            let (at_once, _) = step(self.exporter.clone(), event.clone(), self.now);
            self.feed(Event::Tick);
            let (one_by_one, _) = step(self.exporter.clone(), event.clone(), self.now);
            assert_eq!(at_once, one_by_one);
        }
        if matches!(
            event,
            Event::SessionStarted { .. } | Event::SessionFailed { .. }
        ) && self.exporter.accepts_session()
        {
            self.lease_over = self.mode != Mode::Leased;
            self.released = false;
        }
        self.lease_over |= event == Event::LeaseEnded;
        self.registered |= event == Event::Registered && !self.exited;
        if let Event::HookFinished { run, .. } = &event
            && self.running.is_some_and(|(_, current)| current == *run)
        {
            self.running = None;
        }
        let asked = event == Event::EndSessionRequested;
        let before = self.exporter.clone();
        let (after, effects) = step(before.clone(), event.clone(), self.now);
        let replies = effects
            .iter()
            .filter(|effect| matches!(effect, Effect::ReplyEndSession(_)))
            .count();
        assert_eq!(replies, usize::from(asked));
        if self.exited {
            assert!(effects.len() == replies, "dead, but {effects:?}");
        }
        let mut version = before.status_version();
        let mut status = before.status();
        for (position, effect) in effects.iter().enumerate() {
            if let Effect::ReportStatus(update) = effect {
                assert_eq!(update.version, version + 1);
                assert_eq!(update.previous, status);
                (version, status) = (update.version, update.status);
            }
            let last = position + 1 == effects.len();
            self.carry_out(effect, last);
        }
        assert_eq!((after.status_version(), after.status()), (version, status));
        self.exporter = after;
        self.check_rest();
    }

    fn carry_out(&mut self, effect: &Effect, last: bool) {
        match effect {
            Effect::ReplyEndSession(reply) => {
                assert!(!(reply.success && self.mode == Mode::Local));
                assert!(!reply.message.is_empty());
            }
            Effect::ReportStatus(update) => match update.status {
                ExporterStatus::BeforeLeaseHookFailed => self.spoilt = true,
                ExporterStatus::BeforeLeaseHook => self.new_turn(),
                ExporterStatus::LeaseReady => {
                    assert!(!self.spoilt || self.hooks.before_lease.is_none());
                    self.new_turn();
                }
                ExporterStatus::Available => self.new_turn(),
                ExporterStatus::Offline => assert!(!update.message.is_empty()),
                _ => {}
            },
            Effect::RunHook { hook, run } => {
                assert_eq!(self.running, None, "two hooks at once");
                assert_ne!(self.mode, Mode::Local);
                let configured = match hook {
                    Hook::BeforeLease => self.hooks.before_lease,
                    Hook::AfterLease => self.hooks.after_lease,
                };
                assert!(configured.is_some());
                if *hook == Hook::AfterLease {
                    assert!(!self.spoilt, "afterLease after a failed beforeLease");
                    assert!(!self.after_ran, "afterLease twice in one turn");
                    self.after_ran = true;
                }
                self.running = Some((*hook, *run));
                self.last_run = Some(*run);
            }
            Effect::CancelHook { run } => {
                assert_eq!(self.running.map(|(_, current)| current), Some(*run));
                self.running = None;
            }
            Effect::CloseClientStreams => {}
            Effect::ReleaseLease => {
                assert_eq!(self.mode, Mode::Leased);
                assert!(!self.released, "released twice");
                assert!(!self.lease_over, "released after its end");
                self.released = true;
            }
            Effect::CloseSession => assert_eq!(self.running, None, "closed under a hook"),
            Effect::Unregister => assert!(self.registered),
            Effect::ExitProcess(_) => {
                assert!(last && !self.exited);
                assert_eq!(self.running, None, "left a hook behind");
                self.exited = true;
            }
        }
    }

    fn new_turn(&mut self) {
        self.spoilt = false;
        self.after_ran = false;
    }

    /// Phase, status, deadline and the world agree.
    fn check_rest(&self) {
        use ExporterStatus as S;
        let exporter = &self.exporter;
        let (fits, pending) = match exporter.phase() {
            Phase::Idle => (exporter.status() == S::Available, false),
            Phase::Before { .. } => (exporter.status() == S::BeforeLeaseHook, true),
            Phase::Ready => (exporter.status() == S::LeaseReady, false),
            Phase::After { .. } => (exporter.status() == S::AfterLeaseHook, true),
            Phase::Failed { .. } => {
                let failed = [S::BeforeLeaseHookFailed, S::AfterLeaseHookFailed];
                (failed.contains(&exporter.status()), true)
            }
            Phase::Ended { .. } => (exporter.status() == S::Available, true),
            Phase::Leaving { .. } => (exporter.status() == S::Offline, true),
            Phase::Stopped => (exporter.status() == S::Offline && self.exited, false),
        };
        assert!(fits, "{exporter:?}");
        assert_eq!(exporter.deadline().is_some(), pending, "{exporter:?}");
        assert!(exporter.deadline().is_none_or(|at| at > self.now));
        let hook_phase = matches!(exporter.phase(), Phase::Before { .. } | Phase::After { .. });
        assert_eq!(self.running.is_some(), hook_phase);
    }

    /// Nobody answers any more, except that leases end some day.
    fn run_down(&mut self) {
        for _ in 0..20 {
            self.play(Move::WaitForDeadline);
            if self.exporter.deadline().is_none() {
                if *self.exporter.phase() == Phase::Ready && self.mode == Mode::Leased {
                    self.feed(Event::LeaseEnded);
                } else {
                    return;
                }
            }
        }
        panic!("never at rest: {:?}", self.exporter);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_well((hooks, mode, moves) in history()) {
        let mut world = World::new(hooks, mode);
        for a_move in moves {
            world.play(a_move);
        }
        world.run_down();
        let exporter = &world.exporter;
        let well = match exporter.status() {
            ExporterStatus::Available => exporter.accepts_session(),
            ExporterStatus::LeaseReady => mode != Mode::Leased,
            ExporterStatus::Offline => world.exited && !exporter.message().is_empty(),
            _ => false,
        };
        prop_assert!(well, "{:?}", exporter);
    }
}
