//! Looking into a file without changing it, also while a controller uses it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jmp_types::resource::{Key, Kind};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use super::copy::BackupReport;
use super::open::{check, connect, failed, resolve};
use super::read;
use crate::FileError;
use crate::event::EventRecord;

/// What is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes, without the log.
    pub bytes: u64,
    /// Version of the tables.
    pub schema_version: i32,
    /// The revision of the last change.
    pub revision: u64,
    /// How many objects there are of each kind that there is.
    pub objects: BTreeMap<Kind, u64>,
    /// Leases among them that are not over.
    pub live_leases: u64,
    /// Events.
    pub events: u64,
    /// Audit records.
    pub audit_records: u64,
}

/// Says what is in the store at `path`, and whether it is whole.
///
/// # Errors
/// Those of [`FileError`].
pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection, FileError> {
    let (path, connection) = look(path.as_ref())?;
    examine(&path, &connection)
}

/// Writes everything as JSON, one line per object, event and audit record, as of one moment: `{"store": …}`
/// first, then `{"object": …}`, `{"event": …}` and `{"audit": …}`. Returns the number of lines.
///
/// # Errors
/// Those of [`FileError`], also when `out` takes no more.
pub fn dump(path: impl AsRef<Path>, out: &mut dyn Write) -> Result<u64, FileError> {
    let (path, mut connection) = look(path.as_ref())?;
    check(&path, &connection)?;
    let snapshot = connection.transaction().map_err(failed("read", &path))?;
    let content = counted(&path, &snapshot).map_err(failed("read", &path))?;
    let mut lines = Lines {
        out,
        count: 0,
        broken: None,
    };
    let store = json!({ "schemaVersion": content.schema_version, "revision": content.revision.to_string() });
    lines.add(&json!({ "store": store }));
    write_all(&snapshot, &mut lines).map_err(failed("read", &path))?;
    match lines.broken {
        None => Ok(lines.count),
        Some(source) => Err(FileError::Io {
            action: "write the content of",
            path,
            source,
        }),
    }
}

/// Copies the store at `path` as it is at this moment to `target`, one file that its owner alone can read. The
/// store is left as it is, and may be in use by a controller in another process. In the process that has it open
/// use [`SqliteStore::backup`](super::SqliteStore::backup).
///
/// # Errors
/// Those of [`FileError`].
pub fn backup(path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<BackupReport, FileError> {
    let (path, connection) = look(path.as_ref())?;
    check(&path, &connection)?;
    super::copy::backup(&connection, &path, target.as_ref())
}

/// Opens for reading only.
fn look(path: &Path) -> Result<(PathBuf, Connection), FileError> {
    let path = resolve(path)?;
    if !path.exists() {
        return Err(FileError::Missing { path });
    }
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    Ok((path, connection))
}

/// Checks the file as thoroughly as can be, and counts.
pub(super) fn examine(path: &Path, connection: &Connection) -> Result<Inspection, FileError> {
    if check(path, connection)? == 0 {
        return Err(FileError::Foreign {
            path: path.to_owned(),
            reason: "there is nothing in it".into(),
        });
    }
    let found: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(failed("check", path))?;
    if found != "ok" {
        return Err(FileError::Damaged {
            path: path.to_owned(),
            reason: found,
        });
    }
    counted(path, connection).map_err(failed("read", path))
}

fn counted(path: &Path, connection: &Connection) -> rusqlite::Result<Inspection> {
    let count = |text: &str| -> rusqlite::Result<u64> {
        let found: i64 = connection.query_row(text, [], |row| row.get(0))?;
        Ok(found.unsigned_abs())
    };
    let mut objects = BTreeMap::new();
    for kind in Kind::ALL {
        let found = count(&format!(
            "SELECT count(*) FROM object WHERE kind = '{}'",
            kind.name()
        ))?;
        if found > 0 {
            objects.insert(kind, found);
        }
    }
    Ok(Inspection {
        path: path.to_owned(),
        bytes: fs::metadata(path).map_or(0, |found| found.len()),
        schema_version: connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
        revision: read::revision(connection)?,
        objects,
        live_leases: count("SELECT count(*) FROM object WHERE kind = 'Lease' AND ended IS NULL")?,
        events: count("SELECT count(*) FROM event")?,
        audit_records: count("SELECT count(*) FROM audit")?,
    })
}

struct Lines<'a> {
    out: &'a mut dyn Write,
    count: u64,
    broken: Option<io::Error>,
}

impl Lines<'_> {
    fn add(&mut self, line: &serde_json::Value) {
        if self.broken.is_none() {
            self.broken = writeln!(self.out, "{line}").err();
            self.count += 1;
        }
    }
}

fn write_all(connection: &Connection, lines: &mut Lines<'_>) -> rusqlite::Result<()> {
    for kind in Kind::ALL {
        let mut statement = connection.prepare(
            "SELECT namespace, name, revision, json FROM object WHERE kind = ?1 ORDER BY namespace, name",
        )?;
        let mut rows = statement.query([kind.name()])?;
        while let Some(row) = rows.next()? {
            let object = read::stored(kind, row)?;
            let value = object.value().map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    3,
                    rusqlite::types::Type::Text,
                    error.into(),
                )
            })?;
            lines.add(&json!({ "kind": kind, "object": value }));
        }
    }
    let mut statement = connection.prepare(
        "SELECT uid, time, reason, message, warning, kind, namespace, name FROM object JOIN event ON object = id \
         ORDER BY kind, namespace, name, number",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(5)?;
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
            continue;
        };
        lines.add(&json!({ "event": EventRecord {
            uid: row.get(0)?,
            time: read::time(row, 1)?,
            reason: row.get(2)?,
            message: row.get(3)?,
            warning: row.get(4)?,
            kind,
            key: Key::new(row.get::<_, String>(6)?, row.get::<_, String>(7)?),
        }}));
    }
    let mut statement = connection.prepare(
        "SELECT number, time, actor, token_id, peer, action, resource, result, detail FROM audit ORDER BY number",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        lines.add(&json!({ "audit": read::audited(row)? }));
    }
    Ok(())
}
