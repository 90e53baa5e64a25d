//! Talking to a console: send something, wait for an answer.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use jmp_client::console::{Console, Pattern};
//! use jmp_client::{Client, Dialer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(Dialer::from_environment()?).await?;
//! let mut console = Console::open(client.device("serial")?).await?;
//! let patience = Duration::from_secs(30);
//! console.expect("login: ", patience).await?;
//! console.send_line("root").await?;
//! console.expect("# ", patience).await?;
//! console.send_line("uname -r").await?;
//! let version = console
//!     .expect(Pattern::regex(r"(\d+)\.(\d+)\S*\r?\n")?, patience)
//!     .await?;
//! println!("major version {}", version.group(1).unwrap_or_default());
//! # Ok(())
//! # }
//! ```
//!
//! An expectation that is not met fails with the last lines that the console has shown:
//!
//! ```
//! use std::time::Duration;
//!
//! use jmp_client::ByteStream;
//! use jmp_client::console::Console;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut console = Console::new(ByteStream::echo(4));
//! console.send_line("Kernel panic").await?;
//! let error = console
//!     .expect("login: ", Duration::from_millis(10))
//!     .await
//!     .unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "waited 10ms for \"login: \", which the console did not show; its last lines are\n  \
//!      | Kernel panic",
//! );
//! # Ok(())
//! # }
//! ```

mod pattern;
mod transcript;

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use jmp_driver::{ByteReader, ByteStream, ByteWriter};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

pub use pattern::{Match, Pattern};
use transcript::Transcript;

use crate::error::Result as ClientResult;
use crate::tree::Device;

/// Output in which a match is looked for; older bytes are given up, so that an endless stream
/// fills no memory.
const WINDOW: usize = 256 * 1024;
/// Most input taken at once.
const INPUT: usize = 4096;

/// Why an expectation was not met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// It did not come in time.
    #[error(
        "waited {waited:?} for {wanted}, which the console did not show; its last lines are{transcript}"
    )]
    Timeout {
        /// What was waited for.
        wanted: String,
        /// For how long.
        waited: Duration,
        /// The last lines of output.
        transcript: String,
    },
    /// The console was closed first.
    #[error("the console ended before it showed {wanted}; its last lines are{transcript}")]
    Ended {
        /// What was waited for.
        wanted: String,
        /// The last lines of output.
        transcript: String,
    },
    /// The connection or the device was lost.
    #[error("the console was lost: {source}; its last lines are{transcript}")]
    Lost {
        /// Why.
        source: io::Error,
        /// The last lines of output.
        transcript: String,
    },
}

/// Result of talking to a console.
pub type Result<T, E = ConsoleError> = std::result::Result<T, E>;

/// A console and what it has shown that nobody has asked for yet.
pub struct Console {
    reader: ByteReader,
    writer: ByteWriter,
    /// Output that no match has taken.
    pending: BytesMut,
    transcript: Transcript,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Console")
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

// === impl Console ===

impl Console {
    /// A console on any byte stream.
    pub fn new(stream: ByteStream) -> Self {
        Self {
            reader: stream.reader,
            writer: stream.writer,
            pending: BytesMut::new(),
            transcript: Transcript::default(),
        }
    }

    /// The console of a device: a new stream of its method `connect`.
    ///
    /// # Errors
    ///
    /// If the allow list does not cover the device or it cannot be connected to.
    pub async fn open(device: &Device) -> ClientResult<Self> {
        let stream = device.handle()?.open_stream("connect").await?;
        Ok(Self::new(stream))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// [`ConsoleError::Lost`] if the console takes nothing any more.
    pub async fn send(&mut self, data: impl Into<Bytes>) -> Result<()> {
        let sent = self.writer.send(data.into()).await;
        sent.map_err(|source| self.lost(source))
    }

    /// Sends text and a line feed.
    ///
    /// # Errors
    ///
    /// [`ConsoleError::Lost`] if the console takes nothing any more.
    pub async fn send_line(&mut self, text: &str) -> Result<()> {
        self.send(format!("{text}\n")).await
    }

    /// Waits for a text or a regular expression. What comes after the match is kept for the next
    /// expectation.
    ///
    /// Matches are looked for in the last 256 KiB of output.
    ///
    /// # Errors
    ///
    /// If it does not come within `patience`, or the console ends or is lost first. The output
    /// stays pending, so one may go on expecting.
    pub async fn expect(
        &mut self,
        pattern: impl Into<Pattern>,
        patience: Duration,
    ) -> Result<Match> {
        let (_, found) = self.expect_any(&[pattern.into()], patience).await?;
        Ok(found)
    }

    /// Waits for the first of several patterns to appear and says which, counted from 0. Of those
    /// that match the same output, the one that begins first wins, then the one named first.
    ///
    /// # Errors
    ///
    /// As [`Console::expect`].
    pub async fn expect_any(
        &mut self,
        patterns: &[Pattern],
        patience: Duration,
    ) -> Result<(usize, Match)> {
        let deadline = Instant::now() + patience;
        let mut seen = 0;
        loop {
            let found = patterns
                .iter()
                .enumerate()
                .filter_map(|(index, pattern)| Some((index, pattern.find(&self.pending, seen)?)))
                .min_by_key(|(index, found)| (found.start(), *index));
            if let Some((index, found)) = found {
                return Ok((index, found.take(&mut self.pending)));
            }
            seen = self.pending.len();
            match timeout_at(deadline, self.reader.next()).await {
                Ok(Some(Ok(chunk))) => seen -= self.receive(&chunk).min(seen),
                Ok(Some(Err(source))) => return Err(self.lost(source)),
                Ok(None) => {
                    return Err(ConsoleError::Ended {
                        wanted: list(patterns),
                        transcript: self.last_lines(),
                    });
                }
                Err(_) => {
                    return Err(ConsoleError::Timeout {
                        wanted: list(patterns),
                        waited: patience,
                        transcript: self.last_lines(),
                    });
                }
            }
        }
    }

    /// Waits until nothing has arrived for `quiet`, and takes all output so far.
    ///
    /// # Errors
    ///
    /// If it does not become quiet within `patience`, or the console is lost. An ended console is
    /// quiet.
    pub async fn wait_for_quiet(&mut self, quiet: Duration, patience: Duration) -> Result<Bytes> {
        let deadline = Instant::now() + patience;
        loop {
            let silence = timeout(quiet, self.reader.next());
            match timeout_at(deadline, silence).await {
                Ok(Ok(Some(Ok(chunk)))) => {
                    self.receive(&chunk);
                }
                Ok(Ok(Some(Err(source)))) => return Err(self.lost(source)),
                Ok(Ok(None) | Err(_)) => return Ok(self.pending.split().freeze()),
                Err(_) => {
                    return Err(ConsoleError::Timeout {
                        wanted: format!("{quiet:?} of silence"),
                        waited: patience,
                        transcript: self.last_lines(),
                    });
                }
            }
        }
    }

    /// Hands the console to a person: first what is pending, then everything in both directions,
    /// until `input` or the console ends.
    ///
    /// # Errors
    ///
    /// [`ConsoleError::Lost`] if the console, `input` or `output` fails.
    pub async fn interact(
        &mut self,
        mut input: impl AsyncRead + Unpin,
        mut output: impl AsyncWrite + Unpin,
    ) -> Result<()> {
        let mut shown = self.pending.split().freeze();
        let mut keys = vec![0; INPUT];
        loop {
            let written = async {
                output.write_all(&shown).await?;
                output.flush().await
            };
            if let Err(source) = written.await {
                return Err(self.lost(source));
            }
            shown = Bytes::new();
            tokio::select! {
                chunk = self.reader.next() => match chunk {
                    Some(Ok(chunk)) => {
                        self.transcript.push(&chunk);
                        shown = chunk;
                    }
                    Some(Err(source)) => return Err(self.lost(source)),
                    None => return Ok(()),
                },
                count = input.read(&mut keys) => match count {
                    Ok(0) => return Ok(()),
                    Ok(count) => self.send(Bytes::copy_from_slice(&keys[..count])).await?,
                    Err(source) => return Err(self.lost(source)),
                },
            }
        }
    }

    /// Output that no match has taken yet, as far as it has been received.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// The last 64 KiB of output.
    pub fn transcript(&self) -> Vec<u8> {
        self.transcript.bytes()
    }

    /// The byte stream again, pending output first.
    pub fn into_stream(self) -> ByteStream {
        let pending = self.pending.freeze();
        let first = (!pending.is_empty()).then_some(Ok(pending));
        ByteStream {
            reader: Box::pin(futures::stream::iter(first).chain(self.reader)),
            writer: self.writer,
        }
    }

    /// Takes output in; returns how much of the pending output had to be given up for it.
    fn receive(&mut self, chunk: &[u8]) -> usize {
        self.transcript.push(chunk);
        self.pending.extend_from_slice(chunk);
        let excess = self.pending.len().saturating_sub(WINDOW);
        drop(self.pending.split_to(excess));
        excess
    }

    fn last_lines(&self) -> String {
        self.transcript.last_lines()
    }

    fn lost(&self, source: io::Error) -> ConsoleError {
        ConsoleError::Lost {
            source,
            transcript: self.last_lines(),
        }
    }
}

fn list(patterns: &[Pattern]) -> String {
    let names: Vec<String> = patterns.iter().map(Pattern::to_string).collect();
    names.join(" or ")
}
