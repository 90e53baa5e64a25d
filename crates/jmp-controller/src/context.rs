//! What every service works with.

use std::net::IpAddr;
use std::sync::Arc;

use jmp_auth::pki::Authority;
use jmp_auth::{IdentityIssuer, IdentityVerifier, TunnelIssuer, TunnelKeys};
use jmp_store::{AuditSink, EventSink, Query, Store, StoreExt};
use jmp_types::Timestamp;
use jmp_types::resource::{Key, Lease};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::admin_service::BackupSource;
use crate::clock::Time;
use crate::engine::{EngineHandle, store_failure};
use crate::exporter_sessions::ExporterSessions;
use crate::limits::{Guards, RateLimiter};
use crate::metrics::Metrics;
use crate::probe::Probe;
use crate::routers::Routers;
use crate::settings::Settings;
use crate::view::View;

/// What every service works with. Shared by all of them.
pub struct Context {
    /// Ended leases, pages of lists. Never write to it: the engine does.
    pub store: Arc<dyn Store>,
    /// The audit record.
    pub audit: Arc<dyn AuditSink>,
    /// Copies of the store.
    pub backup: Arc<dyn BackupSource>,
    /// The history of objects.
    pub events: Arc<dyn EventSink>,
    /// Decides and writes.
    pub engine: EngineHandle,
    /// What is committed.
    pub view: Arc<View>,
    /// Issues tokens of clients, exporters, administrators and routers.
    pub issuer: IdentityIssuer,
    /// Verifies them.
    pub verifier: IdentityVerifier,
    /// Issues tokens of tunnels.
    pub tunnels: TunnelIssuer,
    /// The keys of those, for routers.
    pub tunnel_keys: Arc<TunnelKeys>,
    /// What the administrator chose.
    pub settings: Arc<Settings>,
    /// The time.
    pub time: Time,
    /// PEM of the authority that signed the controller's certificate; empty for a public one.
    pub authority: String,
    /// The authority itself, which also signs for routers; none with certificates from elsewhere.
    pub signer: Option<Arc<Authority>>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Exporters that are connected.
    pub exporters: Arc<ExporterSessions>,
    /// Routers that are connected.
    pub routers: Arc<Routers>,
    /// Everything that runs beside the calls.
    pub tasks: TaskTracker,
    /// Cancelled when the controller drains: streams end, then.
    pub stopping: CancellationToken,
    /// Cancelled when connections are cut that did not end by themselves.
    pub(crate) cut: CancellationToken,
    /// When the controller started.
    pub started: Timestamp,
    /// Failed authentications, by network.
    pub(crate) failures: RateLimiter<String>,
    /// What one identity may ask for; `Guards::default()`.
    pub(crate) guards: Guards,
}

/// Where a call comes from. An extension of each request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Address of the host, where there is one: in a simulation there is not.
    pub address: Option<IpAddr>,
    /// Asks the connection whether its peer lives.
    pub probe: Probe,
    /// Cancelled once a call on this connection had a good token.
    pub(crate) known: CancellationToken,
}

// === impl Peer ===

impl Peer {
    /// Somebody new.
    #[must_use]
    pub fn new(address: Option<IpAddr>, probe: Probe) -> Self {
        Self {
            address,
            probe,
            known: CancellationToken::new(),
        }
    }

    /// The address as text, for limits, logs and the audit.
    #[must_use]
    pub fn text(&self) -> String {
        self.address
            .map_or_else(|| "-".to_owned(), |address| address.to_string())
    }

    /// The network of the address as text, for limits: one IPv6 host has many addresses.
    #[must_use]
    pub fn network(&self) -> String {
        self.address.map_or_else(
            || "-".to_owned(),
            |address| jmp_auth::peer_network(address).to_string(),
        )
    }

    /// The peer of a request.
    ///
    /// # Errors
    ///
    /// INTERNAL if the server did not say.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Status::internal("the caller's address is not known"))
    }
}

// === impl Context ===

impl Context {
    /// The time of day.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.time.wall()
    }

    /// Whether calls can be served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.engine.is_healthy() && !self.stopping.is_cancelled()
    }

    /// A lease, ended or not.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE when the store cannot be read.
    pub async fn lease(&self, key: &Key) -> Result<Option<Arc<Lease>>, Status> {
        if let Some(lease) = self.view.get::<Lease>(key) {
            return Ok(Some(lease));
        }
        let found: Option<Lease> = self
            .store
            .get(key)
            .await
            .map_err(|error| store_failure(&error))?;
        Ok(found.map(Arc::new))
    }

    /// A page of leases or other objects straight from the store.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE when the store cannot be read, INVALID_ARGUMENT for a bad page token.
    pub async fn page<T: jmp_store::Resource>(
        &self,
        query: Query,
    ) -> Result<jmp_store::TypedPage<T>, Status> {
        self.store
            .list(query)
            .await
            .map_err(|error| store_failure(&error))
    }
}
