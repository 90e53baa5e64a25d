//! Watching: a bounded memory of the last changes, from which every watcher reads at its own pace.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jmp_types::resource::Kind;
use tokio::sync::watch;

use crate::object::{Object, Revision};

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The object was made or changed; this is the new state.
    Changed(Object),
    /// The object was deleted; this is its last state, with the revision of the deletion.
    Deleted(Object),
    /// Changes were missed: list again, and watch from there. Nothing comes after this.
    Relist,
}

/// The changes of one kind, in the order in which they were committed, each once.
#[derive(Debug)]
pub struct Watch {
    hub: Arc<Hub>,
    wake: watch::Receiver<u64>,
    kind: Kind,
    /// Everything up to here was delivered; nothing after [`WatchEvent::Relist`].
    seen: Option<u64>,
}

/// The last changes of a store.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    wake: watch::Sender<u64>,
    capacity: usize,
}

#[derive(Debug)]
struct State {
    /// By revision, which rises.
    changes: VecDeque<Change>,
    /// Changes up to this revision are not here any more.
    forgotten: u64,
    /// The highest revision that may have been seen in a list.
    announced: u64,
    closed: bool,
}

/// One committed change.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) deleted: bool,
    pub(crate) object: Object,
}

// === impl Watch ===

impl Watch {
    /// The next change; waits for it. Nothing once the store is closed, and after [`WatchEvent::Relist`].
    /// May be dropped while it waits without losing anything.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            self.wake.borrow_and_update();
            let seen = self.seen?;
            match self.hub.after(seen, self.kind) {
                After::Change(change) => {
                    self.seen = Some(change.revision);
                    return Some(if change.deleted {
                        WatchEvent::Deleted(change.object)
                    } else {
                        WatchEvent::Changed(change.object)
                    });
                }
                After::Missed => {
                    self.seen = None;
                    return Some(WatchEvent::Relist);
                }
                After::Closed => return None,
                After::Nothing(up_to) => self.seen = Some(up_to),
            }
            if self.wake.changed().await.is_err() {
                return None;
            }
        }
    }
}

// === impl Hub ===

enum After {
    Change(Change),
    /// Nothing of that kind up to this revision.
    Nothing(u64),
    Missed,
    Closed,
}

impl Hub {
    /// A memory of `capacity` changes, for a store that is at `revision`.
    pub(crate) fn new(capacity: usize, revision: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                changes: VecDeque::new(),
                forgotten: revision,
                announced: revision,
                closed: false,
            }),
            wake: watch::Sender::new(revision),
            capacity,
        })
    }

    pub(crate) fn watch(self: &Arc<Self>, kind: Kind, since: &Revision) -> Watch {
        Watch {
            wake: self.wake.subscribe(),
            hub: Arc::clone(self),
            kind,
            // Text that is no revision of ours was never listed here: the first answer is to list again.
            seen: Some(since.number().unwrap_or(u64::MAX)),
        }
    }

    /// Lists may show revisions up to this one from now on, a moment before the changes are published.
    pub(crate) fn announce(&self, revision: u64) {
        let mut state = self.lock();
        state.announced = state.announced.max(revision);
    }

    /// Tells the watchers. The revisions rise, also from call to call.
    pub(crate) fn publish(&self, changes: Vec<Change>) {
        let Some(last) = changes.last().map(|change| change.revision) else {
            return;
        };
        let mut state = self.lock();
        state.announced = state.announced.max(last);
        state.changes.extend(changes);
        while state.changes.len() > self.capacity {
            if let Some(oldest) = state.changes.pop_front() {
                state.forgotten = oldest.revision;
            }
        }
        drop(state);
        self.wake.send_replace(last);
    }

    /// Ends every watch, after what was published.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.send_modify(|_| ());
    }

    fn after(&self, seen: u64, kind: Kind) -> After {
        let state = self.lock();
        if seen < state.forgotten || seen > state.announced {
            return After::Missed;
        }
        let first = state
            .changes
            .partition_point(|change| change.revision <= seen);
        if let Some(change) = state
            .changes
            .range(first..)
            .find(|change| change.object.kind == kind)
        {
            return After::Change(change.clone());
        }
        if state.closed {
            return After::Closed;
        }
        let last = state.changes.back().map_or(seen, |change| change.revision);
        After::Nothing(seen.max(last))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while this is held would leave a complete state behind: nothing is changed in steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
