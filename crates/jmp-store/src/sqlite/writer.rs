//! The thread that writes: takes what waits, commits it at once, and only then answers.

use std::sync::Arc;

use jmp_types::Timestamp;
use rusqlite::{Connection, ErrorCode, TransactionBehavior, ffi};
use tokio::sync::{mpsc, oneshot};

use super::open::is_full;
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
    commits: u64,
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
            commits: 0,
            broken: None,
        }
    }

    /// Runs until nobody can send any more and everything sent is done. Returns the number of commits.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) -> u64 {
        while let Some(first) = queue.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = queue.try_recv()
            {
                group.push(next);
            }
            self.serve(group);
        }
        self.commits
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
        self.commits += 1;
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
    if is_full(error) {
        StoreError::Full(Arc::clone(place))
    } else {
        StoreError::Failed {
            place: Arc::clone(place),
            reason: error.to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use jmp_types::resource::{Exporter, Metadata};

    use super::*;
    use crate::Options;

    fn writer(folder: &tempfile::TempDir) -> Writer {
        let opened = super::super::open::open(&folder.path().join("store.db"), &Options::default());
        let opened = opened.expect("opens");
        let hub = Hub::new(8, opened.revision);
        Writer::new(
            opened.connection,
            opened.revision,
            hub,
            "store.db".into(),
            8,
        )
    }

    fn create(name: &str) -> Operation {
        let metadata = Metadata {
            name: name.into(),
            namespace: "lab".into(),
            ..Metadata::default()
        };
        let exporter = Exporter {
            metadata,
            ..Exporter::default()
        };
        Operation::Apply(vec![Write::create(&exporter).expect("a write")])
    }

    #[test]
    fn whatever_waits_is_committed_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let writer = writer(&folder);
        let (jobs, queue) = mpsc::channel(200);
        let mut answers = Vec::new();
        for number in 0..200 {
            let (answer, answered) = oneshot::channel();
            let operation = create(&number.to_string());
            assert!(jobs.try_send(Job { operation, answer }).is_ok());
            answers.push(answered);
        }
        drop(jobs);
        let commits = thread::spawn(move || writer.run(queue))
            .join()
            .expect("ends");
        assert_eq!(commits, 1);
        for answered in answers {
            let answer = answered.blocking_recv().expect("is answered");
            assert!(matches!(answer, Ok(Answer::Objects(objects)) if objects[0].is_ok()));
        }
    }

    #[test]
    fn a_commit_waits_for_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let writer = writer(&folder);
        let setting = |name: &str| -> String {
            let value = writer.connection.pragma_query_value(None, name, |row| {
                row.get_ref(0).map(|value| match value {
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    other => other.as_str().unwrap_or_default().to_owned(),
                })
            });
            value.expect("is set")
        };
        assert_eq!(setting("journal_mode"), "wal");
        assert_eq!(
            setting("synchronous"),
            "2",
            "FULL: the log is synced by every commit"
        );
        assert_eq!(setting("foreign_keys"), "1");
    }

    #[test]
    fn nothing_is_written_after_a_sync_that_failed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = writer(&folder);
        let failure = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        assert!(matches!(
            writer.note(&failure(ffi::SQLITE_FULL)),
            StoreError::Full(_)
        ));
        assert!(
            writer.commit(&[&create("one")]).is_ok(),
            "there may be room again"
        );
        writer.note(&failure(ffi::SQLITE_IOERR_FSYNC));
        assert!(matches!(
            writer.commit(&[&create("two")]),
            Err(StoreError::Failed { .. })
        ));
    }
}
