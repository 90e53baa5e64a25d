//! Tells the controller what the exporter does: in order, until it has heard it.
//!
//! A status that cannot be delivered waits; after a reconnection the present one is told again,
//! because a controller may have forgotten or replaced it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jmp_lease::{ExporterStatus, StatusUpdate};
use jmp_proto::v1::ReportStatusRequest;
use jmp_wire::backoff::Backoff;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use super::controller::{CallError, Controller};

/// Messages that wait for a controller that is away; the oldest go first. A lease makes about
/// six.
const MOST_WAITING: usize = 64;
/// How long the last words may take (facts: protocol 7.2).
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How often the controller may fail at one message before the next one has its turn: one that
/// it cannot digest must not hide all later ones.
const MOST_REFUSALS: u32 = 5;

/// Sends what it is given, in the background. Dropping it forgets what waits.
pub(crate) struct Reporter {
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    queue: Mutex<VecDeque<Message>>,
    /// Present status; told again after a reconnection.
    present: Mutex<Option<(ExporterStatus, String)>>,
    more: Notify,
}

enum Message {
    Status(ExporterStatus, String),
    /// Give this lease back.
    Release(String),
    /// Leave; the answer is that it is over.
    Unregister(oneshot::Sender<()>),
}

struct Task {
    controller: Arc<Controller>,
    shared: Arc<Shared>,
    /// The lease that the controller says this exporter has.
    lease: watch::Receiver<Option<String>>,
    /// Releasing by name was refused once.
    release_by_status: bool,
    /// The controller knows no statuses.
    silent: bool,
}

// === impl Reporter ===

impl Reporter {
    /// Starts it; `lease` is the lease that the controller last spoke of.
    pub fn start(controller: Arc<Controller>, lease: watch::Receiver<Option<String>>) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            present: Mutex::default(),
            more: Notify::new(),
        });
        let task = Task {
            controller,
            shared: Arc::clone(&shared),
            lease,
            release_by_status: false,
            silent: false,
        };
        Self {
            shared,
            _task: AbortOnDropHandle::new(tokio::spawn(task.run())),
        }
    }

    /// Tells a status.
    pub fn status(&self, update: &StatusUpdate) {
        let status = (update.status, update.message.clone());
        *lock(&self.shared.present) = Some(status.clone());
        self.shared.push(Message::Status(status.0, status.1));
    }

    /// Tells the present status again, unless it waits anyway.
    pub fn repeat(&self) {
        let present = lock(&self.shared.present).clone();
        let waiting = lock(&self.shared.queue)
            .iter()
            .any(|message| matches!(message, Message::Status(..)));
        if let (Some((status, text)), false) = (present, waiting) {
            self.shared.push(Message::Status(status, text));
        }
    }

    /// Gives a lease back.
    pub fn release(&self, lease: String) {
        self.shared.push(Message::Release(lease));
    }

    /// Delivers what waits, then leaves; both within ten seconds.
    pub async fn leave(&self) {
        let (done, over) = oneshot::channel();
        self.shared.push(Message::Unregister(done));
        if tokio::time::timeout(LAST_WORDS, over).await.is_err() {
            tracing::warn!(
                "the controller did not hear within {} s that this exporter leaves; it will \
                 notice by itself",
                LAST_WORDS.as_secs()
            );
        }
    }
}

// === impl Shared ===

impl Shared {
    fn push(&self, message: Message) {
        let mut queue = lock(&self.queue);
        if let (Some(Message::Status(last, said)), Message::Status(status, text)) =
            (queue.back(), &message)
            && (last, said) == (status, text)
        {
            return;
        }
        if queue.len() >= MOST_WAITING {
            let status = |message: &Message| matches!(message, Message::Status(..));
            let oldest = queue.iter().position(status).unwrap_or_default();
            queue.remove(oldest);
        }
        queue.push_back(message);
        self.more.notify_one();
    }
}

// === impl Task ===

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::reconnect();
        loop {
            // It leaves the queue before it is sent: what comes in meanwhile is another message.
            let Some(message) = self.next() else {
                self.shared.more.notified().await;
                continue;
            };
            let mut refusals = 0;
            while let Err(error) = self.deliver(&message).await {
                tracing::debug!(%error, "the controller has not heard the exporter; trying again");
                refusals += u32::from(error.was_answered());
                if refusals == MOST_REFUSALS {
                    tracing::warn!("the controller does not take what the exporter says: {error}");
                    break;
                }
                self.controller.pause(&mut backoff).await;
            }
            backoff.reset();
            if let Message::Unregister(done) = message {
                let _ = done.send(());
            }
        }
    }

    fn next(&self) -> Option<Message> {
        lock(&self.shared.queue).pop_front()
    }

    /// An error is worth another attempt.
    async fn deliver(&mut self, message: &Message) -> Result<(), CallError> {
        match message {
            Message::Status(status, text) => self.tell(*status, text, false).await,
            Message::Release(lease) => self.release(lease).await,
            Message::Unregister(_) => {
                let left = self.controller.unregister("Exporter shutdown").await;
                settle("unregistering", left)
            }
        }
    }

    async fn tell(
        &mut self,
        status: ExporterStatus,
        text: &str,
        release: bool,
    ) -> Result<(), CallError> {
        if self.silent {
            return Ok(());
        }
        let request = ReportStatusRequest {
            status: i32::from(status),
            message: Some(text.to_owned()),
            release_lease: release.then_some(true),
        };
        let told = self.controller.report_status(request).await;
        if let Err(error) = &told
            && error.code() == Some(Code::Unimplemented)
        {
            self.silent = true;
            tracing::info!("this controller wants no statuses");
            return Ok(());
        }
        settle("reporting the status", told)
    }

    async fn release(&mut self, lease: &str) -> Result<(), CallError> {
        if !self.release_by_status {
            let released = self.controller.release_lease(lease).await;
            match released.as_ref().err().and_then(CallError::code) {
                // Facts: protocol 7.3.
                Some(
                    Code::PermissionDenied
                    | Code::InvalidArgument
                    | Code::Unauthenticated
                    | Code::Unimplemented,
                ) => self.release_by_status = true,
                _ => return settle("releasing the lease", released),
            }
        }
        // That way names no lease: one that is over must not end the next one.
        if self.lease.borrow().as_deref() != Some(lease) {
            return Ok(());
        }
        let present = lock(&self.shared.present).clone();
        // A controller that gets this status hands out the lease's end before it hands out the
        // exporter.
        self.tell(ExporterStatus::AfterLeaseHook, "Releasing the lease", true)
            .await?;
        match present {
            Some((status, text)) => self.tell(status, &text, false).await,
            None => Ok(()),
        }
    }
}

/// Whether another attempt may bring more: the controller is away, does not work, or wants
/// another credential first. What it understood and refused is only logged.
fn settle(what: &str, result: Result<(), CallError>) -> Result<(), CallError> {
    let Err(error) = result else { return Ok(()) };
    match error.code() {
        Some(
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::Unimplemented
            | Code::OutOfRange
            | Code::AlreadyExists,
        ) => {
            tracing::warn!("{what}: {error}");
            Ok(())
        }
        _ => Err(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
