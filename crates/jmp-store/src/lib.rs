//! The object store of the controller: objects with revisions and watch, the audit record and the
//! events of objects, kept in one SQLite file or in memory.
//!
//! [`Store`] promises only what SQLite and a Kubernetes cluster can both keep; `docs/design/0006-store.md`
//! has the reasons. [`StoreExt`] adds the typed calls. [`SqliteStore`] is what a controller of its own
//! uses, [`MemoryStore`] is for tests and simulation and can be told to fail.

mod audit;
mod error;
mod event;
mod memory;
mod object;
mod options;
mod query;
mod sqlite;
mod store;
mod watch;

pub use audit::{AuditPage, AuditQuery, AuditRecord, AuditSink};
pub use error::{FileError, StoreError};
pub use event::{EventRecord, EventSink};
pub use memory::{MemoryStore, Unanswered};
pub use object::{Draft, MAXIMUM_OBJECT_BYTES, Object, Resource, Revision};
pub use options::Options;
pub use query::{LeaseFilter, LeaseState, Page, Query};
pub use sqlite::{
    BackupReport, Inspection, RestoreReport, SCHEMA_VERSION, SqliteStore, backup, dump, inspect,
    restore,
};
pub use store::{Store, StoreExt, TypedPage, Write};
pub use watch::{Watch, WatchEvent};
