//! The Listen streams and the queues of tunnels behind them (facts: controller 4.4).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use futures::Stream;
use jmp_proto::v1::ListenResponse;
use jmp_types::Timestamp;
use jmp_types::resource::Key;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

use super::{ExporterSessions, expired, revoked};
use crate::authentication::Caller;
use crate::probe::Probe;

/// Tunnels that may wait in a queue.
pub const QUEUE: usize = 8;
/// How long a tunnel that was taken is offered again to a new process of the exporter. Its client waits at
/// the router meanwhile, and would wait as long as its token lives.
const OFFERED_AGAIN: Duration = Duration::from_secs(60);
/// Tunnels that are remembered for that.
const REMEMBERED: usize = 4096;
/// How long the peer may take to show that it lives after it was handed a tunnel.
const CONFIRMATION: Duration = Duration::from_secs(5);

/// The tunnels of one lease that its exporter has not taken yet, and the stream that takes them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    last: u64,
    waiting: VecDeque<HandOver>,
    listener: Option<Listener>,
}

#[derive(Debug)]
struct HandOver {
    number: u64,
    response: ListenResponse,
    taken: oneshot::Sender<Probe>,
}

/// A tunnel that was taken, for as long as its client may still be alone at the router.
#[derive(Debug)]
struct Taken {
    at: Instant,
    exporter: Key,
    lease: Key,
    response: ListenResponse,
    /// The process that took it has gone; the next one of that exporter gets it again.
    orphan: bool,
}

/// The tunnels that were taken a moment ago, oldest first.
#[derive(Debug, Default)]
pub(super) struct LatelyTaken(VecDeque<Taken>);

#[derive(Debug)]
struct Listener {
    /// Tunnels that the process before took along.
    inherited: VecDeque<ListenResponse>,
    number: u64,
    exporter: Key,
    uid: String,
    generation: u64,
    expires_at: Timestamp,
    probe: Probe,
    waker: Option<Waker>,
    end: Option<Status>,
}

/// Why a tunnel could not be handed to the exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOverError {
    /// Too many wait already.
    Full,
    /// Nobody took it in time.
    NotListening,
}

/// One Listen stream. Ends with OK when another one of the same lease is opened.
#[derive(Debug)]
pub struct ListenStream {
    sessions: Arc<ExporterSessions>,
    lease: Key,
    number: u64,
    ended: bool,
}

/// Takes a tunnel back that nobody waits for any more.
struct Withdraw<'a> {
    sessions: &'a ExporterSessions,
    lease: &'a Key,
    number: u64,
}

// === impl LatelyTaken ===

impl LatelyTaken {
    fn remember(&mut self, exporter: &Key, lease: &Key, response: &ListenResponse) {
        self.forget_old();
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Taken {
            at: Instant::now(),
            exporter: exporter.clone(),
            lease: lease.clone(),
            response: response.clone(),
            orphan: false,
        });
    }

    fn forget_old(&mut self) {
        let is_old = |taken: &Taken| taken.at.elapsed() > OFFERED_AGAIN;
        while self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
    }

    fn orphan(&mut self, exporter: &Key) {
        for taken in &mut self.0 {
            taken.orphan |= taken.exporter == *exporter;
        }
    }

    fn inherit(&mut self, exporter: &Key, lease: &Key) -> VecDeque<ListenResponse> {
        self.forget_old();
        let mut inherited = VecDeque::new();
        self.0.retain(|taken| {
            let meant = taken.orphan && taken.exporter == *exporter && taken.lease == *lease;
            if meant {
                inherited.push_back(taken.response.clone());
            }
            !meant
        });
        inherited
    }
}

// === impl Queue ===

impl Queue {
    pub fn revoke(&mut self, exporter: &Key, bad: impl Fn(&str, u64) -> bool) {
        let is_bad = self.listener.as_ref().is_some_and(|listener| {
            listener.exporter == *exporter && bad(&listener.uid, listener.generation)
        });
        if is_bad {
            self.end(revoked());
        }
    }

    pub fn expire(&mut self, now: Timestamp) {
        let listener = self.listener.as_ref();
        if listener.is_some_and(|listener| listener.expires_at <= now) {
            self.end(expired());
        }
    }

    pub fn end(&mut self, status: Status) {
        if let Some(listener) = &mut self.listener {
            listener.end.get_or_insert(status);
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(listener) = &mut self.listener
            && let Some(waker) = listener.waker.take()
        {
            waker.wake();
        }
    }

    fn is_idle(&self) -> bool {
        self.listener.is_none() && self.waiting.is_empty()
    }
}

// === impl ExporterSessions ===

impl ExporterSessions {
    /// A new process of the exporter has come: what the one before took and did not use is lost with it.
    pub(crate) fn restarted(&self, exporter: &Key) {
        self.lock().taken.orphan(exporter);
    }

    /// Opens the stream that takes the tunnels of the lease; one that was open ends.
    pub(crate) fn listen(self: &Arc<Self>, lease: &Key, caller: &Caller) -> ListenStream {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        let inherited = state.taken.inherit(&caller.key, lease);
        let queue = state.listens.entry(lease.clone()).or_default();
        queue.wake();
        queue.listener = Some(Listener {
            inherited,
            number,
            exporter: caller.key.clone(),
            uid: caller.uid.clone(),
            generation: caller.generation,
            expires_at: caller.expires_at,
            probe: caller.peer.probe.clone(),
            waker: None,
            end: None,
        });
        ListenStream {
            sessions: Arc::clone(self),
            lease: lease.clone(),
            number,
            ended: false,
        }
    }

    /// Hands a tunnel to the exporter of the lease: done when its Listen stream took it and the
    /// process behind that showed that it lives. Waits until `deadline` for a stream that does.
    ///
    /// # Errors
    ///
    /// When the queue is full, or nobody took it in time.
    pub async fn hand_over(
        &self,
        lease: &Key,
        response: ListenResponse,
        deadline: Instant,
    ) -> Result<(), HandOverError> {
        loop {
            let probe = tokio::time::timeout_at(deadline, self.offer(lease, response.clone()))
                .await
                .map_err(|_| HandOverError::NotListening)??;
            if probe.answers(CONFIRMATION).await {
                return Ok(());
            }
            // Dead, though nobody noticed before. Its router token was not used.
            probe.close();
        }
    }

    async fn offer(&self, lease: &Key, response: ListenResponse) -> Result<Probe, HandOverError> {
        let (taken, answer) = oneshot::channel();
        let number = {
            let mut state = self.lock();
            let queue = state.listens.entry(lease.clone()).or_default();
            if queue.waiting.len() >= QUEUE {
                return Err(HandOverError::Full);
            }
            queue.last += 1;
            let number = queue.last;
            queue.waiting.push_back(HandOver {
                number,
                response,
                taken,
            });
            queue.wake();
            number
        };
        let _withdraw = Withdraw {
            sessions: self,
            lease,
            number,
        };
        answer.await.map_err(|_| HandOverError::NotListening)
    }
}

// === impl Withdraw ===

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let mut state = self.sessions.lock();
        let Some(queue) = state.listens.get_mut(self.lease) else {
            return;
        };
        queue.waiting.retain(|other| other.number != self.number);
        if queue.is_idle() {
            state.listens.remove(self.lease);
        }
    }
}

// === impl ListenStream ===

impl Stream for ListenStream {
    type Item = Result<ListenResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let mut state = this.sessions.lock();
        let state = &mut *state;
        let queue = state.listens.get_mut(&this.lease);
        let Some((listener, waiting)) = queue.and_then(|queue| {
            let listener = queue.listener.as_mut()?;
            (listener.number == this.number).then_some((listener, &mut queue.waiting))
        }) else {
            this.ended = true;
            return Poll::Ready(None);
        };
        if let Some(status) = listener.end.take() {
            this.ended = true;
            return Poll::Ready(Some(Err(status)));
        }
        if let Some(response) = listener.inherited.pop_front() {
            state
                .taken
                .remember(&listener.exporter, &this.lease, &response);
            return Poll::Ready(Some(Ok(response)));
        }
        while let Some(next) = waiting.pop_front() {
            // Nobody waits for it any more if that fails.
            if next.taken.send(listener.probe.clone()).is_ok() {
                state
                    .taken
                    .remember(&listener.exporter, &this.lease, &next.response);
                return Poll::Ready(Some(Ok(next.response)));
            }
        }
        listener.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for ListenStream {
    fn drop(&mut self) {
        let mut state = self.sessions.lock();
        let Some(queue) = state.listens.get_mut(&self.lease) else {
            return;
        };
        if queue
            .listener
            .as_ref()
            .is_some_and(|listener| listener.number == self.number)
        {
            queue.listener = None;
        }
        if queue.is_idle() {
            state.listens.remove(&self.lease);
        }
    }
}
