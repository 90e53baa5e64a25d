//! The audit record: who did what, when, from where, with which result. It only grows, until it is pruned.

use async_trait::async_trait;
use jmp_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// One thing that somebody did, or tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// Rises with every record, is never given out again. The sink sets it.
    pub number: u64,
    /// When; kept to the microsecond.
    pub time: Timestamp,
    /// `client:default:hello`, `exporter:default:bench`, `admin:root`, or `-`.
    pub actor: String,
    /// Identifier of the token that was presented; empty without one.
    pub token_id: String,
    /// Network address of the caller.
    pub peer: String,
    /// The method, for example `CreateLease`.
    pub action: String,
    /// What it was done to.
    pub resource: String,
    /// `OK`, or the name of the status code.
    pub result: String,
    /// More about it, for people.
    pub detail: String,
}

/// Which records, newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Part of who did it.
    pub actor: Option<String>,
    /// Exactly what was done.
    pub action: Option<String>,
    /// Part of what it was done to.
    pub resource: Option<String>,
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
    /// Continues where the page ended that came with this token.
    pub page_token: Option<String>,
}

/// A part of the records.
#[derive(Clone, Debug, Default)]
pub struct AuditPage {
    /// Newest first.
    pub records: Vec<AuditRecord>,
    /// What to ask for older ones with; nothing when there are none.
    pub next: Option<String>,
}

/// Keeps the audit record. Apart from [`Store`](crate::Store), because a cluster has no place for it.
#[async_trait]
pub trait AuditSink: Send + Sync {
    /// Appends the records in this order and returns their numbers, once they are on disk: all of them
    /// or none. The numbers within the records do not count.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Failed`], [`StoreError::Closed`].
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<Vec<u64>, StoreError>;

    /// Finds records.
    ///
    /// # Errors
    /// [`StoreError::PageToken`], [`StoreError::Failed`], [`StoreError::Closed`].
    async fn list_audit(&self, query: AuditQuery) -> Result<AuditPage, StoreError>;

    /// Deletes records older than `before`, at most `limit` of them; says how many.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Failed`], [`StoreError::Closed`].
    async fn prune_audit(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError>;
}

// === impl AuditQuery ===

impl AuditQuery {
    /// The number below which the list goes on.
    pub(crate) fn below(&self) -> Result<u64, StoreError> {
        match &self.page_token {
            None => Ok(u64::MAX),
            Some(token) => token.parse().map_err(|_| StoreError::PageToken),
        }
    }

    /// Whether the record is wanted.
    pub(crate) fn matches(&self, record: &AuditRecord) -> bool {
        let part = |wanted: &Option<String>, text: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| text.contains(wanted.as_str()))
        };
        part(&self.actor, &record.actor)
            && part(&self.resource, &record.resource)
            && self
                .action
                .as_ref()
                .is_none_or(|action| *action == record.action)
            && self.since.is_none_or(|since| record.time >= whole(since))
            && self.until.is_none_or(|until| record.time < whole(until))
    }

    /// A page of these, the last of which may be one too many: that only tells that there are more.
    pub(crate) fn finish(&self, mut records: Vec<AuditRecord>) -> AuditPage {
        let mut next = None;
        if records.len() > self.limit {
            records.truncate(self.limit);
            next = Some(
                records
                    .last()
                    .map_or(u64::MAX, |last| last.number)
                    .to_string(),
            );
        }
        AuditPage { records, next }
    }
}

/// The time as it is kept: whole microseconds.
pub(crate) fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}
