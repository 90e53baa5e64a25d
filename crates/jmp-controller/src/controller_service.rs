//! What exporters call, and clients that want to connect (facts: controller 4.1, 4.3-4.5).
//!
//! Codes and texts are those that shipped peers match on: most refusals are UNKNOWN, whose details
//! people get to see.

mod dial;
mod exporters;
mod legacy;

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use jmp_proto::v1;
use jmp_proto::v1::controller_service_server::ControllerService;
use tonic::{Request, Response, Status};

use crate::context::Context;

/// The service.
#[derive(Clone)]
pub struct Controllers {
    context: Arc<Context>,
}

// === impl Controllers ===

impl Controllers {
    /// The service over that context.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ControllerService for Controllers {
    type ListenStream = Messages<v1::ListenResponse>;
    type StatusStream = Messages<v1::StatusResponse>;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        self.do_register(request).await.map(Response::new)
    }

    async fn unregister(
        &self,
        request: Request<v1::UnregisterRequest>,
    ) -> Result<Response<v1::UnregisterResponse>, Status> {
        self.do_unregister(request).await.map(Response::new)
    }

    async fn report_status(
        &self,
        request: Request<v1::ReportStatusRequest>,
    ) -> Result<Response<v1::ReportStatusResponse>, Status> {
        self.do_report_status(request).await.map(Response::new)
    }

    async fn listen(
        &self,
        request: Request<v1::ListenRequest>,
    ) -> Result<Response<Self::ListenStream>, Status> {
        let stream = self.do_listen(request).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        let stream = self.do_status(request).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn dial(
        &self,
        request: Request<v1::DialRequest>,
    ) -> Result<Response<v1::DialResponse>, Status> {
        self.do_dial(request).await.map(Response::new)
    }

    async fn get_lease(
        &self,
        request: Request<v1::GetLeaseRequest>,
    ) -> Result<Response<v1::GetLeaseResponse>, Status> {
        self.do_get_lease(request).await.map(Response::new)
    }

    async fn request_lease(
        &self,
        request: Request<v1::RequestLeaseRequest>,
    ) -> Result<Response<v1::RequestLeaseResponse>, Status> {
        self.do_request_lease(request).await.map(Response::new)
    }

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Result<Response<v1::ReleaseLeaseResponse>, Status> {
        self.do_release_lease(request).await.map(Response::new)
    }

    async fn list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<Response<v1::ListLeasesResponse>, Status> {
        self.do_list_leases(request).map(Response::new)
    }
}
