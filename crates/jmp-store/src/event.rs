//! What happened to an object: a short history for people, shown by `jmp describe`.

use async_trait::async_trait;
use jmp_types::Timestamp;
use jmp_types::resource::{Key, Kind};
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// One thing that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// When; kept to the microsecond.
    pub time: Timestamp,
    /// Kind of the object.
    pub kind: Kind,
    /// Key of the object.
    pub key: Key,
    /// Uid of the object; empty stands for whichever has that key now.
    pub uid: String,
    /// What, one word.
    pub reason: String,
    /// What, for people.
    pub message: String,
    /// Whether somebody should look at it.
    pub warning: bool,
}

/// Keeps the newest events of every object. They go with the object.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Appends the events in this order, once they are on disk. Those of an object that is not there, or
    /// has another uid, are dropped; of those of one object the oldest are, beyond the number kept.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Failed`], [`StoreError::Closed`].
    async fn append_events(&self, events: Vec<EventRecord>) -> Result<(), StoreError>;

    /// The events of one object, in the order in which they were appended.
    ///
    /// # Errors
    /// [`StoreError::Failed`], [`StoreError::Closed`].
    async fn list_events(&self, kind: Kind, key: &Key) -> Result<Vec<EventRecord>, StoreError>;
}
