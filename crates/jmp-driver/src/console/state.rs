//! What the hub, its task and its streams share.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::history::{History, ReaderId, Taken};
use super::tap::{ConsoleRecord, Direction, TapQueue};
use super::{ConsoleOptions, Opener};

/// Most bytes that a reader gets at once.
pub(super) const CHUNK: usize = jmp_wire::stream::READ_SIZE;

/// Why the streams of a console end.
#[derive(Debug, Clone)]
pub(super) enum Ended {
    /// It was closed on this side, or the device said so in an orderly way.
    Quietly,
    /// The device was lost.
    Lost(io::ErrorKind, String),
}

impl Ended {
    pub(super) fn lost(error: &io::Error) -> Self {
        Self::Lost(error.kind(), error.to_string())
    }

    pub(super) fn error(&self) -> Option<io::Error> {
        match self {
            Self::Quietly => None,
            Self::Lost(kind, text) => Some(io::Error::new(*kind, text.clone())),
        }
    }
}

/// What the task does with the device.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// There is no task, or it is about to end; the device is closed.
    Ended(Ended),
    /// The device is open.
    Open,
    /// The device is closed until everybody who suspended the console has resumed it.
    Suspended,
}

struct ReaderState {
    waker: Option<Waker>,
    ended: Option<Ended>,
}

struct State {
    history: History,
    readers: BTreeMap<ReaderId, ReaderState>,
    taps: BTreeMap<u64, TapQueue>,
    next_tap: u64,
    running: bool,
}

pub(super) struct Shared {
    pub(super) opener: Opener,
    pub(super) options: ConsoleOptions,
    /// How many have suspended the console.
    pub(super) suspensions: watch::Sender<usize>,
    pub(super) phase: watch::Sender<Phase>,
    /// Fires when the hub is gone for good.
    pub(super) shut: CancellationToken,
    /// A reader has taken something or gone away.
    pub(super) progress: Notify,
    state: Mutex<State>,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(opener: Opener, options: ConsoleOptions) -> Self {
        let history = History::new(options.history, options.backlog);
        Self {
            opener,
            options,
            suspensions: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Ended(Ended::Quietly)),
            shut: CancellationToken::new(),
            progress: Notify::new(),
            state: Mutex::new(State {
                history,
                readers: BTreeMap::new(),
                taps: BTreeMap::new(),
                next_tap: 0,
                running: false,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_suspended(&self) -> bool {
        *self.suspensions.borrow() > 0
    }

    pub(super) fn is_running(&self) -> bool {
        self.lock().running
    }

    /// From now on readers can be attached.
    pub(super) fn begin(&self, open: bool) {
        self.lock().running = true;
        self.phase
            .send_replace(if open { Phase::Open } else { Phase::Suspended });
    }

    /// Ends all readers after what is there.
    pub(super) fn end(&self, reason: &Ended) {
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            state.running = false;
            state.history.stop_all();
            let readers = state.readers.values_mut();
            readers
                .filter_map(|reader| {
                    reader.ended.get_or_insert_with(|| reason.clone());
                    reader.waker.take()
                })
                .collect()
        };
        wakers.into_iter().for_each(Waker::wake);
        self.phase.send_replace(Phase::Ended(reason.clone()));
    }

    /// A reader of what comes; `None` if nothing will come.
    pub(super) fn attach(self: &Arc<Self>, replay: bool) -> Option<HubReader> {
        let mut state = self.lock();
        if !state.running {
            return None;
        }
        let id = state.history.attach(replay);
        let reader = ReaderState {
            waker: None,
            ended: None,
        };
        state.readers.insert(id, reader);
        Some(HubReader {
            shared: Arc::clone(self),
            id,
            finished: false,
        })
    }

    /// Whether readers that keep up would lose something by `length` more bytes.
    pub(super) fn would_lose(&self, length: usize) -> bool {
        self.lock().history.would_lose(length)
    }

    pub(super) fn give_up(&self, length: usize) {
        self.lock().history.give_up(length);
    }

    /// Gives bytes of the device to everybody.
    pub(super) fn deliver(&self, bytes: &Bytes) {
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            state.history.push(bytes);
            self.record(&mut state, Direction::FromDevice, bytes);
            let readers = state.readers.values_mut();
            readers.filter_map(|reader| reader.waker.take()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Records bytes that go to the device.
    pub(super) fn sending(&self, bytes: &Bytes) {
        let mut state = self.lock();
        self.record(&mut state, Direction::ToDevice, bytes);
    }

    fn record(&self, state: &mut State, direction: Direction, bytes: &Bytes) {
        if state.taps.is_empty() {
            return;
        }
        let time = self.options.clock.wall();
        for tap in state.taps.values_mut() {
            tap.push(time, direction, bytes);
        }
    }

    pub(super) fn add_tap(&self) -> u64 {
        let mut state = self.lock();
        let id = state.next_tap;
        state.next_tap += 1;
        let tap = state.taps.entry(id).or_default();
        tap.ended = self.shut.is_cancelled();
        id
    }

    pub(super) fn remove_tap(&self, id: u64) {
        self.lock().taps.remove(&id);
    }

    pub(super) fn poll_tap(
        &self,
        id: u64,
        context: &mut Context<'_>,
    ) -> Poll<Option<ConsoleRecord>> {
        let mut state = self.lock();
        let Some(tap) = state.taps.get_mut(&id) else {
            return Poll::Ready(None);
        };
        match tap.pop() {
            Some(record) => Poll::Ready(Some(record)),
            None if tap.ended => Poll::Ready(None),
            None => {
                tap.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// No device will be opened any more.
    pub(super) fn shut_down(&self) {
        self.shut.cancel();
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            let taps = state.taps.values_mut();
            taps.filter_map(|tap| {
                tap.ended = true;
                tap.waker.take()
            })
            .collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn readers(&self) -> usize {
        self.lock().history.readers()
    }

    fn log_loss(&self, lost: u64) {
        if let Some(log) = &self.options.log {
            log.warning(format!(
                "a reader of {} was too slow and lost {lost} bytes",
                self.options.name
            ));
        }
    }
}

/// One reader's view of a console.
pub(super) struct HubReader {
    shared: Arc<Shared>,
    id: ReaderId,
    finished: bool,
}

impl HubReader {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut state = self.shared.lock();
        let Taken {
            lost,
            bytes,
            finished,
        } = state.history.take(self.id, CHUNK);
        let answer = if !bytes.is_empty() {
            Poll::Ready(Some(Ok(bytes)))
        } else if finished {
            self.finished = true;
            let reader = state.readers.get(&self.id);
            let error = reader.and_then(|reader| reader.ended.as_ref()?.error());
            Poll::Ready(error.map(Err))
        } else {
            if let Some(reader) = state.readers.get_mut(&self.id) {
                reader.waker = Some(context.waker().clone());
            }
            Poll::Pending
        };
        drop(state);
        if lost > 0 {
            self.shared.log_loss(lost);
        }
        if answer.is_ready() {
            self.shared.progress.notify_one();
        }
        answer
    }
}

impl Stream for HubReader {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        self.poll(context)
    }
}

impl Drop for HubReader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.history.detach(self.id);
        state.readers.remove(&self.id);
        drop(state);
        self.shared.progress.notify_one();
    }
}
