//! Asks an HTTP/2 peer whether it lives, at once: a PING put between two frames of a connection, and
//! its acknowledgement looked for among the frames that come back.
//!
//! hyper probes on its own schedule only. The controller has to know now: when a second process comes
//! with an exporter's credential, and when a tunnel was handed to an exporter.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Bytes before the first frame that a client sends.
const PREFACE: usize = 24;
const HEADER: usize = 9;
const PING: u8 = 6;
const ACK: u8 = 1;
/// How payloads of our own pings begin; hyper's are random or fixed others.
const MARK: [u8; 4] = *b"jmp?";

/// The end of a connection that asks. Clones share it.
#[derive(Clone, Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    /// Ends the connection.
    close: CancellationToken,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    answered: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the last ping that somebody wants.
    wanted: u32,
    /// Number of the last ping that was put on the wire.
    sent: u32,
    /// Number of the last ping that was acknowledged.
    acknowledged: u32,
    closed: bool,
    /// The peer has begun to speak HTTP/2.
    begun: bool,
    reader: Option<Waker>,
}

/// Where in its frames a direction is.
#[derive(Debug, Default)]
struct Frames {
    /// Bytes that are not looked at: the preface, or the rest of a frame.
    skip: usize,
    header: [u8; HEADER],
    have: usize,
    /// The payload of a PING so far.
    ping: Option<Vec<u8>>,
}

/// A connection with a [`Probe`].
#[derive(Debug)]
pub struct Probed<IO> {
    io: IO,
    shared: Arc<Shared>,
    inbound: Frames,
    outbound: Frames,
    /// Rest of our own frame that the transport has not taken.
    ours: Vec<u8>,
    /// The preface of the peer has come: the first frame of the server is out, too.
    begun: bool,
}

// === impl Probe ===

impl Probe {
    /// Wraps a connection; `close` is what ends it.
    pub fn wrap<IO>(io: IO, close: CancellationToken) -> (Probed<IO>, Self) {
        let shared = Arc::new(Shared::default());
        let probed = Probed {
            io,
            shared: Arc::clone(&shared),
            inbound: Frames {
                skip: PREFACE,
                ..Frames::default()
            },
            outbound: Frames::default(),
            ours: Vec::new(),
            begun: false,
        };
        (probed, Self { shared, close })
    }

    /// Whether both are of one connection.
    #[must_use]
    pub fn same_connection(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether the peer answers within `limit`.
    pub async fn answers(&self, limit: Duration) -> bool {
        let number = {
            let mut state = self.shared.lock();
            state.wanted = state.wanted.wrapping_add(1);
            if let Some(waker) = state.reader.take() {
                waker.wake();
            }
            state.wanted
        };
        let answered = async {
            loop {
                let mut notified = std::pin::pin!(self.shared.answered.notified());
                notified.as_mut().enable();
                {
                    let state = self.shared.lock();
                    if state.closed {
                        return false;
                    }
                    if state.acknowledged >= number {
                        return true;
                    }
                }
                notified.await;
            }
        };
        tokio::time::timeout(limit, answered).await == Ok(true)
    }

    /// Waits until the peer has begun to speak HTTP/2, or is gone.
    pub async fn begun(&self) {
        loop {
            let mut notified = std::pin::pin!(self.shared.answered.notified());
            notified.as_mut().enable();
            {
                let state = self.shared.lock();
                if state.begun || state.closed {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Ends the connection.
    pub fn close(&self) {
        self.close.cancel();
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Frames ===

impl Frames {
    fn at_boundary(&self) -> bool {
        self.skip == 0 && self.have == 0 && self.ping.is_none()
    }

    /// Follows `bytes`; `acknowledged` hears the payloads of acknowledged pings.
    fn follow(&mut self, mut bytes: &[u8], mut acknowledged: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            if let Some(ping) = &mut self.ping {
                let take = bytes.len().min(self.skip);
                ping.extend_from_slice(&bytes[..take]);
                self.skip -= take;
                bytes = &bytes[take..];
                if self.skip == 0 {
                    acknowledged(ping);
                    self.ping = None;
                }
            } else if self.skip > 0 {
                let take = bytes.len().min(self.skip);
                self.skip -= take;
                bytes = &bytes[take..];
            } else {
                let take = bytes.len().min(HEADER - self.have);
                self.header[self.have..self.have + take].copy_from_slice(&bytes[..take]);
                self.have += take;
                bytes = &bytes[take..];
                if self.have == HEADER {
                    self.have = 0;
                    let [a, b, c, kind, flags, ..] = self.header;
                    self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                    if kind == PING && flags & ACK != 0 && self.skip == 8 {
                        self.ping = Some(Vec::with_capacity(8));
                    }
                }
            }
        }
    }
}

// === impl Probed ===

impl<IO: AsyncWrite + Unpin> Probed<IO> {
    /// Puts a wanted ping on the wire where a frame may begin. Ready when nothing of ours is
    /// half written.
    fn poll_ours(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Before the first frame of the server nothing of ours may stand.
        if self.begun && self.ours.is_empty() && self.outbound.at_boundary() {
            let mut state = self.shared.lock();
            if state.wanted != state.sent {
                state.sent = state.wanted;
                self.ours = ping(state.sent);
            }
        }
        while !self.ours.is_empty() {
            let written =
                std::task::ready!(Pin::new(&mut self.io).poll_write(context, &self.ours))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.ours.drain(..written);
            if self.ours.is_empty() {
                // Nothing else may follow that would flush it. A transport that cannot do so at
                // once is flushed with what comes next.
                let _ = Pin::new(&mut self.io).poll_flush(context)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn ping(number: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 8, PING, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&MARK);
    frame.extend_from_slice(&number.to_be_bytes());
    frame
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Probed<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.shared.lock().reader = Some(context.waker().clone());
        if let Poll::Ready(Err(error)) = this.poll_ours(context) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut this.io).poll_read(context, buffer))?;
        let shared = &this.shared;
        let read = &buffer.filled()[before..];
        if !this.begun && read.len() >= this.inbound.skip {
            this.begun = true;
            shared.lock().begun = true;
            shared.answered.notify_waiters();
        }
        this.inbound.follow(read, |payload| {
            if let Some(number) = payload.strip_prefix(&MARK)
                && let Ok(number) = number.try_into()
            {
                shared.lock().acknowledged = u32::from_be_bytes(number);
                shared.answered.notify_waiters();
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Probed<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.ours.is_empty() {
            std::task::ready!(this.poll_ours(context))?;
        }
        let written = std::task::ready!(Pin::new(&mut this.io).poll_write(context, bytes))?;
        this.outbound.follow(&bytes[..written], |_| {});
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.ours.is_empty() {
            std::task::ready!(this.poll_ours(context))?;
        }
        let written =
            std::task::ready!(Pin::new(&mut this.io).poll_write_vectored(context, slices))?;
        let mut rest = written;
        for slice in slices {
            let take = rest.min(slice.len());
            this.outbound.follow(&slice[..take], |_| {});
            rest -= take;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A ping that was wanted in the middle of a frame goes out behind it.
        std::task::ready!(this.poll_ours(context))?;
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

impl<IO> Drop for Probed<IO> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.answered.notify_waiters();
    }
}
