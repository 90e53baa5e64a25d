//! Characters per second: a writer for devices that lose input when it comes too fast.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Resolution of the runtime's timer. Intervals near it or below would come out too long, one by one.
const TIMER_STEP: Duration = Duration::from_millis(2);

/// Least distance between two characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace(Duration);

impl Pace {
    /// The pace of `characters_per_second`; `None` for 0, which turns pacing off as upstream's option does.
    ///
    /// # Errors
    /// When it is negative, not finite, or slower than one character in a day.
    pub fn from_characters_per_second(
        characters_per_second: f64,
    ) -> Result<Option<Self>, PaceError> {
        if characters_per_second == 0.0 {
            return Ok(None);
        }
        let slowest = 1.0 / 86_400.0;
        if !characters_per_second.is_finite() || characters_per_second < slowest {
            return Err(PaceError(characters_per_second));
        }
        Ok(Some(Self(Duration::from_secs_f64(
            1.0 / characters_per_second,
        ))))
    }

    /// Time from one character to the next.
    pub fn interval(self) -> Duration {
        self.0
    }
}

/// A number of characters per second that cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaceError(f64);

impl std::fmt::Display for PaceError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "cps {} is not a number of characters per second; write 0 for no limit",
            self.0
        )
    }
}

impl std::error::Error for PaceError {}

/// Writes each byte alone, one interval apart, to the stream inside; reads pass through.
///
/// The first byte after a pause goes out at once and nothing follows the last. Unlike upstream, the distance is kept
/// between the last byte of one write and the first of the next, too: a device that needs the pace needs it there.
#[derive(Debug)]
pub struct Paced<S> {
    inner: S,
    pace: Pace,
    /// When the next byte may go; `None` before the first.
    due: Option<Instant>,
    /// Created once, then reset for every byte.
    timer: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    /// Paces `inner`. Must be called within a runtime with time enabled.
    pub fn new(inner: S, pace: Pace) -> Self {
        Self {
            inner,
            pace,
            due: None,
            timer: Box::pin(sleep_until(Instant::now())),
        }
    }

    /// The stream inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Gives the stream back.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Sets when the byte after the one just written may go.
    fn schedule(&mut self) {
        let interval = self.pace.interval();
        let now = Instant::now();
        // Short intervals are counted from when the byte was due, so that a coarse timer does not lower the rate.
        let start = match self.due {
            Some(due) if interval < TIMER_STEP => {
                due.max(now.checked_sub(TIMER_STEP).unwrap_or(now))
            }
            _ => now,
        };
        self.due = Some(start + interval);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(first) = data.get(..1) else {
            return Poll::Ready(Ok(0));
        };
        if let Some(due) = this.due
            && Instant::now() < due
        {
            this.timer.as_mut().reset(due);
            ready!(this.timer.as_mut().poll(context));
        }
        let written = ready!(Pin::new(&mut this.inner).poll_write(context, first))?;
        if written > 0 {
            this.schedule();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::loopback::Loopback;

    fn paced(characters_per_second: f64) -> Paced<Loopback> {
        let pace = Pace::from_characters_per_second(characters_per_second)
            .unwrap()
            .unwrap();
        Paced::new(Loopback::new(), pace)
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_no_wait_after_the_last_byte() {
        let mut port = paced(10.0);
        let start = Instant::now();
        port.write_all(b"abc").await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_millis(200));
        port.write_all(b"d").await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_millis(300));
        tokio::time::sleep(Duration::from_secs(5)).await;
        port.write_all(b"e").await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_millis(5300));
    }

    #[tokio::test(start_paused = true)]
    async fn every_byte_is_a_message_of_its_own() {
        let mut port = paced(100.0);
        port.write_all(b"abc").await.unwrap();
        let mut buffer = [0; 8];
        for expected in b"abc" {
            assert_eq!(port.read(&mut buffer).await.unwrap(), 1);
            assert_eq!(buffer[0], *expected);
        }
    }

    #[tokio::test]
    async fn a_fast_pace_is_kept_over_many_bytes() {
        let (mut reader, mut writer) = tokio::io::split(paced(5000.0));
        let start = Instant::now();
        let writing = async {
            writer.write_all(&[b'x'; 1000]).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (_, read) = tokio::join!(writing, reader.read_to_end(&mut received));
        assert_eq!(read.unwrap(), 1000);
        let elapsed = start.elapsed();
        assert!(
            elapsed >= Duration::from_millis(190),
            "too fast: {elapsed:?}"
        );
        assert!(
            elapsed < Duration::from_millis(900),
            "too slow: {elapsed:?}"
        );
    }

    #[test]
    fn paces_are_checked() {
        assert_eq!(Pace::from_characters_per_second(0.0), Ok(None));
        assert_eq!(
            Pace::from_characters_per_second(4.0)
                .unwrap()
                .unwrap()
                .interval(),
            Duration::from_millis(250)
        );
        for wrong in [-1.0, f64::NAN, f64::INFINITY, 1e-300] {
            assert!(Pace::from_characters_per_second(wrong).is_err(), "{wrong}");
        }
    }
}
