//! What is written, within one transaction.

use jmp_types::Timestamp;
use jmp_types::resource::{Key, Kind};
use rusqlite::{Connection, OptionalExtension, params};

use super::read;
use super::writer::{Answer, Operation};
use crate::StoreError;
use crate::audit::{AuditRecord, whole};
use crate::event::EventRecord;
use crate::object::{Draft, Object, Revision};
use crate::store::Write;
use crate::watch::Change;

/// The changes of one transaction so far.
pub(super) struct Changes<'a> {
    connection: &'a Connection,
    before: u64,
    revision: u64,
    events_per_object: usize,
    changes: Vec<Change>,
}

// === impl Changes ===

impl<'a> Changes<'a> {
    /// Goes on from that revision.
    pub(super) fn new(connection: &'a Connection, revision: u64, events_per_object: usize) -> Self {
        Self {
            connection,
            before: revision,
            revision,
            events_per_object,
            changes: Vec::new(),
        }
    }

    /// Does one of them. What the operation itself gets wrong is in the answer; an error spoils the transaction.
    pub(super) fn perform(&mut self, operation: &Operation) -> rusqlite::Result<Answer> {
        match operation {
            Operation::Apply(writes) => {
                let answers: rusqlite::Result<_> =
                    writes.iter().map(|write| self.apply(write)).collect();
                answers.map(Answer::Objects)
            }
            Operation::PruneLeases { before, limit } => {
                self.prune_leases(*before, *limit).map(Answer::Count)
            }
            Operation::Audit(records) => {
                let numbers: rusqlite::Result<_> =
                    records.iter().map(|record| self.audit(record)).collect();
                numbers.map(Answer::Numbers)
            }
            Operation::PruneAudit { before, limit } => {
                self.prune_audit(*before, *limit).map(Answer::Count)
            }
            Operation::Events(events) => {
                for event in events {
                    self.event(event)?;
                }
                Ok(Answer::Count(events.len()))
            }
        }
    }

    /// What the watchers get to know, and the revision that was reached.
    pub(super) fn finish(self) -> rusqlite::Result<(Vec<Change>, u64)> {
        if self.revision != self.before {
            self.connection
                .prepare_cached("UPDATE counter SET value = ?1 WHERE name = 'revision'")?
                .execute([signed(self.revision)])?;
        }
        Ok((self.changes, self.revision))
    }

    fn apply(&mut self, write: &Write) -> rusqlite::Result<Result<Object, StoreError>> {
        let (kind, key) = write.target();
        let present = read::object(self.connection, kind, key)?;
        let key = || key.clone();
        match (write, present) {
            (Write::Create(_), Some(_)) => Ok(Err(StoreError::AlreadyExists { kind, key: key() })),
            (Write::Create(draft), None) => self.put(draft).map(Ok),
            (Write::Update { .. } | Write::Delete { .. }, None) => {
                Ok(Err(StoreError::NotFound { kind, key: key() }))
            }
            (
                Write::Update { expected, .. }
                | Write::Delete {
                    expected: Some(expected),
                    ..
                },
                Some(present),
            ) if present.revision != *expected => {
                Ok(Err(StoreError::Conflict { kind, key: key() }))
            }
            (Write::Update { draft, .. }, Some(_)) => self.put(draft).map(Ok),
            (Write::Delete { .. }, Some(present)) => self.remove(present).map(Ok),
        }
    }

    fn put(&mut self, draft: &Draft) -> rusqlite::Result<Object> {
        self.revision += 1;
        let lease = draft.lease.as_ref();
        self.connection
            .prepare_cached(
                "INSERT INTO object (kind, namespace, name, uid, revision, client, exporter, ended, json) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (kind, namespace, name) DO UPDATE SET \
                 uid = ?4, revision = ?5, client = ?6, exporter = ?7, ended = ?8, json = ?9",
            )?
            .execute(params![
                draft.kind.name(),
                draft.key.namespace,
                draft.key.name,
                draft.uid,
                signed(self.revision),
                lease.map(|lease| &lease.client),
                lease.and_then(|lease| lease.exporter.as_ref()),
                lease.and_then(|lease| lease.ended),
                &*draft.json,
            ])?;
        let object = draft.stored(self.revision);
        self.changes.push(Change {
            revision: self.revision,
            deleted: false,
            object: object.clone(),
        });
        Ok(object)
    }

    fn remove(&mut self, mut object: Object) -> rusqlite::Result<Object> {
        self.connection
            .prepare_cached("DELETE FROM object WHERE kind = ?1 AND namespace = ?2 AND name = ?3")?
            .execute(params![
                object.kind.name(),
                object.key.namespace,
                object.key.name
            ])?;
        self.revision += 1;
        object.revision = Revision::of(self.revision);
        self.changes.push(Change {
            revision: self.revision,
            deleted: true,
            object: object.clone(),
        });
        Ok(object)
    }

    fn prune_leases(&mut self, before: Timestamp, limit: usize) -> rusqlite::Result<usize> {
        let mut statement = self.connection.prepare_cached(
            "SELECT namespace, name, revision, json FROM object INDEXED BY lease_ended \
             WHERE ended IS NOT NULL AND ended < ?1 ORDER BY ended, namespace, name LIMIT ?2",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let due = statement.query_map(params![before.as_microsecond(), limit], |row| {
            read::stored(Kind::Lease, row)
        })?;
        let due: Vec<Object> = due.collect::<rusqlite::Result<_>>()?;
        let count = due.len();
        for lease in due {
            self.remove(lease)?;
        }
        Ok(count)
    }

    fn audit(&mut self, record: &AuditRecord) -> rusqlite::Result<u64> {
        self.connection
            .prepare_cached(
                "INSERT INTO audit (time, actor, token_id, peer, action, resource, result, detail) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                whole(record.time).as_microsecond(),
                record.actor,
                record.token_id,
                record.peer,
                record.action,
                record.resource,
                record.result,
                record.detail,
            ])?;
        Ok(self.connection.last_insert_rowid().unsigned_abs())
    }

    fn prune_audit(&mut self, before: Timestamp, limit: usize) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached(
                "DELETE FROM audit WHERE number IN \
                 (SELECT number FROM audit WHERE time < ?1 ORDER BY time, number LIMIT ?2)",
            )?
            .execute(params![
                whole(before).as_microsecond(),
                i64::try_from(limit).unwrap_or(i64::MAX)
            ])
    }

    fn event(&mut self, event: &EventRecord) -> rusqlite::Result<()> {
        let Some(object) = self.identify(event.kind, &event.key, &event.uid)? else {
            return Ok(());
        };
        let number: i64 = self
            .connection
            .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM event WHERE object = ?1")?
            .query_row([object], |row| row.get(0))?;
        self.connection
            .prepare_cached("INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                object,
                number,
                whole(event.time).as_microsecond(),
                event.reason,
                event.message,
                event.warning,
            ])?;
        let kept = i64::try_from(self.events_per_object).unwrap_or(i64::MAX);
        self.connection
            .prepare_cached("DELETE FROM event WHERE object = ?1 AND number <= ?2")?
            .execute(params![object, number.saturating_sub(kept)])?;
        Ok(())
    }

    /// The row of the object, if it is still that one.
    fn identify(&self, kind: Kind, key: &Key, uid: &str) -> rusqlite::Result<Option<i64>> {
        self.connection
            .prepare_cached(
                "SELECT id FROM object WHERE kind = ?1 AND namespace = ?2 AND name = ?3 AND ?4 IN ('', uid)",
            )?
            .query_row(params![kind.name(), key.namespace, key.name, uid], |row| {
                row.get(0)
            })
            .optional()
    }
}

fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
