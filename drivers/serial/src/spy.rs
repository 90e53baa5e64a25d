//! `spy://`: a log of everything that passes through a port.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Bytes shown on one line.
const WIDTH: usize = 16;

/// Passes bytes through and logs them as hexadecimal lines with the time since opening.
///
/// The log is written where the bytes pass, so it is in order and complete up to a crash; a log file on a slow disk
/// slows the port down. When the log cannot be written any more the port goes on without it.
pub(crate) struct Spy<S> {
    inner: S,
    log: Option<Log>,
}

struct Log {
    target: Target,
    start: Instant,
}

enum Target {
    File(File),
    StandardError,
}

impl<S> Spy<S> {
    /// Logs to `file`, which is emptied first, or to standard error.
    pub(crate) fn new(inner: S, file: Option<&Path>) -> io::Result<Self> {
        let target = match file {
            None => Target::StandardError,
            Some(path) => OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .open(path)
                .map(Target::File)
                .map_err(|error| {
                    let text = format!("failed to open the spy log {}: {error}", path.display());
                    io::Error::new(error.kind(), text)
                })?,
        };
        Ok(Self {
            inner,
            log: Some(Log {
                target,
                start: Instant::now(),
            }),
        })
    }

    fn log(&mut self, direction: &str, data: &[u8]) {
        let Some(log) = &mut self.log else {
            return;
        };
        let text = dump(log.start.elapsed().as_secs_f64(), direction, data);
        let written = match &mut log.target {
            Target::File(file) => file.write_all(text.as_bytes()),
            Target::StandardError => io::stderr().lock().write_all(text.as_bytes()),
        };
        if written.is_err() {
            self.log = None;
        }
    }
}

/// Lines of time, direction, sixteen bytes in hexadecimal, and the same as text.
fn dump(seconds: f64, direction: &str, data: &[u8]) -> String {
    let mut text = String::new();
    for line in data.chunks(WIDTH) {
        let mut hexadecimal = String::new();
        for byte in line {
            // Writing to a string does not fail.
            let _ = write!(hexadecimal, "{byte:02X} ");
        }
        let plain: String = line
            .iter()
            .map(|&byte| {
                if byte.is_ascii_graphic() || byte == b' ' {
                    char::from(byte)
                } else {
                    '.'
                }
            })
            .collect();
        let _ = writeln!(
            text,
            "{seconds:014.6} {direction} {hexadecimal:<48} {plain}"
        );
    }
    text
}

impl<S: AsyncRead + Unpin> AsyncRead for Spy<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(context, buffer);
        if result.is_ready() {
            self.log("RX", &buffer.filled()[before..]);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Spy<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, data);
        if let Poll::Ready(Ok(length)) = result {
            self.log("TX", &data[..length]);
        }
        result
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
    use super::*;

    #[test]
    fn a_line_shows_time_direction_bytes_and_text() {
        let text = dump(1.5, "TX", b"ab\n0123456789abcdef");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with("0000001.500000 TX 61 62 0A 30 "),
            "{}",
            lines[0]
        );
        assert!(lines[0].ends_with("ab.0123456789abc"), "{}", lines[0]);
    }
}
