//! Objects and records to store.

use std::path::Path;
use std::time::Duration;

use jmp_store::{AuditRecord, EventRecord, Options, SqliteStore};
use jmp_types::Timestamp;
use jmp_types::resource::{Client, Exporter, Key, Kind, Lease, Metadata, Reference};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn key(name: &str) -> Key {
    Key::new("lab", name)
}

pub fn metadata(name: &str) -> Metadata {
    Metadata {
        name: name.into(),
        namespace: "lab".into(),
        uid: format!("uid-of-{name}"),
        ..Metadata::default()
    }
}

pub fn exporter(name: &str) -> Exporter {
    Exporter {
        metadata: metadata(name),
        ..Exporter::default()
    }
}

pub fn client(name: &str) -> Client {
    Client {
        metadata: metadata(name),
        ..Client::default()
    }
}

pub fn lease(name: &str, client: &str) -> Lease {
    let mut lease = Lease {
        metadata: metadata(name),
        ..Lease::default()
    };
    lease.spec.client_ref = Reference::new(client);
    lease
}

/// A lease that ended so many seconds after 1970.
pub fn ended(name: &str, client: &str, exporter: &str, seconds: i64) -> Lease {
    let mut lease = lease(name, client);
    lease.status.ended = true;
    lease.status.end_time = Some(at(seconds));
    lease.status.exporter_ref = Some(Reference::new(exporter));
    lease
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("in range")
}

pub fn event(name: &str, reason: &str) -> EventRecord {
    EventRecord {
        time: at(7),
        kind: Kind::Exporter,
        key: key(name),
        uid: format!("uid-of-{name}"),
        reason: reason.into(),
        message: "it happened".into(),
        warning: false,
    }
}

pub fn audit(actor: &str, action: &str, seconds: i64) -> AuditRecord {
    AuditRecord {
        time: at(seconds),
        actor: actor.into(),
        action: action.into(),
        resource: "lease/lab/one".into(),
        result: "OK".into(),
        ..AuditRecord::default()
    }
}

pub fn open(path: impl AsRef<Path>) -> SqliteStore {
    SqliteStore::open(path, &options()).expect("opens")
}

/// Small enough to reach the limits.
pub fn options() -> Options {
    Options {
        history: 8,
        events_per_object: 3,
        ..Options::default()
    }
}
