//! The console hub: one device, many streams.
//!
//! A console (a serial port, the pseudo terminal of an emulator, a web socket) is one stream of
//! bytes that several people and programs want at once. A [`ConsoleHub`] opens the device once and
//! keeps it open; each [`attach`](ConsoleHub::attach) is a [`ByteStream`] of its own that sees all
//! output and may send input. The decisions behind it are in `docs/design/0005-console-hub.md`.
//!
//! * A stream sees what arrives after it was attached. Replay of the bounded history is for those
//!   who ask with [`Start::Replay`].
//! * Input is written chunk by chunk, one chunk at a time: chunks of two streams never mix. Input
//!   taken from a stream is written even if the stream goes away.
//! * A reader that falls behind by its backlog holds the device up for at most a quarter of a
//!   second, then loses the oldest bytes, which the log tells, until it has caught up.
//! * [`suspend`](ConsoleHub::suspend) closes the device while somebody else (a flasher) uses it.
//!   Streams stay open; their input waits.
//! * When the device is lost, all streams end with the reason. The next `attach` opens it again.
//! * [`tap`](ConsoleHub::tap) records both directions.
//!
//! ```
//! use jmp_driver::console::{ConsoleHub, ConsoleOptions, Start};
//! use jmp_driver::ByteStream;
//!
//! # async fn example() -> jmp_driver::Result<()> {
//! let hub = ConsoleHub::new(ConsoleOptions::new("the echo"), || async {
//!     Ok(ByteStream::echo(16))
//! });
//! let stream = hub.attach(Start::Now).await?;
//! hub.write("hello\n").await?;
//! hub.shut_down().await;
//! # Ok(())
//! # }
//! ```

mod history;
mod relay;
mod state;
mod tap;

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::SinkExt;
use futures::channel::mpsc;
use futures::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::error::{Error, ErrorKind, Result};
use crate::log::Logger;
use jmp_wire::stream::ByteStream;
use state::{Phase, Shared};
pub use tap::{ConsoleRecord, ConsoleTap, Direction};

/// Chunks of input that wait for the device, from all streams together. Each stream may have one
/// more.
const WAITING_CHUNKS: usize = 4;

type Opener = Arc<dyn Fn() -> BoxFuture<'static, io::Result<ByteStream>> + Send + Sync>;

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With what arrives from now on, as consoles without a hub do.
    #[default]
    Now,
    /// With the history, as far as it is kept.
    Replay,
}

/// What a hub is and how much it keeps.
#[derive(Clone)]
pub struct ConsoleOptions {
    /// How messages call the console, for example `the serial port /dev/ttyUSB0`.
    pub name: String,
    /// Bytes kept for [`Start::Replay`]; 256 KiB unless told otherwise.
    pub history: usize,
    /// Bytes a reader may be behind before it loses some; 256 KiB unless told otherwise.
    pub backlog: usize,
    /// Told when a device is lost or a reader loses bytes.
    pub log: Option<Logger>,
    /// Dates the records of taps.
    pub clock: Arc<dyn Clock>,
}

// === impl ConsoleOptions ===

impl ConsoleOptions {
    /// The usual sizes, no log, the clock of the machine.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            history: 256 * 1024,
            backlog: 256 * 1024,
            log: None,
            clock: clock::system(),
        }
    }

    /// With a log.
    pub fn log(mut self, log: Logger) -> Self {
        self.log = Some(log);
        self
    }

    /// With a clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// With a history of so many bytes; 0 for none.
    pub fn history(mut self, bytes: usize) -> Self {
        self.history = bytes;
        self
    }
}

/// One console and all who use it. Clones are the same hub; when the last is dropped the device is
/// closed and all streams end.
#[derive(Clone)]
pub struct ConsoleHub {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    /// Locked while the device is being opened or closed.
    line: Mutex<Option<Line>>,
}

/// The running task of a hub.
struct Line {
    writes: mpsc::Sender<Bytes>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.shut_down();
    }
}

impl std::fmt::Debug for ConsoleHub {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ConsoleHub")
            .field("name", &self.owner.shared.options.name)
            .field("phase", &*self.owner.shared.phase.borrow())
            .finish()
    }
}

// === impl ConsoleHub ===

impl ConsoleHub {
    /// A hub for the device that `open` opens. Nothing is opened yet: the first stream does that,
    /// or [`ConsoleHub::open`].
    ///
    /// `open` must have a deadline of its own. Dropping both halves of the stream it returns must
    /// close the device; the end of its reader, or an error of either half, counts as the loss of
    /// the device.
    pub fn new<F, R>(options: ConsoleOptions, open: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<ByteStream>> + Send + 'static,
    {
        let opener: Opener = Arc::new(move || Box::pin(open()));
        Self {
            owner: Arc::new(Owner {
                shared: Arc::new(Shared::new(opener, options)),
                line: Mutex::new(None),
            }),
        }
    }

    /// Opens the device unless it is open already, so that the history begins.
    ///
    /// # Errors
    ///
    /// What the opener says; CONNECTION after [`ConsoleHub::shut_down`].
    pub async fn open(&self) -> Result<()> {
        self.running(|shared| shared.is_running().then_some(()))
            .await
            .map(drop)
    }

    /// A new stream, which opens the device if it is not open. While the console is suspended the
    /// stream waits with it.
    ///
    /// # Errors
    ///
    /// What the opener says; CONNECTION after [`ConsoleHub::shut_down`].
    pub async fn attach(&self, start: Start) -> Result<ByteStream> {
        let replay = start == Start::Replay;
        let (reader, writes) = self.running(|shared| shared.attach(replay)).await?;
        let name = self.owner.shared.options.name.clone();
        let writer = writes.sink_map_err(move |_| closed(&name));
        Ok(ByteStream::new(reader, writer))
    }

    /// Sends input to the device, opening it if need be. Returns when the hub has taken the bytes;
    /// they are written after those taken before, in one piece.
    ///
    /// # Errors
    ///
    /// What the opener says; CONNECTION after [`ConsoleHub::shut_down`] or if the device is lost.
    pub async fn write(&self, bytes: impl Into<Bytes>) -> Result<()> {
        let open = |shared: &Arc<Shared>| shared.is_running().then_some(());
        let ((), mut writes) = self.running(open).await?;
        writes
            .send(bytes.into())
            .await
            .map_err(|_| closed(&self.owner.shared.options.name).into())
    }

    /// Closes the device and keeps it closed until the answer is resumed or dropped. Returns when
    /// the device is closed. A chunk of input that is being written is cut short.
    pub async fn suspend(&self) -> Suspension {
        let shared = &self.owner.shared;
        shared.suspensions.send_modify(|count| *count += 1);
        let suspension = Suspension {
            shared: Arc::clone(shared),
        };
        // Whoever opens the device at this moment has to be done before it can be closed.
        drop(self.owner.line.lock().await);
        let mut phase = shared.phase.subscribe();
        let closed = phase.wait_for(|phase| !matches!(phase, Phase::Open)).await;
        // `shared` has the sender, so the wait cannot fail.
        drop(closed);
        suspension
    }

    /// Records both directions from now on, whether or not the device is open.
    pub fn tap(&self) -> ConsoleTap {
        ConsoleTap {
            shared: Arc::clone(&self.owner.shared),
            id: self.owner.shared.add_tap(),
        }
    }

    /// Whether the device is open at this moment.
    pub fn is_open(&self) -> bool {
        matches!(*self.owner.shared.phase.borrow(), Phase::Open)
    }

    /// How many streams are attached.
    pub fn readers(&self) -> usize {
        self.owner.shared.readers()
    }

    /// Closes the device and ends all streams. The next stream opens it again.
    pub async fn close(&self) {
        let mut line = self.owner.line.lock().await;
        if let Some(line) = line.as_mut() {
            line.finish().await;
        }
        *line = None;
    }

    /// As [`ConsoleHub::close`], for good: nothing can be attached any more, and taps end.
    pub async fn shut_down(&self) {
        self.owner.shared.shut_down();
        self.close().await;
    }

    /// Runs `try_attach` while the task runs, starting it if need be.
    async fn running<T>(
        &self,
        try_attach: impl Fn(&Arc<Shared>) -> Option<T>,
    ) -> Result<(T, mpsc::Sender<Bytes>)> {
        let shared = &self.owner.shared;
        let mut line = self.owner.line.lock().await;
        if let Some(current) = line.as_ref()
            && let Some(attached) = try_attach(shared)
        {
            return Ok((attached, current.writes.clone()));
        }
        if let Some(current) = line.as_mut() {
            current.finish().await;
        }
        *line = None;
        let device = tokio::select! {
            biased;
            () = shared.shut.cancelled() => None,
            device = open_unless_suspended(shared) => Some(device?),
        };
        let attached = device.and_then(|device| {
            // No await from here on: a task that counts as running does run.
            shared.begin(device.is_some());
            let attached = try_attach(shared)?;
            let writes = line.insert(Line::start(shared, device)).writes.clone();
            Some((attached, writes))
        });
        attached.ok_or_else(|| {
            let name = &shared.options.name;
            let text = format!("{name} cannot be used any more: its session has ended");
            Error::new(ErrorKind::Connection, text)
        })
    }
}

async fn open_unless_suspended(shared: &Shared) -> io::Result<Option<ByteStream>> {
    if shared.is_suspended() {
        return Ok(None);
    }
    (shared.opener)().await.map(Some)
}

fn closed(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, format!("{name} is closed"))
}

// === impl Line ===

impl Line {
    fn start(shared: &Arc<Shared>, device: Option<ByteStream>) -> Self {
        let (writes, receiver) = mpsc::channel(WAITING_CHUNKS);
        let stop = CancellationToken::new();
        let task = relay::run(Arc::clone(shared), device, receiver, stop.clone());
        Self {
            writes,
            stop,
            task: tokio::spawn(task),
        }
    }

    /// Ends the task, after which the device is closed and all streams have ended.
    async fn finish(&mut self) {
        self.stop.cancel();
        // An error is a panic, whose message has been printed, or the end of the runtime.
        let _ = (&mut self.task).await;
    }
}

/// Keeps a console closed. Made by [`ConsoleHub::suspend`]; dropping it resumes in the background.
#[must_use = "the console is resumed when this is dropped"]
pub struct Suspension {
    shared: Arc<Shared>,
}

// === impl Suspension ===

impl Suspension {
    /// Opens the device again if it was open before and nobody else keeps it closed, and waits for
    /// that.
    ///
    /// # Errors
    ///
    /// What the opener says; the streams end with the same reason.
    pub async fn resume(self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let was_open = matches!(*shared.phase.borrow(), Phase::Suspended);
        drop(self);
        if !was_open || shared.is_suspended() {
            return Ok(());
        }
        let mut phases = shared.phase.subscribe();
        let phase = phases
            .wait_for(|phase| !matches!(phase, Phase::Suspended))
            .await
            .map(|phase| phase.clone());
        match phase {
            Ok(Phase::Ended(reason)) => reason.error().map_or(Ok(()), |error| Err(error.into())),
            _ => Ok(()),
        }
    }
}

impl Drop for Suspension {
    fn drop(&mut self) {
        self.shared.suspensions.send_modify(|count| *count -= 1);
    }
}
