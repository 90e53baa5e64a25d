//! A stream of chunks as a buffered reader that knows how it ended.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use super::ChunkStream;

/// Input handed out between two pauses. Compressing this much takes the slowest format some tens of
/// milliseconds.
const PAUSE_AFTER: usize = 64 * 1024;

/// Reads chunks one after the other and pauses now and then so that other tasks may run: codecs loop
/// over a reader that is always ready, and none of what they do would otherwise ever yield.
pub(super) struct ChunkReader {
    source: ChunkStream,
    chunk: Bytes,
    end: Option<End>,
    consumed: u64,
    since_pause: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    Failed,
}

// === impl ChunkReader ===

impl ChunkReader {
    pub(super) fn new(source: ChunkStream) -> Self {
        Self {
            source,
            chunk: Bytes::new(),
            end: None,
            consumed: 0,
            since_pause: 0,
        }
    }

    /// Bytes handed out so far.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The source has ended and everything was handed out.
    pub(super) fn has_ended(&self) -> bool {
        self.end == Some(End::Complete)
    }

    /// The last error came from the source.
    pub(super) fn has_failed(&self) -> bool {
        self.end == Some(End::Failed)
    }

    /// It is time to let other tasks run: reading is `Pending`, with the task woken, until
    /// [`end_pause`](Self::end_pause).
    pub(super) fn is_pausing(&self) -> bool {
        self.since_pause >= PAUSE_AFTER
    }

    /// Ends a pause and tells whether there was one. For the outermost poll function only, when it
    /// passes `Pending` on: a codec that has output in hand returns that instead.
    pub(super) fn end_pause(&mut self) -> bool {
        let pausing = self.is_pausing();
        if pausing {
            self.since_pause = 0;
        }
        pausing
    }
}

impl AsyncBufRead for ChunkReader {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.is_pausing() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        while this.chunk.is_empty() && this.end.is_none() {
            match ready!(this.source.as_mut().poll_next(context)) {
                Some(Ok(chunk)) => this.chunk = chunk,
                Some(Err(error)) => {
                    this.end = Some(End::Failed);
                    return Poll::Ready(Err(error));
                }
                None => this.end = Some(End::Complete),
            }
        }
        let available = this.chunk.len().min(PAUSE_AFTER - this.since_pause);
        Poll::Ready(Ok(&this.chunk[..available]))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let this = self.get_mut();
        this.chunk.advance(amount);
        this.consumed += amount as u64;
        this.since_pause += amount;
    }
}

impl AsyncRead for ChunkReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let available = ready!(self.as_mut().poll_fill_buf(context))?;
        let amount = available.len().min(buffer.remaining());
        buffer.put_slice(&available[..amount]);
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}
