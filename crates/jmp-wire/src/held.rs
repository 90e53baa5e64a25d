//! The end of a call whose peer finished first.
//!
//! Dropping the body of a response cancels its call. When the peer has ended its direction the
//! reader is done with the body, but the writer may still have data to send: then the writer
//! holds the body from there on. Once the writer is closed it waits a moment for the peer to
//! end the call, because cancelling it could overtake data that the peer has not consumed yet.
//! Shipped exporters never end a call themselves, so the moment is short.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Sink;
use http_body::Body;
use tokio::time::Sleep;

use crate::stream::{ByteStream, ByteWriter};

/// How long a closed writer waits for the peer to end the call.
const LINGER: Duration = Duration::from_secs(1);

/// A body that the reader is done with.
type Slot<B> = Mutex<Option<B>>;

/// Where a reader leaves its body.
pub(crate) struct Keeper<B>(Weak<Slot<B>>);

/// The writer of a client's stream, which keeps the call alive.
struct HoldingWriter<B> {
    writer: ByteWriter,
    held: Arc<Slot<B>>,
    lingering: Option<Pin<Box<Sleep>>>,
}

// === impl Keeper ===

impl<B> Keeper<B> {
    /// Leaves a body with the writer; without a writer the call ends here.
    pub(crate) fn keep(&self, body: Option<B>) {
        if let Some(held) = self.0.upgrade() {
            *held.lock().unwrap_or_else(PoisonError::into_inner) = body;
        }
    }
}

/// Ties the end of a call to both halves of its stream.
pub(crate) fn hold<B>(
    writer: ByteWriter,
    reader: impl FnOnce(Keeper<B>) -> crate::stream::ByteReader,
) -> ByteStream
where
    B: Body + Unpin + Send + 'static,
{
    let held = Arc::new(Slot::new(None));
    let reader = reader(Keeper(Arc::downgrade(&held)));
    let writer = HoldingWriter {
        writer,
        held,
        lingering: None,
    };
    ByteStream {
        reader,
        writer: Box::pin(writer),
    }
}

// === impl HoldingWriter ===

impl<B: Body + Unpin> HoldingWriter<B> {
    /// Ready when the peer has ended the call or has had its time to do so.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(body) = held.as_mut() else {
            // The reader still has it and will end the call.
            return Poll::Ready(());
        };
        while let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
            if !matches!(frame, Some(Ok(_))) {
                *held = None;
                return Poll::Ready(());
            }
        }
        let lingering = self
            .lingering
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        ready!(lingering.as_mut().poll(context));
        *held = None;
        Poll::Ready(())
    }
}

impl<B: Body + Unpin> Sink<Bytes> for HoldingWriter<B> {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().writer.as_mut().poll_ready(context)
    }

    fn start_send(self: Pin<&mut Self>, chunk: Bytes) -> io::Result<()> {
        self.get_mut().writer.as_mut().start_send(chunk)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().writer.as_mut().poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.writer.as_mut().poll_close(context))?;
        ready!(this.poll_end(context));
        Poll::Ready(Ok(()))
    }
}
