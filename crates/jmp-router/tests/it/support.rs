//! Peers that speak raw bytes, tokens for them, and a router in memory.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jmp_auth::{TunnelEnds, TunnelIssuer, TunnelKeys, TunnelTokens};
use jmp_router::{Keys, Listener, MemoryDialer, Router, RouterHandle, RouterOptions, Tls};
use jmp_types::Timestamp;
use jmp_wire::connection::{AnswerBody, Connection, RpcBody};
use jmp_wire::rpc::STREAM_PATH;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};

/// No step of a test takes longer. On a paused clock this is virtual.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub async fn soon<T>(step: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, step).await;
    done.expect("in time")
}

pub fn keys() -> TunnelKeys {
    TunnelKeys::from_secrets([b"a secret of the tests, long enough"]).expect("keys")
}

pub const LEASE: &str = "default/lease";

pub fn tokens() -> TunnelTokens {
    tokens_for(LEASE)
}

pub fn tokens_for(lease: &str) -> TunnelTokens {
    let ends = TunnelEnds {
        lease,
        client: "client:default/alice",
        exporter: "exporter:default/board",
    };
    TunnelIssuer::new(Arc::new(keys()))
        .issue(ends, Timestamp::now())
        .expect("tokens")
}

/// A router in memory.
pub struct Rig {
    pub router: RouterHandle,
    pub dialer: MemoryDialer,
    pub stop: CancellationToken,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut RouterOptions)) -> Self {
        let (listener, dialer) = Listener::memory(64 * 1024);
        let mut options = RouterOptions::new(listener, Tls::None, Keys::Fixed(keys()));
        change(&mut options);
        let stop = CancellationToken::new();
        let router = Router::start(options, stop.clone()).expect("starts");
        Self {
            router,
            dialer,
            stop,
        }
    }

    pub async fn connect(&self) -> Connection {
        let io = soon(self.dialer.dial("test")).await.expect("accepted");
        soon(Connection::handshake(io, "router", HeaderMap::new(), None))
            .await
            .expect("HTTP/2")
    }

    /// A peer on a connection of its own.
    pub async fn peer(&self, token: &str) -> Result<Peer, Status> {
        Peer::open(self.connect().await, bearer(token)).await
    }

    /// A peer whose connection can be cut like a cable.
    pub async fn cable(&self, token: &str) -> (Peer, AbortOnDropHandle<()>) {
        let mut far = soon(self.dialer.dial("cable")).await.expect("accepted");
        let (near, mut middle) = tokio::io::duplex(64 * 1024);
        let cable = AbortOnDropHandle::new(tokio::spawn(async move {
            // How it ends is what the test is about.
            let _ = tokio::io::copy_bidirectional(&mut middle, &mut far).await;
        }));
        let connection = soon(Connection::handshake(
            near,
            "router",
            HeaderMap::new(),
            None,
        ));
        let connection = connection.await.expect("HTTP/2");
        let peer = Peer::open(connection, bearer(token)).await;
        (peer.expect("let in"), cable)
    }

    /// Two joined peers, the client first.
    pub async fn pair(&self) -> (Peer, Peer) {
        let tokens = tokens();
        let client = self.peer(tokens.client.token.expose()).await;
        let exporter = self.peer(tokens.exporter.token.expose()).await;
        (client.expect("parked"), exporter.expect("joined"))
    }

    /// Waits until `wanted` holds, without asking more often than needed.
    pub async fn until(&self, wanted: impl Fn(&jmp_router::RouterStats) -> bool) {
        soon(async {
            while !wanted(&self.router.stats()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

pub fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("header");
    headers.insert(header::AUTHORIZATION, value);
    headers
}

/// One end of a tunnel.
pub struct Peer {
    pub connection: Option<Connection>,
    pub headers: HeaderMap,
    sender: Option<mpsc::Sender<Bytes>>,
    body: AnswerBody,
    rest: BytesMut,
}

impl Peer {
    pub async fn open(connection: Connection, metadata: HeaderMap) -> Result<Self, Status> {
        let (sender, mut chunks) = mpsc::channel::<Bytes>(1);
        let chunks = futures::stream::poll_fn(move |context| {
            let chunk = chunks.poll_recv(context);
            chunk.map(|chunk| chunk.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk))))
        });
        let mut request = Request::new(RpcBody::new(StreamBody::new(chunks)));
        *request.method_mut() = http::Method::POST;
        *request.headers_mut() = metadata;
        request.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        let response = soon(connection.request(STREAM_PATH, request)).await?;
        let (parts, body) = response.into_parts();
        if let Some(status) = Status::from_header_map(&parts.headers) {
            return Err(status);
        }
        Ok(Self {
            connection: Some(connection),
            headers: parts.headers,
            sender: Some(sender),
            body,
            rest: BytesMut::new(),
        })
    }

    pub async fn send(&self, data: impl Into<Bytes>) {
        soon(self.try_send(data.into())).await.expect("call runs");
    }

    pub fn try_send(&self, data: Bytes) -> BoxFuture<'static, Result<(), ()>> {
        let sender = self.sender.clone().expect("not ended");
        Box::pin(async move { sender.send(data).await.map_err(drop) })
    }

    /// Half-closes.
    pub fn end(&mut self) {
        self.sender = None;
    }

    /// Exactly the next `length` bytes.
    pub async fn receive(&mut self, length: usize) -> Bytes {
        while self.rest.len() < length {
            let frame = soon(self.body.frame()).await.expect("more").expect("whole");
            self.rest
                .extend_from_slice(&frame.into_data().expect("data"));
        }
        self.rest.split_to(length).freeze()
    }

    /// Takes and forgets `length` bytes.
    pub async fn discard(&mut self, mut length: usize) {
        while length > 0 {
            let frame = soon(self.body.frame()).await.expect("more").expect("whole");
            length -= frame.into_data().expect("data").len();
        }
    }

    /// How the call ends, soon.
    pub async fn status(&mut self) -> Status {
        soon(self.ending()).await
    }

    /// How the call ends; whatever data comes before is kept in `rest`.
    pub async fn ending(&mut self) -> Status {
        loop {
            match self.body.frame().await {
                None => return Status::unknown("no trailers"),
                Some(Err(error)) => return Status::unknown(format!("cut: {error:?}")),
                Some(Ok(frame)) => match frame.into_trailers() {
                    Ok(trailers) => {
                        return Status::from_header_map(&trailers)
                            .unwrap_or_else(|| Status::unknown("no status"));
                    }
                    Err(frame) => {
                        let data = frame.into_data().expect("data");
                        self.rest.extend_from_slice(&data);
                    }
                },
            }
        }
    }

    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Asserts how the call ends.
    pub async fn expect(&mut self, code: Code, text: &str) {
        let status = self.status().await;
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
    }
}

/// Asserts that a peer was not let in.
pub fn refused(peer: Result<Peer, Status>, code: Code, text: &str) {
    let status = peer.err().expect("refused");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(text), "{status:?}");
}
