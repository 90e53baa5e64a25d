//! What a driver method can know about the call it serves.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::resource::ResourceTable;

tokio::task_local! {
    static CURRENT: CallContext;
}

/// Where calls of a session come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A client.
    Client,
    /// A hook script, through its own socket; the status gate does not apply to it.
    Hook,
    /// The exporter itself, for example a parent driver that uses its child.
    Internal,
}

#[derive(Debug)]
struct Inner {
    connection: u64,
    origin: Origin,
    identity: Option<String>,
    lease: Option<String>,
    deadline: Option<Instant>,
    cancelled: CancellationToken,
    resources: ResourceTable,
}

/// Who calls, through what, under which lease and until when. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CallContext {
    inner: Arc<Inner>,
    driver: Uuid,
}

/// Collects the parts of a [`CallContext`].
#[derive(Debug)]
pub struct CallContextBuilder(Inner);

// === impl CallContextBuilder ===

impl CallContextBuilder {
    /// Who calls, if they proved who they are.
    pub fn identity(mut self, identity: Option<String>) -> Self {
        self.0.identity = identity;
        self
    }

    /// The lease under which the session runs.
    pub fn lease(mut self, lease: Option<String>) -> Self {
        self.0.lease = lease;
        self
    }

    /// When the caller gives up.
    pub fn deadline(mut self, deadline: Option<Instant>) -> Self {
        self.0.deadline = deadline;
        self
    }

    /// Fires when the call should stop.
    pub fn cancelled(mut self, token: CancellationToken) -> Self {
        self.0.cancelled = token;
        self
    }

    /// Finishes.
    pub fn build(self) -> CallContext {
        CallContext {
            inner: Arc::new(self.0),
            driver: Uuid::nil(),
        }
    }
}

// === impl CallContext ===

impl CallContext {
    /// Starts a context for a call that came in on the given connection.
    pub fn builder(
        connection: u64,
        origin: Origin,
        resources: ResourceTable,
    ) -> CallContextBuilder {
        CallContextBuilder(Inner {
            connection,
            origin,
            identity: None,
            lease: None,
            deadline: None,
            cancelled: CancellationToken::new(),
            resources,
        })
    }

    /// The context of calls that the exporter makes itself.
    pub fn internal() -> Self {
        static INTERNAL: LazyLock<CallContext> = LazyLock::new(|| {
            CallContext::builder(0, Origin::Internal, ResourceTable::default()).build()
        });
        INTERNAL.clone()
    }

    /// The context of the driver method that is running.
    ///
    /// Outside of a driver method it is [`CallContext::internal`].
    pub fn current() -> Self {
        CURRENT
            .try_with(Clone::clone)
            .unwrap_or_else(|_| Self::internal())
    }

    /// Runs `future` so that [`CallContext::current`] finds this context.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// Runs `body` so that [`CallContext::current`] finds this context.
    pub fn sync_scope<T>(&self, body: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), body)
    }

    /// The same context for a call to the given driver instance.
    pub fn for_driver(&self, driver: Uuid) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            driver,
        }
    }

    /// The driver instance that is called.
    pub fn driver(&self) -> Uuid {
        self.driver
    }

    /// Number of the connection, unique in this process.
    pub fn connection(&self) -> u64 {
        self.inner.connection
    }

    /// Where the call came in.
    pub fn origin(&self) -> Origin {
        self.inner.origin
    }

    /// Who calls, if they proved who they are.
    pub fn identity(&self) -> Option<&str> {
        self.inner.identity.as_deref()
    }

    /// The lease under which the session runs.
    pub fn lease(&self) -> Option<&str> {
        self.inner.lease.as_deref()
    }

    /// When the caller gives up.
    pub fn deadline(&self) -> Option<Instant> {
        self.inner.deadline
    }

    /// Fires when the call should stop. Dropping the call's future is the ordinary way; this
    /// token is for work that was handed to a thread.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.cancelled
    }

    /// Resources that clients opened in this session.
    pub fn resources(&self) -> &ResourceTable {
        &self.inner.resources
    }
}

/// A number for a new connection, unique in this process.
pub fn next_connection() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
