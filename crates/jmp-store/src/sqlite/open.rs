//! Opening: nobody else has it, it is ours, it is whole, it is not newer than we are.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::copy;
use super::lock::{Lock, beside};
use super::schema::{self, APPLICATION, MIGRATIONS, SCHEMA_VERSION, newest};
use crate::{FileError, Options};

/// How long SQLite waits for another connection; only a checkpoint or an administrator's own look at the
/// file can be in the way.
const BUSY: Duration = Duration::from_secs(5);
/// The `-wal` file is cut back to this after it has grown.
const WAL_BYTES: i64 = 16 * 1024 * 1024;

/// A store that is ready.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) revision: u64,
    pub(super) lock: Lock,
}

/// Opens the file, or makes it.
pub(super) fn open(path: &Path, options: &Options) -> Result<Opened, FileError> {
    open_with(path, options, MIGRATIONS)
}

fn open_with(path: &Path, options: &Options, migrations: &[&str]) -> Result<Opened, FileError> {
    let path = resolve(path)?;
    let lock = Lock::take(&path)?;
    let is_new = is_empty(&path)?;
    if is_new {
        refuse_orphaned_log(&path)?;
        create(&path)?;
    }
    let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let version = if is_new {
        0
    } else {
        check_with(&path, &connection, newest(migrations))?
    };
    let writable = !connection
        .is_readonly("main")
        .map_err(failed("open", &path))?;
    if !writable {
        return Err(FileError::ReadOnly { path });
    }
    configure(&connection, options).map_err(failed("set up", &path))?;
    if version < newest(migrations) {
        if version > 0 {
            let kept = copy::keep(&connection, &path, version)?;
            tracing::info!(store = %path.display(), kept = %kept.display(), "the store is upgraded");
        }
        schema::migrate(&mut connection, version, migrations).map_err(failed("upgrade", &path))?;
        // Without its log the file would look like one that was never begun, and be begun again.
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(failed("upgrade", &path))?;
    }
    let revision = super::read::revision(&connection).map_err(failed("read", &path))?;
    Ok(Opened {
        path,
        connection,
        revision,
        lock,
    })
}

/// The one name of the file, so that its lock has one name too.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, FileError> {
    let failed = |source| FileError::Io {
        action: "find",
        path: path.to_owned(),
        source,
    };
    match fs::canonicalize(path) {
        Ok(found) => Ok(found),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let name = path
                .file_name()
                .ok_or_else(|| failed(io::Error::from(ErrorKind::InvalidInput)))?;
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            let folder = fs::canonicalize(folder.unwrap_or(Path::new("."))).map_err(failed)?;
            Ok(folder.join(name))
        }
        Err(error) => Err(failed(error)),
    }
}

fn is_empty(path: &Path) -> Result<bool, FileError> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(FileError::Foreign {
            path: path.to_owned(),
            reason: "it is not a file".into(),
        }),
        Ok(found) => Ok(found.len() == 0),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(source) => Err(FileError::Io {
            action: "open",
            path: path.to_owned(),
            source,
        }),
    }
}

/// A log without its file: the file was lost or cut to nothing. An empty store must not take its place.
fn refuse_orphaned_log(path: &Path) -> Result<(), FileError> {
    let log = beside(path, "-wal");
    if fs::metadata(&log).is_ok_and(|found| found.len() > 0) {
        return Err(FileError::Damaged {
            path: path.to_owned(),
            reason: format!("it is gone, but its log {} is there", log.display()),
        });
    }
    Ok(())
}

/// An empty file that only its owner can read. SQLite gives its other files the same mode.
fn create(path: &Path) -> Result<(), FileError> {
    let make = || {
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?
            .sync_all()?;
        sync_folder(path)
    };
    make().map_err(refused("create", path))
}

/// What the system's error means for the file of a store.
pub(super) fn refused<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> FileError + 'a {
    move |source| {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                FileError::ReadOnly { path }
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FileError::Full { action, path },
            _ => FileError::Io {
                action,
                path,
                source,
            },
        }
    }
}

/// Makes new names in the folder of this file last.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// A connection to the file, nothing checked or set yet.
pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, FileError> {
    let connect = || {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        Ok(connection)
    };
    connect().map_err(|error: rusqlite::Error| {
        // SQLite does not say why it cannot open a file.
        let reason = File::options().read(true).write(true).open(path).err();
        match (error.sqlite_error_code(), reason) {
            (Some(ErrorCode::CannotOpen), Some(reason)) => refused("open", path)(reason),
            _ => failed("open", path)(error),
        }
    })
}

/// Says which version the tables have, 0 where there are none yet; fails for a file that is not ours, is newer
/// or is damaged. Changes nothing.
pub(super) fn check(path: &Path, connection: &Connection) -> Result<i32, FileError> {
    check_with(path, connection, SCHEMA_VERSION)
}

fn check_with(path: &Path, connection: &Connection, known: i32) -> Result<i32, FileError> {
    let number = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map_err(failed("read", path))
    };
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application != APPLICATION {
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(failed("read", path))?;
        if application == 0 && version == 0 && tables == 0 {
            return Ok(0);
        }
        return Err(FileError::Foreign {
            path: path.to_owned(),
            reason: "it is the SQLite file of another program".into(),
        });
    }
    if version > known {
        return Err(FileError::Newer {
            path: path.to_owned(),
            found: version,
            known,
        });
    }
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(failed("check", path))?;
    if found != "ok" {
        return Err(FileError::Damaged {
            path: path.to_owned(),
            reason: found,
        });
    }
    Ok(version)
}

fn configure(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        tracing::warn!(mode, "the file system of the store has no write-ahead log");
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    if let Some(pages) = options.maximum_pages {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// A further connection, which cannot write.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Whether there was no room on the disk.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    // When the index of the log cannot grow, SQLite has no finer word for it.
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

/// What SQLite's error means for the file.
pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(rusqlite::Error) -> FileError + 'a {
    move |error| {
        let path = path.to_owned();
        let reason = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => FileError::Foreign { path, reason },
            Some(ErrorCode::DatabaseCorrupt) => FileError::Damaged { path, reason },
            Some(ErrorCode::ReadOnly) => FileError::ReadOnly { path },
            _ if is_full(&error) => FileError::Full { action, path },
            _ => FileError::Database {
                action,
                path,
                reason,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::inspect::inspect;

    const NEXT: &[&str] = &[MIGRATIONS[0], "CREATE TABLE extra (x) STRICT"];
    const TYPED: &[&str] = &[
        MIGRATIONS[0],
        "CREATE TABLE extra (x INTEGER) STRICT; INSERT INTO extra VALUES (1)",
    ];

    fn prepared() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = fs::canonicalize(folder.path())
            .expect("is there")
            .join("store.db");
        let opened = open_with(&path, &Options::default(), MIGRATIONS).expect("opens");
        let counted = opened
            .connection
            .execute("UPDATE counter SET value = 7", []);
        assert_eq!(counted.expect("is written"), 1);
        (folder, path)
    }

    /// As the upgrade of a store on a disk with 20 KiB left.
    #[test]
    fn no_room_for_the_index_of_the_log_is_a_full_disk() {
        let error = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        let meaning = failed("upgrade", Path::new("store.db"));
        let full = meaning(error(rusqlite::ffi::SQLITE_IOERR_SHMSIZE));
        assert!(matches!(full, FileError::Full { .. }), "{full:?}");
        let other = meaning(error(rusqlite::ffi::SQLITE_IOERR_READ));
        assert!(matches!(other, FileError::Database { .. }), "{other:?}");
    }

    #[test]
    fn an_older_file_is_upgraded_and_kept() {
        let (_folder, path) = prepared();
        let opened = open_with(&path, &Options::default(), TYPED).expect("is upgraded");
        assert_eq!(opened.revision, 7);
        let extra: i64 = opened
            .connection
            .query_row("SELECT x FROM extra", [], |row| row.get(0))
            .expect("is there");
        assert_eq!(extra, 1);
        drop(opened);
        let kept = inspect(beside(&path, ".before-upgrade-from-1")).expect("is whole");
        assert_eq!((kept.schema_version, kept.revision), (1, 7));
        // Only once.
        drop(open_with(&path, &Options::default(), TYPED).expect("opens"));
        assert!(!beside(&path, ".before-upgrade-from-1-2").exists());
        let older = open_with(&path, &Options::default(), MIGRATIONS)
            .err()
            .expect("is newer");
        assert!(
            matches!(
                older,
                FileError::Newer {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{older}"
        );
    }

    #[test]
    fn an_upgrade_that_fails_changes_nothing() {
        let (_folder, path) = prepared();
        for _ in 0..3 {
            // A column of a strict table without a type is an error.
            assert!(open_with(&path, &Options::default(), NEXT).is_err());
        }
        assert!(
            !beside(&path, ".before-upgrade-from-1-2").exists(),
            "one copy of one state is enough"
        );
        let opened = open_with(&path, &Options::default(), MIGRATIONS).expect("is as it was");
        assert_eq!(opened.revision, 7);
    }

    #[test]
    fn the_file_alone_says_whose_it_is() {
        let (_folder, path) = prepared();
        assert_eq!(
            &fs::read(&path).expect("is there")[68..72],
            APPLICATION.to_be_bytes()
        );
    }
}
