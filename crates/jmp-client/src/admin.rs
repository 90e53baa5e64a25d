//! What an administrator asks of a controller. Objects are JSON in the shape of their custom resources.

use futures::StreamExt;
use jmp_proto::jmp::v1 as wire;
use jmp_proto::jmp::v1::admin_service_client::AdminServiceClient;
use jmp_wire::connection::Connection;
use jmp_wire::endpoint::{CONTROLLER_KEEP_ALIVE, Connector, Credentials, Endpoint};
use serde_json::Value;

use crate::changes::{Changes, limited, stream};
use crate::controller::to_timestamp;
use crate::error::{Error, Result};

/// Rows asked for at once.
const PAGE: i32 = 500;

/// A connection of an administrator.
#[derive(Debug, Clone)]
pub struct Admin {
    connection: Connection,
}

/// An object with the credential that was made for it.
#[derive(Debug, Clone)]
pub struct Created {
    /// The object.
    pub object: Value,
    /// What lets its owner in; policies have none.
    pub credential: Option<wire::Credential>,
    /// `created`, `configured` or `unchanged`.
    pub outcome: String,
}

// === impl Admin ===

impl Admin {
    /// Connects as the administrator of these credentials.
    ///
    /// # Errors
    ///
    /// If the controller cannot be reached or the credentials cannot be sent.
    pub async fn connect(
        connector: &Connector,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<Self> {
        let metadata = credentials
            .metadata()
            .map_err(|error| Error::Configuration(error.to_string()))?;
        let connecting = connector.connect(endpoint, metadata, CONTROLLER_KEEP_ALIVE);
        let connection = connecting.await.map_err(Error::ControllerUnreachable)?;
        Ok(Self { connection })
    }

    fn service(&self) -> AdminServiceClient<Connection> {
        let origin = self.connection.origin();
        AdminServiceClient::with_origin(self.connection.clone(), origin)
    }

    /// Makes an object.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], with ALREADY_EXISTS when there is one of that name.
    pub async fn create(&self, object: &Value) -> Result<Created> {
        let request = wire::CreateResourceRequest {
            resource: Some(resource(object)),
        };
        let mut service = self.service();
        let call = service.create_resource(request);
        let answer = limited("creating the object", call).await?;
        Ok(Created {
            object: parse(answer.resource)?,
            credential: answer.credential,
            outcome: "created".to_owned(),
        })
    }

    /// Makes an object, or gives the one of that name these labels and this spec.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the manifest is wrong.
    pub async fn apply(&self, object: &Value) -> Result<Created> {
        let request = wire::ApplyResourceRequest {
            resource: Some(resource(object)),
        };
        let mut service = self.service();
        let answer = limited("applying the manifest", service.apply_resource(request)).await?;
        Ok(Created {
            object: parse(answer.resource)?,
            credential: answer.credential,
            outcome: answer.outcome,
        })
    }

    /// One object.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is none of that name.
    pub async fn get(&self, name: wire::ResourceName) -> Result<Value> {
        let mut service = self.service();
        let answer = limited("looking up the object", service.get_resource(name)).await?;
        parse(Some(answer))
    }

    /// All objects of a kind; of every namespace when that is empty.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the selector cannot be read.
    pub async fn list(
        &self,
        kind: &str,
        namespace: &str,
        selector: &str,
        include_ended: bool,
    ) -> Result<Vec<Value>> {
        let mut request = wire::ListResourcesRequest {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            selector: selector.to_owned(),
            page_size: PAGE,
            page_token: String::new(),
            include_ended,
        };
        let mut service = self.service();
        let mut found = Vec::new();
        loop {
            let call = service.list_resources(request.clone());
            let page = limited("listing objects", call).await?;
            for object in page.resources {
                found.push(parse(Some(object))?);
            }
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Deletes an object; the last state of it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is none of that name.
    pub async fn delete(&self, name: wire::ResourceName) -> Result<Value> {
        let mut service = self.service();
        let answer = limited("deleting the object", service.delete_resource(name)).await?;
        parse(Some(answer))
    }

    /// A credential of an object that is there.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is none of that name, or its tokens are revoked.
    pub async fn credential(&self, name: wire::ResourceName) -> Result<wire::Credential> {
        let mut service = self.service();
        limited("asking for the credential", service.get_credential(name)).await
    }

    /// A new credential; those before stop working.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is none of that name.
    pub async fn rotate(&self, name: wire::ResourceName) -> Result<wire::Credential> {
        let mut service = self.service();
        limited("rotating the credential", service.rotate_credential(name)).await
    }

    /// Stops all tokens of an object.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is none of that name.
    pub async fn revoke(&self, name: wire::ResourceName) -> Result<Value> {
        let mut service = self.service();
        let call = service.revoke_credential(name);
        parse(Some(limited("revoking the credential", call).await?))
    }

    /// What was done, newest first, at most `limit` rows.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn audit(
        &self,
        actor: &str,
        resource: &str,
        since: Option<jmp_types::Timestamp>,
        limit: usize,
    ) -> Result<Vec<wire::AuditRecord>> {
        let mut request = wire::ListAuditRequest {
            page_size: PAGE,
            page_token: String::new(),
            actor: actor.to_owned(),
            resource: resource.to_owned(),
            since: since.map(to_timestamp),
        };
        let mut service = self.service();
        let mut found = Vec::new();
        loop {
            let page = limited("reading the audit", service.list_audit(request.clone())).await?;
            found.extend(page.records);
            if page.next_page_token.is_empty() || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// A copy of the store, in chunks.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn backup(&self) -> Result<Changes<Vec<u8>>> {
        let mut service = self.service();
        let call = service.backup(wire::BackupRequest {});
        match stream("making the backup", call).await? {
            Some(chunks) => Ok(Box::pin(chunks.map(|chunk| chunk.map(|chunk| chunk.data)))),
            None => Err(Error::Configuration(
                "this controller makes no backups".to_owned(),
            )),
        }
    }

    /// What the controller is and does.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn info(&self) -> Result<wire::ServerInfo> {
        let mut service = self.service();
        let call = service.get_server_info(wire::GetServerInfoRequest {});
        limited("asking the controller about itself", call).await
    }
}

fn resource(object: &Value) -> wire::Resource {
    wire::Resource {
        manifest: object.to_string(),
    }
}

fn parse(resource: Option<wire::Resource>) -> Result<Value> {
    let manifest = resource.unwrap_or_default().manifest;
    serde_json::from_str(&manifest).map_err(|error| {
        Error::Configuration(format!("the controller's answer cannot be read: {error}"))
    })
}
