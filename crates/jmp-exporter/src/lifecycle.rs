//! The life of an exporter without a controller: turns, hooks, shutdown.
//!
//! All decisions are [`jmp_lease::step`]'s; this actor feeds it events and the time and carries
//! out its effects, in their order. See `docs/design/0003-exporter-status.md`.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use jmp_driver::Origin;
use jmp_lease::{
    Effect, EndSessionReply, Event, Exporter, ExporterStatus, Mode, Moment, StatusUpdate, step,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::hooks::{HookRunner, HookScripts};
use crate::runs::{HookRuns, severity, until};
use crate::session::{EndSession, Session};

/// Name of the lease that a session without a controller is said to have (facts: protocol 10.3).
pub const STANDALONE_LEASE: &str = "standalone";

/// Messages to the actor that may wait; those who send more wait themselves.
const MAILBOX: usize = 32;

/// How a session is run.
#[derive(Debug, Clone)]
pub struct LifecycleOptions {
    /// Local or direct.
    pub mode: Mode,
    /// Scripts around each turn; local sessions have none.
    pub hooks: HookScripts,
    /// A directory that comes first on the PATH of hooks: the one that holds `j`.
    pub programs: Option<PathBuf>,
    /// A private directory for the socket of the hooks and the like, for this session alone.
    pub directory: PathBuf,
}

/// A running life cycle. Dropping it abandons the session without ceremony.
#[derive(Debug)]
pub struct Lifecycle {
    events: mpsc::Sender<Message>,
    actor: AbortOnDropHandle<u8>,
}

/// A way to end the exporter from elsewhere, such as a signal handler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ShutdownHandle(mpsc::Sender<Message>);

#[derive(Debug)]
enum Message {
    Event(Event),
    EndSession(oneshot::Sender<EndSessionReply>),
}

// === impl Lifecycle ===

impl Lifecycle {
    /// Starts the first turn of an open session, which may be served already.
    ///
    /// # Errors
    ///
    /// If the socket of the hooks cannot be made.
    pub fn start(session: Session, options: LifecycleOptions) -> io::Result<Self> {
        let (events, mailbox) = mpsc::channel(MAILBOX);
        let runner = runner(&session, &options)?;
        session.set_control(Control(events.clone()));
        let actor = Actor {
            exporter: Exporter::new(options.hooks.policies()),
            started: Instant::now(),
            session,
            runner,
            mailbox,
            runs: HookRuns::default(),
            exit: None,
        };
        let actor = tokio::spawn(actor.live(options.mode));
        Ok(Self {
            events,
            actor: AbortOnDropHandle::new(actor),
        })
    }

    /// Ends the exporter from elsewhere.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle(self.events.clone())
    }

    /// Waits until the exporter has ended, with the session closed and all hooks gone; its exit
    /// code. Can be cancelled and called again.
    ///
    /// # Panics
    ///
    /// If the life cycle itself did.
    pub async fn finished(&mut self) -> u8 {
        match (&mut self.actor).await {
            Ok(code) => code,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => 1,
        }
    }
}

// === impl ShutdownHandle ===

impl ShutdownHandle {
    /// Asks the exporter to end: now, or after the present lease. Asking again to end now skips
    /// the clean-up that runs.
    pub async fn request(&self, graceful: bool, exit_code: u8) {
        let event = Event::ShutdownRequested {
            graceful,
            exit_code,
        };
        // An exporter that has ended needs no asking.
        let _ = self.0.send(Message::Event(event)).await;
    }
}

/// Sends EndSession calls to the actor.
struct Control(mpsc::Sender<Message>);

#[async_trait]
impl EndSession for Control {
    async fn end_session(&self) -> EndSessionReply {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Message::EndSession(reply)).await;
        answer.await.unwrap_or_else(|_| EndSessionReply {
            success: true,
            message: "the exporter is shutting down".into(),
        })
    }
}

fn runner(session: &Session, options: &LifecycleOptions) -> io::Result<HookRunner> {
    let directory = &options.directory;
    let socket = directory.join("hook.sock");
    if options.mode != Mode::Local && !options.hooks.is_empty() {
        session.serve_unix(&socket, Origin::Hook)?;
    }
    Ok(HookRunner {
        session: session.clone(),
        scripts: options.hooks.clone(),
        socket,
        programs: options.programs.clone(),
        motd: directory.join("motd"),
        lease: STANDALONE_LEASE.into(),
        client: String::new(),
    })
}

struct Actor {
    exporter: Exporter,
    started: Instant,
    session: Session,
    runner: HookRunner,
    mailbox: mpsc::Receiver<Message>,
    runs: HookRuns,
    exit: Option<u8>,
}

// === impl Actor ===

impl Actor {
    async fn live(mut self, mode: Mode) -> u8 {
        self.handle(Event::SessionStarted { mode }, None).await;
        loop {
            if let Some(code) = self.exit {
                return code;
            }
            let deadline = self.exporter.deadline();
            tokio::select! {
                message = self.mailbox.recv() => match message {
                    Some(Message::Event(event)) => self.handle(event, None).await,
                    Some(Message::EndSession(reply)) => {
                        self.handle(Event::EndSessionRequested, Some(reply)).await;
                    }
                    // The session holds a sender as long as it lives, and this holds the session.
                    None => return 1,
                },
                (run, outcome) = self.runs.next() => {
                    self.handle(Event::HookFinished { run, outcome }, None).await;
                }
                () = until(self.started, deadline) => self.handle(Event::Tick, None).await,
            }
        }
    }

    async fn handle(&mut self, event: Event, mut reply: Option<oneshot::Sender<EndSessionReply>>) {
        let now = Moment::since_start(self.started.elapsed());
        let exporter = self.exporter.clone();
        let (exporter, effects) = step(exporter, event, now);
        self.exporter = exporter;
        for effect in effects {
            match effect {
                Effect::ReplyEndSession(answer) => {
                    if let Some(reply) = reply.take() {
                        let _ = reply.send(answer);
                    }
                }
                effect => self.carry_out(effect).await,
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::ReportStatus(update) => self.report(update).await,
            Effect::RunHook { hook, run } => self.runs.start(self.runner.clone(), hook, run),
            Effect::CancelHook { run } => self.runs.cancel(run).await,
            Effect::CloseClientStreams => self.session.end_turn(),
            Effect::CloseSession => {
                self.runs.end_background().await;
                self.session.close().await;
            }
            Effect::ExitProcess(code) => self.exit = Some(code),
            // There is no controller, which these are for; and replies went to their callers.
            Effect::ReleaseLease | Effect::Unregister | Effect::ReplyEndSession(_) => {}
        }
    }

    async fn report(&mut self, update: StatusUpdate) {
        let severity = severity(&update);
        let text = format!("status {}: {}", update.status, update.message);
        self.session.note(severity, text);
        match update.status {
            ExporterStatus::LeaseReady => self.session.begin_turn(),
            // What the last turn's hook left behind belongs to that turn.
            ExporterStatus::Available => self.runs.end_background().await,
            _ => {}
        }
        self.session.status().set(update.status, update.message);
    }
}
