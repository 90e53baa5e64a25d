//! `loop://`: an echo in memory that keeps the borders of messages.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::port::PortControl;

/// Messages that wait to be read before a writer has to wait (observed on 0.9.0).
pub const LOOPBACK_MESSAGES: usize = 32;
/// Bytes taken from one write, which bounds what an unread loop holds to 2 MiB.
const MESSAGE_LIMIT: usize = 64 * 1024;

/// Gives back what is written to it: one read returns at most the bytes of one write, as upstream's loop delivers
/// messages. Shutting it down lets the reader see the end after the last message.
#[derive(Debug, Default)]
pub struct Loopback {
    messages: VecDeque<Bytes>,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Loopback {
    /// An empty loop.
    pub fn new() -> Self {
        Self::default()
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl AsyncRead for Loopback {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(message) = self.messages.front_mut() else {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let length = message.len().min(buffer.remaining());
        buffer.put_slice(&message[..length]);
        message.advance(length);
        if message.is_empty() {
            self.messages.pop_front();
            wake(&mut self.writer);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Loopback {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the loop was shut down",
            )));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.messages.len() >= LOOPBACK_MESSAGES {
            self.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let length = data.len().min(MESSAGE_LIMIT);
        self.messages
            .push_back(Bytes::copy_from_slice(&data[..length]));
        wake(&mut self.reader);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended = true;
        wake(&mut self.reader);
        Poll::Ready(Ok(()))
    }
}

/// Lines of a loop: they may be set, and nobody is there to see them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoopbackLines;

#[async_trait]
impl PortControl for LoopbackLines {
    async fn set_dtr(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    async fn set_rts(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    async fn send_break(&self, duration: Duration) -> io::Result<()> {
        tokio::time::sleep(duration).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn messages_keep_their_borders() {
        let mut port = Loopback::new();
        port.write_all(b"one").await.unwrap();
        port.write_all(b"two").await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(port.read(&mut buffer).await.unwrap(), 3);
        assert_eq!(port.read(&mut buffer[..2]).await.unwrap(), 2);
        assert_eq!(port.read(&mut buffer).await.unwrap(), 1);
        port.shutdown().await.unwrap();
        assert_eq!(port.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn the_thirty_third_message_waits_for_a_reader() {
        let (mut reader, mut writer) = tokio::io::split(Loopback::new());
        for _ in 0..LOOPBACK_MESSAGES {
            writer.write_all(b"x").await.unwrap();
        }
        assert!(writer.write(b"y").now_or_never().is_none());
        let waiting = async { writer.write(b"y").await.unwrap() };
        let reading = async { reader.read(&mut [0; 8]).await.unwrap() };
        assert_eq!(tokio::join!(waiting, reading), (1, 1));
    }
}
