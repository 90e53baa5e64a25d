//! `jmp.v1.LeaseService`: the state of leases and exporters as it changes, and what is known about one of
//! them. Our own addition; clients see their namespace, administrators all of them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use jmp_auth::IdentityKind;
use jmp_lease::pool;
use jmp_proto::jmp::v1::lease_service_server::LeaseService;
use jmp_proto::jmp::v1::{
    Candidate, DescribeResourceRequest, DescribeResourceResponse, Event, ExporterChange,
    LeaseChange, LeaseState, Queue, WatchLeaseRequest,
};
use jmp_proto::jumpstarter::client::v1::{ListExportersRequest, ListLeasesRequest};
use jmp_types::resource::{CredentialRecord, Exporter, Key, Kind, Lease};
use tonic::{Code, Request, Response, Status};

use crate::authentication::Caller;
use crate::context::Context;
use crate::convert::{self, timestamp};
use crate::manifest::Object;
use crate::names::{Collection, parse_namespace};
use crate::selection::{self, LeaseSelection};

mod exporters;
mod lease;
mod leases;
mod news;

/// How long news are gathered before a waiting lease's place in the queue is looked up again: any
/// change of any lease can move it, and there may be many that wait.
const QUEUE_PAUSE: Duration = Duration::from_millis(500);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Clone)]
pub struct LeaseApi {
    context: Arc<Context>,
}

// === impl LeaseApi ===

impl LeaseApi {
    /// The service over that context.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn reader<T>(&self, request: &Request<T>, namespace: &str) -> Result<Caller, Status> {
        let caller = self.context.caller(
            request,
            &[IdentityKind::Client, IdentityKind::Administrator],
        )?;
        if caller.kind == IdentityKind::Client && caller.key.namespace != namespace {
            return Err(Status::permission_denied(format!(
                "namespace mismatch: {} belongs to namespace {}",
                caller.identity(),
                caller.key.namespace
            )));
        }
        self.context.guards.reads.check(caller.identity())?;
        Ok(caller)
    }

    fn watcher<T>(&self, request: &Request<T>, namespace: &str) -> Result<news::News, Status> {
        let caller = self.reader(request, namespace)?;
        news::News::of(Arc::clone(&self.context), &caller)
    }
}

#[tonic::async_trait]
impl LeaseService for LeaseApi {
    type WatchLeaseStream = Answers<LeaseState>;
    type WatchLeasesStream = Answers<LeaseChange>;
    type WatchExportersStream = Answers<ExporterChange>;

    async fn watch_lease(
        &self,
        request: Request<WatchLeaseRequest>,
    ) -> Result<Response<Self::WatchLeaseStream>, Status> {
        let key = Collection::Leases.parse(&request.get_ref().name)?;
        let news = self.watcher(&request, &key.namespace)?;
        if self.context.lease(&key).await?.is_none() {
            return Err(Status::not_found(format!("lease {key} not found")));
        }
        let context = Arc::clone(&self.context);
        Ok(Response::new(Box::pin(lease::watch(context, news, key))))
    }

    async fn watch_leases(
        &self,
        request: Request<ListLeasesRequest>,
    ) -> Result<Response<Self::WatchLeasesStream>, Status> {
        let namespace = parse_namespace(&request.get_ref().parent)?;
        let news = self.watcher(&request, &namespace)?;
        let request = request.into_inner();
        let wanted =
            LeaseSelection::new(&request.filter, &request.tag_filter, request.only_active)?;
        let context = Arc::clone(&self.context);
        Ok(Response::new(Box::pin(leases::watch(
            context, news, namespace, wanted,
        ))))
    }

    async fn watch_exporters(
        &self,
        request: Request<ListExportersRequest>,
    ) -> Result<Response<Self::WatchExportersStream>, Status> {
        let namespace = parse_namespace(&request.get_ref().parent)?;
        let news = self.watcher(&request, &namespace)?;
        let request = request.into_inner();
        let filter = selection::parse("filter", &request.filter, Code::Unknown)?;
        let context = Arc::clone(&self.context);
        let hidden = request.show_hidden_labels;
        Ok(Response::new(Box::pin(exporters::watch(
            context, news, namespace, filter, hidden,
        ))))
    }

    async fn describe(
        &self,
        request: Request<DescribeResourceRequest>,
    ) -> Result<Response<DescribeResourceResponse>, Status> {
        let name = &request.get_ref().name;
        let described = if let Ok(key) = Collection::Leases.parse(name) {
            self.reader(&request, &key.namespace)?;
            self.describe_lease(&key).await?
        } else if let Ok(key) = Collection::Exporters.parse(name) {
            let caller = self.reader(&request, &key.namespace)?;
            self.describe_exporter(&key, caller.kind).await?
        } else {
            return Err(Status::invalid_argument(format!(
                "invalid resource name {}: write namespaces/NAMESPACE/leases/NAME or \
                 namespaces/NAMESPACE/exporters/NAME",
                crate::names::shown(name)
            )));
        };
        Ok(Response::new(described))
    }
}

impl LeaseApi {
    async fn describe_lease(&self, key: &Key) -> Result<DescribeResourceResponse, Status> {
        // While it waits, its conditions say how things stand now.
        let lease = match self.context.engine.present(key).await? {
            Some(lease) => lease,
            None => {
                let found = self.context.lease(key).await?;
                let found =
                    found.ok_or_else(|| Status::not_found(format!("lease {key} not found")))?;
                Lease::clone(&found)
            }
        };
        Ok(DescribeResourceResponse {
            resource: Object::Lease(lease).to_json(),
            events: self.events(Kind::Lease, key).await?,
            queue: self.context.engine.queue(key).await?.map(queue),
            ..DescribeResourceResponse::default()
        })
    }

    async fn describe_exporter(
        &self,
        key: &Key,
        reader: IdentityKind,
    ) -> Result<DescribeResourceResponse, Status> {
        let found = self
            .context
            .view
            .get::<Exporter>(key)
            .ok_or_else(|| Status::not_found(format!("exporter {key} not found")))?;
        let mut exporter = Exporter::clone(&found);
        if reader != IdentityKind::Administrator {
            exporter.status.credential = CredentialRecord::default();
            exporter.spec.username = None;
            let policy = &self.context.settings.labels;
            exporter
                .metadata
                .labels
                .retain(|key, _| !policy.hidden.contains(key));
        }
        let waiting = self.context.engine.waiting(key).await?;
        let until = waiting
            .as_ref()
            .and_then(|waiting| self.context.now().checked_add(waiting.at_most?).ok());
        Ok(DescribeResourceResponse {
            resource: Object::Exporter(exporter).to_json(),
            events: self.events(Kind::Exporter, key).await?,
            queue: None,
            waiting_for: waiting.map(|waiting| waiting.what).unwrap_or_default(),
            waiting_until: until.map(timestamp),
        })
    }

    async fn events(&self, kind: Kind, key: &Key) -> Result<Vec<Event>, Status> {
        let found = self
            .context
            .events
            .list_events(kind, key)
            .await
            .map_err(|error| crate::engine::store_failure(&error))?;
        Ok(found
            .into_iter()
            .map(|event| Event {
                time: Some(timestamp(event.time)),
                reason: event.reason,
                message: event.message,
                warning: event.warning,
            })
            .collect())
    }
}

/// A lease with its place in the queue, while it waits.
async fn state(context: &Context, lease: &Lease) -> Result<LeaseState, Status> {
    let waits = !lease.status.ended && lease.status.exporter_ref.is_none();
    let (present, place) = if waits {
        let key = lease.key();
        (
            context.engine.present(&key).await?,
            context.engine.queue(&key).await?,
        )
    } else {
        (None, None)
    };
    // Should it have got its exporter just now, the change that says so follows.
    let present = present.filter(|present| present.status.exporter_ref.is_none());
    Ok(LeaseState {
        lease: Some(convert::lease(
            present.as_ref().unwrap_or(lease),
            &context.settings.labels,
            context.now(),
        )),
        queue: place.map(queue),
    })
}

fn queue(place: pool::Queue) -> Queue {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Queue {
        position: count(place.position),
        length: count(place.length),
        candidates: place
            .candidates
            .into_iter()
            .map(|candidate| Candidate {
                exporter: candidate.exporter,
                reason: candidate.reason,
                client: candidate.client,
                lease: candidate.lease,
                until: candidate.until.map(timestamp),
            })
            .collect(),
        estimate: place.estimate.map(timestamp),
    }
}
