//! Byte streams: what a driver opens, a tunnel carries and a client reads and writes.
//!
//! A [`ByteStream`] is two independent halves that move [`Bytes`]. Closing the writer half-closes
//! the stream; dropping both halves cancels it. Chunk boundaries are kept from end to end, so a
//! datagram socket can use one chunk for each datagram.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::channel::mpsc;
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The half that receives. Ends with `None` at the end of that direction.
pub type ByteReader = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The half that sends. `close` half-closes.
pub type ByteWriter = Pin<Box<dyn Sink<Bytes, Error = io::Error> + Send>>;

/// How much is read from a socket or file at once. Large reads are what keeps bulk transfers
/// cheap; small reads share a buffer, and what was never read into costs no memory.
pub const READ_SIZE: usize = 256 * 1024;

/// Two halves that move bytes in opposite directions.
pub struct ByteStream {
    /// Receives from the peer.
    pub reader: ByteReader,
    /// Sends to the peer.
    pub writer: ByteWriter,
}

// === impl ByteStream ===

impl ByteStream {
    /// Joins two halves.
    pub fn new(
        reader: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        writer: impl Sink<Bytes, Error = io::Error> + Send + 'static,
    ) -> Self {
        Self {
            reader: Box::pin(reader),
            writer: Box::pin(writer),
        }
    }

    /// Wraps a socket, a pipe or anything else with `AsyncRead` and `AsyncWrite`.
    pub fn from_io<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(io);
        Self::from_halves(reader, writer)
    }

    /// Wraps a reader and a writer that belong together.
    pub fn from_halves<R, W>(reader: R, writer: W) -> Self
    where
        R: AsyncRead + Send + 'static,
        W: AsyncWrite + Send + 'static,
    {
        Self::new(ChunkReader::new(reader), ChunkWriter::new(writer))
    }

    /// Two connected streams in memory; each direction holds `capacity` chunks.
    pub fn pair(capacity: usize) -> (Self, Self) {
        let (left_writer, right_reader) = channel(capacity);
        let (right_writer, left_reader) = channel(capacity);
        (
            Self {
                reader: left_reader,
                writer: left_writer,
            },
            Self {
                reader: right_reader,
                writer: right_writer,
            },
        )
    }

    /// A stream whose reader yields what its writer got, chunk by chunk.
    pub fn echo(capacity: usize) -> Self {
        let (writer, reader) = channel(capacity);
        Self { reader, writer }
    }

    /// Ties `guard` to the reader: it is dropped with it.
    pub fn guarded(self, guard: impl Send + Unpin + 'static) -> Self {
        Self {
            reader: guarded(self.reader, guard),
            writer: self.writer,
        }
    }

    /// The stream as `AsyncRead` and `AsyncWrite`; chunk boundaries are lost.
    pub fn into_io(self) -> StreamIo {
        StreamIo {
            reader: self.reader,
            writer: self.writer,
            rest: Bytes::new(),
        }
    }
}

/// One direction in memory: what goes into the writer comes out of the reader. Dropping the
/// writer ends the reader; dropping the reader breaks the writer.
pub fn channel(capacity: usize) -> (ByteWriter, ByteReader) {
    // The channel adds one slot for each sender to its buffer.
    let (sender, receiver) = mpsc::channel::<Bytes>(capacity.saturating_sub(1));
    let writer = sender.sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
    (Box::pin(writer), Box::pin(receiver.map(Ok)))
}

/// Ties `guard` to a reader: it is dropped at the end of the direction, or with the reader.
pub fn guarded(reader: ByteReader, guard: impl Send + Unpin + 'static) -> ByteReader {
    Box::pin(Guarded {
        reader,
        guard: Some(guard),
    })
}

struct Guarded<G> {
    reader: ByteReader,
    guard: Option<G>,
}

impl<G: Unpin> Stream for Guarded<G> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.reader.as_mut().poll_next(context));
        if item.is_none() {
            self.guard = None;
        }
        Poll::Ready(item)
    }
}

/// Copies one direction until its end, then half-closes the target. Returns the bytes moved.
///
/// # Errors
///
/// The first error of either half.
pub async fn pump(mut reader: ByteReader, mut writer: ByteWriter) -> io::Result<u64> {
    let mut moved = 0;
    while let Some(chunk) = reader.next().await {
        let chunk = chunk?;
        moved += chunk.len() as u64;
        writer.send(chunk).await?;
    }
    writer.close().await?;
    Ok(moved)
}

/// Connects two streams until both directions have ended; a half-close on one side is passed on
/// to the other. Returns the bytes moved from left to right and from right to left.
///
/// # Errors
///
/// The first error of either direction; both streams are then dropped.
pub async fn bridge(left: ByteStream, right: ByteStream) -> io::Result<(u64, u64)> {
    let there = pump(left.reader, right.writer);
    let back = pump(right.reader, left.writer);
    futures::future::try_join(there, back).await
}

// === adapters ===

/// Reads chunks from an `AsyncRead`.
struct ChunkReader<R> {
    reader: Pin<Box<R>>,
    buffer: BytesMut,
    done: bool,
}

impl<R: AsyncRead> ChunkReader<R> {
    fn new(reader: R) -> Self {
        Self {
            reader: Box::pin(reader),
            buffer: BytesMut::new(),
            done: false,
        }
    }
}

impl<R: AsyncRead> Stream for ChunkReader<R> {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        // Small reads share one allocation; a large one takes it whole.
        if this.buffer.capacity() < READ_SIZE / 4 {
            this.buffer.reserve(READ_SIZE);
        }
        let read = tokio_util::io::poll_read_buf(this.reader.as_mut(), context, &mut this.buffer);
        match ready!(read) {
            Ok(0) => {
                this.done = true;
                Poll::Ready(None)
            }
            Ok(_) => Poll::Ready(Some(Ok(this.buffer.split().freeze()))),
            Err(error) => {
                this.done = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

/// Writes chunks to an `AsyncWrite`, one at a time.
struct ChunkWriter<W> {
    writer: Pin<Box<W>>,
    pending: Bytes,
}

impl<W: AsyncWrite> ChunkWriter<W> {
    fn new(writer: W) -> Self {
        Self {
            writer: Box::pin(writer),
            pending: Bytes::new(),
        }
    }

    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(self.writer.as_mut().poll_write(context, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let _ = self.pending.split_to(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite> Sink<Bytes> for ChunkWriter<W> {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_pending(context)
    }

    fn start_send(self: Pin<&mut Self>, chunk: Bytes) -> io::Result<()> {
        self.get_mut().pending = chunk;
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pending(context))?;
        this.writer.as_mut().poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pending(context))?;
        this.writer.as_mut().poll_shutdown(context)
    }
}

/// A [`ByteStream`] as `AsyncRead` and `AsyncWrite`, made by [`ByteStream::into_io`].
pub struct StreamIo {
    reader: ByteReader,
    writer: ByteWriter,
    rest: Bytes,
}

// === impl StreamIo ===

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.reader.as_mut().poll_next(context)) {
                Some(chunk) => self.rest = chunk?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(target.remaining());
        target.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.writer.as_mut().poll_ready(context))?;
        let part = &data[..data.len().min(crate::frame::MAX_PAYLOAD)];
        self.writer
            .as_mut()
            .start_send(Bytes::copy_from_slice(part))?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bridge_passes_half_close_on() {
        let (near, mut far) = tokio::io::duplex(1024);
        let bridged = tokio::spawn(bridge(ByteStream::from_io(near), ByteStream::echo(4)));
        far.write_all(b"hello").await.unwrap();
        far.shutdown().await.unwrap();
        let mut answer = String::new();
        far.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "hello");
        assert_eq!(bridged.await.unwrap().unwrap(), (5, 5));
    }

    #[tokio::test]
    async fn pair_keeps_chunk_boundaries() {
        let (mut left, mut right) = ByteStream::pair(4);
        left.writer.send(Bytes::from_static(b"a")).await.unwrap();
        left.writer.send(Bytes::from_static(b"bc")).await.unwrap();
        left.writer.close().await.unwrap();
        let chunks: Vec<_> = (&mut right.reader)
            .map(|chunk| chunk.unwrap())
            .collect()
            .await;
        assert_eq!(chunks, ["a", "bc"]);
    }

    #[tokio::test]
    async fn io_round_trip() {
        let (left, right) = ByteStream::pair(4);
        let (mut left, mut right) = (left.into_io(), right.into_io());
        left.write_all(&[1, 2, 3]).await.unwrap();
        left.shutdown().await.unwrap();
        let mut all = Vec::new();
        right.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [1, 2, 3]);
    }
}
