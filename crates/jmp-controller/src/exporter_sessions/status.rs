//! The Status stream (facts: controller 4.3).

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use futures::Stream;
use jmp_lease::pool::{Event, Notice};
use jmp_proto::v1::StatusResponse;
use jmp_types::resource::Key;
use tonic::Status;

use crate::context::Context;

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
            this.context.engine.tell(Event::NoticeDelivered {
                exporter: this.exporter.clone(),
                connection: this.number,
                notice: notice.clone(),
            });
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
