//! The gRPC face of a session, on whatever socket it comes in.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use jmp_driver::log::LogRecord;
use jmp_driver::node::MethodInfo;
use jmp_driver::{CallContext, MethodKind, NodeRef, Origin};
use jmp_proto::jmp::v1 as describe;
use jmp_proto::jmp::v1::describe_service_server::{DescribeService, DescribeServiceServer};
use jmp_proto::v1::exporter_service_server::{ExporterService, ExporterServiceServer};
use jmp_proto::v1::{self};
use jmp_wire::connection::{RpcBody, unimplemented};
use jmp_wire::rpc;
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use tonic::{Code, Status};
use tower_service::Service as _;
use uuid::Uuid;

use crate::session::{Inner, Session};
use crate::streams;

/// Metadata key of the direct listener's passphrase (facts: protocol 10.3).
pub const PASSPHRASE_KEY: &str = "x-jumpstarter-passphrase";

/// Serves one connection.
#[derive(Clone)]
pub(crate) struct ConnectionService {
    api: Api,
    passphrase: Option<Arc<str>>,
}

/// What the generated servers call.
#[derive(Clone)]
pub(crate) struct Api {
    pub session: Arc<Inner>,
    pub connection: u64,
    pub origin: Origin,
}

// === impl ConnectionService ===

impl ConnectionService {
    pub fn new(session: &Session, origin: Origin, passphrase: Option<Arc<str>>) -> Self {
        Self {
            api: Api {
                session: Arc::clone(session.inner()),
                connection: jmp_driver::context::next_connection(),
                origin,
            },
            passphrase,
        }
    }

    fn admit(&self, headers: &HeaderMap) -> Result<(), Status> {
        let Some(expected) = &self.passphrase else {
            return Ok(());
        };
        let given = headers
            .get(PASSPHRASE_KEY)
            .map_or(&[][..], |value| value.as_bytes());
        if bool::from(given.ct_eq(expected.as_bytes())) {
            Ok(())
        } else {
            Err(Status::unauthenticated("passphrase is missing or wrong"))
        }
    }

    async fn handle(self, request: Request<Incoming>) -> Response<RpcBody> {
        let path = request.uri().path();
        let (service, _) = path
            .trim_start_matches('/')
            .split_once('/')
            .unwrap_or((path, ""));
        let known = matches!(
            service,
            "jumpstarter.v1.ExporterService"
                | "jumpstarter.v1.RouterService"
                | "jmp.v1.DescribeService"
        );
        if !known {
            return unimplemented(path);
        }
        if let Err(status) = self.admit(request.headers()) {
            return status.into_http();
        }
        match (service, path) {
            ("jumpstarter.v1.ExporterService", _) => {
                let Ok(response) = ExporterServiceServer::new(self.api).call(request).await;
                right_size_status(response)
            }
            ("jmp.v1.DescribeService", _) => {
                let Ok(response) = DescribeServiceServer::new(self.api).call(request).await;
                response
            }
            (_, rpc::STREAM_PATH) => {
                let (parts, body) = request.into_parts();
                rpc::stream_response(streams::open(&self.api, &parts.headers, body).await)
            }
            _ => unimplemented(path),
        }
    }
}

/// A message over the limit is RESOURCE_EXHAUSTED for every other implementation; the generated
/// server says OUT_OF_RANGE.
fn right_size_status(mut response: Response<RpcBody>) -> Response<RpcBody> {
    let too_large = Status::from_header_map(response.headers()).is_some_and(|status| {
        status.code() == Code::OutOfRange && status.message().contains("message length too large")
    });
    if too_large {
        response.headers_mut().insert(
            "grpc-status",
            http::HeaderValue::from(Code::ResourceExhausted as i32),
        );
    }
    response
}

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = Response<RpcBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.handle(request).await) })
    }
}

// === impl Api ===

impl Api {
    /// The node that a call names.
    pub fn node(&self, uuid: &str) -> Result<&NodeRef, Status> {
        let uuid: Uuid = uuid.parse().map_err(|error| {
            Status::unknown(format!("driver uuid `{uuid}` cannot be read: {error}"))
        })?;
        self.node_of(uuid)
    }

    pub fn node_of(&self, uuid: Uuid) -> Result<&NodeRef, Status> {
        self.session.tree.find(uuid).ok_or_else(|| {
            Status::unknown(format!(
                "driver instance {uuid} is not part of this session; ask for a new report"
            ))
        })
    }

    /// Refuses driver use while the exporter is not ready for it. Hooks pass: they run in the
    /// very statuses that keep clients out.
    pub fn gate(&self) -> Result<(), Status> {
        let origin = match self.origin {
            Origin::Client => jmp_lease::Origin::Client,
            Origin::Hook | Origin::Internal => jmp_lease::Origin::Hook,
        };
        let current = self.session.status.get();
        jmp_lease::gate(current.status, origin).map_err(|refusal| {
            let text = match current.message.as_str() {
                "" => refusal.to_string(),
                message => format!("{refusal} ({message})"),
            };
            Status::failed_precondition(text)
        })
    }

    pub fn context(&self, headers: &HeaderMap) -> CallContext {
        let deadline = headers
            .get("grpc-timeout")
            .and_then(|value| timeout(value.to_str().ok()?))
            .map(|timeout| Instant::now() + timeout);
        self.session.context(self.connection, self.origin, deadline)
    }
}

/// Reads the value of `grpc-timeout`: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Waits for `work` until the caller's deadline or the end of the session.
async fn bounded<T>(
    context: &CallContext,
    work: impl Future<Output = Result<T, jmp_driver::Error>>,
) -> Result<T, Status> {
    let deadline = async {
        match context.deadline() {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = work => result.map_err(Status::from),
        () = deadline => Err(Status::deadline_exceeded("the deadline of the caller has passed")),
        () = context.cancelled().cancelled() => {
            Err(Status::unavailable("the session ended during the call"))
        }
    }
}

/// A stream of messages with its type erased.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ExporterService for Api {
    type StreamingDriverCallStream = Messages<v1::StreamingDriverCallResponse>;
    type LogStreamStream = Messages<v1::LogStreamResponse>;

    async fn get_report(
        &self,
        _: tonic::Request<()>,
    ) -> Result<tonic::Response<v1::GetReportResponse>, Status> {
        let session = &self.session;
        let reports = session.tree.reports().iter();
        Ok(tonic::Response::new(v1::GetReportResponse {
            uuid: session.uuid.to_string(),
            labels: session.options.labels.clone().into_iter().collect(),
            reports: reports.map(report_message).collect(),
            alternative_endpoints: Vec::new(),
            motd: session.motd(),
        }))
    }

    async fn driver_call(
        &self,
        request: tonic::Request<v1::DriverCallRequest>,
    ) -> Result<tonic::Response<v1::DriverCallResponse>, Status> {
        let context = self.context(request.metadata().as_ref());
        self.gate()?;
        let request = request.into_inner();
        let node = self.node(&request.uuid)?;
        let call = node.call(context.clone(), &request.method, request.args);
        let result = bounded(&context, call).await?;
        Ok(tonic::Response::new(v1::DriverCallResponse {
            uuid: Uuid::new_v4().to_string(),
            result: Some(result),
        }))
    }

    async fn streaming_driver_call(
        &self,
        request: tonic::Request<v1::StreamingDriverCallRequest>,
    ) -> Result<tonic::Response<Self::StreamingDriverCallStream>, Status> {
        let context = self.context(request.metadata().as_ref());
        self.gate()?;
        let request = request.into_inner();
        let node = self.node(&request.uuid)?;
        let call = node.streaming_call(context.clone(), &request.method, request.args);
        let mut items = bounded(&context, call).await?;
        let answers = async_stream::try_stream! {
            loop {
                let next = async { items.next().await.transpose() };
                let Some(result) = bounded(&context, next).await? else { break };
                yield v1::StreamingDriverCallResponse {
                    uuid: Uuid::new_v4().to_string(),
                    result: Some(result),
                };
            }
        };
        Ok(tonic::Response::new(Box::pin(answers)))
    }

    async fn log_stream(
        &self,
        _: tonic::Request<()>,
    ) -> Result<tonic::Response<Self::LogStreamStream>, Status> {
        let closing = self.session.closing.clone();
        let lines = self
            .session
            .log
            .subscribe()
            .map(|record| Ok(log_message(&record)))
            .take_until(closing.cancelled_owned());
        Ok(tonic::Response::new(Box::pin(lines)))
    }

    async fn reset(
        &self,
        _: tonic::Request<v1::ResetRequest>,
    ) -> Result<tonic::Response<v1::ResetResponse>, Status> {
        self.gate()?;
        self.session.tree.reset().await.map_err(Status::from)?;
        Ok(tonic::Response::new(v1::ResetResponse {}))
    }

    async fn get_status(
        &self,
        _: tonic::Request<v1::GetStatusRequest>,
    ) -> Result<tonic::Response<v1::GetStatusResponse>, Status> {
        let current = self.session.status.get();
        Ok(tonic::Response::new(v1::GetStatusResponse {
            status: i32::from(current.status),
            message: Some(current.message),
            status_version: current.version,
            previous_status: current.previous.map(i32::from),
        }))
    }

    async fn end_session(
        &self,
        _: tonic::Request<v1::EndSessionRequest>,
    ) -> Result<tonic::Response<v1::EndSessionResponse>, Status> {
        let reply = self.session.end_session().await;
        Ok(tonic::Response::new(v1::EndSessionResponse {
            success: reply.success,
            message: Some(reply.message),
        }))
    }
}

pub(crate) fn report_message(report: &jmp_driver::tree::Report) -> v1::DriverInstanceReport {
    let copied = |map: &std::collections::BTreeMap<String, String>| {
        map.iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<HashMap<_, _>>()
    };
    v1::DriverInstanceReport {
        uuid: report.uuid.to_string(),
        parent_uuid: report.parent.map(|parent| parent.to_string()),
        labels: copied(&report.labels),
        description: report.description.clone(),
        methods_description: copied(&report.methods_description),
    }
}

fn log_message(record: &LogRecord) -> v1::LogStreamResponse {
    v1::LogStreamResponse {
        uuid: String::new(),
        severity: record.severity.as_str().to_owned(),
        // Shipped exporters put the name of the logger in front.
        message: format!("[{}] {}", record.logger, record.message),
        source: Some(record.source as i32),
        timestamp: Some(record.time.into()),
        ..v1::LogStreamResponse::default()
    }
}

#[tonic::async_trait]
impl DescribeService for Api {
    async fn describe(
        &self,
        _: tonic::Request<describe::DescribeRequest>,
    ) -> Result<tonic::Response<describe::DescribeResponse>, Status> {
        let nodes = self.session.tree.nodes().iter();
        let drivers = nodes.map(|node| describe::Driver {
            uuid: node.info().uuid.to_string(),
            r#type: node.info().type_name.clone(),
            methods: node.methods().into_iter().map(method_message).collect(),
        });
        Ok(tonic::Response::new(describe::DescribeResponse {
            drivers: drivers.collect(),
        }))
    }
}

fn method_message(method: MethodInfo) -> describe::Method {
    let kind = match method.kind {
        MethodKind::Unary => describe::MethodKind::Unary,
        MethodKind::Streaming => describe::MethodKind::Streaming,
        MethodKind::ByteStream => describe::MethodKind::ByteStream,
    };
    let arguments = method.arguments.into_iter();
    describe::Method {
        name: method.name,
        kind: kind as i32,
        documentation: method.documentation,
        arguments: arguments
            .map(|argument| describe::Argument {
                name: argument.name,
                r#type: argument.type_name,
                optional: argument.optional,
                variadic: argument.variadic,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read() {
        assert_eq!(timeout("20S"), Some(Duration::from_secs(20)));
        assert_eq!(timeout("150m"), Some(Duration::from_millis(150)));
        for bad in ["", "S", "123456789S", "1x", "-1S", "1é"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }
}
