//! The streams that exporters keep open: one Status stream each, one Listen stream for each lease.
//!
//! Nothing here decides: the engine says what the Status streams should say, Dial puts tunnels into the
//! queues of the Listen streams.

mod listen;
mod status;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jmp_lease::pool::Notice;
use jmp_types::Timestamp;
use jmp_types::resource::Key;
use tokio::sync::watch;
use tonic::Status;

pub use listen::{HandOverError, ListenStream, QUEUE};
pub use status::StatusStream;

use crate::authentication::Caller;
use crate::probe::Probe;

/// How long a report waits until it is known that the exporter has heard what it may be the answer to.
const ANSWER: Duration = Duration::from_secs(2);

/// The streams of all exporters.
#[derive(Debug, Default)]
pub struct ExporterSessions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers of streams; they grow.
    last: u64,
    status: HashMap<Key, Session>,
    listens: HashMap<Key, listen::Queue>,
    taken: listen::LatelyTaken,
}

/// A Status stream that is open.
#[derive(Debug)]
struct Session {
    number: u64,
    uid: String,
    generation: u64,
    expires_at: Timestamp,
    probe: Probe,
    outbox: Arc<status::Outbox>,
    /// How many ends of leases were said that the exporter may not have heard yet.
    unheard: watch::Sender<usize>,
}

/// The end of a lease that was said, until it is known whether the exporter has heard it.
#[derive(Debug)]
pub(crate) struct Unheard(watch::Sender<usize>);

// === impl ExporterSessions ===

impl ExporterSessions {
    /// The connection of the Status stream that is open, if there is one.
    #[must_use]
    pub fn incumbent(&self, exporter: &Key) -> Option<Probe> {
        Some(self.lock().status.get(exporter)?.probe.clone())
    }

    /// How many Status streams are open.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.lock().status.len()
    }

    /// Makes the caller's Status stream the one that counts; another one ends.
    pub(crate) fn open_status(&self, caller: &Caller) -> (u64, Arc<status::Outbox>) {
        let outbox = Arc::new(status::Outbox::default());
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        let session = Session {
            number,
            uid: caller.uid.clone(),
            generation: caller.generation,
            expires_at: caller.expires_at,
            probe: caller.peer.probe.clone(),
            outbox: Arc::clone(&outbox),
            unheard: watch::Sender::new(0),
        };
        let old = state.status.insert(caller.key.clone(), session);
        drop(state);
        if let Some(old) = old {
            old.outbox.end(Status::unavailable(
                "another Status stream of this exporter took over",
            ));
        }
        (number, outbox)
    }

    /// Forgets a Status stream, unless another one took over. Says whether it was the one that counts.
    pub(crate) fn close_status(&self, exporter: &Key, number: u64) -> bool {
        let mut state = self.lock();
        let is_current = state
            .status
            .get(exporter)
            .is_some_and(|session| session.number == number);
        if is_current {
            state.status.remove(exporter);
        }
        is_current
    }

    /// The end of a lease is about to be said on a Status stream: the connection to ask whether it was
    /// heard, unless another stream took over.
    pub(crate) fn saying_end(&self, exporter: &Key, number: u64) -> Option<(Probe, Unheard)> {
        let state = self.lock();
        let session = state.status.get(exporter)?;
        let is_current = session.number == number;
        is_current.then(|| (session.probe.clone(), Unheard::new(&session.unheard)))
    }

    /// Waits until it is known whether the exporter has heard of the ends of its leases that were said
    /// so far. What it answers to one of them overtakes that on any real network.
    pub(crate) async fn heard(&self, exporter: &Key) {
        let unheard = {
            let state = self.lock();
            let session = state.status.get(exporter);
            session.map(|session| session.unheard.subscribe())
        };
        if let Some(mut unheard) = unheard {
            // Late, or with its stream gone, the report counts all the same.
            let _ = tokio::time::timeout(ANSWER, unheard.wait_for(|count| *count == 0)).await;
        }
    }

    /// What the exporter is to be told next.
    pub(crate) fn notify(&self, exporter: &Key, notice: Notice) {
        let outbox = {
            let state = self.lock();
            let Some(session) = state.status.get(exporter) else {
                return;
            };
            Arc::clone(&session.outbox)
        };
        outbox.put(notice);
    }

    /// Ends the streams of an exporter whose object has another identifier now, or whose tokens of
    /// `generation` and later only are good; all of them if there is no such object any more.
    pub(crate) fn revoke(&self, exporter: &Key, good: Option<(&str, u64)>) {
        let bad = |uid: &str, generation: u64| match good {
            Some((good, oldest)) => uid != good || generation < oldest,
            None => true,
        };
        let mut state = self.lock();
        let ended = state
            .status
            .get(exporter)
            .filter(|session| bad(&session.uid, session.generation))
            .map(|session| Arc::clone(&session.outbox));
        for queue in state.listens.values_mut() {
            queue.revoke(exporter, bad);
        }
        drop(state);
        if let Some(outbox) = ended {
            outbox.end(revoked());
        }
    }

    /// Ends the streams whose tokens have ended: an exporter that cannot report any more would keep its
    /// device from everybody, and seem to be there.
    pub(crate) fn expire(&self, now: Timestamp) {
        let mut state = self.lock();
        let ended: Vec<_> = state
            .status
            .values()
            .filter(|session| session.expires_at <= now)
            .map(|session| Arc::clone(&session.outbox))
            .collect();
        for queue in state.listens.values_mut() {
            queue.expire(now);
        }
        drop(state);
        for outbox in ended {
            outbox.end(expired());
        }
    }

    /// Ends all streams: the controller stops.
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        let outboxes: Vec<_> = state
            .status
            .values()
            .map(|session| Arc::clone(&session.outbox))
            .collect();
        for queue in state.listens.values_mut() {
            queue.end(Status::unavailable("the controller is stopping"));
        }
        drop(state);
        for outbox in outboxes {
            outbox.end(Status::unavailable("the controller is stopping"));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What shipped exporters are told by every other call, too.
fn expired() -> Status {
    Status::unknown("token is expired: the stream ended with it")
}

fn revoked() -> Status {
    Status::permission_denied(
        "permission denied: the exporter's token was revoked or it was deleted",
    )
}

// === impl Unheard ===

impl Unheard {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
