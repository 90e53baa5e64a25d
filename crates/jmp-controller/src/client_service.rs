//! `jumpstarter.client.v1.ClientService`: what clients see of exporters and leases, and how they get
//! leases (facts: controller 4.2).
//!
//! Codes and texts are those that shipped clients act on. They show the text of UNKNOWN to their users
//! and little of any other code, so UNKNOWN is what a lease that does not exist and one of somebody else
//! get. Every client reads all of its namespace and changes only what is its own.

use std::sync::Arc;

use jmp_auth::IdentityKind;
use jmp_proto::jumpstarter::client::v1::client_service_server::ClientService;
use jmp_proto::jumpstarter::client::v1::{
    CreateLeaseRequest, DeleteLeaseRequest, Exporter, GetExporterRequest, GetLeaseRequest, Lease,
    ListExportersRequest, ListExportersResponse, ListLeasesRequest, ListLeasesResponse,
    RotateTokenRequest, RotateTokenResponse, UpdateLeaseRequest,
};
use jmp_types::resource::{self, Client, Key};
use tonic::{Code, Request, Response, Status};

use crate::audit::{self, Entry};
use crate::authentication::Caller;
use crate::context::Context;
use crate::convert;
use crate::credentials::{OVERLAP, Renewal};
use crate::names::{Collection, parse_namespace};
use crate::page::Page;
use crate::selection::{self, LeaseSelection};

mod leases;

pub(crate) use leases::listed as listed_leases;

/// The service.
#[derive(Clone)]
pub struct ClientApi {
    context: Arc<Context>,
}

// === impl ClientApi ===

impl ClientApi {
    /// The service over that context.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// The client that calls, whose namespace must be this one.
    fn reader<T>(&self, request: &Request<T>, namespace: &str) -> Result<Caller, Status> {
        let caller = self.context.caller(request, &[IdentityKind::Client])?;
        same_namespace(&caller, namespace)?;
        self.context.guards.reads.check(caller.identity())?;
        Ok(caller)
    }

    /// What a changing call asks for. What is wrong with it is told before anybody asks who sent it.
    async fn read<T, A>(
        &self,
        request: &Request<T>,
        action: &'static str,
        read: impl FnOnce(&T) -> Result<A, Status>,
    ) -> Result<A, Status> {
        match read(request.get_ref()) {
            Ok(asked) => Ok(asked),
            Err(refused) => {
                let kinds = [IdentityKind::Client];
                let context = &self.context;
                context.senseless(request, &kinds, action, refused).await
            }
        }
    }

    /// The same for a changing call.
    async fn writer<T>(
        &self,
        request: &Request<T>,
        namespace: &str,
        action: &'static str,
        resource: &str,
    ) -> Result<Caller, Status> {
        let caller = self
            .context
            .audited_caller(request, &[IdentityKind::Client], action, resource)
            .await?;
        let allowed = same_namespace(&caller, namespace)
            .and_then(|()| self.context.guards.changes.check(caller.identity()));
        if allowed.is_err() {
            let entry = Entry::new(&caller, action, resource);
            self.context.record(entry, allowed).await?;
        }
        Ok(caller)
    }

    fn shown(&self, lease: &resource::Lease) -> Lease {
        convert::lease(lease, &self.context.settings.labels, self.context.now())
    }

    async fn rotate(&self, key: &Key) -> Result<RotateTokenResponse, Status> {
        let (_, issued) = self
            .context
            .issue::<Client>(key, Renewal::Rotate(OVERLAP))
            .await?;
        Ok(RotateTokenResponse {
            token: issued.token.expose().to_owned(),
            expiry: Some(convert::timestamp(issued.expires_at)),
        })
    }
}

#[tonic::async_trait]
impl ClientService for ClientApi {
    async fn get_exporter(
        &self,
        request: Request<GetExporterRequest>,
    ) -> Result<Response<Exporter>, Status> {
        let key = Collection::Exporters.parse(&request.get_ref().name)?;
        self.reader(&request, &key.namespace)?;
        let found = self
            .context
            .view
            .get::<resource::Exporter>(&key)
            .ok_or_else(|| not_found("exporter", &key))?;
        let hidden = request.get_ref().show_hidden_labels;
        let labels = &self.context.settings.labels;
        Ok(Response::new(convert::exporter(&found, labels, hidden)))
    }

    async fn list_exporters(
        &self,
        request: Request<ListExportersRequest>,
    ) -> Result<Response<ListExportersResponse>, Status> {
        let namespace = parse_namespace(&request.get_ref().parent)?;
        self.reader(&request, &namespace)?;
        let request = request.into_inner();
        let filter = selection::parse("filter", &request.filter, Code::Unknown)?;
        let page = Page::new("exporters", request.page_size, &request.page_token)?;
        let labels = &self.context.settings.labels;
        let found = self
            .context
            .view
            .list::<resource::Exporter>(Some(&namespace));
        let matching = found
            .iter()
            .filter(|exporter| filter.matches(&exporter.metadata.labels))
            .map(|exporter| (exporter.key(), exporter));
        let (exporters, next_page_token) = page.take(matching, |exporter| {
            convert::exporter(exporter, labels, request.show_hidden_labels)
        });
        Ok(Response::new(ListExportersResponse {
            exporters,
            next_page_token,
        }))
    }

    async fn get_lease(
        &self,
        request: Request<GetLeaseRequest>,
    ) -> Result<Response<Lease>, Status> {
        let key = Collection::Leases.parse(&request.get_ref().name)?;
        self.reader(&request, &key.namespace)?;
        // While it waits, its conditions say how things stand now.
        if let Some(lease) = self.context.engine.present(&key).await? {
            return Ok(Response::new(self.shown(&lease)));
        }
        let found = self.context.lease(&key).await?;
        let lease = found.ok_or_else(|| not_found("lease", &key))?;
        Ok(Response::new(self.shown(&lease)))
    }

    async fn list_leases(
        &self,
        request: Request<ListLeasesRequest>,
    ) -> Result<Response<ListLeasesResponse>, Status> {
        let namespace = parse_namespace(&request.get_ref().parent)?;
        self.reader(&request, &namespace)?;
        let request = request.into_inner();
        let wanted =
            LeaseSelection::new(&request.filter, &request.tag_filter, request.only_active)?;
        let (leases, next_page_token) = leases::listed(
            &self.context,
            Some(&namespace),
            &wanted,
            (request.page_size, &request.page_token),
            |lease| self.shown(lease),
        )
        .await?;
        Ok(Response::new(ListLeasesResponse {
            leases,
            next_page_token,
        }))
    }

    async fn create_lease(
        &self,
        request: Request<CreateLeaseRequest>,
    ) -> Result<Response<Lease>, Status> {
        const ACTION: &str = "CreateLease";
        let asked = self
            .read(&request, ACTION, leases::NewRequest::read)
            .await?;
        let parent = format!("lease {}/", asked.namespace);
        let caller = self
            .writer(&request, &asked.namespace, ACTION, &parent)
            .await?;
        let mut entry = Entry::new(&caller, ACTION, parent);
        let result = leases::create(&self.context, &caller, asked, &mut entry).await;
        let lease = self.context.record(entry, result).await?;
        Ok(Response::new(self.shown(&lease)))
    }

    async fn update_lease(
        &self,
        request: Request<UpdateLeaseRequest>,
    ) -> Result<Response<Lease>, Status> {
        const ACTION: &str = "UpdateLease";
        let asked = self.read(&request, ACTION, leases::Update::read).await?;
        let resource = audit::resource("lease", &asked.key);
        let caller = self
            .writer(&request, &asked.key.namespace, ACTION, &resource)
            .await?;
        let mut entry = Entry::new(&caller, ACTION, resource);
        entry.detail = asked.summary();
        let result = leases::update(&self.context, &caller, asked).await;
        let lease = self.context.record(entry, result).await?;
        Ok(Response::new(self.shown(&lease)))
    }

    async fn delete_lease(
        &self,
        request: Request<DeleteLeaseRequest>,
    ) -> Result<Response<()>, Status> {
        const ACTION: &str = "DeleteLease";
        let key = self
            .read(&request, ACTION, |asked| {
                Collection::Leases.parse(&asked.name)
            })
            .await?;
        let resource = audit::resource("lease", &key);
        let caller = self
            .writer(&request, &key.namespace, ACTION, &resource)
            .await?;
        let work = leases::release(&self.context, &caller.key, &key, ACTION);
        self.context
            .audited(&caller, ACTION, resource, work)
            .await?;
        Ok(Response::new(()))
    }

    async fn rotate_token(
        &self,
        request: Request<RotateTokenRequest>,
    ) -> Result<Response<RotateTokenResponse>, Status> {
        const ACTION: &str = "RotateToken";
        let namespace = self
            .read(&request, ACTION, |asked| parse_namespace(&asked.parent))
            .await?;
        let caller = self
            .writer(&request, &namespace, ACTION, &namespace)
            .await?;
        let resource = audit::resource("client", &caller.key);
        let work = self.rotate(&caller.key);
        let rotated = self
            .context
            .audited(&caller, ACTION, resource, work)
            .await?;
        Ok(Response::new(rotated))
    }
}

fn same_namespace(caller: &Caller, namespace: &str) -> Result<(), Status> {
    if caller.key.namespace == namespace {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "namespace mismatch: {} belongs to namespace {}, not to {}",
        caller.identity(),
        caller.key.namespace,
        crate::names::shown(namespace)
    )))
}

fn not_found(word: &str, key: &Key) -> Status {
    Status::unknown(format!("{word} {key} not found"))
}

/// The requests of the service as bytes, read and checked; for the fuzzer.
pub(crate) fn fuzz(data: &[u8]) {
    leases::fuzz(data);
}
