//! Compares the lease that the controller wants with the session that is, after every event.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jmp_driver::Origin;
use jmp_lease::{
    Effect, EndSessionReply, Event, Exporter, ExporterStatus, Mode, Moment, StatusUpdate, step,
};
use jmp_wire::endpoint::CredentialsError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::controller::Controller;
use super::reporter::Reporter;
use super::tunnels::Listener;
use super::uplink::{LeaseWanted, News, Uplink};
use super::{Ended, LeasedOptions, LeasedProgress};
use crate::hooks::HookRunner;
use crate::runs::{HookRuns, severity, until};
use crate::session::{EndSession, Session, SessionOptions};

/// How long the devices may take to open; clients wait that long, too (facts: protocol 8.3).
const OPEN_LIMIT: Duration = Duration::from_secs(300);
/// How long the devices may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);
/// How long the end of the process waits for devices that are being opened.
const ABANDON_LIMIT: Duration = Duration::from_secs(5);
/// News that may wait.
const NEWS: usize = 8;

/// What happens to an exporter, apart from the controller, hooks and the time.
#[derive(Debug)]
pub(super) enum Message {
    Event(Event),
    EndSession(oneshot::Sender<EndSessionReply>),
}

/// Devices on their way to a session.
struct Opening {
    lease: LeaseWanted,
    task: AbortOnDropHandle<Result<Session, String>>,
}

/// The session of a lease.
struct Current {
    session: Session,
    runner: HookRunner,
    /// Dropped, no more clients come.
    listening: Option<DropGuard>,
}

/// The lease that the machine is about, session or not.
struct Engaged {
    name: String,
    /// The machine has been told that it is over.
    over: bool,
}

pub(super) struct Actor {
    options: Arc<LeasedOptions>,
    exporter: Exporter,
    started: Instant,
    mailbox: mpsc::Receiver<Message>,
    /// For sessions, which may outlive their exporter.
    events: mpsc::WeakSender<Message>,
    progress: watch::Sender<LeasedProgress>,
    controller: Arc<Controller>,
    reporter: Reporter,
    news: mpsc::Receiver<News>,
    _uplink: AbortOnDropHandle<()>,
    /// What the controller said last.
    wanted: Option<LeaseWanted>,
    /// The name of it, for the reporter.
    wanted_name: watch::Sender<Option<String>>,
    opening: Option<Opening>,
    engaged: Option<Engaged>,
    current: Option<Current>,
    /// Whether there is work for a lease, for the uplink.
    busy: watch::Sender<bool>,
    /// A lease that had its session; the controller may be slow to end it.
    served: Option<String>,
    /// The controller said that the lease is over, and was not told yet that this was heard.
    freed: bool,
    /// Came while devices were being opened for a lease, after which it wants to end.
    graceful: Option<u8>,
    sessions: u64,
    runs: HookRuns,
    exit: Option<u8>,
}

// === impl Actor ===

impl Actor {
    pub fn new(
        options: LeasedOptions,
        events: mpsc::WeakSender<Message>,
        mailbox: mpsc::Receiver<Message>,
        progress: watch::Sender<LeasedProgress>,
    ) -> Result<Self, CredentialsError> {
        let controller = Arc::new(Controller::new(options.controller.clone())?);
        let (wanted_name, lease) = watch::channel(None);
        let (news_sender, news) = mpsc::channel(NEWS);
        let (busy, is_busy) = watch::channel(false);
        let uplink = Uplink {
            controller: Arc::clone(&controller),
            busy: is_busy,
            reports: options.reports.clone(),
            news: news_sender,
        };
        Ok(Self {
            exporter: Exporter::new(options.hooks.policies()),
            options: Arc::new(options),
            started: Instant::now(),
            mailbox,
            events,
            progress,
            reporter: Reporter::start(Arc::clone(&controller), lease),
            _uplink: AbortOnDropHandle::new(tokio::spawn(uplink.run())),
            controller,
            news,
            wanted: None,
            wanted_name,
            opening: None,
            engaged: None,
            current: None,
            busy,
            served: None,
            freed: false,
            graceful: None,
            sessions: 0,
            runs: HookRuns::default(),
            exit: None,
        })
    }

    pub async fn live(mut self) -> Ended {
        loop {
            self.reconcile().await;
            self.confirm_end();
            let is_busy = self.engaged.is_some() || self.opening.is_some();
            self.busy
                .send_if_modified(|busy| std::mem::replace(busy, is_busy) != is_busy);
            if let Some(code) = self.exit {
                self.abandon_opening().await;
                return Ended {
                    code,
                    refused: None,
                };
            }
            let deadline = self.exporter.deadline();
            tokio::select! {
                Some(message) = self.mailbox.recv() => self.heard(message).await,
                Some(news) = self.news.recv() => {
                    if let Some(refused) = self.told(news).await {
                        return Ended { code: 1, refused: Some(refused) };
                    }
                }
                opened = opened(&mut self.opening) => self.opened(opened).await,
                (run, outcome) = self.runs.next() => {
                    self.handle(Event::HookFinished { run, outcome }, None).await;
                }
                () = until(self.started, deadline) => self.handle(Event::Tick, None).await,
            }
        }
    }

    async fn heard(&mut self, message: Message) {
        match message {
            // The lease that is being prepared comes first.
            Message::Event(Event::ShutdownRequested {
                graceful: true,
                exit_code,
            }) if self.opening.is_some() => self.graceful = Some(exit_code),
            Message::Event(event) => self.handle(event, None).await,
            Message::EndSession(reply) => {
                self.handle(Event::EndSessionRequested, Some(reply)).await;
            }
        }
    }

    /// What the controller says. A refusal is returned.
    async fn told(&mut self, news: News) -> Option<String> {
        match news {
            News::Refused(reason) => return Some(reason),
            News::Waiting(reason) => {
                self.progress.send_replace(LeasedProgress::Waiting(reason));
            }
            News::Registered => {
                let is_first = self.progress.send_if_modified(|progress| {
                    let before = std::mem::replace(progress, LeasedProgress::Registered);
                    before != LeasedProgress::Registered
                });
                if is_first {
                    self.handle(Event::Registered, None).await;
                } else {
                    self.reporter.repeat();
                }
            }
            News::Wanted(wanted) => {
                if wanted != self.wanted {
                    tracing::debug!(
                        ?wanted,
                        "the controller has another lease for this exporter"
                    );
                }
                self.freed |= self.wanted.is_some() && wanted.is_none();
                let name = wanted.as_ref().map(|lease| lease.name.clone());
                self.wanted_name.send_replace(name);
                self.wanted = wanted;
            }
        }
        None
    }

    /// Does what is missing between what is and what the controller wants.
    async fn reconcile(&mut self) {
        let wanted = self.wanted.clone();
        let is_wanted = |name: &str| wanted.as_ref().is_some_and(|lease| lease.name == name);
        if self.served.as_deref().is_some_and(|name| !is_wanted(name)) {
            self.served = None;
        }
        if let Some(engaged) = &mut self.engaged {
            if !is_wanted(&engaged.name) {
                if !std::mem::replace(&mut engaged.over, true) {
                    tracing::info!(lease = %engaged.name, "the lease has ended");
                    if let Some(current) = &mut self.current {
                        current.listening = None;
                    }
                    self.handle(Event::LeaseEnded, None).await;
                }
            } else if let (Some(lease), Some(current)) = (wanted, &mut self.current)
                && lease.client != current.runner.client
            {
                // A session outlives its transfer to another client.
                tracing::info!(lease = %lease.name, client = %lease.client, "the client has changed");
                current.runner.client = lease.client;
            }
            if self.engaged.is_some() {
                return;
            }
            // That was the end; the next lease may be there.
            return Box::pin(self.reconcile()).await;
        }
        let Some(lease) = wanted else { return };
        let is_new = self.opening.is_none() && self.served.as_ref() != Some(&lease.name);
        if is_new && self.exit.is_none() && self.exporter.accepts_session() {
            self.open(lease);
        }
    }

    /// An exporter that was available before its lease was over, as after EndSession, says so again:
    /// only what it says after it has heard of the end lets the controller lease it out at once.
    fn confirm_end(&mut self) {
        if !self.freed || self.engaged.is_some() || self.opening.is_some() {
            return;
        }
        self.freed = false;
        if self.wanted.is_none() && self.exporter.status() == ExporterStatus::Available {
            self.reporter.repeat();
        }
    }

    /// Starts to open the devices for a lease.
    fn open(&mut self, lease: LeaseWanted) {
        tracing::info!(lease = %lease.name, client = %lease.client, "leased");
        let options = Arc::clone(&self.options);
        let session = SessionOptions {
            motd: options.motd.clone(),
            lease: Some(lease.name.clone()),
            ..SessionOptions::default()
        };
        let task = tokio::spawn(async move {
            let opening = Session::open(&options.registry, &options.root, session);
            match tokio::time::timeout(OPEN_LIMIT, opening).await {
                Ok(opened) => opened.map_err(|error| error.to_string()),
                Err(_) => Err(format!(
                    "the devices did not open within {} s",
                    OPEN_LIMIT.as_secs()
                )),
            }
        });
        self.opening = Some(Opening {
            lease,
            task: AbortOnDropHandle::new(task),
        });
    }

    async fn opened(&mut self, opened: Result<Result<Session, String>, JoinError>) {
        let Some(Opening { lease, .. }) = self.opening.take() else {
            return;
        };
        let opened = opened.unwrap_or_else(|error| Err(error.to_string()));
        let is_wanted = self
            .wanted
            .as_ref()
            .is_some_and(|wanted| wanted.name == lease.name);
        if is_wanted {
            self.engaged = Some(Engaged {
                name: lease.name.clone(),
                over: false,
            });
        }
        let started = match opened {
            Ok(session) if !is_wanted => {
                tracing::info!(lease = %lease.name, "the lease ended before its devices were open");
                close(&session).await;
                None
            }
            Ok(session) => Some(self.start(&lease, session).await),
            Err(_) if !is_wanted => None,
            Err(reason) => Some(Err(reason)),
        };
        match started {
            None => {}
            Some(Ok(())) => {
                let mode = Mode::Leased;
                self.handle(Event::SessionStarted { mode }, None).await;
            }
            Some(Err(reason)) => {
                tracing::error!(lease = %lease.name, "no session: {reason}");
                let mode = Mode::Leased;
                self.handle(Event::SessionFailed { mode, reason }, None)
                    .await;
            }
        }
        if let Some(exit_code) = self.graceful.take() {
            let graceful = true;
            let event = Event::ShutdownRequested {
                graceful,
                exit_code,
            };
            self.handle(event, None).await;
        }
    }

    /// Serves a session whose devices are open.
    async fn start(&mut self, lease: &LeaseWanted, session: Session) -> Result<(), String> {
        self.sessions += 1;
        // A short name: addresses of sockets have little room.
        let directory = &self.options.directory;
        let socket = directory.join(format!("h{}", self.sessions));
        if !self.options.hooks.is_empty()
            && let Err(error) = session.serve_unix(&socket, Origin::Hook)
        {
            close(&session).await;
            return Err(format!("the socket of the hooks: {error}"));
        }
        session.status().resume(&self.exporter);
        if let Some(events) = self.events.upgrade() {
            session.set_control(Control(events));
        }
        let ending = CancellationToken::new();
        let listener = Listener {
            controller: Arc::clone(&self.controller),
            session: session.clone(),
            lease: lease.name.clone(),
            ending: ending.clone(),
        };
        session.inner().tasks.spawn(listener.run());
        self.current = Some(Current {
            runner: HookRunner {
                session: session.clone(),
                scripts: self.options.hooks.clone(),
                socket,
                programs: self.options.programs.clone(),
                motd: directory.join("motd"),
                lease: lease.name.clone(),
                client: lease.client.clone(),
            },
            session,
            listening: Some(ending.drop_guard()),
        });
        Ok(())
    }

    async fn handle(&mut self, event: Event, mut reply: Option<oneshot::Sender<EndSessionReply>>) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let now = Moment::since_start(self.started.elapsed());
            let (exporter, effects) = step(self.exporter.clone(), event, now);
            self.exporter = exporter;
            for effect in effects {
                match effect {
                    Effect::ReplyEndSession(answer) => {
                        if let Some(reply) = reply.take() {
                            let _ = reply.send(answer);
                        }
                    }
                    effect => {
                        let ended = effect == Effect::CloseSession;
                        self.carry_out(effect).await;
                        if ended && self.options.exit_on_lease_end {
                            events.push(Event::ShutdownRequested {
                                graceful: false,
                                exit_code: 0,
                            });
                        }
                    }
                }
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::ReportStatus(update) => self.report(update).await,
            Effect::RunHook { hook, run } => {
                // The machine runs hooks within sessions only.
                if let Some(current) = &self.current {
                    self.runs.start(current.runner.clone(), hook, run);
                }
            }
            Effect::CancelHook { run } => self.runs.cancel(run).await,
            Effect::CloseClientStreams => {
                if let Some(current) = &self.current {
                    current.session.end_turn();
                }
            }
            Effect::ReleaseLease => {
                if let Some(engaged) = &self.engaged {
                    tracing::info!(lease = %engaged.name, "giving the lease back");
                    self.reporter.release(engaged.name.clone());
                }
            }
            Effect::CloseSession => self.close().await,
            Effect::Unregister => self.reporter.leave().await,
            Effect::ExitProcess(code) => self.exit = Some(code),
            Effect::ReplyEndSession(_) => {}
        }
    }

    async fn report(&mut self, update: StatusUpdate) {
        tracing::info!("status {}: {}", update.status, update.message);
        if update.status == ExporterStatus::Available {
            // What the last turn's hook left behind belongs to that turn.
            self.runs.end_background().await;
        }
        if let Some(Current { session, .. }) = &self.current {
            let text = format!("status {}: {}", update.status, update.message);
            session.note(severity(&update), text);
            if update.status == ExporterStatus::LeaseReady {
                session.begin_turn();
            }
            session.status().set(update.status, update.message.clone());
        }
        self.reporter.status(&update);
    }

    async fn close(&mut self) {
        self.runs.end_background().await;
        self.served = self.engaged.take().map(|engaged| engaged.name);
        let Some(current) = self.current.take() else {
            return;
        };
        drop(current.listening);
        close(&current.session).await;
        let _ = std::fs::remove_file(&current.runner.socket);
    }

    /// Devices that are being opened when the process ends are closed again.
    async fn abandon_opening(&mut self) {
        if self.opening.is_some()
            && let Ok(Ok(Ok(session))) =
                tokio::time::timeout(ABANDON_LIMIT, opened(&mut self.opening)).await
        {
            close(&session).await;
        }
    }
}

/// Closes a session; a driver that never does must not take the exporter along.
async fn close(session: &Session) {
    if tokio::time::timeout(CLOSE_LIMIT, session.close())
        .await
        .is_err()
    {
        tracing::error!(
            "the devices did not close within {} s; going on without",
            CLOSE_LIMIT.as_secs()
        );
    }
}

/// The devices that are being opened; never, if there are none. Can be cancelled.
async fn opened(opening: &mut Option<Opening>) -> Result<Result<Session, String>, JoinError> {
    match opening {
        Some(opening) => (&mut opening.task).await,
        None => std::future::pending().await,
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
