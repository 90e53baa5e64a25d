//! `RouterService.Stream` by hand: frames in the bodies of requests and responses, both ends.
//!
//! A body sends the chunks of a [`ByteReader`] as data frames, then a GOAWAY frame; it reads
//! frames until GOAWAY or the end of the message stream, skipping empty ones (facts: protocol
//! 3.2). Nothing here copies a payload.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame as BodyFrame};
use tonic::{Code, Status};

use crate::connection::{AnswerBody, Connection, RpcBody, described};
use crate::frame::{self, FrameDecoder, FrameType};
use crate::held::{Keeper, hold};
use crate::stream::{ByteReader, ByteStream, channel};

/// Path of the method that carries byte streams.
pub const STREAM_PATH: &str = "/jumpstarter.v1.RouterService/Stream";

/// Chunks that may wait between a writer and the connection.
const WRITE_AHEAD: usize = 4;

/// What happens after the last frame of a response.
pub type Ending = Pin<Box<dyn Future<Output = Status> + Send>>;

// === sending ===

/// A message body made from the chunks of a reader.
struct FrameBody {
    reader: Option<ByteReader>,
    /// Payload that follows the prefix just sent.
    payload: Option<Bytes>,
    /// Rest of a chunk too long for one frame.
    rest: Bytes,
    /// A server waits for this before it sends its trailers; a client has none.
    ending: Option<Ending>,
    failure: Option<Status>,
    finished: bool,
}

// === impl FrameBody ===

impl FrameBody {
    fn new(reader: ByteReader, ending: Option<Ending>) -> Self {
        Self {
            reader: Some(reader),
            payload: None,
            rest: Bytes::new(),
            ending,
            failure: None,
            finished: false,
        }
    }

    fn emit(&mut self, mut chunk: Bytes) -> Bytes {
        if chunk.len() > frame::MAX_PAYLOAD {
            self.rest = chunk.split_off(frame::MAX_PAYLOAD);
        }
        let encoded = frame::encode_data(chunk);
        self.payload = encoded.payload;
        encoded.head
    }

    /// The next piece of the frames, `None` once GOAWAY was sent or the reader has failed.
    fn poll_frames(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(payload) = self.payload.take() {
            return Poll::Ready(Some(payload));
        }
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(self.emit(rest)));
        }
        loop {
            let Some(reader) = &mut self.reader else {
                return Poll::Ready(None);
            };
            match ready!(reader.as_mut().poll_next(context)) {
                // Empty chunks carry nothing, and shipped receivers hand them on as data.
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) => return Poll::Ready(Some(self.emit(chunk))),
                Some(Err(error)) => {
                    // A GOAWAY would make the reason invisible: nobody reads on after it.
                    self.failure = Some(status_of(error));
                    self.reader = None;
                    return Poll::Ready(None);
                }
                None => {}
            }
            self.reader = None;
            return Poll::Ready(Some(frame::encode_goaway()));
        }
    }
}

impl Body for FrameBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.finished {
            return Poll::Ready(None);
        }
        if let Some(data) = ready!(this.poll_frames(context)) {
            return Poll::Ready(Some(Ok(BodyFrame::data(data))));
        }
        let Some(ending) = &mut this.ending else {
            this.finished = true;
            return Poll::Ready(None);
        };
        let status = match this.failure.take() {
            Some(failure) => failure,
            None => ready!(ending.as_mut().poll(context)),
        };
        this.finished = true;
        let mut trailers = HeaderMap::new();
        // A status text that no header can carry must not hide the status itself.
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
        }
        Poll::Ready(Some(Ok(BodyFrame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.finished
    }
}

// === receiving ===

/// The chunks of a message body.
struct FrameReader<B> {
    body: Option<B>,
    decoder: FrameDecoder,
    /// Takes the body at the end of the direction, if the call goes on without it.
    keeper: Option<Keeper<B>>,
}

impl<B> FrameReader<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + 'static,
{
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let Some(body) = &mut self.body else {
                return Poll::Ready(None);
            };
            match self.decoder.next_frame() {
                Ok(Some(frame)) if frame.frame_type == FrameType::GoAway => {
                    return Poll::Ready(None);
                }
                Ok(Some(frame)) if frame.payload.is_empty() => continue,
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame.payload))),
                Ok(None) => {}
                Err(error) => {
                    let code = match error {
                        frame::FrameError::TooLarge { .. } => Code::ResourceExhausted,
                        frame::FrameError::Compressed => Code::Unimplemented,
                        frame::FrameError::Malformed => Code::Internal,
                    };
                    return Poll::Ready(Some(Err(error_of(Status::new(code, error.to_string())))));
                }
            }
            match ready!(Pin::new(body).poll_frame(context)) {
                None if self.decoder.is_empty() => return Poll::Ready(None),
                None => {
                    return Poll::Ready(Some(Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the stream ended inside a message",
                    ))));
                }
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        format!("the stream was cut: {}", described(&error)),
                    ))));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.decoder.push(data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        if let Some(status) = Status::from_header_map(&trailers)
                            && status.code() != Code::Ok
                        {
                            return Poll::Ready(Some(Err(error_of(status))));
                        }
                    }
                },
            }
        }
    }
}

impl<B> Stream for FrameReader<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + 'static,
{
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let item = ready!(this.poll_chunk(context));
        if !matches!(item, Some(Ok(_))) {
            // Dropping the body is what ends the call for the peer: shipped exporters keep a
            // finished stream open until the client cancels it. A client that still has data to
            // send keeps it.
            let body = this.body.take();
            if let (None, Some(keeper)) = (&item, &this.keeper) {
                keeper.keep(body);
            }
        }
        Poll::Ready(item)
    }
}

/// Reads the frames of a request or response body as chunks.
pub fn read_frames<B>(body: B) -> ByteReader
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::error::Error + 'static,
{
    Box::pin(FrameReader {
        body: Some(body),
        decoder: FrameDecoder::default(),
        keeper: None,
    })
}

// === server ===

/// What a server sends back on a byte stream.
pub struct StreamAnswer {
    /// Initial metadata, flushed at once.
    pub metadata: HeaderMap,
    /// Chunks for the client.
    pub outbound: ByteReader,
    /// Decides, after the last chunk, when and how the call ends. Dropped when the client goes
    /// away, so it also owns whatever must not outlive the call.
    pub ending: Ending,
}

/// Turns an answer into a response; a refusal becomes a response without a body.
pub fn stream_response(answer: Result<StreamAnswer, Status>) -> Response<RpcBody> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(status) => return status.into_http(),
    };
    let body = FrameBody::new(answer.outbound, Some(answer.ending));
    let mut response = Response::new(RpcBody::new(body));
    *response.headers_mut() = answer.metadata;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}

// === client ===

/// A byte stream that the peer accepted.
pub struct OpenedStream {
    /// Initial metadata of the answer.
    pub metadata: HeaderMap,
    /// The stream itself. Dropping its reader before its end cancels the call, dropping both
    /// halves always does.
    pub stream: ByteStream,
}

/// Opens `RouterService.Stream` with the given request metadata.
///
/// # Errors
///
/// The peer's status, or UNAVAILABLE if the connection is gone.
pub async fn open_stream(
    connection: &Connection,
    metadata: HeaderMap,
) -> Result<OpenedStream, Status> {
    let (writer, reader) = channel(WRITE_AHEAD);
    let request = stream_request(metadata, reader);
    let (metadata, body) = accepted(connection.request(STREAM_PATH, request).await?)?;
    Ok(OpenedStream {
        metadata,
        stream: hold(writer, |keeper| response_reader(body, keeper)),
    })
}

/// Opens `RouterService.Stream` without waiting for the peer's answer: what is written is sent at
/// once, and a refusal is what the reader yields. Routers of other implementations answer only
/// when the far end has sent something, so two ends that both waited would wait for ever. The call
/// begins when the reader is polled first.
#[must_use]
pub fn start_stream(connection: &Connection, metadata: HeaderMap) -> ByteStream {
    let (writer, reader) = channel(WRITE_AHEAD);
    let request = stream_request(metadata, reader);
    let connection = connection.clone();
    hold(writer, |keeper| {
        let answered = async move {
            let opened = connection.request(STREAM_PATH, request).await;
            match opened.and_then(accepted) {
                Ok((_, body)) => response_reader(body, keeper),
                Err(status) => Box::pin(futures::stream::iter([Err(error_of(status))])),
            }
        };
        Box::pin(futures::stream::once(answered).flatten())
    })
}

fn stream_request(metadata: HeaderMap, reader: ByteReader) -> Request<RpcBody> {
    let mut request = Request::new(RpcBody::new(FrameBody::new(reader, None)));
    *request.method_mut() = http::Method::POST;
    *request.headers_mut() = metadata;
    let headers = request.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    request
}

/// The metadata and the body of an answer that is no refusal.
fn accepted(response: Response<AnswerBody>) -> Result<(HeaderMap, AnswerBody), Status> {
    let (parts, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    if !parts.status.is_success() {
        return Err(Status::unavailable(format!(
            "the peer answered HTTP status {} to a stream",
            parts.status
        )));
    }
    Ok((parts.headers, body))
}

fn response_reader(body: AnswerBody, keeper: Keeper<AnswerBody>) -> ByteReader {
    Box::pin(FrameReader {
        body: Some(body),
        decoder: FrameDecoder::default(),
        keeper: Some(keeper),
    })
}

// === errors ===

/// Carries a status through an `io::Error`; [`status_of`] takes it out again.
pub fn error_of(status: Status) -> io::Error {
    let kind = match status.code() {
        Code::Unavailable => io::ErrorKind::ConnectionReset,
        Code::DeadlineExceeded => io::ErrorKind::TimedOut,
        Code::NotFound => io::ErrorKind::NotFound,
        Code::PermissionDenied | Code::Unauthenticated => io::ErrorKind::PermissionDenied,
        Code::Cancelled => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, status)
}

/// The status inside an error made by [`error_of`], else UNKNOWN with the error's text, which is
/// what shipped exporters answer when a stream breaks.
pub fn status_of(error: io::Error) -> Status {
    let text = error.to_string();
    match error.into_inner().map(|inner| inner.downcast::<Status>()) {
        Some(Ok(status)) => *status,
        _ => Status::unknown(text),
    }
}

/// The name of a code as gRPC spells it, for example `INVALID_ARGUMENT`.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
