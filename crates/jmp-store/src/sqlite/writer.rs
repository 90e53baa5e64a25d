//! The thread that writes: takes what waits, commits it at once, and only then answers.

use std::sync::Arc;

use jmp_types::Timestamp;
use rusqlite::{Connection, ErrorCode, TransactionBehavior, ffi};
use tokio::sync::{mpsc, oneshot};

use super::write::Changes;
use crate::StoreError;
use crate::audit::AuditRecord;
use crate::event::EventRecord;
use crate::object::Object;
use crate::store::Write;
use crate::watch::{Change, Hub};

/// Jobs in one commit, at most.
const GROUP: usize = 256;

/// What somebody waits for.
pub(super) struct Job {
    pub(super) operation: Operation,
    pub(super) answer: oneshot::Sender<Result<Answer, StoreError>>,
}

/// What can be written.
pub(super) enum Operation {
    Apply(Vec<Write>),
    PruneLeases { before: Timestamp, limit: usize },
    Audit(Vec<AuditRecord>),
    PruneAudit { before: Timestamp, limit: usize },
    Events(Vec<EventRecord>),
}

/// What came of it.
pub(super) enum Answer {
    Objects(Vec<Result<Object, StoreError>>),
    Numbers(Vec<u64>),
    Count(usize),
}

pub(super) struct Writer {
    connection: Connection,
    /// Of the last commit.
    revision: u64,
    hub: Arc<Hub>,
    place: Arc<str>,
    events_per_object: usize,
    /// Why nothing is written any more.
    broken: Option<StoreError>,
}

// === impl Answer ===

impl Answer {
    pub(super) fn count(self) -> Result<usize, StoreError> {
        match self {
            Self::Count(count) => Ok(count),
            _ => Err(StoreError::Closed),
        }
    }
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(
        connection: Connection,
        revision: u64,
        hub: Arc<Hub>,
        place: Arc<str>,
        events_per_object: usize,
    ) -> Self {
        Self {
            connection,
            revision,
            hub,
            place,
            events_per_object,
            broken: None,
        }
    }

    /// Runs until nobody can send any more and everything sent is done.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = queue.try_recv()
            {
                group.push(next);
            }
            self.serve(group);
        }
    }

    /// One commit for all; if that fails, one for each, so that a large write that finds no room does not
    /// take the small ones along.
    fn serve(&mut self, group: Vec<Job>) {
        let operations: Vec<&Operation> = group.iter().map(|job| &job.operation).collect();
        match self.commit(&operations) {
            Ok(answers) => {
                for (job, answer) in group.into_iter().zip(answers) {
                    // Nobody may be waiting any more; the write stands all the same.
                    drop(job.answer.send(Ok(answer)));
                }
            }
            Err(error) if group.len() == 1 || self.broken.is_some() => {
                for job in group {
                    drop(job.answer.send(Err(error.clone())));
                }
            }
            Err(_) => {
                for job in group {
                    self.serve(vec![job]);
                }
            }
        }
    }

    fn commit(&mut self, operations: &[&Operation]) -> Result<Vec<Answer>, StoreError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let (answers, changes, revision) = self
            .try_commit(operations)
            .map_err(|error| self.note(&error))?;
        self.revision = revision;
        self.hub.publish(changes);
        Ok(answers)
    }

    fn try_commit(
        &mut self,
        operations: &[&Operation],
    ) -> rusqlite::Result<(Vec<Answer>, Vec<Change>, u64)> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut changes = Changes::new(&transaction, self.revision, self.events_per_object);
        let answers: rusqlite::Result<Vec<Answer>> = operations
            .iter()
            .map(|operation| changes.perform(operation))
            .collect();
        let answers = answers?;
        let (changes, revision) = changes.finish()?;
        self.hub.announce(revision);
        transaction.commit()?;
        Ok((answers, changes, revision))
    }

    /// After a failed sync nobody knows what is on the disk, and another sync may claim success for pages that
    /// were dropped; a damaged file gets worse. Both end all writing until the store is opened again.
    fn note(&mut self, error: &rusqlite::Error) -> StoreError {
        let translated = store_error(&self.place, error);
        let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
        let ends = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ) || extended == ffi::SQLITE_IOERR_FSYNC
            || extended == ffi::SQLITE_IOERR_DIR_FSYNC;
        if ends {
            tracing::error!(store = %self.place, %error, "the store takes no more writes until the controller is started again");
            self.broken = Some(translated.clone());
        }
        translated
    }
}

/// What SQLite's error means for one call.
pub(super) fn store_error(place: &Arc<str>, error: &rusqlite::Error) -> StoreError {
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    // The index of the log cannot grow: SQLite has no finer word for that.
    let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || extended == ffi::SQLITE_IOERR_SHMSIZE;
    if full {
        StoreError::Full(Arc::clone(place))
    } else {
        StoreError::Failed {
            place: Arc::clone(place),
            reason: error.to_string().into(),
        }
    }
}
