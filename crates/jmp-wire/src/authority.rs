//! Makes the `:authority` of C-core gRPC peers acceptable to our HTTP/2 server.
//!
//! gRPC C-core (every Python client) sends the percent-encoded path of a unix socket as
//! `:authority`: grpcio 1.85 sends `run%2Fexporter.sock` for `/run/exporter.sock`, as a plain literal
//! with a literal name. The `http` crate allows no `%` there, so the server would answer every call
//! with a stream error. Upstream clients do not set another
//! authority, and their bytes reach us through router tunnels as well as through sockets, so every
//! inbound connection is wrapped in an [`AuthorityFilter`] before it is handed to hyper.
//!
//! [`AuthorityRewriter`] is the pure core. It walks the bytes a client sends (preface, frame heads,
//! header blocks) and overwrites bytes in place; lengths never change, so HPACK state on both sides
//! stays valid. Invariants, held by the property tests:
//!
//! * the result does not depend on how the input was cut into pieces;
//! * only bytes of `:authority` values change, and a value that was acceptable stays acceptable;
//! * payloads are skipped, not read: one step per DATA frame and buffer;
//! * memory is constant apart from the shadow of the HPACK table (at most 64 KiB worth of entries),
//!   so a header block of any length is safe;
//! * what is not well-formed HTTP/2 from a client turns the rewriter off for the rest of the
//!   connection: the server behind it will report the error with the original bytes.
//!
//! Huffman-coded values need no decoding to text: `huffman.rs` shows why flipping single bits is
//! enough. Start reading at [`AuthorityRewriter::process`].

mod hpack;
mod huffman;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::hpack::{BlockWalker, Malformed};

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_LENGTH: usize = 9;

const FRAME_HEADERS: u8 = 0x1;
const FRAME_PUSH_PROMISE: u8 = 0x5;
const FRAME_CONTINUATION: u8 = 0x9;

const FLAG_END_HEADERS: u8 = 0x4;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// Stream dependency and weight, deprecated but still legal in front of a header block.
const PRIORITY_LENGTH: u32 = 5;

/// Rewrites the `:authority` values in the bytes of one HTTP/2 client, in place and incrementally.
///
/// Feed it every byte the client sends, in order, in pieces of any size. Bytes of an authority that
/// the `http` crate would refuse become `-` (in Huffman-coded values `%` becomes `.` and ` ` becomes
/// `-`, because only codes of equal length can be exchanged); everything else stays as it is. Input
/// that does not begin with the HTTP/2 preface is left alone.
#[derive(Debug)]
pub struct AuthorityRewriter {
    phase: Phase,
    /// The head of the current frame, as far as it has arrived.
    head: [u8; FRAME_HEAD_LENGTH],
    /// Flags of the current HEADERS or CONTINUATION frame.
    flags: u8,
    /// Payload bytes of the current HEADERS or CONTINUATION frame not yet walked, padding included.
    rest: u32,
    padding: u32,
    /// A header block is open: only CONTINUATION may follow.
    block_open: bool,
    walker: BlockWalker,
}

/// Where in the byte stream the rewriter stands; numbers count bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Preface { seen: usize },
    Head { seen: usize },
    PadLength,
    Priority { left: u32 },
    Fragment { left: u32 },
    Skip { left: u32 },
    Off,
}

// === impl AuthorityRewriter ===

impl Default for AuthorityRewriter {
    fn default() -> Self {
        Self::new()
    }
}

impl AuthorityRewriter {
    /// A rewriter at the start of a connection.
    pub fn new() -> Self {
        Self {
            phase: Phase::Preface { seen: 0 },
            head: [0; FRAME_HEAD_LENGTH],
            flags: 0,
            rest: 0,
            padding: 0,
            block_open: false,
            walker: BlockWalker::new(),
        }
    }

    /// Walks the next bytes of the connection and rewrites authority bytes in them.
    pub fn process(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.phase != Phase::Off {
            match self.step(rest) {
                Ok(used) => rest = &mut rest[used..],
                Err(Malformed(reason)) => {
                    tracing::debug!(reason, "authority rewriting stopped on malformed HTTP/2");
                    self.phase = Phase::Off;
                }
            }
        }
    }

    /// Handles the front of `bytes` (not empty) and returns how many bytes that took, at least one.
    fn step(&mut self, bytes: &mut [u8]) -> Result<usize, Malformed> {
        match self.phase {
            Phase::Preface { seen } => Ok(self.preface(seen, bytes)),
            Phase::Head { seen } => self.frame_head(seen, bytes),
            Phase::PadLength => {
                self.rest -= 1;
                self.padding = u32::from(bytes[0]);
                self.enter_priority()?;
                Ok(1)
            }
            Phase::Priority { left } => {
                let used = shorter(left, bytes.len());
                self.rest -= used as u32;
                match left - used as u32 {
                    0 => self.enter_fragment()?,
                    left => self.phase = Phase::Priority { left },
                }
                Ok(used)
            }
            Phase::Fragment { left } => {
                let used = shorter(left, bytes.len());
                self.walker.process(&mut bytes[..used])?;
                match left - used as u32 {
                    0 => self.leave_fragment()?,
                    left => self.phase = Phase::Fragment { left },
                }
                Ok(used)
            }
            Phase::Skip { left } => {
                let used = shorter(left, bytes.len());
                self.enter_skip(left - used as u32);
                Ok(used)
            }
            Phase::Off => Ok(bytes.len()),
        }
    }

    fn preface(&mut self, seen: usize, bytes: &[u8]) -> usize {
        let used = bytes.len().min(PREFACE.len() - seen);
        let seen_now = seen + used;
        self.phase = if bytes[..used] != PREFACE[seen..seen_now] {
            Phase::Off
        } else if seen_now == PREFACE.len() {
            Phase::Head { seen: 0 }
        } else {
            Phase::Preface { seen: seen_now }
        };
        used
    }

    fn frame_head(&mut self, seen: usize, bytes: &[u8]) -> Result<usize, Malformed> {
        let used = bytes.len().min(FRAME_HEAD_LENGTH - seen);
        self.head[seen..seen + used].copy_from_slice(&bytes[..used]);
        if seen + used < FRAME_HEAD_LENGTH {
            self.phase = Phase::Head { seen: seen + used };
        } else {
            self.enter_frame()?;
        }
        Ok(used)
    }

    fn enter_frame(&mut self) -> Result<(), Malformed> {
        let [length_high, length_middle, length_low, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, length_high, length_middle, length_low]);
        if self.block_open != (kind == FRAME_CONTINUATION) {
            return Err(Malformed("header block interrupted or continued wrongly"));
        }
        match kind {
            FRAME_HEADERS | FRAME_CONTINUATION => {
                self.block_open = true;
                self.flags = flags;
                self.rest = length;
                self.padding = 0;
                if kind == FRAME_CONTINUATION {
                    self.flags &= FLAG_END_HEADERS;
                    self.enter_fragment()
                } else if flags & FLAG_PADDED == 0 {
                    self.enter_priority()
                } else if length == 0 {
                    Err(Malformed("padded frame without padding length"))
                } else {
                    self.phase = Phase::PadLength;
                    Ok(())
                }
            }
            FRAME_PUSH_PROMISE => Err(Malformed("push promise from a client")),
            _ => {
                self.enter_skip(length);
                Ok(())
            }
        }
    }

    fn enter_priority(&mut self) -> Result<(), Malformed> {
        if self.flags & FLAG_PRIORITY == 0 {
            return self.enter_fragment();
        }
        if self.rest < PRIORITY_LENGTH {
            return Err(Malformed("frame too short for its priority field"));
        }
        self.phase = Phase::Priority {
            left: PRIORITY_LENGTH,
        };
        Ok(())
    }

    fn enter_fragment(&mut self) -> Result<(), Malformed> {
        match self.rest.checked_sub(self.padding) {
            None => Err(Malformed("padding longer than the frame")),
            Some(0) => self.leave_fragment(),
            Some(left) => {
                self.phase = Phase::Fragment { left };
                Ok(())
            }
        }
    }

    fn leave_fragment(&mut self) -> Result<(), Malformed> {
        if self.flags & FLAG_END_HEADERS != 0 {
            self.block_open = false;
            self.walker.end_block()?;
        }
        self.enter_skip(self.padding);
        Ok(())
    }

    fn enter_skip(&mut self, left: u32) {
        self.phase = match left {
            0 => Phase::Head { seen: 0 },
            left => Phase::Skip { left },
        };
    }
}

/// The smaller of what a field still needs and what has arrived.
fn shorter(left: u32, available: usize) -> usize {
    available.min(left as usize)
}

/// A connection whose inbound bytes pass through an [`AuthorityRewriter`]; writes go straight
/// through. Wrap every accepted connection in it, whatever it came through: unix socket, TCP, TLS
/// or router tunnel.
#[derive(Debug)]
pub struct AuthorityFilter<IO> {
    io: IO,
    rewriter: AuthorityRewriter,
}

// === impl AuthorityFilter ===

impl<IO> AuthorityFilter<IO> {
    /// Wraps a connection of which nothing has been read yet.
    pub fn new(io: IO) -> Self {
        Self {
            io,
            rewriter: AuthorityRewriter::new(),
        }
    }

    /// The wrapped connection.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }

    /// The wrapped connection; bytes read from it directly escape the filter.
    pub fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// Gives the connection back; the rewriting ends.
    pub fn into_inner(self) -> IO {
        self.io
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for AuthorityFilter<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(context, buffer))?;
        this.rewriter.process(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for AuthorityFilter<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
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
}

/// Body of the fuzz target: any bytes, after the preface and without it, whole and in pieces.
///
/// # Panics
///
/// When an invariant of this module does not hold.
#[doc(hidden)]
pub fn fuzz_authority(data: &[u8]) {
    let mut with_preface = PREFACE.to_vec();
    with_preface.extend_from_slice(data);
    for input in [with_preface.as_slice(), data] {
        let mut whole = input.to_vec();
        AuthorityRewriter::new().process(&mut whole);

        let mut pieces = input.to_vec();
        let mut rewriter = AuthorityRewriter::new();
        let mut sizes = data.iter().map(|byte| usize::from(byte % 7)).cycle();
        let mut rest = pieces.as_mut_slice();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at_mut(rest.len().min(1 + sizes.next().unwrap_or(0)));
            rewriter.process(piece);
            rest = tail;
        }
        assert_eq!(whole, pieces, "the cutting changed the result");
        if !input.starts_with(PREFACE) {
            assert_eq!(whole, input, "input without preface was changed");
        }
    }
}

#[cfg(test)]
mod tests;
