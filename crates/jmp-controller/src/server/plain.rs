//! Plain HTTP: metrics and health for machines, and the answer to browsers that found the gRPC port.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jmp_types::resource::Exporter;
use jmp_wire::connection::RpcBody;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::context::Context;

/// Connections at one time.
const CONNECTIONS: usize = 64;
/// How long a request may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may stay.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The answer of the gRPC port to what is not gRPC (facts: controller 4.2).
pub(super) fn not_found() -> Response<RpcBody> {
    let body = r#"{"code":5,"message":"Not Found","details":[]}"#;
    let mut response = Response::new(RpcBody::new(Full::from(body)));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let kind = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Serves `/metrics`, `/healthz` and `/readyz` until the controller stops.
pub async fn serve_plain(listener: TcpListener, context: Arc<Context>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.stopping.cancelled() => return,
        };
        match accepted {
            Ok((io, _)) => {
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                    continue;
                };
                let connection = converse(io, Arc::clone(&context));
                context.tasks.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(super::ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(io: TcpStream, context: Arc<Context>) {
    let stopping = context.stopping.clone();
    let service = service_fn(move |request| answer(request, Arc::clone(&context)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(io), service);
    let limited = tokio::time::timeout(CONNECTION_TIMEOUT, connection);
    tokio::select! {
        result = limited => if let Ok(Err(error)) = result {
            tracing::debug!(%error, "connection ended");
        },
        () = stopping.cancelled() => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    context: Arc<Context>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => {
            (StatusCode::OK, "text/plain", "ok\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, "/readyz") if context.is_ready() => {
            (StatusCode::OK, "text/plain", "ok\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, "/readyz") => (
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            "the store is not available, or the controller is stopping\n".to_owned(),
        ),
        (&Method::GET, "/metrics") => (StatusCode::OK, OPEN_METRICS, figures(&context).await),
        (&Method::GET | &Method::HEAD, _) => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "there are /metrics, /healthz and /readyz\n".to_owned(),
        ),
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "only GET\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(kind),
    );
    Ok(response)
}

async fn figures(context: &Context) -> String {
    let counts = context.engine.counts().await.unwrap_or_default();
    let exporters = context.view.list::<Exporter>(None);
    context
        .metrics
        .text(&counts, &exporters, context.routers.usable())
}
