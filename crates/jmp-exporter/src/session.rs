//! A session: one open device tree, its log and its status, served on any number of sockets.
//!
//! A session is a lease or a local shell, not a connection: losing a connection resets no driver
//! and closes no device. It owns every task it starts; [`Session::close`] ends them all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jmp_driver::log::{LogSource, Severity};
use jmp_driver::resource::ResourceTable;
use jmp_driver::tree::{BuildError, BuildWarning};
use jmp_driver::{CallContext, LogHub, NodeSpec, Origin, Registry, Services, Tree};
use jmp_lease::{EndSessionReply, ExporterStatus};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::status::StatusBoard;

/// How long running calls may go on once a session closes.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// What a session is about, apart from its devices.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Labels of the report.
    pub labels: BTreeMap<String, String>,
    /// Text for people who open a shell.
    pub motd: String,
    /// The lease under which the session runs.
    pub lease: Option<String>,
}

/// An open session. Cheap to clone.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

pub(crate) struct Inner {
    pub uuid: Uuid,
    pub options: SessionOptions,
    pub tree: Tree,
    pub log: LogHub,
    pub status: StatusBoard,
    /// Where EndSession goes, if the session has a life cycle of its own.
    pub control: OnceLock<Box<dyn EndSession>>,
    pub resources: ResourceTable,
    pub tasks: TaskTracker,
    /// Fires when no new work is taken and what runs should end.
    pub closing: CancellationToken,
    /// Fires when connections are cut, whatever still runs on them.
    pub cut: CancellationToken,
    /// Devices are closed once.
    closed: OnceCell<()>,
    /// Fires when the devices are taken back from their present user.
    turn: Mutex<CancellationToken>,
    /// What the beforeLease hook wants people to read.
    hook_motd: Mutex<String>,
}

/// Answers `EndSession`.
#[async_trait]
pub trait EndSession: Send + Sync {
    /// Whether the session ends, and a text for people.
    async fn end_session(&self) -> EndSessionReply;
}

// === impl Session ===

impl Session {
    /// Opens all devices and brings them into their first state.
    ///
    /// # Errors
    ///
    /// The first driver that fails; those already open are closed again.
    pub async fn open(
        registry: &Registry,
        root: &NodeSpec,
        options: SessionOptions,
    ) -> Result<Self, BuildError> {
        let log = LogHub::default();
        let services = Services {
            log: log.clone(),
            clock: jmp_driver::clock::system(),
        };
        let tree = Tree::build(registry, root, &services).await?;
        if let Err(error) = tree.reset().await {
            tree.close().await;
            return Err(BuildError {
                path: Vec::new(),
                config_path: None,
                error,
            });
        }
        let closing = CancellationToken::new();
        Ok(Self(Arc::new(Inner {
            uuid: Uuid::new_v4(),
            options,
            tree,
            log,
            status: StatusBoard::default(),
            control: OnceLock::new(),
            resources: ResourceTable::default(),
            tasks: TaskTracker::new(),
            turn: Mutex::new(closing.child_token()),
            hook_motd: Mutex::default(),
            closing,
            cut: CancellationToken::new(),
            closed: OnceCell::new(),
        })))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// The device tree.
    pub fn tree(&self) -> &Tree {
        &self.0.tree
    }

    /// Keys of the configuration that were ignored.
    pub fn warnings(&self) -> &[BuildWarning] {
        &self.0.tree.warnings
    }

    /// The devices, as clients and the controller are told of them.
    pub fn reports(&self) -> Vec<jmp_proto::v1::DriverInstanceReport> {
        let reports = self.0.tree.reports().iter();
        reports.map(crate::service::report_message).collect()
    }

    /// The session log.
    pub fn log(&self) -> &LogHub {
        &self.0.log
    }

    /// Sends EndSession calls to `control`; the first one stays.
    pub fn set_control(&self, control: impl EndSession + 'static) {
        let _ = self.0.control.set(Box::new(control));
    }

    /// What clients are told about the session.
    pub fn status(&self) -> &StatusBoard {
        &self.0.status
    }

    /// Writes a line of the exporter itself.
    pub fn note(&self, severity: Severity, message: impl Into<String>) {
        self.0
            .log
            .logger("jumpstarter.exporter", LogSource::System)
            .log(severity, message);
    }

    /// A local session: ready at once, no lease, no hooks (facts: protocol 10.1).
    pub fn start_local(&self) {
        self.0.status.set(ExporterStatus::LeaseReady, "");
    }

    /// Lets clients in again after [`Session::end_turn`].
    pub fn begin_turn(&self) {
        let mut turn = lock(&self.0.turn);
        if turn.is_cancelled() {
            *turn = self.0.closing.child_token();
        }
    }

    /// Ends the calls and streams of clients, those of hooks excepted. What a client opens before
    /// the next [`Session::begin_turn`] ends at once.
    pub fn end_turn(&self) {
        lock(&self.0.turn).cancel();
    }

    /// Text that follows the configured one for people who open a shell.
    pub fn set_hook_motd(&self, text: impl Into<String>) {
        *lock(&self.0.hook_motd) = text.into();
    }

    /// Ends all connections and streams, then closes each device once. Calls that are running
    /// get a short grace; later calls of this method do nothing.
    pub async fn close(&self) {
        let inner = &self.0;
        if inner.status.get().status != ExporterStatus::Offline {
            inner.status.set(ExporterStatus::Offline, "Session closed");
        }
        inner.closing.cancel();
        inner.tasks.close();
        if tokio::time::timeout(CLOSE_GRACE, inner.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("calls were still running when the session closed");
            inner.cut.cancel();
            inner.tasks.wait().await;
        }
        inner.closed.get_or_init(|| inner.tree.close()).await;
    }
}

impl Inner {
    /// Without a life cycle there is nothing to end; shipped clients know this text.
    pub async fn end_session(&self) -> EndSessionReply {
        match self.control.get() {
            Some(control) => control.end_session().await,
            None => EndSessionReply {
                success: false,
                message: "No active lease context".into(),
            },
        }
    }

    /// The context of a call that came in on the given connection.
    pub fn context(
        &self,
        connection: u64,
        origin: Origin,
        deadline: Option<tokio::time::Instant>,
    ) -> CallContext {
        CallContext::builder(connection, origin, self.resources.clone())
            .lease(self.options.lease.clone())
            .deadline(deadline)
            .cancelled(self.ending(origin).child_token())
            .build()
    }

    /// What ends the calls and streams that come in now. To be asked before the gate: otherwise
    /// a turn may end between the two.
    pub fn ending(&self, origin: Origin) -> CancellationToken {
        match origin {
            Origin::Client => lock(&self.turn).clone(),
            Origin::Hook | Origin::Internal => self.closing.clone(),
        }
    }

    /// Text for people who open a shell.
    pub fn motd(&self) -> String {
        let hook = lock(&self.hook_motd);
        match (self.options.motd.as_str(), hook.as_str()) {
            (configured, "") => configured.to_owned(),
            ("", hook) => hook.to_owned(),
            (configured, hook) => format!("{}\n{hook}", configured.trim_end_matches('\n')),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
