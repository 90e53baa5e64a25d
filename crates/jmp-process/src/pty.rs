//! Pseudo terminals, the side that a terminal emulator holds.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// The size of a terminal, in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    /// Number of lines.
    pub rows: u16,
    /// Number of characters in a line.
    pub columns: u16,
}

impl Default for WindowSize {
    /// 24 lines of 80 characters.
    fn default() -> Self {
        Self {
            rows: 24,
            columns: 80,
        }
    }
}

impl From<WindowSize> for Winsize {
    fn from(size: WindowSize) -> Self {
        Self {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }
    }
}

/// The controlling side of a pseudo terminal: reads what the program prints, writes what the
/// user types. Reading ends when the last process has closed the terminal.
#[derive(Debug)]
pub struct Pty {
    master: AsyncFd<OwnedFd>,
}

impl Pty {
    /// Reads what is there without waiting, for when the program has ended but something that it
    /// left running keeps the terminal open. 0 is the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing (more), and what the kernel says.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(self.master.get_ref(), buffer) {
            Err(rustix::io::Errno::IO) => Ok(0),
            read => Ok(read?),
        }
    }

    /// Changes the size; the foreground program gets SIGWINCH.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        Ok(rustix::termios::tcsetwinsize(
            self.master.get_ref(),
            size.into(),
        )?)
    }
}

/// Opens a pseudo terminal of that size: the controlling side and the program's side.
pub(crate) fn open(size: WindowSize) -> io::Result<(Pty, OwnedFd)> {
    #[cfg(target_os = "linux")]
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags)?;
    rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    // Asking the descriptor works also where /dev/pts belongs to another mount namespace.
    #[cfg(target_os = "linux")]
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    #[cfg(not(target_os = "linux"))]
    let terminal = rustix::fs::open(
        rustix::pty::ptsname(&master, Vec::new())?,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::termios::tcsetwinsize(&terminal, size.into())?;
    let status = rustix::fs::fcntl_getfl(&master)?;
    rustix::fs::fcntl_setfl(&master, status | OFlags::NONBLOCK)?;
    #[expect(
        deprecated,
        reason = "its hazard is a type that gives its descriptor away; OwnedFd does not"
    )]
    let master = AsyncFd::with_interest(master, Interest::READABLE | Interest::WRITABLE)?;
    Ok((Pty { master }, terminal))
}

impl AsyncRead for Pty {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.master.poll_read_ready(context))?;
            let read = guard.try_io(|master| {
                Ok(rustix::io::read(
                    master.get_ref(),
                    buffer.initialize_unfilled(),
                )?)
            });
            match read {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // Linux's way to say that nobody has the terminal open any more.
                Ok(Err(error))
                    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Pty {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.master.poll_write_ready(context))?;
            match guard.try_io(|master| Ok(rustix::io::write(master.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
