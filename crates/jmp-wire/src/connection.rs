//! One HTTP/2 connection over any byte stream, both ends, without a transport layer in between.
//!
//! A [`Connection`] is a tower service, so generated clients work on it; byte streams use it
//! directly. It is one connection: whoever made it decides about reconnecting.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::authority::AuthorityFilter;

/// Body of requests and responses.
pub type RpcBody = tonic::body::Body;

/// How much a peer may send before we have taken it: what one connection can make us hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Of one stream, bytes.
    pub stream: u32,
    /// Of all streams of a connection together, bytes.
    pub connection: u32,
}

/// For devices: 16 MiB keep 100 MB/s going at 100 ms round trip. A stream that nobody reads must
/// not hold up the others, so a connection has four times that. This is also the most that one
/// tunnel can make its client or its exporter hold for it.
pub const BULK: Windows = Windows {
    stream: 16 * 1024 * 1024,
    connection: 64 * 1024 * 1024,
};
/// For servers that have thousands of connections and get small messages only.
pub const CONTROL: Windows = Windows {
    stream: 1024 * 1024,
    connection: 4 * 1024 * 1024,
};
/// Largest HTTP/2 frame that is accepted. The 16 KiB of the standard cost a system call each.
const FRAME_SIZE: u32 = 256 * 1024;
/// Bytes that may wait in a connection for its socket.
const SEND_BUFFER: usize = 1024 * 1024;

/// Liveness probes; unix sockets need none.
#[derive(Debug, Clone, Copy)]
pub struct KeepAlive {
    /// Time between two probes.
    pub interval: Duration,
    /// How long an answer may take before the connection counts as lost.
    pub timeout: Duration,
}

/// What shipped clients use on TCP (facts: protocol 9.4).
pub const TCP_KEEP_ALIVE: KeepAlive = KeepAlive {
    interval: Duration::from_secs(20),
    timeout: Duration::from_secs(180),
};

/// The client end of a connection. Clones share it, and so do the bodies of its answers; the last one
/// closes it.
#[derive(Clone)]
pub struct Connection {
    sender: hyper::client::conn::http2::SendRequest<RpcBody>,
    authority: http::uri::Authority,
    metadata: Arc<HeaderMap>,
    task: Arc<ConnectionTask>,
    /// Why it ended, for all calls after that.
    ended: Arc<OnceLock<String>>,
}

/// Ends the connection's tasks with its last handle.
struct ConnectionTask {
    driver: JoinHandle<()>,
    dropped: CancellationToken,
}

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.driver.abort();
        self.dropped.cancel();
    }
}

/// Body of an answer. It keeps its connection: whoever reads one need not hold a handle, too.
pub struct AnswerBody {
    incoming: Incoming,
    _task: Arc<ConnectionTask>,
}

// === impl AnswerBody ===

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.incoming.size_hint()
    }
}

/// How long what was sent last may take to leave after the last handle of a connection has gone.
const LINGER: Duration = Duration::from_secs(1);

/// Runs the tasks of a client connection. By themselves they would outlive it for as long as a body is held
/// up by flow control, and the peer would believe us to be there.
#[derive(Clone)]
struct Lingering(CancellationToken);

impl<F> hyper::rt::Executor<F> for Lingering
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let dropped = self.0.clone();
        tokio::spawn(async move {
            let too_late = async {
                dropped.cancelled().await;
                tokio::time::sleep(LINGER).await;
            };
            tokio::select! {
                _ = task => {}
                () = too_late => {}
            }
        });
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Metadata may hold a passphrase or a token.
        formatter
            .debug_struct("Connection")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

// === impl Connection ===

impl Connection {
    /// Speaks HTTP/2 over `io`. `metadata` is added to each request.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE if the peer does not speak HTTP/2.
    pub async fn handshake<IO>(
        io: IO,
        authority: &str,
        metadata: HeaderMap,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Self, Status>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let authority = authority
            .parse()
            .map_err(|error| Status::invalid_argument(format!("address `{authority}`: {error}")))?;
        let dropped = CancellationToken::new();
        let executor = Lingering(dropped.clone());
        let mut builder = hyper::client::conn::http2::Builder::new(executor);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(BULK.stream)
            .initial_connection_window_size(BULK.connection)
            .max_frame_size(FRAME_SIZE)
            .max_send_buf_size(SEND_BUFFER);
        if let Some(keep_alive) = keep_alive {
            builder
                .keep_alive_interval(keep_alive.interval)
                .keep_alive_timeout(keep_alive.timeout)
                .keep_alive_while_idle(true);
        }
        let (sender, driver) = builder
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Status::unavailable(format!("HTTP/2 handshake failed: {error}")))?;
        let ended = Arc::new(OnceLock::new());
        let reason = Arc::clone(&ended);
        let task = tokio::spawn(async move {
            let text = match driver.await {
                Ok(()) => "the other side closed it".to_owned(),
                Err(error) => described(&error),
            };
            tracing::debug!(reason = text, "connection ended");
            let _ = reason.set(text);
        });
        Ok(Self {
            sender,
            ended,
            authority,
            metadata: Arc::new(metadata),
            task: Arc::new(ConnectionTask {
                driver: task,
                dropped,
            }),
        })
    }

    /// Where generated clients should believe to be connected.
    pub fn origin(&self) -> Uri {
        Uri::builder()
            .scheme("http")
            .authority(self.authority.clone())
            .path_and_query("/")
            .build()
            .unwrap_or_default()
    }

    /// True once the peer or the network ended the connection.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.task.driver.is_finished()
    }

    /// Sends a request to `path`.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE if the connection is gone or ends before the answer.
    pub async fn request(
        &self,
        path: &'static str,
        mut request: Request<RpcBody>,
    ) -> Result<Response<AnswerBody>, Status> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::from_static(path))
            .build();
        *request.uri_mut() =
            uri.map_err(|error| Status::internal(format!("request address: {error}")))?;
        self.send(request).await
    }

    fn send(
        &self,
        mut request: Request<RpcBody>,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Status>> + Send + 'static {
        for (name, value) in self.metadata.iter() {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let mut sender = self.sender.clone();
        let ended = Arc::clone(&self.ended);
        let task = Arc::clone(&self.task);
        async move {
            let answered = async {
                sender.ready().await?;
                sender.send_request(request).await
            };
            let answer = answered.await.map_err(|error| {
                let text = ended.get().cloned().unwrap_or_else(|| described(&error));
                Status::unavailable(format!("the connection was lost: {text}"))
            })?;
            Ok(answer.map(|incoming| AnswerBody {
                incoming,
                _task: task,
            }))
        }
    }
}

/// An error with its causes: the first alone says that something failed, the last one what.
pub(crate) fn described(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // rustls adds a page for programmers to a connection that just ended.
        let cause_text = cause_text
            .split(": https://docs.rs/")
            .next()
            .unwrap_or_default();
        // Some repeat the text of what they wrap.
        if !text.contains(cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl tower_service::Service<Request<RpcBody>> for Connection {
    type Response = Response<AnswerBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The call waits, and tells more when the connection is gone than a generated client would.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RpcBody>) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// Runs the calls of a connection where somebody can wait for them.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, call: F) {
        self.0.spawn(call);
    }
}

/// Serves one accepted connection until the peer leaves or `stop` resolves; then running calls
/// may still finish. Bytes pass the `:authority` filter first, so that C-core peers are
/// understood on every inbound path (design: crates, finding 1). The windows are [`BULK`].
///
/// # Errors
///
/// The reason why the connection broke, for a log line.
pub async fn serve<IO, S, F>(
    io: IO,
    service: S,
    tasks: &TaskTracker,
    keep_alive: Option<KeepAlive>,
    stop: F,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<RpcBody>> + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: Future<Output = ()>,
{
    serve_within(BULK, io, service, tasks, keep_alive, stop).await
}

/// As [`serve`], with other windows.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_within<IO, S, F>(
    windows: Windows,
    io: IO,
    service: S,
    tasks: &TaskTracker,
    keep_alive: Option<KeepAlive>,
    stop: F,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<RpcBody>> + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: Future<Output = ()>,
{
    let mut builder = hyper::server::conn::http2::Builder::new(Tracked(tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_frame_size(FRAME_SIZE)
        .max_send_buf_size(SEND_BUFFER)
        // Bounds what one peer can make us hold.
        .max_concurrent_streams(1024)
        .max_header_list_size(64 * 1024);
    if let Some(keep_alive) = keep_alive {
        builder
            .keep_alive_interval(keep_alive.interval)
            .keep_alive_timeout(keep_alive.timeout);
    }
    let connection = builder.serve_connection(TokioIo::new(AuthorityFilter::new(io)), service);
    let mut connection = std::pin::pin!(connection);
    let stop = std::pin::pin!(stop);
    match futures::future::select(connection.as_mut(), stop).await {
        futures::future::Either::Left((result, _)) => result,
        futures::future::Either::Right(((), _)) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// A unary or streaming gRPC answer for a path that nobody serves.
pub fn unimplemented(path: &str) -> Response<RpcBody> {
    Status::unimplemented(format!("unknown method {path}")).into_http()
}
