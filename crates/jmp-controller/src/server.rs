//! Connections: admitting them, and which service answers a call.

mod observed;
mod plain;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use jmp_auth::{Place, Places, peer_network};
use jmp_proto::health::v1::health_server::HealthServer;
use jmp_proto::jmp::v1::admin_service_server::AdminServiceServer;
use jmp_proto::jmp::v1::lease_service_server::LeaseServiceServer;
use jmp_proto::jmp::v1::router_control_service_server::RouterControlServiceServer;
use jmp_proto::jumpstarter::client::v1::client_service_server::ClientServiceServer;
use jmp_proto::v1::controller_service_server::ControllerServiceServer;
use jmp_wire::connection::{CONTROL, RpcBody, serve_within, unimplemented};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::admin_service::AdminApi;
use crate::client_service::ClientApi;
use crate::context::{Context, Peer};
use crate::controller_service::Controllers;
use crate::health::HealthService;
use crate::lease_service::LeaseApi;
use crate::probe::Probe;
use crate::router_control::RouterControl;

pub use plain::serve_plain;

/// Pause after a failed accept, which is almost always a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Methods, and services, to which much is sent; never by clients.
const LARGE: [&str; 5] = [
    "/jumpstarter.v1.ControllerService/Register",
    "/jumpstarter.v1.ControllerService/ReportStatus",
    "/jumpstarter.v1.ControllerService/Unregister",
    "/jmp.v1.AdminService/",
    "/jmp.v1.RouterControlService/",
];

/// Answers calls. Made once; every connection has a clone.
#[derive(Clone)]
pub struct Server {
    context: Arc<Context>,
    addresses: Arc<Places<IpAddr>>,
    slots: Arc<tokio::sync::Semaphore>,
}

/// One of the connections of an address.
struct Admitted {
    _address: Place<IpAddr>,
    _slot: tokio::sync::OwnedSemaphorePermit,
}

/// Answers the calls of one connection.
#[derive(Clone)]
struct Dispatch {
    context: Arc<Context>,
    peer: Peer,
}

// === impl Server ===

impl Server {
    /// A server over that context.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        let limits = context.settings.limits;
        Self {
            context,
            addresses: Places::new(limits.connections_per_address),
            slots: Arc::new(tokio::sync::Semaphore::new(limits.connections)),
        }
    }

    /// Admits connections until the controller stops. With `tls`, every one has to shake hands first.
    pub async fn listen(self, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
        let acceptor = tls.map(TlsAcceptor::from);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.context.stopping.cancelled() => return,
            };
            match accepted {
                Ok((io, address)) => {
                    let Some(admitted) = self.admit(address) else {
                        continue;
                    };
                    let server = self.clone();
                    let acceptor = acceptor.clone();
                    self.context.tasks.spawn(async move {
                        server.converse(io, address, acceptor).await;
                        drop(admitted);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, address: SocketAddr) -> Option<Admitted> {
        let address = peer_network(address.ip());
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            tracing::warn!(peer = %address, "too many connections; this one is refused");
            return None;
        };
        let Some(place) = self.addresses.take(address) else {
            tracing::warn!(peer = %address, "too many connections of this host; this one is refused");
            return None;
        };
        Some(Admitted {
            _address: place,
            _slot: slot,
        })
    }

    async fn converse(&self, io: TcpStream, address: SocketAddr, tls: Option<TlsAcceptor>) {
        if let Err(error) = io.set_nodelay(true) {
            tracing::debug!(%error, "cannot send small packets at once");
        }
        let peer = Some(address.ip());
        let Some(tls) = tls else {
            return self.serve_io(io, peer).await;
        };
        let handshake = tls.accept(io);
        match tokio::time::timeout(self.context.settings.limits.handshake, handshake).await {
            Ok(Ok(io)) => self.serve_io(io, peer).await,
            Ok(Err(error)) => tracing::debug!(%error, peer = %address, "TLS handshake failed"),
            Err(_) => tracing::debug!(peer = %address, "TLS handshake timed out"),
        }
    }

    /// Serves one connection, of whatever kind, until it or the controller ends.
    pub async fn serve_io<IO>(&self, io: IO, address: Option<IpAddr>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let context = &self.context;
        let close = context.cut.child_token();
        let (io, probe) = Probe::wrap(io, close.clone());
        let limit = context.settings.limits.handshake;
        let silent = is_silent(probe.clone(), limit);
        let dispatch = Dispatch {
            context: Arc::clone(context),
            peer: Peer::new(address, probe),
        };
        let stranger = is_stranger(
            dispatch.peer.known.clone(),
            context.settings.limits.stranger,
        );
        context.metrics.connection_opened();
        let stop = context.stopping.clone().cancelled_owned();
        let keep_alive = Some(context.settings.limits.keep_alive);
        let served = serve_within(CONTROL, io, dispatch, &context.tasks, keep_alive, stop);
        tokio::select! {
            result = served => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
            }
            () = close.cancelled() => {}
            () = silent => tracing::debug!(peer = ?address, "no HTTP/2 was spoken in time"),
            () = stranger => tracing::debug!(peer = ?address, "nobody showed a good token in time"),
        }
        context.metrics.connection_closed();
    }
}

/// Ends if the peer does not begin to speak HTTP/2 within `limit`. Liveness probes begin only then.
async fn is_silent(probe: Probe, limit: Duration) {
    if tokio::time::timeout(limit, probe.begun()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Ends if nobody is `known` within `limit`: a stranger must not keep a place for good. Probes of
/// health connect again.
async fn is_stranger(known: CancellationToken, limit: Duration) {
    if tokio::time::timeout(limit, known.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

// === impl Dispatch ===

impl Dispatch {
    /// How long a message of this caller to that method may be, bytes.
    fn limit(&self, path: &str, headers: &http::HeaderMap) -> usize {
        let limits = &self.context.settings.limits;
        if !self.peer.known.is_cancelled() && !self.context.shows_good_token(headers) {
            limits.stranger_message
        } else if LARGE.iter().any(|large| path.starts_with(large)) {
            limits.message
        } else {
            limits.request
        }
    }

    async fn handle(self, mut request: Request<Incoming>) -> Response<RpcBody> {
        let grpc = request
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if !grpc {
            return plain::not_found();
        }
        let path = request.uri().path().to_owned();
        let (service, _) = path
            .trim_start_matches('/')
            .split_once('/')
            .unwrap_or((&path, ""));
        request.extensions_mut().insert(self.peer.clone());
        let limit = self.limit(&path, request.headers());
        let context = Arc::clone(&self.context);
        macro_rules! answer {
            ($server:ident, $service:expr) => {{
                let mut server = $server::new($service).max_decoding_message_size(limit);
                let Ok(response) = server.call(request).await;
                response
            }};
        }
        let response = match service {
            "jumpstarter.v1.ControllerService" => {
                answer!(ControllerServiceServer, Controllers::new(context))
            }
            "jmp.v1.RouterControlService" => {
                answer!(RouterControlServiceServer, RouterControl::new(context))
            }
            "jumpstarter.client.v1.ClientService" => {
                answer!(ClientServiceServer, ClientApi::new(context))
            }
            "jmp.v1.LeaseService" => answer!(LeaseServiceServer, LeaseApi::new(context)),
            "jmp.v1.AdminService" => answer!(AdminServiceServer, AdminApi::new(context)),
            "grpc.health.v1.Health" => answer!(HealthServer, HealthService::new(context)),
            _ => unimplemented(&path),
        };
        observed::too_large_as_exhausted(response)
    }
}

impl hyper::service::Service<Request<Incoming>> for Dispatch {
    type Response = Response<RpcBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let dispatch = self.clone();
        Box::pin(async move {
            let observation = observed::Observation::begin(&dispatch.context, request.uri().path());
            let response = dispatch.handle(request).await;
            Ok(observation.end(response))
        })
    }
}
