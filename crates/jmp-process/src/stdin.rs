//! Standard input, byte by byte, for an interactive console.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};

/// Reads standard input as it arrives: no line buffering of its own, no thread, and a read can
/// be cancelled without losing bytes.
///
/// The open file behind descriptor 0 is shared with the shell that started this process, so
/// `O_NONBLOCK` is never set on it: a terminal is opened anew, anything else is asked by a
/// `poll` whether it has bytes before each read.
#[derive(Debug)]
pub struct StdinReader {
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// A terminal, pipe or socket.
    Events(AsyncFd<OwnedFd>),
    /// A regular file or `/dev/null`: never makes anybody wait, and epoll refuses it.
    Plain(OwnedFd),
}

impl StdinReader {
    /// A reader of this process's standard input. Have one at a time.
    ///
    /// # Errors
    ///
    /// When standard input is closed or the event system refuses it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with IO enabled.
    pub fn new() -> io::Result<Self> {
        Self::of(io::stdin())
    }

    /// The same for another stream.
    ///
    /// # Errors
    ///
    /// As [`StdinReader::new`].
    ///
    /// # Panics
    ///
    /// As [`StdinReader::new`].
    pub fn of(stream: impl AsFd) -> io::Result<Self> {
        let input = match reopen_terminal(&stream) {
            Some(terminal) => terminal,
            None => stream.as_fd().try_clone_to_owned()?,
        };
        let spare = input.try_clone()?;
        #[expect(
            deprecated,
            reason = "its hazard is a type that gives its descriptor away; OwnedFd does not"
        )]
        let events = AsyncFd::with_interest(input, Interest::READABLE);
        let source = match events {
            Ok(events) => Source::Events(events),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Source::Plain(spare),
            Err(error) => return Err(error),
        };
        Ok(Self { source })
    }
}

/// A fresh, non-blocking open file for the terminal behind `stream`, if it is one.
fn reopen_terminal(stream: impl AsFd) -> Option<OwnedFd> {
    let name = rustix::termios::ttyname(&stream, Vec::new()).ok()?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(name, flags, Mode::empty()).ok()
}

/// Reads if there is something to read; `WouldBlock` otherwise.
fn read_available(input: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut polled = [PollFd::new(input, PollFlags::IN)];
    if rustix::event::poll(&mut polled, Some(&now))? == 0 {
        return Err(io::Error::from(io::ErrorKind::WouldBlock));
    }
    Ok(rustix::io::read(input, buffer)?)
}

impl AsyncRead for StdinReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let read = match &self.source {
                Source::Plain(input) => {
                    Ok(rustix::io::read(input, buffer.initialize_unfilled()).map_err(Into::into))
                }
                Source::Events(events) => {
                    let mut guard = ready!(events.poll_read_ready(context))?;
                    guard.try_io(|events| {
                        read_available(events.get_ref(), buffer.initialize_unfilled())
                    })
                }
            };
            match read {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                // A terminal whose other side is gone.
                Ok(Err(error))
                    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}
