//! The Status stream (facts: controller 4.3).

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use futures::Stream;
use jmp_lease::pool::{Event, Notice};
use jmp_proto::v1::StatusResponse;
use jmp_types::resource::Key;
use tonic::Status;

use crate::context::Context;

/// How long the exporter may take to have heard of the end of its lease. Keep-alive ends connections
/// that are silent for as long.
const HEARD: Duration = Duration::from_secs(60);

/// What is to be said next.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: Option<Notice>,
    end: Option<Status>,
    waker: Option<Waker>,
}

/// The Status stream of one exporter: says what the engine wants it to say, the first message at once,
/// then changes only, and always "not leased" between two leases, since shipped exporters miss a change
/// of lease without.
pub struct StatusStream {
    context: Arc<Context>,
    exporter: Key,
    number: u64,
    outbox: Arc<Outbox>,
    said: Option<Notice>,
    ended: bool,
}

// === impl Outbox ===

impl Outbox {
    /// Replaces what was not said yet. Only the engine calls this, in its order.
    pub fn put(&self, notice: Notice) {
        let mut state = self.lock();
        state.next = Some(notice);
        state.wake();
    }

    /// Nothing more is to be said.
    pub fn end(&self, status: Status) {
        let mut state = self.lock();
        state.end.get_or_insert(status);
        state.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

// === impl StatusStream ===

impl StatusStream {
    pub(crate) fn new(
        context: Arc<Context>,
        exporter: Key,
        number: u64,
        outbox: Arc<Outbox>,
    ) -> Self {
        Self {
            context,
            exporter,
            number,
            outbox,
            said: None,
            ended: false,
        }
    }

    /// Tells the engine that the exporter has heard. Of the end of a lease only the exporter itself can
    /// tell that: what was written may be lost with its connection, and an exporter that misses the end
    /// would serve the next lease with the session of the last one.
    fn confirm(&self, notice: Notice) {
        let is_end = !notice.leased;
        let event = Event::NoticeDelivered {
            exporter: self.exporter.clone(),
            connection: self.number,
            notice,
        };
        if !is_end {
            return self.context.engine.tell(event);
        }
        let sessions = &self.context.exporters;
        let Some((probe, unheard)) = sessions.saying_end(&self.exporter, self.number) else {
            return;
        };
        let context = Arc::clone(&self.context);
        self.context.tasks.spawn(async move {
            // The first ping may overtake the message within our own buffers, the second one cannot.
            let heard = async { probe.answers(HEARD).await && probe.answers(HEARD).await };
            tokio::select! {
                heard = heard => if heard {
                    context.engine.tell(event);
                },
                () = context.stopping.cancelled() => {}
            }
            drop(unheard);
        });
    }

    /// The message to send for `notice`, if any, and whether the notice is dealt with by it.
    fn message(&self, notice: &Notice) -> (Option<StatusResponse>, bool) {
        let Some(said) = &self.said else {
            return (Some(response(notice)), true);
        };
        if said.leased && notice.leased && said.lease != notice.lease {
            return (Some(StatusResponse::default()), false);
        }
        if response(said) == response(notice) {
            return (None, true);
        }
        (Some(response(notice)), true)
    }
}

fn response(notice: &Notice) -> StatusResponse {
    StatusResponse {
        leased: notice.leased,
        lease_name: notice.lease.clone(),
        client_name: notice.client.clone(),
        context: notice.context.clone().into_iter().collect(),
    }
}

impl Stream for StatusStream {
    type Item = Result<StatusResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let outbox = Arc::clone(&this.outbox);
        let mut state = outbox.lock();
        if let Some(status) = state.end.take() {
            this.ended = true;
            return Poll::Ready(Some(Err(status)));
        }
        let Some(notice) = state.next.take() else {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let (message, done) = this.message(&notice);
        if done {
            this.confirm(notice.clone());
            this.said = Some(notice);
        } else {
            this.said = Some(Notice::default());
            state.next = Some(notice);
        }
        match message {
            Some(message) => Poll::Ready(Some(Ok(message))),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for StatusStream {
    fn drop(&mut self) {
        let sessions = &self.context.exporters;
        if sessions.close_status(&self.exporter, self.number) {
            self.context.engine.tell(Event::Disconnected {
                exporter: self.exporter.clone(),
                connection: self.number,
            });
        }
    }
}
