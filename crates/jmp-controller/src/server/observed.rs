//! Counting calls and their results.

use std::sync::Arc;

use http::Response;
use jmp_wire::connection::RpcBody;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::context::Context;

/// Methods that are counted by name; all others together, so that nobody can make up series.
const METHODS: [&str; 38] = [
    "/jumpstarter.v1.ControllerService/Register",
    "/jumpstarter.v1.ControllerService/Unregister",
    "/jumpstarter.v1.ControllerService/ReportStatus",
    "/jumpstarter.v1.ControllerService/Listen",
    "/jumpstarter.v1.ControllerService/Status",
    "/jumpstarter.v1.ControllerService/Dial",
    "/jumpstarter.v1.ControllerService/GetLease",
    "/jumpstarter.v1.ControllerService/RequestLease",
    "/jumpstarter.v1.ControllerService/ReleaseLease",
    "/jumpstarter.v1.ControllerService/ListLeases",
    "/jumpstarter.client.v1.ClientService/GetExporter",
    "/jumpstarter.client.v1.ClientService/ListExporters",
    "/jumpstarter.client.v1.ClientService/GetLease",
    "/jumpstarter.client.v1.ClientService/ListLeases",
    "/jumpstarter.client.v1.ClientService/CreateLease",
    "/jumpstarter.client.v1.ClientService/UpdateLease",
    "/jumpstarter.client.v1.ClientService/DeleteLease",
    "/jumpstarter.client.v1.ClientService/RotateToken",
    "/jmp.v1.LeaseService/WatchLease",
    "/jmp.v1.LeaseService/WatchLeases",
    "/jmp.v1.LeaseService/WatchExporters",
    "/jmp.v1.LeaseService/Describe",
    "/jmp.v1.AdminService/CreateResource",
    "/jmp.v1.AdminService/ApplyResource",
    "/jmp.v1.AdminService/GetResource",
    "/jmp.v1.AdminService/ListResources",
    "/jmp.v1.AdminService/DeleteResource",
    "/jmp.v1.AdminService/GetCredential",
    "/jmp.v1.AdminService/RotateCredential",
    "/jmp.v1.AdminService/RevokeCredential",
    "/jmp.v1.AdminService/ListAudit",
    "/jmp.v1.AdminService/Backup",
    "/jmp.v1.AdminService/GetServerInfo",
    "/jmp.v1.RouterControlService/Connect",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// A call that is being answered.
pub(super) struct Observation {
    context: Arc<Context>,
    method: &'static str,
    begun: Instant,
}

// === impl Observation ===

impl Observation {
    pub fn begin(context: &Arc<Context>, path: &str) -> Self {
        let known = METHODS.into_iter().find(|method| *method == path);
        Self {
            context: Arc::clone(context),
            method: known.unwrap_or("other"),
            begun: Instant::now(),
        }
    }

    /// Counts the call. Of answers that begin well only the beginning is known.
    pub fn end(self, response: Response<RpcBody>) -> Response<RpcBody> {
        let status = Status::from_header_map(response.headers());
        let code = status.map_or(Code::Ok, |status| status.code());
        self.context.metrics.called(
            self.method,
            jmp_wire::rpc::code_name(code),
            self.begun.elapsed(),
        );
        response
    }
}

/// A message over the limit is RESOURCE_EXHAUSTED for every other implementation; the generated server
/// says OUT_OF_RANGE.
pub(super) fn too_large_as_exhausted(mut response: Response<RpcBody>) -> Response<RpcBody> {
    let too_large = Status::from_header_map(response.headers()).is_some_and(|status| {
        status.code() == Code::OutOfRange && status.message().contains("message length too large")
    });
    if too_large {
        let code = http::HeaderValue::from(Code::ResourceExhausted as i32);
        response.headers_mut().insert("grpc-status", code);
    }
    response
}
