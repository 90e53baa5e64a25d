//! What a client asks of a controller: exporters, leases, tokens.
//!
//! [`Controller`] keeps one connection and makes a new one when that is lost; [`crate::lease`] waits for
//! leases, [`crate::tunnel`] reaches the exporter of one. Calls that change something are never repeated
//! by themselves; calls that only ask are repeated once when the connection turned out to be dead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use jmp_proto::jmp::v1 as ours;
use jmp_proto::jmp::v1::lease_service_client::LeaseServiceClient;
use jmp_proto::jumpstarter::client::v1 as wire;
use jmp_proto::jumpstarter::client::v1::client_service_client::ClientServiceClient;
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_wire::connection::Connection;
use jmp_wire::endpoint::{
    CONTROLLER_KEEP_ALIVE, Connector, Credentials, CredentialsError, Endpoint,
};
use tokio::sync::Mutex;

use crate::changes::{Changes, limited, stream, within};
use crate::error::{Error, Result};

/// Rows asked for at once.
const PAGE: i32 = 500;

/// A controller, as one client sees it. Cheap to clone.
#[derive(Clone)]
pub struct Controller(Arc<Inner>);

struct Inner {
    connector: Connector,
    endpoint: Endpoint,
    metadata: HeaderMap,
    namespace: String,
    name: String,
    connection: Mutex<Option<Connection>>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Controller({})", self.0.endpoint)
    }
}

/// What to lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Labels of the exporter; empty when `exporter` names it.
    pub selector: String,
    /// The one exporter that will do.
    pub exporter: Option<String>,
    /// How long.
    pub duration: Option<Duration>,
    /// Not before.
    pub begin: Option<jmp_types::Timestamp>,
    /// Not after.
    pub end: Option<jmp_types::Timestamp>,
    /// The name of the lease; the controller makes one up otherwise.
    pub name: Option<String>,
    /// For filters and accounts.
    pub tags: BTreeMap<String, String>,
    /// For the exporter and the logs.
    pub context: BTreeMap<String, String>,
    /// An exporter out of service will do.
    pub allow_disabled: bool,
}

/// What to change of a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseChange {
    /// The new duration.
    pub duration: Option<Duration>,
    /// The new begin.
    pub begin: Option<jmp_types::Timestamp>,
    /// The new end.
    pub end: Option<jmp_types::Timestamp>,
    /// The client that it is handed to.
    pub client: Option<String>,
}

/// Which leases to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseFilter {
    /// Label selector over the labels of leases: equalities of their selectors.
    pub selector: String,
    /// Selector over tags.
    pub tags: String,
    /// Ended ones too.
    pub ended: bool,
}

// === impl Controller ===

impl Controller {
    /// The controller at `endpoint`, as the client of these credentials. Connects with the first call;
    /// `connector` also makes the connections to the lab's routers.
    ///
    /// # Errors
    ///
    /// If the credentials cannot be sent.
    pub fn new(
        connector: Connector,
        endpoint: Endpoint,
        credentials: &Credentials,
    ) -> Result<Self, CredentialsError> {
        Ok(Self(Arc::new(Inner {
            connector,
            endpoint,
            metadata: credentials.metadata()?,
            namespace: credentials.namespace.clone(),
            name: credentials.name.clone(),
            connection: Mutex::new(None),
        })))
    }

    /// Where it is, `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.0.endpoint.to_string()
    }

    /// The namespace of this client.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The name of this client.
    #[must_use]
    pub fn client_name(&self) -> &str {
        &self.0.name
    }

    /// What makes connections, for routers of the same lab.
    pub(crate) fn connector(&self) -> &Connector {
        &self.0.connector
    }

    /// A live connection.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`].
    pub async fn connection(&self) -> Result<Connection> {
        let mut held = self.0.connection.lock().await;
        if let Some(connection) = held.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let inner = &self.0;
        let connecting = inner.connector.connect(
            &inner.endpoint,
            inner.metadata.clone(),
            CONTROLLER_KEEP_ALIVE,
        );
        let connection = connecting.await.map_err(Error::ControllerUnreachable)?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    async fn clients(&self) -> Result<ClientServiceClient<Connection>> {
        let connection = self.connection().await?;
        let origin = connection.origin();
        Ok(ClientServiceClient::with_origin(connection, origin))
    }

    async fn leases(&self) -> Result<LeaseServiceClient<Connection>> {
        let connection = self.connection().await?;
        let origin = connection.origin();
        Ok(LeaseServiceClient::with_origin(connection, origin))
    }

    fn parent(&self) -> String {
        format!("namespaces/{}", self.0.namespace)
    }

    fn path(&self, kind: &str, name: &str) -> String {
        format!("{}/{kind}/{name}", self.parent())
    }

    /// One exporter.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is none of that name.
    pub async fn exporter(&self, name: &str) -> Result<wire::Exporter> {
        let request = wire::GetExporterRequest {
            name: self.path("exporters", name),
            ..Default::default()
        };
        let mut client = self.clients().await?;
        limited("looking up the exporter", client.get_exporter(request)).await
    }

    /// All exporters with labels that `selector` finds, by name.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the selector cannot be read.
    pub async fn exporters(&self, selector: &str, hidden: bool) -> Result<Vec<wire::Exporter>> {
        let mut found = Vec::new();
        let mut client = self.clients().await?;
        let mut request = wire::ListExportersRequest {
            parent: self.parent(),
            page_size: PAGE,
            filter: selector.to_owned(),
            show_hidden_labels: hidden,
            ..Default::default()
        };
        loop {
            let call = client.list_exporters(request.clone());
            let page = limited("listing exporters", call).await?;
            found.extend(page.exporters);
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// One lease of the namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is none of that name.
    pub async fn lease(&self, name: &str) -> Result<wire::Lease> {
        let request = wire::GetLeaseRequest {
            name: self.path("leases", name),
        };
        let mut client = self.clients().await?;
        limited("looking up the lease", client.get_lease(request)).await
    }

    /// The leases of the namespace, of all its clients.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when a filter cannot be read.
    pub async fn list_leases(&self, filter: &LeaseFilter) -> Result<Vec<wire::Lease>> {
        let mut found = Vec::new();
        let mut client = self.clients().await?;
        let mut request = self.lease_list(filter);
        loop {
            let page = limited("listing leases", client.list_leases(request.clone())).await?;
            found.extend(page.leases);
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            request.page_token = page.next_page_token;
        }
    }

    fn lease_list(&self, filter: &LeaseFilter) -> wire::ListLeasesRequest {
        wire::ListLeasesRequest {
            parent: self.parent(),
            page_size: PAGE,
            filter: filter.selector.clone(),
            only_active: Some(!filter.ended),
            tag_filter: filter.tags.clone(),
            ..Default::default()
        }
    }

    /// Asks for a lease; it may have to wait for its exporter.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the request makes no sense or conflicts with a reservation.
    pub async fn create_lease(&self, request: &LeaseRequest) -> Result<wire::Lease> {
        let lease = wire::Lease {
            selector: request.selector.clone(),
            duration: request.duration.map(to_duration),
            begin_time: request.begin.map(to_timestamp),
            end_time: request.end.map(to_timestamp),
            exporter_name: request.exporter.clone(),
            tags: request.tags.clone().into_iter().collect(),
            context: request.context.clone().into_iter().collect(),
            allow_disabled: request.allow_disabled,
            ..Default::default()
        };
        let request = wire::CreateLeaseRequest {
            parent: self.parent(),
            lease_id: request.name.clone().unwrap_or_default(),
            lease: Some(lease),
        };
        let mut client = self.clients().await?;
        limited("creating the lease", client.create_lease(request)).await
    }

    /// Changes a lease.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the lease is somebody else's or policy forbids the change.
    pub async fn update_lease(&self, name: &str, change: &LeaseChange) -> Result<wire::Lease> {
        let mut paths = Vec::new();
        let mut given = |path: &str, present: bool| {
            if present {
                paths.push(path.to_owned());
            }
        };
        given("duration", change.duration.is_some());
        given("begin_time", change.begin.is_some());
        given("end_time", change.end.is_some());
        given("client", change.client.is_some());
        let client = change.client.as_ref();
        let lease = wire::Lease {
            name: self.path("leases", name),
            duration: change.duration.map(to_duration),
            begin_time: change.begin.map(to_timestamp),
            end_time: change.end.map(to_timestamp),
            client: client.map(|client| self.path("clients", client)),
            ..Default::default()
        };
        let request = wire::UpdateLeaseRequest {
            lease: Some(lease),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        let mut client = self.clients().await?;
        limited("changing the lease", client.update_lease(request)).await
    }

    /// Ends a lease.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the lease is somebody else's or has been released.
    pub async fn delete_lease(&self, name: &str) -> Result<()> {
        let request = wire::DeleteLeaseRequest {
            name: self.path("leases", name),
        };
        let mut client = self.clients().await?;
        limited("ending the lease", client.delete_lease(request)).await
    }

    /// A new token for this client, and when it ends.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the present token is no good.
    pub async fn rotate_token(&self) -> Result<wire::RotateTokenResponse> {
        let request = wire::RotateTokenRequest {
            parent: self.parent(),
        };
        let mut client = self.clients().await?;
        limited("asking for a new token", client.rotate_token(request)).await
    }

    /// The state of a lease now and after each change; `None` when the controller cannot tell by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is no such lease.
    pub async fn watch_lease(&self, name: &str) -> Result<Option<Changes<ours::LeaseState>>> {
        let request = ours::WatchLeaseRequest {
            name: self.path("leases", name),
        };
        let mut client = self.leases().await?;
        stream("watching the lease", client.watch_lease(request)).await
    }

    /// The leases that the filter lets through, then every change; `None` as in [`Self::watch_lease`].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when a filter cannot be read.
    pub async fn watch_leases(
        &self,
        filter: &LeaseFilter,
    ) -> Result<Option<Changes<ours::LeaseChange>>> {
        let mut client = self.leases().await?;
        let call = client.watch_leases(self.lease_list(filter));
        stream("watching leases", call).await
    }

    /// The exporters that the selector finds, then every change; `None` as in [`Self::watch_lease`].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the selector cannot be read.
    pub async fn watch_exporters(
        &self,
        selector: &str,
        hidden: bool,
    ) -> Result<Option<Changes<ours::ExporterChange>>> {
        let request = wire::ListExportersRequest {
            parent: self.parent(),
            filter: selector.to_owned(),
            show_hidden_labels: hidden,
            ..Default::default()
        };
        let mut client = self.leases().await?;
        stream("watching exporters", client.watch_exporters(request)).await
    }

    /// All that is known about a lease (`leases`) or exporter (`exporters`).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is none, or the controller is of another implementation.
    pub async fn describe(&self, kind: &str, name: &str) -> Result<ours::DescribeResourceResponse> {
        let request = ours::DescribeResourceRequest {
            name: self.path(kind, name),
        };
        let mut client = self.leases().await?;
        limited("describing it", client.describe(request)).await
    }

    /// Asks for a tunnel to the exporter of a lease: where to go, and with which token.
    ///
    /// # Errors
    ///
    /// The controller's status, or UNAVAILABLE when it cannot be reached.
    pub(crate) async fn dial(&self, lease: &str, limit: Duration) -> Result<(String, String)> {
        let connection = self.connection().await?;
        let origin = connection.origin();
        let mut client = ControllerServiceClient::with_origin(connection, origin);
        let request = jmp_proto::v1::DialRequest {
            lease_name: lease.to_owned(),
        };
        let answer = within(limit, "dialling the exporter", client.dial(request)).await?;
        Ok((answer.router_endpoint, answer.router_token))
    }
}

/// A duration for the wire.
fn to_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A time for the wire.
pub(crate) fn to_timestamp(time: jmp_types::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}
