//! Large reads for TLS: rustls asks its transport for 4 KiB at a time, which at hundreds of megabytes
//! a second is mostly system calls.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at once while there is much to read.
const SIZE: usize = 128 * 1024;
/// A burst is over when so little came, and then nothing more.
const LITTLE: usize = 16 * 1024;

/// A transport that is read in large pieces while more comes than its reader asks for. A quiet one
/// costs no memory: the buffer goes with the first little that comes after a burst, a keep-alive
/// at the latest. Writes go straight through.
#[derive(Debug)]
pub struct ReadAhead<IO> {
    io: IO,
    buffer: Box<[u8]>,
    /// Bytes of the buffer that were not handed out yet.
    start: usize,
    end: usize,
    /// The reader was given less than there was to read.
    more: bool,
}

// === impl ReadAhead ===

impl<IO> ReadAhead<IO> {
    /// Wraps a transport, below TLS.
    pub fn new(io: IO) -> Self {
        Self {
            io,
            buffer: Box::default(),
            start: 0,
            end: 0,
            more: false,
        }
    }
}

impl<IO: AsyncRead + Unpin> ReadAhead<IO> {
    /// Reads into the buffer, which is empty.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; SIZE].into_boxed_slice();
        }
        let mut into = ReadBuf::new(&mut self.buffer);
        let read = Pin::new(&mut self.io).poll_read(context, &mut into);
        let filled = into.filled().len();
        match read {
            Poll::Ready(Ok(())) => {
                (self.start, self.end) = (0, filled);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if self.end < LITTLE {
                    self.rest();
                }
                Poll::Pending
            }
        }
    }

    /// The burst is over.
    fn rest(&mut self) {
        self.more = false;
        self.buffer = Box::default();
        (self.start, self.end) = (0, 0);
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for ReadAhead<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.start == this.end {
            if !this.more {
                let room = target.remaining();
                ready!(Pin::new(&mut this.io).poll_read(context, target))?;
                this.more = room > 0 && target.remaining() == 0;
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_fill(context))?;
        }
        let size = target.remaining().min(this.end - this.start);
        target.put_slice(&this.buffer[this.start..this.start + size]);
        this.start += size;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for ReadAhead<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn every_byte_comes_once_and_quiet_costs_nothing() {
        let (mut far, near) = tokio::io::duplex(SIZE * 2);
        let mut reader = ReadAhead::new(near);
        let sent: Vec<u8> = (0..SIZE * 3 + 17)
            .map(|number| (number % 251) as u8)
            .collect();
        let copy = sent.clone();
        let writing = tokio::spawn(async move {
            far.write_all(&copy).await.expect("written");
            far
        });
        let (mut got, mut buffer, mut largest) = (Vec::new(), vec![0; 4096], 0);
        while got.len() < sent.len() {
            let read = reader.read(&mut buffer).await.expect("read");
            got.extend_from_slice(&buffer[..read]);
            largest = largest.max(reader.end);
        }
        assert!(got == sent);
        assert!(largest > buffer.len(), "read {largest} bytes at once");
        let mut far = writing.await.expect("joined");
        for _ in 0..2 {
            far.write_all(b"short").await.expect("written");
            assert_eq!(reader.read(&mut buffer).await.expect("read"), 5);
        }
        let nothing = tokio::time::timeout(
            std::time::Duration::from_millis(20),
            reader.read(&mut buffer),
        );
        assert!(nothing.await.is_err());
        assert!(reader.buffer.is_empty());
        drop(far);
        assert_eq!(reader.read(&mut buffer).await.expect("read"), 0);
    }
}
