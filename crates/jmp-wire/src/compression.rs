//! The four stream encodings of resources, as adapters between streams of chunks.
//!
//! [`decode`] reads what the ordinary tools write: any number of gzip members, xz streams, bzip2
//! streams or zstd frames one after the other, and for gzip also zlib data (as observed on 0.9.0;
//! that release drops everything after the first member). Zero padding after gzip members and xz
//! streams is skipped. Truncated data, corrupt data and foreign bytes after the last member are
//! errors that say where. [`encode`] writes one member and always completes it.
//!
//! Memory is bounded: a few chunks, and what the format needs for its window, for which decoding
//! allows [`WINDOW_LIMIT`]. Compression runs on the task that polls the stream, in steps of 64 KiB of
//! input, and lets other tasks run between them.

mod reader;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use async_compression::Level;
use async_compression::tokio::bufread;
use async_compression::zstd::{CParameter, DParameter};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncRead};

use self::reader::ChunkReader;

/// A stream of chunks that fails with an I/O error; both ends of every adapter here.
pub type ChunkStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// How much memory the window of compressed data may ask for, in bytes: 128 MiB, twice what the
/// highest preset of xz needs and what the zstd tool allows without further options.
pub const WINDOW_LIMIT: u64 = 1 << WINDOW_LIMIT_LOG;
const WINDOW_LIMIT_LOG: u32 = 27;

/// Output is gathered into chunks of this many bytes while more is at hand.
const CHUNK_SIZE: usize = 128 * 1024;
/// A buffer with less room than this is handed on rather than filled up.
const SMALLEST_ROOM: usize = 16 * 1024;

/// How the bytes of a resource are compressed. Text forms are those of the wire:
/// `gzip`, `xz`, `bz2`, `zstd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// gzip; decoding also takes zlib.
    Gzip,
    /// xz.
    Xz,
    /// bzip2.
    Bz2,
    /// Zstandard.
    Zstd,
}

/// A name that is none of the four encodings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression {0:?}, expected gzip, xz, bz2 or zstd")]
pub struct UnknownEncoding(pub String);

/// What is wrong with compressed data; found as the inner error of the [`io::Error`] of [`decode`].
#[derive(Debug, thiserror::Error)]
#[error("{encoding} data {problem}, at compressed byte {offset} in member {member}")]
pub struct DecodeError {
    /// What the data should have been.
    pub encoding: Encoding,
    /// Bytes of the source taken in when the error showed; the fault lies at or before it.
    pub offset: u64,
    /// Which member, stream or frame was being read, counted from one.
    pub member: u64,
    /// What is wrong.
    pub problem: DecodeProblem,
}

/// The ways in which compressed data can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum DecodeProblem {
    /// There is not a single byte.
    #[error("is empty")]
    Empty,
    /// The source ended inside a member.
    #[error("is truncated")]
    Truncated,
    /// The source does not begin like this encoding.
    #[error("does not start with a header of that format")]
    OtherFormat,
    /// Something else follows a complete member.
    #[error("is followed by bytes that are not another member")]
    TrailingGarbage,
    /// The decoder refused the data, with its own words why.
    #[error("is corrupt or needs too much memory ({0})")]
    Refused(String),
}

// === impl Encoding ===

impl Encoding {
    /// All encodings, in the order in which they are offered to a person.
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Xz, Self::Bz2, Self::Zstd];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Bz2 => "bz2",
            Self::Zstd => "zstd",
        }
    }

    /// Zero bytes between and after members mean nothing (gzip tapes, xz stream padding).
    fn allows_padding(self) -> bool {
        matches!(self, Self::Gzip | Self::Xz)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Encoding {
    type Err = UnknownEncoding;

    fn from_str(name: &str) -> Result<Self, UnknownEncoding> {
        let found = Self::ALL
            .into_iter()
            .find(|encoding| encoding.name() == name);
        found.ok_or_else(|| UnknownEncoding(name.to_owned()))
    }
}

/// Decompresses `source`.
///
/// # Errors
///
/// In the stream, and then its last item: errors of the source unchanged; for bad data an
/// [`io::Error`] around a [`DecodeError`], of kind `UnexpectedEof` when the data is empty or truncated
/// and `InvalidData` otherwise. What could be decompressed before comes first.
pub fn decode(encoding: Encoding, source: ChunkStream) -> ChunkStream {
    Box::pin(Decoding {
        encoding,
        stage: Stage::Between(ChunkReader::new(source)),
        member: 0,
        zlib: false,
        padding: 0,
        buffer: BytesMut::new(),
        failure: None,
    })
}

/// Compresses `source` at the default level of the format and completes it when the source ends.
///
/// # Errors
///
/// In the stream, and then its last item: errors of the source unchanged. What was compressed until
/// then is no complete file.
pub fn encode(encoding: Encoding, source: ChunkStream) -> ChunkStream {
    let source = ChunkReader::new(source);
    match encoding {
        Encoding::Gzip => Box::pin(Encoded::new(bufread::GzipEncoder::new(source))),
        Encoding::Xz => Box::pin(Encoded::new(bufread::XzEncoder::new(source))),
        Encoding::Bz2 => Box::pin(Encoded::new(bufread::BzEncoder::new(source))),
        Encoding::Zstd => {
            // As the tool does: without it, a flipped bit can pass unnoticed.
            let checksum = CParameter::checksum_flag(true);
            Box::pin(Encoded::new(bufread::ZstdEncoder::with_quality_and_params(
                source,
                Level::Default,
                &[checksum],
            )))
        }
    }
}

/// Reads until the buffer is full, the reader has nothing more for now, or it ends.
/// `Ok(true)` means that it ended.
fn fill<R: Codec>(
    reader: &mut R,
    buffer: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    if buffer.capacity() - buffer.len() < SMALLEST_ROOM {
        buffer.reserve(CHUNK_SIZE);
    }
    loop {
        match tokio_util::io::poll_read_buf(Pin::new(&mut *reader), context, buffer) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Ok(true)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            // A pause of ours is no reason to hand on a small chunk: we will be polled again at once.
            Poll::Pending if buffer.is_empty() || reader.source().is_pausing() => {
                return Poll::Pending;
            }
            Poll::Pending => return Poll::Ready(Ok(false)),
            Poll::Ready(Ok(_)) if buffer.capacity() - buffer.len() < SMALLEST_ROOM => {
                return Poll::Ready(Ok(false));
            }
            Poll::Ready(Ok(_)) => {}
        }
    }
}

/// A codec over a [`ChunkReader`], with access to it.
trait Codec: AsyncRead + Unpin + Send {
    fn source(&self) -> &ChunkReader;
    fn source_mut(&mut self) -> &mut ChunkReader;
}

macro_rules! impl_codec {
    ($($codec:ident)*) => {
        $(impl Codec for bufread::$codec<ChunkReader> {
            fn source(&self) -> &ChunkReader {
                self.get_ref()
            }

            fn source_mut(&mut self) -> &mut ChunkReader {
                self.get_mut()
            }
        })*
    };
}

impl_codec! { GzipEncoder XzEncoder BzEncoder ZstdEncoder }

/// The output of an encoder as a stream.
struct Encoded<E> {
    encoder: E,
    buffer: BytesMut,
    failure: Option<io::Error>,
    ended: bool,
}

// === impl Encoded ===

impl<E: Codec> Encoded<E> {
    fn new(encoder: E) -> Self {
        Self {
            encoder,
            buffer: BytesMut::new(),
            failure: None,
            ended: false,
        }
    }
}

impl<E: Codec> Stream for Encoded<E> {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.ended {
            match fill(&mut this.encoder, &mut this.buffer, context) {
                Poll::Pending => {
                    this.encoder.source_mut().end_pause();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(ended)) => this.ended = ended,
                Poll::Ready(Err(error)) => {
                    this.ended = true;
                    this.failure = Some(error);
                }
            }
        }
        Poll::Ready(next_item(&mut this.buffer, &mut this.failure))
    }
}

/// What is buffered, then the failure, then the end.
fn next_item(buffer: &mut BytesMut, failure: &mut Option<io::Error>) -> Option<io::Result<Bytes>> {
    if buffer.is_empty() {
        return failure.take().map(Err);
    }
    Some(Ok(buffer.split().freeze()))
}

/// A decoder for one member. The next member gets a new one, so that padding, foreign bytes and the
/// number of the member are ours to see.
enum MemberDecoder {
    Gzip(bufread::GzipDecoder<ChunkReader>),
    Zlib(bufread::ZlibDecoder<ChunkReader>),
    Xz(bufread::XzDecoder<ChunkReader>),
    Bz2(bufread::BzDecoder<ChunkReader>),
    Zstd(bufread::ZstdDecoder<ChunkReader>),
}

/// Applies one expression to whichever decoder it is.
macro_rules! with_decoder {
    ($member:expr, $decoder:ident => $body:expr) => {
        match $member {
            MemberDecoder::Gzip($decoder) => $body,
            MemberDecoder::Zlib($decoder) => $body,
            MemberDecoder::Xz($decoder) => $body,
            MemberDecoder::Bz2($decoder) => $body,
            MemberDecoder::Zstd($decoder) => $body,
        }
    };
}

// === impl MemberDecoder ===

impl MemberDecoder {
    /// The decoder for a member that begins with `first`, or the source when no member does.
    fn new(encoding: Encoding, first: u8, source: ChunkReader) -> Result<Self, ChunkReader> {
        Ok(match (encoding, first) {
            (Encoding::Gzip, 0x1f) => Self::Gzip(bufread::GzipDecoder::new(source)),
            // The low half names deflate; the other half is the window.
            (Encoding::Gzip, 0x08 | 0x18 | 0x28 | 0x38 | 0x48 | 0x58 | 0x68 | 0x78) => {
                Self::Zlib(bufread::ZlibDecoder::new(source))
            }
            (Encoding::Xz, 0xfd) => {
                Self::Xz(bufread::XzDecoder::with_mem_limit(source, WINDOW_LIMIT))
            }
            (Encoding::Bz2, b'B') => Self::Bz2(bufread::BzDecoder::new(source)),
            // A frame, or one of the skippable frames.
            (Encoding::Zstd, 0x28 | 0x50..=0x5f) => {
                let limit = DParameter::window_log_max(WINDOW_LIMIT_LOG);
                Self::Zstd(bufread::ZstdDecoder::with_params(source, &[limit]))
            }
            _ => return Err(source),
        })
    }

    fn into_source(self) -> ChunkReader {
        with_decoder!(self, decoder => decoder.into_inner())
    }
}

impl Codec for MemberDecoder {
    fn source(&self) -> &ChunkReader {
        with_decoder!(self, decoder => decoder.get_ref())
    }

    fn source_mut(&mut self) -> &mut ChunkReader {
        with_decoder!(self, decoder => decoder.get_mut())
    }
}

impl AsyncRead for MemberDecoder {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with_decoder!(self.get_mut(), decoder => Pin::new(decoder).poll_read(context, buffer))
    }
}

enum Stage {
    /// At the start, or after a member: padding, another member or the end may follow.
    Between(ChunkReader),
    Member(MemberDecoder),
    Ended,
}

/// The decompressed stream.
struct Decoding {
    encoding: Encoding,
    stage: Stage,
    /// The member being read, counted from one; zero before the first.
    member: u64,
    /// The first member was zlib, not gzip; the others have to be the same.
    zlib: bool,
    /// Zero bytes skipped since the last member.
    padding: u64,
    buffer: BytesMut,
    failure: Option<io::Error>,
}

// === impl Decoding ===

impl Decoding {
    fn fail(&mut self, source: &ChunkReader, problem: DecodeProblem) {
        let kind = match &problem {
            DecodeProblem::Empty | DecodeProblem::Truncated => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        let error = DecodeError {
            encoding: self.encoding,
            offset: source.consumed(),
            member: self.member.max(1),
            problem,
        };
        self.failure = Some(io::Error::new(kind, error));
    }

    fn source_mut(&mut self) -> Option<&mut ChunkReader> {
        match &mut self.stage {
            Stage::Between(source) => Some(source),
            Stage::Member(decoder) => Some(decoder.source_mut()),
            Stage::Ended => None,
        }
    }

    /// Skips padding and finds out what follows.
    fn poll_between(&mut self, mut source: ChunkReader, context: &mut Context<'_>) -> Poll<()> {
        let first = match Pin::new(&mut source).poll_fill_buf(context) {
            Poll::Ready(Ok(available)) => available.first().copied(),
            Poll::Ready(Err(error)) => {
                self.failure = Some(error);
                return Poll::Ready(());
            }
            Poll::Pending => {
                self.stage = Stage::Between(source);
                return Poll::Pending;
            }
        };
        let padded_badly = self.encoding == Encoding::Xz && !self.padding.is_multiple_of(4);
        let zlib = self.encoding == Encoding::Gzip && first != Some(0x1f);
        let other_format = self.member > 0 && zlib != self.zlib;
        match first {
            None if self.member == 0 => self.fail(&source, DecodeProblem::Empty),
            None if padded_badly => self.fail(&source, DecodeProblem::TrailingGarbage),
            None => {}
            Some(0) if self.member > 0 && self.encoding.allows_padding() => {
                Pin::new(&mut source).consume(1);
                self.padding += 1;
                self.stage = Stage::Between(source);
            }
            Some(_) if padded_badly || other_format => {
                self.fail(&source, DecodeProblem::TrailingGarbage)
            }
            Some(first) => match MemberDecoder::new(self.encoding, first, source) {
                Ok(decoder) => {
                    self.member += 1;
                    self.zlib = zlib;
                    self.padding = 0;
                    self.stage = Stage::Member(decoder);
                }
                Err(source) if self.member == 0 => self.fail(&source, DecodeProblem::OtherFormat),
                Err(source) => self.fail(&source, DecodeProblem::TrailingGarbage),
            },
        }
        Poll::Ready(())
    }

    /// Reads on in a member. Ready when something can be handed on or the stage has changed.
    fn poll_member(&mut self, mut decoder: MemberDecoder, context: &mut Context<'_>) -> Poll<()> {
        match fill(&mut decoder, &mut self.buffer, context) {
            Poll::Pending => {
                self.stage = Stage::Member(decoder);
                return Poll::Pending;
            }
            Poll::Ready(Ok(false)) => self.stage = Stage::Member(decoder),
            Poll::Ready(Ok(true)) => self.stage = Stage::Between(decoder.into_source()),
            Poll::Ready(Err(error)) => {
                let source = decoder.source();
                if source.has_failed() {
                    self.failure = Some(error);
                } else if source.has_ended() {
                    self.fail(source, DecodeProblem::Truncated);
                } else {
                    self.fail(source, DecodeProblem::Refused(error.to_string()));
                }
            }
        }
        Poll::Ready(())
    }
}

impl Stream for Decoding {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // Small members are gathered into one chunk.
            let room = this.buffer.capacity() - this.buffer.len();
            if !this.buffer.is_empty() && room < SMALLEST_ROOM {
                break;
            }
            let progress = match std::mem::replace(&mut this.stage, Stage::Ended) {
                Stage::Between(source) => this.poll_between(source, context),
                Stage::Member(decoder) => this.poll_member(decoder, context),
                Stage::Ended => break,
            };
            if progress.is_pending() {
                let pausing = this.source_mut().is_some_and(ChunkReader::end_pause);
                if this.buffer.is_empty() || pausing {
                    return Poll::Pending;
                }
                break;
            }
        }
        Poll::Ready(next_item(&mut this.buffer, &mut this.failure))
    }
}

#[cfg(test)]
mod tests;
