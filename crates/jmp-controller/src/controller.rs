//! The controller as a whole: started, serving, stopped.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jmp_auth::pki::{Authority, Protocols, ServerCertificate};
use jmp_auth::{IdentityIssuer, IdentityKeys, IdentityVerifier, TunnelIssuer, TunnelKeys};
use jmp_store::{AuditSink, EventSink, Store, StoreError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin_service::BackupSource;
use crate::clock::{Clock, Time};
use crate::context::Context;
use crate::engine;
use crate::exporter_sessions::ExporterSessions;
use crate::limits::{Rate, RateLimiter};
use crate::metrics::Metrics;
use crate::routers::Routers;
use crate::server::{Server, serve_plain};
use crate::settings::Settings;
use crate::upkeep;
use crate::view::View;

/// Addresses whose failed authentications are remembered.
const ADDRESSES: usize = 10_000;

/// What a controller is made of.
pub struct Parts<S> {
    /// Keeps everything.
    pub store: Arc<S>,
    /// Keys of identity tokens.
    pub identity_keys: Arc<IdentityKeys>,
    /// Keys of tunnel tokens.
    pub tunnel_keys: Arc<TunnelKeys>,
    /// PEM of the authority that clients are told to trust; empty for public certificates.
    pub authority: String,
    /// The authority itself, if it is ours.
    pub signer: Option<Arc<Authority>>,
    /// What the administrator chose.
    pub settings: Settings,
    /// Delays and limits of the scheduler.
    pub pool: jmp_lease::pool::Settings,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

/// A running controller. Dropping it cuts everything; [`Controller::stop`] is the polite way.
pub struct Controller {
    context: Arc<Context>,
    server: Server,
    engine_stop: CancellationToken,
    engine_tasks: TaskTracker,
}

// === impl Controller ===

impl Controller {
    /// Reads the store and starts to decide. Nobody is served yet.
    ///
    /// # Errors
    ///
    /// When the store cannot be read or written.
    pub async fn start<S>(parts: Parts<S>) -> Result<Self, StoreError>
    where
        S: Store + AuditSink + EventSink + BackupSource + 'static,
    {
        let settings = Arc::new(parts.settings);
        let time = Time::new(parts.clock);
        let view = Arc::new(View::default());
        let metrics = Arc::new(Metrics::new());
        let exporters = Arc::new(ExporterSessions::default());
        let routers = Arc::new(Routers::new(Arc::clone(&metrics)));
        let tasks = TaskTracker::new();
        let engine_stop = CancellationToken::new();
        let (engine_task, engine) = engine::start(
            engine::Parts {
                store: Arc::clone(&parts.store) as Arc<dyn Store>,
                events: Arc::clone(&parts.store) as Arc<dyn EventSink>,
                view: Arc::clone(&view),
                sessions: Arc::clone(&exporters),
                routers: Arc::clone(&routers),
                metrics: Arc::clone(&metrics),
                settings: Arc::clone(&settings),
                pool_settings: parts.pool,
                time: time.clone(),
                tasks: tasks.clone(),
            },
            engine_stop.clone(),
        )
        .await?;
        let engine_tasks = TaskTracker::new();
        engine_tasks.spawn(engine_task);
        let failures = f64::from(settings.limits.failures_per_minute);
        let context = Arc::new(Context {
            store: Arc::clone(&parts.store) as Arc<dyn Store>,
            audit: Arc::clone(&parts.store) as Arc<dyn AuditSink>,
            backup: Arc::clone(&parts.store) as Arc<dyn BackupSource>,
            events: parts.store as Arc<dyn EventSink>,
            engine,
            view,
            issuer: IdentityIssuer::new(Arc::clone(&parts.identity_keys))
                .with_lifetime(settings.token_lifetime),
            verifier: IdentityVerifier::new(parts.identity_keys),
            tunnels: TunnelIssuer::new(Arc::clone(&parts.tunnel_keys)),
            tunnel_keys: parts.tunnel_keys,
            started: time.wall(),
            time,
            authority: parts.authority,
            signer: parts.signer,
            metrics,
            exporters,
            routers,
            tasks,
            stopping: CancellationToken::new(),
            cut: CancellationToken::new(),
            failures: RateLimiter::new(
                Rate {
                    per_second: failures / 60.0,
                    burst: failures.max(1.0),
                },
                ADDRESSES,
            ),
            guards: crate::limits::Guards::default(),
            settings,
        });
        context.tasks.spawn(upkeep::run(Arc::clone(&context)));
        context.tasks.spawn(upkeep::expire(Arc::clone(&context)));
        Ok(Self {
            server: Server::new(Arc::clone(&context)),
            context,
            engine_stop,
            engine_tasks,
        })
    }

    /// What services work with.
    #[must_use]
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Serves gRPC on that listener, with TLS. The certificate is renewed while it is served.
    ///
    /// # Errors
    ///
    /// When rustls refuses the certificate.
    pub fn serve_tls(
        &self,
        listener: TcpListener,
        certificate: &Arc<ServerCertificate>,
    ) -> Result<(), jmp_auth::pki::PkiError> {
        let config = certificate.server_config(Protocols::Grpc)?;
        let server = self.server.clone();
        self.context
            .tasks
            .spawn(server.listen(listener, Some(config)));
        let keep_fresh = upkeep::renew(Arc::clone(&self.context), Arc::clone(certificate));
        self.context.tasks.spawn(keep_fresh);
        Ok(())
    }

    /// Serves gRPC on that listener without TLS: for tests, and behind something that ends TLS.
    pub fn serve_plain_text(&self, listener: TcpListener) {
        let server = self.server.clone();
        self.context.tasks.spawn(server.listen(listener, None));
    }

    /// Serves one connection that came in some other way, until it ends.
    pub async fn serve_io<IO>(&self, io: IO, address: Option<IpAddr>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.server.serve_io(io, address).await;
    }

    /// Like [`Controller::serve_io`], as one of the controller's tasks.
    pub fn accept_io<IO>(&self, io: IO, address: Option<IpAddr>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let server = self.server.clone();
        self.context
            .tasks
            .spawn(async move { server.serve_io(io, address).await });
    }

    /// Serves metrics and health over plain HTTP.
    ///
    /// # Errors
    ///
    /// When the listener has no address.
    pub fn serve_metrics(&self, listener: TcpListener) -> std::io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        let serving = serve_plain(listener, Arc::clone(&self.context));
        self.context.tasks.spawn(serving);
        Ok(address)
    }

    /// Ends politely: streams are told, running calls get the time that the settings say, what was
    /// acknowledged stays on disk.
    pub async fn stop(self) {
        let context = &self.context;
        context.stopping.cancel();
        context.exporters.drain();
        context.tasks.close();
        if tokio::time::timeout(context.settings.drain, context.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("calls were still running when the controller ended");
        }
        context.cut.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), context.tasks.wait()).await;
        self.engine_stop.cancel();
        self.engine_tasks.close();
        self.engine_tasks.wait().await;
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.context.stopping.cancel();
        self.context.cut.cancel();
        self.engine_stop.cancel();
    }
}
