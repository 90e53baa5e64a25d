//! The tables, and how older ones become the present ones.

use rusqlite::{Connection, TransactionBehavior};

/// Says in the header of the file whose it is: `JMPS`.
pub(super) const APPLICATION: i32 = 0x4A4D_5053;

/// Version of the tables; `PRAGMA user_version`.
pub const SCHEMA_VERSION: i32 = newest(MIGRATIONS);

/// Each leads from the version that is its index to the next one. They are never changed once released,
/// only added to. Times are microseconds since 1970.
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE counter (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO counter VALUES ('revision', 0);

    -- The columns from client to ended are for leases only: client says that it is one.
    CREATE TABLE object (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        uid TEXT NOT NULL,
        revision INTEGER NOT NULL,
        client TEXT,
        exporter TEXT,
        ended INTEGER,
        json TEXT NOT NULL,
        UNIQUE (kind, namespace, name)
    ) STRICT;
    CREATE INDEX lease_live ON object (namespace, name) WHERE kind = 'Lease' AND ended IS NULL;
    CREATE INDEX lease_client ON object (client, namespace, name) WHERE client IS NOT NULL;
    CREATE INDEX lease_exporter ON object (exporter, namespace, name) WHERE exporter IS NOT NULL;
    CREATE INDEX lease_ended ON object (ended, namespace, name) WHERE ended IS NOT NULL;

    CREATE TABLE event (
        object INTEGER NOT NULL REFERENCES object (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        time INTEGER NOT NULL,
        reason TEXT NOT NULL,
        message TEXT NOT NULL,
        warning INTEGER NOT NULL,
        PRIMARY KEY (object, number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        time INTEGER NOT NULL,
        actor TEXT NOT NULL,
        token_id TEXT NOT NULL,
        peer TEXT NOT NULL,
        action TEXT NOT NULL,
        resource TEXT NOT NULL,
        result TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_time ON audit (time, number);
"];

/// The version that these lead to.
pub(super) const fn newest(migrations: &[&str]) -> i32 {
    // There is a handful of them.
    migrations.len() as i32
}

/// Brings the tables from that version to the newest one, one step per transaction.
pub(super) fn migrate(
    connection: &mut Connection,
    from: i32,
    migrations: &[&str],
) -> rusqlite::Result<()> {
    for (version, statements) in (1..)
        .zip(migrations)
        .skip(usize::try_from(from).unwrap_or(0))
    {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(statements)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
