//! What can go wrong: with one call, and with the file as a whole.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jmp_types::resource::{Key, Kind};

/// Why a call to the store failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Creation of what is there already.
    #[error("{kind} {key} exists already")]
    AlreadyExists {
        /// Its kind.
        kind: Kind,
        /// Its key.
        key: Key,
    },
    /// Update or deletion of what is not there.
    #[error("there is no {kind} {key}")]
    NotFound {
        /// The kind asked for.
        kind: Kind,
        /// The key asked for.
        key: Key,
    },
    /// Somebody else changed the object first: read it again, decide again.
    #[error("{kind} {key} was changed by somebody else meanwhile: read it again and retry")]
    Conflict {
        /// Its kind.
        kind: Kind,
        /// Its key.
        key: Key,
    },
    /// The object cannot be stored as it is, whatever is in the store.
    #[error("cannot store {kind} {key}: {reason}")]
    Invalid {
        /// Its kind.
        kind: Kind,
        /// Its key, as far as it has one.
        key: Key,
        /// What is wrong with it.
        reason: String,
    },
    /// The token that should continue a list is none of ours, or of another list.
    #[error("this page token does not belong to this list: begin again without one")]
    PageToken,
    /// No room on the disk. Nothing was written; reading works, and so does writing once there is room.
    #[error("cannot write to the store: {0} is full; make room and retry")]
    Full(Arc<str>),
    /// The store failed. Whether the write survives is unknown, as after a crash.
    #[error("the store {place} failed: {reason}")]
    Failed {
        /// File of the store, or another name for it.
        place: Arc<str>,
        /// What the storage said.
        reason: Arc<str>,
    },
    /// The store was closed, or ended by itself.
    #[error("the store is closed")]
    Closed,
}

/// Why the file of a store cannot be used, or copied, or put back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Another process has it open.
    #[error("cannot open the store {path}: {} uses it; stop that one first", holder(*process))]
    InUse {
        /// The file.
        path: PathBuf,
        /// Identifier of the process, where it could be told.
        process: Option<u32>,
    },
    /// There is no such file, where there should be one.
    #[error("there is no store at {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error(
        "{path} is not a store of jmp ({reason}): name another file, or move this one away; if it was one, \
         put a backup back with `jmp controller restore BACKUP`"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that was seen.
        reason: String,
    },
    /// The file was a store, and is broken.
    #[error(
        "the store {path} is damaged ({}): put a backup back with `jmp controller restore BACKUP`; \
         the damaged file is kept aside then",
        one_line(reason)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the check found.
        reason: String,
    },
    /// A newer program wrote it.
    #[error(
        "the store {path} has version {found}, this program knows versions up to {known}: use the newer \
         jmp that wrote it, or put back the copy made before its upgrade with `jmp controller restore BACKUP`"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: i32,
        /// Newest version that is understood here.
        known: i32,
    },
    /// The file or its folder cannot be written to.
    #[error(
        "the store {path} cannot be written to: check owner and mode of the file and its folder, and the mount"
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// No room on the disk.
    #[error("cannot {action} {path}: the disk is full; make room and retry")]
    Full {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The operating system said no.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// SQLite said no.
    #[error("cannot {action} {path}: {reason}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

/// What SQLite's check found takes several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn holder(process: Option<u32>) -> String {
    process.map_or_else(
        || "another process".to_owned(),
        |process| format!("process {process}"),
    )
}

// === impl StoreError ===

impl StoreError {
    /// Whether the caller should read the object again and decide again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Whether there is no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the object exists already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }
}
