//! How everybody else talks to the engine.

use std::sync::Arc;

use jmp_lease::pool::{Command, Counts, DialRefusal, Event, Queue, Refusal, RefusalKind, Waiting};
use jmp_types::resource::{Key, Lease};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use crate::view::{Item, Viewed};

/// What became of an object.
#[derive(Clone, Debug)]
pub enum Stored<T> {
    /// It was made.
    Created(Arc<T>),
    /// It was changed.
    Updated(Arc<T>),
    /// It is as it was.
    Unchanged(Arc<T>),
    /// It is gone; this was its last state.
    Deleted(Arc<T>),
    /// There was none and there is none.
    Absent,
}

/// A change of one object, with its type erased. Gets the present object, returns the next.
pub(crate) type ErasedChange = Box<dyn FnOnce(Option<Item>) -> Result<Option<Item>, Status> + Send>;

pub(crate) enum Message {
    Command(Box<Command>, oneshot::Sender<Result<Arc<Lease>, Status>>),
    Event(Box<Event>, Option<oneshot::Sender<Result<(), Status>>>),
    Change(
        jmp_types::resource::Kind,
        Key,
        ErasedChange,
        oneshot::Sender<Result<Stored<Item>, Status>>,
    ),
    Question(Question),
}

pub(crate) enum Question {
    Present(Key, oneshot::Sender<Option<Lease>>),
    Queue(Key, oneshot::Sender<Option<Queue>>),
    Waiting(Key, oneshot::Sender<Option<Waiting>>),
    Dial {
        lease: Key,
        client: Key,
        answer: oneshot::Sender<Result<Key, DialRefusal>>,
    },
    Counts(oneshot::Sender<Counts>),
}

/// Talks to the engine. Clones talk to the same one.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    mailbox: mpsc::Sender<Message>,
    healthy: watch::Receiver<bool>,
    tasks: TaskTracker,
}

// === impl EngineHandle ===

impl EngineHandle {
    pub(crate) fn new(
        mailbox: mpsc::Sender<Message>,
        healthy: watch::Receiver<bool>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            mailbox,
            healthy,
            tasks,
        }
    }

    /// Whether the store could be read and written lately.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        *self.healthy.borrow() && !self.mailbox.is_closed()
    }

    /// Changes of [`Self::is_healthy`].
    pub(crate) fn health(&self) -> watch::Receiver<bool> {
        self.healthy.clone()
    }

    /// Carries out a command; the lease is on disk as it is returned.
    ///
    /// # Errors
    ///
    /// The refusal of the pool as a status (see [`refusal`]); UNAVAILABLE or RESOURCE_EXHAUSTED when it
    /// could not be stored.
    pub async fn command(&self, command: Command) -> Result<Arc<Lease>, Status> {
        self.ask(|answer| Message::Command(Box::new(command), answer))
            .await?
    }

    /// Tells what happened, and waits until what follows from it is on disk.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE or RESOURCE_EXHAUSTED when it could not be stored.
    pub async fn event(&self, event: Event) -> Result<(), Status> {
        self.ask(|answer| Message::Event(Box::new(event), Some(answer)))
            .await?
    }

    /// Tells what happened, for those who cannot wait.
    pub(crate) fn tell(&self, event: Event) {
        let message = Message::Event(Box::new(event), None);
        if let Err(mpsc::error::TrySendError::Full(message)) = self.mailbox.try_send(message) {
            let mailbox = self.mailbox.clone();
            self.tasks.spawn(async move {
                // Nobody is left to hear of a controller that stopped.
                let _ = mailbox.send(message).await;
            });
        }
    }

    /// Changes one object: `change` gets the object as it is, or none, and returns it as it should be,
    /// or none. Nobody else changes it meanwhile. `uid`, `creationTimestamp` and `resourceVersion` are
    /// taken care of; `generation` is the caller's. Of exporters only what administrators decide counts
    /// (identity, labels, `spec`, credential, endpoint). Leases change through [`Self::command`].
    ///
    /// # Errors
    ///
    /// Those of `change`; UNAVAILABLE or RESOURCE_EXHAUSTED when it could not be stored.
    pub async fn change<T: Viewed>(
        &self,
        key: &Key,
        change: impl FnOnce(Option<&T>) -> Result<Option<T>, Status> + Send + 'static,
    ) -> Result<Stored<T>, Status> {
        let erased: ErasedChange = Box::new(move |present| {
            let present = present.as_ref().and_then(T::of);
            let next = change(present.map(AsRef::as_ref))?;
            Ok(next.map(|object| T::item(Arc::new(object))))
        });
        let key = key.clone();
        let stored = self
            .ask(|answer| Message::Change(T::KIND, key, erased, answer))
            .await??;
        let typed = |item: Item| {
            T::of(&item)
                .cloned()
                .ok_or_else(|| Status::internal("the object changed its kind"))
        };
        Ok(match stored {
            Stored::Created(item) => Stored::Created(typed(Arc::unwrap_or_clone(item))?),
            Stored::Updated(item) => Stored::Updated(typed(Arc::unwrap_or_clone(item))?),
            Stored::Unchanged(item) => Stored::Unchanged(typed(Arc::unwrap_or_clone(item))?),
            Stored::Deleted(item) => Stored::Deleted(typed(Arc::unwrap_or_clone(item))?),
            Stored::Absent => Stored::Absent,
        })
    }

    /// A lease that has not ended, as people should see it: while it waits, its last condition says how
    /// things stand now. `None` for one that has ended.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE when the controller stops.
    pub async fn present(&self, lease: &Key) -> Result<Option<Lease>, Status> {
        let lease = lease.clone();
        self.ask(|answer| Message::Question(Question::Present(lease, answer)))
            .await
    }

    /// Where a waiting lease stands; `None` unless it waits.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE when the controller stops.
    pub async fn queue(&self, lease: &Key) -> Result<Option<Queue>, Status> {
        let lease = lease.clone();
        self.ask(|answer| Message::Question(Question::Queue(lease, answer)))
            .await
    }

    /// What an exporter waits for; `None` unless it does.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE when the controller stops.
    pub async fn waiting(&self, exporter: &Key) -> Result<Option<Waiting>, Status> {
        let exporter = exporter.clone();
        self.ask(|answer| Message::Question(Question::Waiting(exporter, answer)))
            .await
    }

    /// How many there are of what.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE when the controller stops.
    pub async fn counts(&self) -> Result<Counts, Status> {
        self.ask(|answer| Message::Question(Question::Counts(answer)))
            .await
    }

    /// Whether the client may open a tunnel through its lease, and to which exporter.
    pub(crate) async fn dial_gate(
        &self,
        lease: &Key,
        client: &Key,
    ) -> Result<Result<Key, DialRefusal>, Status> {
        let (lease, client) = (lease.clone(), client.clone());
        self.ask(|answer| {
            Message::Question(Question::Dial {
                lease,
                client,
                answer,
            })
        })
        .await
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        self.mailbox
            .send(message(answer))
            .await
            .map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())
    }
}

fn stopping() -> Status {
    Status::unavailable("the controller is stopping; try again in a moment")
}

/// A refusal of the pool as shipped clients expect it: they show details of UNKNOWN only.
#[must_use]
pub fn refusal(refusal: &Refusal) -> Status {
    let code = match refusal.kind {
        RefusalKind::InvalidArgument => Code::InvalidArgument,
        RefusalKind::FailedPrecondition => Code::FailedPrecondition,
        RefusalKind::ResourceExhausted => Code::ResourceExhausted,
        RefusalKind::NotFound | RefusalKind::PermissionDenied | RefusalKind::AlreadyExists => {
            Code::Unknown
        }
    };
    Status::new(code, refusal.text.clone())
}

/// A failure of the store as a status.
#[must_use]
pub fn store_failure(error: &jmp_store::StoreError) -> Status {
    use jmp_store::StoreError as Error;
    let code = match error {
        Error::Full(_) => Code::ResourceExhausted,
        // Only the racing second of two requests for one name gets here; see `refusal`.
        Error::AlreadyExists {
            kind: jmp_types::resource::Kind::Lease,
            ..
        } => Code::Unknown,
        Error::AlreadyExists { .. } => Code::AlreadyExists,
        Error::NotFound { .. } => Code::NotFound,
        Error::Conflict { .. } => Code::Aborted,
        Error::Invalid { .. } | Error::PageToken => Code::InvalidArgument,
        _ => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}
