//! What a connection can ask for: the stream of tunnels and the standard health check.

use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use jmp_proto::health::v1::health_check_response::ServingStatus;
use jmp_proto::health::v1::health_server::{Health, HealthServer};
use jmp_proto::health::v1::{HealthCheckRequest, HealthCheckResponse};
use jmp_wire::connection::{RpcBody, unimplemented};
use jmp_wire::rpc::STREAM_PATH;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tower_service::Service;

use crate::metrics::RefusalReason;
use crate::relay::{Arrival, Relay};

/// Services the health check knows, besides the whole server.
const ROUTER_SERVICE: &str = "jumpstarter.v1.RouterService";
const HEALTH_PATH: &str = "/grpc.health.v1.Health/";
/// Bytes of a request for a health check.
const HEALTH_REQUEST: usize = 1024;

tokio::task_local! {
    /// Resets the call that the current task serves.
    pub(crate) static CUT: CancellationToken;
}

/// Answers the calls of one connection.
#[derive(Clone)]
pub(crate) struct RouterService {
    pub(crate) relay: Arc<Relay>,
    pub(crate) origin: Arc<str>,
}

// === impl RouterService ===

impl RouterService {
    pub(crate) async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<RpcBody>, Infallible> {
        let path = request.uri().path();
        if path == STREAM_PATH {
            return Ok(self.stream(request));
        }
        if path.starts_with(HEALTH_PATH) {
            return Ok(self.health(request).await);
        }
        Ok(unimplemented(path))
    }

    /// Anybody may ask, so little is read and not for long.
    async fn health(self, request: Request<Incoming>) -> Response<RpcBody> {
        let limit = self.relay.limits().handshake;
        let mut health =
            HealthServer::new(HealthService(self.relay)).max_decoding_message_size(HEALTH_REQUEST);
        match tokio::time::timeout(limit, health.call(request)).await {
            Ok(Ok(response)) => response,
            Err(_) => Status::deadline_exceeded("the request did not come in time").into_http(),
        }
    }

    fn stream(&self, request: Request<Incoming>) -> Response<RpcBody> {
        let (parts, inbound) = request.into_parts();
        let headers = &parts.headers;
        if parts.method != http::Method::POST || !is_grpc(headers) {
            let mut response = Response::new(RpcBody::empty());
            *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        if let Some(encoding) = compression(headers) {
            self.relay.metrics.refused(RefusalReason::Encoding);
            let text = format!(
                "messages with grpc-encoding `{encoding}` are not forwarded; send them as they are"
            );
            return offer(Status::unimplemented(text).into_http());
        }
        let arrival = Arrival {
            inbound,
            origin: Arc::clone(&self.origin),
            cut: CUT.try_with(CancellationToken::clone).unwrap_or_default(),
        };
        match self.relay.admit(bearer(headers), arrival) {
            // The headers leave at once: shipped peers wait for them before anything else.
            Ok(body) => {
                let mut response = Response::new(RpcBody::new(body));
                response.headers_mut().insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/grpc"),
                );
                offer(response)
            }
            Err(refusal) => {
                tracing::info!(
                    peer = &*self.origin,
                    code = ?refusal.status.code(),
                    reason = refusal.status.message(),
                    "tunnel refused"
                );
                offer(refusal.status.into_http())
            }
        }
    }
}

/// Tells the peer that messages must not be compressed.
fn offer(mut response: Response<RpcBody>) -> Response<RpcBody> {
    response
        .headers_mut()
        .insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    response
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The encoding of the peer's messages, unless it is none.
fn compression(headers: &HeaderMap) -> Option<String> {
    let encoding = headers.get("grpc-encoding")?;
    (encoding != "identity").then(|| String::from_utf8_lossy(encoding.as_bytes()).into_owned())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

/// `grpc.health.v1`: serving means that new tunnels are let in.
struct HealthService(Arc<Relay>);

// === impl HealthService ===

impl HealthService {
    fn answer(ready: bool) -> HealthCheckResponse {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        HealthCheckResponse {
            status: status as i32,
        }
    }
}

#[async_trait]
impl Health for HealthService {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        if !is_known(&request) {
            let service = &request.get_ref().service;
            return Err(Status::not_found(format!("unknown service `{service}`")));
        }
        let ready = *self.0.readiness().borrow();
        Ok(tonic::Response::new(Self::answer(ready)))
    }

    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let place = Arc::clone(&self.0.watchers).try_acquire_owned();
        let place = place.map_err(|_| {
            Status::resource_exhausted("too many watch the health of this router; check it instead")
        })?;
        let answers = if is_known(&request) {
            let readiness = self.0.readiness();
            futures::stream::unfold((readiness, true), |(mut readiness, first)| async move {
                if !first {
                    readiness.changed().await.ok()?;
                }
                let ready = *readiness.borrow_and_update();
                Some((Ok(Self::answer(ready)), (readiness, false)))
            })
            .boxed()
        } else {
            // A service that does not exist stays unknown.
            let unknown = HealthCheckResponse {
                status: ServingStatus::ServiceUnknown as i32,
            };
            let once = futures::stream::iter([Ok(unknown)]);
            once.chain(futures::stream::pending()).boxed()
        };
        let answers = answers.inspect(move |_| {
            let _held = &place;
        });
        Ok(tonic::Response::new(answers.boxed()))
    }
}

fn is_known(request: &tonic::Request<HealthCheckRequest>) -> bool {
    matches!(request.get_ref().service.as_str(), "" | ROUTER_SERVICE)
}
