//! The terminal of this process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios};

use crate::pty::WindowSize;

/// Whether this stream leads to a terminal.
pub fn is_terminal(stream: impl AsFd) -> bool {
    rustix::termios::isatty(stream)
}

/// The size of the terminal behind `stream`; `None` when it is none or does not know.
pub fn window_size(stream: impl AsFd) -> Option<WindowSize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// What has to be restored, where the panic hook can reach it.
static SAVED: Mutex<Vec<(u64, OwnedFd, Termios)>> = Mutex::new(Vec::new());
static HOOK: Once = Once::new();

/// A terminal in raw mode: every byte as it is typed, no echo, no signals from keys. The mode
/// it had before comes back when this is dropped, and before a panic prints its message.
///
/// [`std::process::exit`] runs no destructors: drop it first.
#[derive(Debug)]
pub struct RawTerminal {
    key: u64,
}

impl RawTerminal {
    /// Puts the terminal behind `stream`, usually standard input, into raw mode.
    ///
    /// # Errors
    ///
    /// When `stream` is no terminal (`NotATerminal` of the kernel), or the kernel refuses.
    pub fn enter(stream: impl AsFd) -> io::Result<Self> {
        HOOK.call_once(|| {
            let earlier = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore(|_| true);
                earlier(panic);
            }));
        });
        let terminal = stream.as_fd().try_clone_to_owned()?;
        let before = rustix::termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        let mut saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
        rustix::termios::tcsetattr(&terminal, OptionalActions::Flush, &raw)?;
        let key = saved.last().map_or(0, |(key, ..)| key + 1);
        saved.push((key, terminal, before));
        Ok(Self { key })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore(|key| key == self.key);
    }
}

/// Restores in reverse order, so that nested guards end at the first state.
fn restore(wanted: impl Fn(u64) -> bool) {
    let mut saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(at) = saved.iter().rposition(|(key, ..)| wanted(*key)) {
        let (_, terminal, before) = saved.remove(at);
        // A terminal that is gone needs no mode.
        let _ = rustix::termios::tcsetattr(&terminal, OptionalActions::Drain, &before);
    }
}
