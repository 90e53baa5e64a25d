//! Keeps the exporter known to its controller, and hears which lease it has: registration, then
//! the Status stream, again and again for the life of the process.

use std::sync::Arc;
use std::time::Duration;

use jmp_proto::v1::{DriverInstanceReport, StatusResponse};
use jmp_wire::backoff::Backoff;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::Code;

use super::controller::{CallError, Controller};

/// A problem that stays the same is mentioned this often.
const MENTION_AGAIN: Duration = Duration::from_secs(300);

/// News from the controller.
#[derive(Debug)]
pub(crate) enum News {
    /// It knows this exporter; the first time and after each interruption.
    Registered,
    /// The first attempt failed; there will be more.
    Waiting(String),
    /// It refused the first registration, and will again.
    Refused(String),
    /// What it wants of this exporter.
    Wanted(Option<LeaseWanted>),
}

/// A lease that this exporter has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseWanted {
    pub name: String,
    /// Empty if the controller does not say.
    pub client: String,
}

/// Sends news until the receiver is gone or the registration is refused.
pub(crate) struct Uplink {
    pub controller: Arc<Controller>,
    pub reports: Vec<DriverInstanceReport>,
    /// Whether there is work for a lease.
    pub busy: watch::Receiver<bool>,
    pub news: mpsc::Sender<News>,
}

/// What is being complained about.
#[derive(Default)]
struct Complaint {
    last: Option<(String, Instant)>,
}

// === impl Uplink ===

impl Uplink {
    pub async fn run(mut self) {
        let mut backoff = Backoff::reconnect();
        let mut complaint = Complaint::default();
        let mut state = State::default();
        loop {
            let lost = self.keep(&mut state, &mut backoff, &mut complaint).await;
            let Err(error) = lost else { return };
            state.registered &= !asks_for_registration(&error);
            if !state.known {
                let text = error.to_string();
                let refused = error.needs_a_person();
                let news = if refused {
                    News::Refused(text)
                } else {
                    News::Waiting(text)
                };
                if self.news.send(news).await.is_err() || refused {
                    return;
                }
            }
            complaint.about(self.controller.endpoint(), &error, state.known);
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Registers, and passes on what the controller says until it stops. `Ok` when nobody
    /// listens to it any more.
    async fn keep(
        &mut self,
        state: &mut State,
        backoff: &mut Backoff,
        complaint: &mut Complaint,
    ) -> Result<(), CallError> {
        // After an interruption, too: the controller may be another one, or have been told that
        // we had left. During a lease that waits, for it could pass for a new process.
        let mut stale = state.registered && *self.busy.borrow_and_update();
        if !stale {
            self.controller.register(self.reports.clone()).await?;
            state.registered = true;
        }
        let mut stream = self.controller.status().await?;
        let mut first = true;
        loop {
            let status = tokio::select! {
                status = stream.message() => status?,
                _ = self.busy.changed(), if stale => {
                    stale = *self.busy.borrow_and_update();
                    if !stale {
                        self.controller.register(self.reports.clone()).await?;
                        // Who registers has no status, for the controller: it is told again.
                        if self.news.send(News::Registered).await.is_err() {
                            return Ok(());
                        }
                    }
                    continue;
                }
            };
            let Some(status) = status else {
                // Some end their streams now and then, which means nothing.
                let ended = "the controller ended the stream of statuses";
                return Err(tonic::Status::unavailable(ended).into());
            };
            if std::mem::take(&mut first) {
                // Only now it is sure that no other process has this exporter's credential.
                state.known = true;
                backoff.reset();
                complaint.settled(self.controller.endpoint());
                self.controller.found_again();
                if self.news.send(News::Registered).await.is_err() {
                    return Ok(());
                }
            }
            if self.news.send(News::Wanted(wanted(status))).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// What the controller knows of this process.
#[derive(Default)]
struct State {
    /// It has its devices.
    registered: bool,
    /// It has told what it wants.
    known: bool,
}

fn asks_for_registration(error: &CallError) -> bool {
    matches!(
        error.code(),
        Some(Code::NotFound | Code::FailedPrecondition)
    )
}

fn wanted(status: StatusResponse) -> Option<LeaseWanted> {
    let name = status.lease_name.filter(|name| !name.is_empty())?;
    status.leased.then(|| LeaseWanted {
        name,
        client: status.client_name.unwrap_or_default(),
    })
}

// === impl Complaint ===

impl Complaint {
    fn about(&mut self, controller: &impl std::fmt::Display, error: &CallError, registered: bool) {
        let text = error.to_string();
        let now = Instant::now();
        let known = self
            .last
            .as_ref()
            .is_some_and(|(last, since)| *last == text && now - *since < MENTION_AGAIN);
        if known {
            return;
        }
        let meanwhile = if registered {
            "; a running session goes on meanwhile"
        } else {
            ""
        };
        tracing::warn!("controller {controller}: {text}; trying again{meanwhile}");
        self.last = Some((text, now));
    }

    fn settled(&mut self, controller: &impl std::fmt::Display) {
        if self.last.take().is_some() {
            tracing::info!("controller {controller}: connected again");
        }
    }
}
