//! `jmp.v1.AdminService`: the objects that a cluster keeps as custom resources, credentials, the audit
//! record and copies of the store. Only administrators get in.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use jmp_auth::{IdentityKind, IssuedToken};
use jmp_proto::jmp::v1::admin_service_server::AdminService;
use jmp_proto::jmp::v1::{
    ApplyResourceRequest, ApplyResourceResponse, BackupChunk, BackupRequest, CreateResourceRequest,
    CreateResourceResponse, Credential, GetServerInfoRequest, ListAuditRequest, ListAuditResponse,
    ListResourcesRequest, ListResourcesResponse, Resource, ResourceName, RouterInfo, ServerInfo,
};
use jmp_types::resource::{Key, Kind};
use tonic::{Request, Response, Status};

use crate::audit::{self, Entry};
use crate::authentication::Caller;
use crate::context::Context;
use crate::convert::timestamp;
use crate::credentials::Renewal;
use crate::manifest::{Object, parse_kind, word};
use crate::names::{DEFAULT_NAMESPACE, check_name, check_namespace};

mod audit_list;
mod backup;
mod credential;
mod resources;

pub use backup::BackupSource;

/// The service.
#[derive(Clone)]
pub struct AdminApi {
    context: Arc<Context>,
}

// === impl AdminApi ===

impl AdminApi {
    /// The service over that context.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn reader<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let kinds = [IdentityKind::Administrator];
        let caller = self.context.caller(request, &kinds)?;
        self.context.guards.reads.check(caller.identity())?;
        Ok(caller)
    }

    async fn writer<T>(
        &self,
        request: &Request<T>,
        action: &'static str,
        resource: &str,
    ) -> Result<Caller, Status> {
        let kinds = [IdentityKind::Administrator];
        let caller = self
            .context
            .audited_caller(request, &kinds, action, resource)
            .await?;
        let allowed = self.context.guards.changes.check(caller.identity());
        if allowed.is_err() {
            let entry = Entry::new(&caller, action, resource);
            self.context.record(entry, allowed).await?;
        }
        Ok(caller)
    }

    /// The row of a changing call about an object that is named, and the call itself.
    async fn named<T>(
        &self,
        request: &Request<ResourceName>,
        action: &'static str,
        work: impl AsyncFnOnce(Kind, Key) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let wanted = target(request.get_ref());
        let resource = wanted.as_ref().map_or_else(
            |_| String::new(),
            |(kind, key)| audit::resource(word(*kind), key),
        );
        let caller = self.writer(request, action, &resource).await?;
        let work = async {
            let (kind, key) = wanted?;
            work(kind, key).await
        };
        self.context.audited(&caller, action, resource, work).await
    }

    fn credential(&self, token: &IssuedToken) -> Credential {
        Credential {
            token: token.token.expose().to_owned(),
            expiry: Some(timestamp(token.expires_at)),
            endpoint: self.context.settings.endpoint.clone(),
            certificate_authority: self.context.authority.clone(),
        }
    }
}

/// Kind and key of a named object. Administrators and routers are in no namespace of the caller's
/// choice.
fn target(name: &ResourceName) -> Result<(Kind, Key), Status> {
    let kind = parse_kind(&name.kind)?;
    let namespace = match kind {
        Kind::Administrator | Kind::Router => DEFAULT_NAMESPACE,
        _ if name.namespace.is_empty() => DEFAULT_NAMESPACE,
        _ => name.namespace.as_str(),
    };
    check_namespace(namespace)?;
    check_name(&name.name)?;
    Ok((kind, Key::new(namespace, name.name.clone())))
}

fn manifest(resource: Option<&Resource>) -> Result<Object, Status> {
    let resource = resource.ok_or_else(|| Status::invalid_argument("resource is required"))?;
    Object::from_json(&resource.manifest)
}

fn shown(object: &Object) -> Resource {
    Resource {
        manifest: object.to_json(),
    }
}

#[tonic::async_trait]
impl AdminService for AdminApi {
    type BackupStream = Pin<Box<dyn Stream<Item = Result<BackupChunk, Status>> + Send>>;

    async fn create_resource(
        &self,
        request: Request<CreateResourceRequest>,
    ) -> Result<Response<CreateResourceResponse>, Status> {
        const ACTION: &str = "CreateResource";
        let caller = self.writer(&request, ACTION, "").await?;
        let mut entry = Entry::new(&caller, ACTION, "");
        let result = async {
            let object = manifest(request.get_ref().resource.as_ref())?;
            entry.resource = audit::resource(word(object.kind()), &object.metadata().key());
            resources::create(&self.context, object).await
        }
        .await;
        if let Ok((_, Some(token))) = &result {
            entry.detail = format!("token {}", token.token_id);
        }
        let (object, token) = self.context.record(entry, result).await?;
        Ok(Response::new(CreateResourceResponse {
            resource: Some(shown(&object)),
            credential: token.map(|token| self.credential(&token)),
        }))
    }

    async fn apply_resource(
        &self,
        request: Request<ApplyResourceRequest>,
    ) -> Result<Response<ApplyResourceResponse>, Status> {
        const ACTION: &str = "ApplyResource";
        let caller = self.writer(&request, ACTION, "").await?;
        let mut entry = Entry::new(&caller, ACTION, "");
        let result = async {
            let object = manifest(request.get_ref().resource.as_ref())?;
            entry.resource = audit::resource(word(object.kind()), &object.metadata().key());
            resources::apply(&self.context, object).await
        }
        .await;
        if let Ok(applied) = &result {
            entry.detail = match &applied.object {
                Object::Exporter(exporter) if exporter.spec.enabled == Some(false) => {
                    format!("{}, out of service", applied.outcome)
                }
                _ => applied.outcome.to_owned(),
            };
        }
        let applied = self.context.record(entry, result).await?;
        Ok(Response::new(ApplyResourceResponse {
            resource: Some(shown(&applied.object)),
            outcome: applied.outcome.to_owned(),
            credential: applied.token.map(|token| self.credential(&token)),
        }))
    }

    async fn get_resource(
        &self,
        request: Request<ResourceName>,
    ) -> Result<Response<Resource>, Status> {
        self.reader(&request)?;
        let (kind, key) = target(request.get_ref())?;
        let object = resources::get(&self.context, kind, &key).await?;
        Ok(Response::new(shown(&object)))
    }

    async fn list_resources(
        &self,
        request: Request<ListResourcesRequest>,
    ) -> Result<Response<ListResourcesResponse>, Status> {
        self.reader(&request)?;
        let found = resources::list(&self.context, request.get_ref()).await?;
        Ok(Response::new(found))
    }

    async fn delete_resource(
        &self,
        request: Request<ResourceName>,
    ) -> Result<Response<Resource>, Status> {
        let context = &self.context;
        let deleted = self
            .named(&request, "DeleteResource", async |kind, key| {
                resources::delete(context, kind, &key).await
            })
            .await?;
        Ok(Response::new(shown(&deleted)))
    }

    async fn get_credential(
        &self,
        request: Request<ResourceName>,
    ) -> Result<Response<Credential>, Status> {
        // It changes something: there is one more token that is good.
        let context = &self.context;
        let token = self
            .named(&request, "GetCredential", async |kind, key| {
                credential::issue(context, kind, &key, Renewal::Further).await
            })
            .await?;
        Ok(Response::new(self.credential(&token)))
    }

    async fn rotate_credential(
        &self,
        request: Request<ResourceName>,
    ) -> Result<Response<Credential>, Status> {
        let context = &self.context;
        let token = self
            .named(&request, "RotateCredential", async |kind, key| {
                let renewal = Renewal::Rotate(std::time::Duration::ZERO);
                credential::issue(context, kind, &key, renewal).await
            })
            .await?;
        Ok(Response::new(self.credential(&token)))
    }

    async fn revoke_credential(
        &self,
        request: Request<ResourceName>,
    ) -> Result<Response<Resource>, Status> {
        let context = &self.context;
        let revoked = self
            .named(&request, "RevokeCredential", async |kind, key| {
                credential::revoke(context, kind, &key).await
            })
            .await?;
        Ok(Response::new(shown(&revoked)))
    }

    async fn list_audit(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>, Status> {
        self.reader(&request)?;
        let found = audit_list::list(&self.context, request.get_ref()).await?;
        Ok(Response::new(found))
    }

    async fn backup(
        &self,
        request: Request<BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        const ACTION: &str = "Backup";
        let caller = self.writer(&request, ACTION, "").await?;
        let work = backup::copy(&*self.context.backup);
        let file = self.context.audited(&caller, ACTION, "store", work).await?;
        Ok(Response::new(Box::pin(backup::chunks(file))))
    }

    async fn get_server_info(
        &self,
        request: Request<GetServerInfoRequest>,
    ) -> Result<Response<ServerInfo>, Status> {
        let caller = self.reader(&request)?;
        let context = &self.context;
        let counts = context.engine.counts().await?;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let routers = context.routers.list().into_iter().map(|router| RouterInfo {
            name: router.name,
            endpoint: router.endpoint,
            connected: router.usable,
            tunnels: router.tunnels,
            bytes_forwarded: router.bytes_forwarded,
            labels: router.labels.into_iter().collect(),
        });
        Ok(Response::new(ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            endpoint: context.settings.endpoint.clone(),
            started: Some(timestamp(context.started)),
            routers: routers.collect(),
            exporters: count(counts.exporters),
            exporters_online: count(counts.online),
            leases_active: count(counts.active),
            leases_waiting: count(counts.waiting),
            identity: caller.identity(),
        }))
    }
}

/// The requests of the service as bytes, read and checked; for the fuzzer.
pub(crate) fn fuzz(data: &[u8]) {
    use prost::Message;
    if let Ok(request) = CreateResourceRequest::decode(data)
        && let Ok(object) = manifest(request.resource.as_ref())
    {
        let _ = shown(&object);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(object) = Object::from_json(text)
    {
        let again = Object::from_json(&object.to_json());
        assert!(again.is_ok(), "what was read can be written back");
    }
    if let Ok(request) = ResourceName::decode(data) {
        let _ = target(&request);
    }
    if let Ok(request) = ListResourcesRequest::decode(data) {
        let _ = resources::Listing::read(&request);
    }
    if let Ok(request) = ListAuditRequest::decode(data) {
        let _ = audit_list::query(&request);
    }
}
