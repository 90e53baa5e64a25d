//! The store in one SQLite file.
//!
//! One thread owns the connection that writes, and commits whatever is waiting for it at once: one write
//! to the disk answers many callers. Reads have connections of their own, on the runtime's blocking threads.

mod copy;
mod inspect;
mod lock;
mod open;
mod read;
mod schema;
mod write;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use jmp_types::Timestamp;
use jmp_types::resource::{Key, Kind};
use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::audit::{AuditPage, AuditQuery, AuditRecord, AuditSink};
use crate::event::{EventRecord, EventSink};
use crate::object::{Object, Revision};
use crate::query::{Page, Query};
use crate::store::{Store, Write};
use crate::watch::{Hub, Watch};
use crate::{FileError, Options, StoreError};

pub use self::copy::{BackupReport, RestoreReport, restore};
pub use self::inspect::{Inspection, backup, dump, inspect};
use self::lock::Lock;
pub use self::schema::SCHEMA_VERSION;
use self::writer::{Answer, Job, Operation, Writer};

/// Writes that may wait for the writer; beyond that callers wait before they are taken on.
const QUEUE: usize = 1024;

/// Keeps everything in one SQLite file, with its `-wal` and `-shm` files beside it while in use. Clones are
/// the same store. Needs a tokio runtime.
///
/// When the last clone is dropped, the writes that were taken on are finished first, on the spot;
/// [`SqliteStore::close`] does so without blocking the runtime.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    place: Arc<str>,
    hub: Arc<Hub>,
    /// Nothing once closed.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<u64>>>,
    /// Idle connections; nothing once closed.
    readers: Mutex<Option<Vec<Connection>>>,
    reading: Arc<Semaphore>,
    lock: Mutex<Option<Lock>>,
}

// === impl SqliteStore ===

impl SqliteStore {
    /// Opens the store at that path, makes it when there is nothing, upgrades it when it is older; a copy
    /// of the file is kept beside it then. Checks the whole file, so this blocks for a second or so per GB.
    ///
    /// # Errors
    /// Those of [`FileError`]; a damaged, foreign or newer file, or one in use, is left as it is.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, FileError> {
        let opened = open::open(path.as_ref(), options)?;
        let place: Arc<str> = opened.path.display().to_string().into();
        let hub = Hub::new(options.history, opened.revision);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(
            opened.connection,
            opened.revision,
            Arc::clone(&hub),
            Arc::clone(&place),
            options.events_per_object,
        );
        let thread = thread::Builder::new()
            .name("jmp-store".into())
            .spawn(move || writer.run(queue))
            .map_err(|source| FileError::Io {
                action: "start the thread that writes to",
                path: opened.path.clone(),
                source,
            })?;
        Ok(Self {
            inner: Arc::new(Inner {
                path: opened.path,
                place,
                hub,
                jobs: Mutex::new(Some(jobs)),
                writer: Mutex::new(Some(thread)),
                readers: Mutex::new(Some(Vec::new())),
                reading: Arc::new(Semaphore::new(options.readers.max(1))),
                lock: Mutex::new(Some(opened.lock)),
            }),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Copies the store to `target` while it is in use: one file, consistent, checked, readable by its owner
    /// only. The name is there with all of the content or not at all; an earlier backup of that name is
    /// replaced, another file is not. Neither reads nor writes wait for it.
    ///
    /// # Errors
    /// Those of [`FileError`]. What was at `target` is still there then.
    pub async fn backup(&self, target: impl AsRef<Path>) -> Result<BackupReport, FileError> {
        let (store, target) = (self.path().to_owned(), target.as_ref().to_owned());
        // A read, so that the file is not let go of meanwhile.
        let copied = self
            .read(move |source| Ok(copy::backup(source, &store, &target)))
            .await;
        copied.unwrap_or_else(|error| {
            Err(FileError::Database {
                action: "back up",
                path: self.path().to_owned(),
                reason: error.to_string(),
            })
        })
    }

    /// Finishes the writes that were taken on, ends all watches, closes the file and lets go of it. Later
    /// calls fail with [`StoreError::Closed`].
    pub async fn close(&self) {
        let inner = Arc::clone(&self.inner);
        // Fails only if the closing panics or the runtime ends; then dropping does the rest.
        drop(tokio::task::spawn_blocking(move || inner.close()).await);
    }

    async fn write(&self, operation: Operation) -> Result<Answer, StoreError> {
        let jobs = lock(&self.inner.jobs).clone().ok_or(StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let job = Job { operation, answer };
        jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs on a blocking thread with a connection that can only read.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.inner.reading)
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Closed)?;
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            inner.read(read)
        });
        done.await.map_err(|_| StoreError::Closed)?
    }
}

// === impl Inner ===

impl Inner {
    fn read<T>(
        &self,
        read: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let failed = |error: rusqlite::Error| writer::store_error(&self.place, &error);
        let idle = lock(&self.readers)
            .as_mut()
            .ok_or(StoreError::Closed)?
            .pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => open::reader(&self.path).map_err(failed)?,
        };
        let answer = read(&mut connection).map_err(failed)?;
        if let Some(readers) = lock(&self.readers).as_mut() {
            readers.push(connection);
        }
        Ok(answer)
    }

    /// In this order: nothing new, all that was taken on, the connections, and then the lock.
    fn close(&self) {
        drop(lock(&self.jobs).take());
        match lock(&self.writer).take().map(JoinHandle::join) {
            Some(Ok(commits)) => {
                tracing::debug!(store = %self.place, commits, "the store is closed")
            }
            Some(Err(_)) => {
                tracing::error!(store = %self.place, "the thread that writes to the store panicked");
            }
            None => {}
        }
        self.hub.close();
        drop(lock(&self.readers).take());
        drop(lock(&self.lock).take());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get_object(&self, kind: Kind, key: &Key) -> Result<Option<Object>, StoreError> {
        let key = key.clone();
        self.read(move |connection| read::object(connection, kind, &key))
            .await
    }

    async fn list_objects(&self, query: Query) -> Result<Page, StoreError> {
        let after = query.after()?;
        self.read(move |connection| read::page(connection, &query, after.as_ref()))
            .await
    }

    async fn apply(&self, writes: Vec<Write>) -> Vec<Result<Object, StoreError>> {
        let count = writes.len();
        match self.write(Operation::Apply(writes)).await {
            Ok(Answer::Objects(answers)) => answers,
            Ok(_) => vec![Err(StoreError::Closed); count],
            Err(error) => vec![Err(error); count],
        }
    }

    fn watch(&self, kind: Kind, since: &Revision) -> Watch {
        self.inner.hub.watch(kind, since)
    }

    async fn prune_leases(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let operation = Operation::PruneLeases { before, limit };
        self.write(operation).await?.count()
    }
}

#[async_trait]
impl AuditSink for SqliteStore {
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<Vec<u64>, StoreError> {
        match self.write(Operation::Audit(records)).await? {
            Answer::Numbers(numbers) => Ok(numbers),
            _ => Err(StoreError::Closed),
        }
    }

    async fn list_audit(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        let below = query.below()?;
        self.read(move |connection| read::audit(connection, &query, below))
            .await
    }

    async fn prune_audit(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let operation = Operation::PruneAudit { before, limit };
        self.write(operation).await?.count()
    }
}

#[async_trait]
impl EventSink for SqliteStore {
    async fn append_events(&self, events: Vec<EventRecord>) -> Result<(), StoreError> {
        self.write(Operation::Events(events)).await.map(drop)
    }

    async fn list_events(&self, kind: Kind, key: &Key) -> Result<Vec<EventRecord>, StoreError> {
        let key = key.clone();
        self.read(move |connection| read::events(connection, kind, &key))
            .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these is replaced whole, so a panic elsewhere leaves it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
