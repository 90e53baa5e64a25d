//! The standard health service, for anybody.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use jmp_proto::health::v1 as proto;
use jmp_proto::health::v1::health_check_response::ServingStatus;
use jmp_proto::health::v1::health_server::Health;
use tonic::{Request, Response, Status};

use crate::context::Context;

/// Services that have a health of their own, which is that of the whole.
const SERVICES: [&str; 3] = [
    "",
    "jumpstarter.v1.ControllerService",
    "jumpstarter.client.v1.ClientService",
];

/// The service.
#[derive(Clone)]
pub struct HealthService {
    context: Arc<Context>,
}

// === impl HealthService ===

impl HealthService {
    /// The service over that context.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn status(&self, service: &str) -> ServingStatus {
        if !SERVICES.contains(&service) {
            ServingStatus::ServiceUnknown
        } else if self.context.is_ready() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }
}

fn response(status: ServingStatus) -> proto::HealthCheckResponse {
    proto::HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<proto::HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<proto::HealthCheckRequest>,
    ) -> Result<Response<proto::HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.status(&service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("unknown service")),
            status => Ok(Response::new(response(status))),
        }
    }

    async fn watch(
        &self,
        request: Request<proto::HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let health = self.clone();
        let stopping = self.context.stopping.clone();
        let mut changes = self.context.engine.health();
        let stream = async_stream::stream! {
            let mut said = None;
            loop {
                let status = health.status(&service);
                if said != Some(status) {
                    said = Some(status);
                    yield Ok(response(status));
                }
                if stopping.is_cancelled() {
                    return;
                }
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() {
                        return;
                    },
                    () = stopping.cancelled() => {}
                }
            }
        };
        Ok(Response::new(stream.boxed()))
    }
}
