//! Whole copies: backups while the store is in use, the copy before an upgrade, and putting one back.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use super::inspect::{Inspection, examine};
use super::lock::{Lock, beside};
use super::open::{check, connect, failed, refused, resolve, sync_folder};
use super::schema::APPLICATION;
use crate::FileError;

/// Revisions after a restore begin so much higher: those handed out since the backup must not come again.
const REVISIONS_SKIPPED: i64 = 1 << 32;

/// A backup that was made.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// Where it is: one file, readable by its owner only, with nothing beside it.
    pub path: PathBuf,
    /// What is in it.
    pub content: Inspection,
}

/// A backup that was put back.
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// The store.
    pub path: PathBuf,
    /// Where the file is that was there before, if there was one.
    pub kept: Option<PathBuf>,
    /// What is in the store now.
    pub content: Inspection,
}

/// Copies what the connection sees at this moment to `target`; `store` is its file.
pub(super) fn backup(
    source: &Connection,
    store: &Path,
    target: &Path,
) -> Result<BackupReport, FileError> {
    let path = resolve(target)?;
    if is_part_of(&path, store) {
        return Err(FileError::Io {
            action: "back up to",
            path,
            source: io::Error::other("this is the store itself: name another file"),
        });
    }
    let in_use = beside(&path, ".lock").exists();
    let _unused = in_use.then(|| Lock::take(&path)).transpose()?;
    // Only now: reading a store of this process would make SQLite lose its locks on it.
    may_be_replaced(&path)?;
    let partial = Partial::copy(source, &path, "back up to")?;
    let content = partial.content.clone();
    partial.install(&path, "back up to")?;
    Ok(BackupReport {
        content: Inspection {
            path: path.clone(),
            ..content
        },
        path,
    })
}

/// Keeps the file as it was before it is upgraded from that version. A copy of the same state, from an
/// upgrade that did not come to its end, will do.
pub(super) fn keep(source: &Connection, store: &Path, version: i32) -> Result<PathBuf, FileError> {
    let revision = super::read::revision(source).map_err(failed("read", store))?;
    let name = format!(".before-upgrade-from-{version}");
    let place = free_name(store, &name, |present| {
        super::inspect::inspect(present)
            .is_ok_and(|found| found.schema_version == version && found.revision == revision)
    });
    if !place.exists() {
        Partial::copy(source, &place, "copy the store to")?.install(&place, "copy the store to")?;
    }
    Ok(place)
}

/// Puts a backup in the place of the store at `target`, whose controller must not run. The backup is checked
/// in full first; the file that was there is kept beside it, whatever state it is in. At every moment there
/// is a whole store at `target`: the old one, then the new one.
///
/// Whatever was decided after the backup is undone by this, revoked credentials among it.
///
/// # Errors
/// Those of [`FileError`]. The store is as it was then.
pub fn restore(
    backup: impl AsRef<Path>,
    target: impl AsRef<Path>,
) -> Result<RestoreReport, FileError> {
    let backup = resolve(backup.as_ref())?;
    if !backup.exists() {
        return Err(FileError::Missing { path: backup });
    }
    let path = resolve(target.as_ref())?;
    if is_part_of(&backup, &path) {
        return Err(FileError::Io {
            action: "restore from",
            path: backup,
            source: io::Error::other("this is the store itself: name a backup of it"),
        });
    }
    let _lock = Lock::take(&path)?;
    let source = connect(&backup, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    examine(&backup, &source)?;
    let partial = Partial::copy(&source, &path, "restore to")?;
    partial.skip_revisions()?;
    let content = super::inspect::inspect(&partial.path)?;
    let kept = set_aside(&path)?;
    partial.install(&path, "restore to")?;
    Ok(RestoreReport {
        content: Inspection {
            path: path.clone(),
            ..content
        },
        path,
        kept,
    })
}

/// A copy that is not in its place yet; goes away if it never gets there.
struct Partial {
    path: PathBuf,
    content: Inspection,
    installed: bool,
}

impl Partial {
    /// Copies beside `target`, on one file system with it, and checks the copy.
    fn copy(source: &Connection, target: &Path, action: &'static str) -> Result<Self, FileError> {
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", Uuid::new_v4().simple()));
        let path = target.with_file_name(name);
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(refused(action, target))?;
        let mut partial = Self {
            content: Inspection::default(),
            path,
            installed: false,
        };
        let mut copy = connect(&partial.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        fill(source, &mut copy).map_err(failed(action, target))?;
        partial.content = examine(&partial.path, &copy)?;
        Ok(partial)
    }

    fn skip_revisions(&self) -> Result<(), FileError> {
        let failed = failed("restore to", &self.path);
        let copy = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        copy.execute(
            "UPDATE counter SET value = value + ?1 WHERE name = 'revision'",
            [REVISIONS_SKIPPED],
        )
        .map_err(failed)?;
        Ok(())
    }

    /// Gives it its name, for good: the name is there with all of the content or not at all.
    fn install(mut self, target: &Path, action: &'static str) -> Result<(), FileError> {
        let install = || {
            File::open(&self.path)?.sync_all()?;
            fs::rename(&self.path, target)?;
            sync_folder(target)
        };
        install().map_err(refused(action, target))?;
        self.installed = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.installed {
            for suffix in ["", "-journal", "-wal", "-shm"] {
                // What cannot be removed is a hidden file too many, and the error that led here counts.
                let _ = fs::remove_file(beside(&self.path, suffix));
            }
        }
    }
}

/// Copies every page in one read, which holds up nobody, and makes the copy a single file.
fn fill(source: &Connection, copy: &mut Connection) -> rusqlite::Result<()> {
    // The file is synced as a whole before it gets its name.
    copy.pragma_update(None, "synchronous", "OFF")?;
    let step = Backup::new(source, copy)?.step(-1)?;
    if step != StepResult::Done {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("another program holds the file: retry".into()),
        ));
    }
    copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
}

/// Whether the path is the file of the store or one of those beside it.
fn is_part_of(path: &Path, store: &Path) -> bool {
    ["", "-wal", "-shm", "-journal", ".lock"]
        .iter()
        .any(|suffix| path == beside(store, suffix))
}

/// A backup may take the place of an earlier one, and of nothing else.
fn may_be_replaced(path: &Path) -> Result<(), FileError> {
    let mut header = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(72)
            .read_to_end(&mut header)
            .map_err(refused("back up to", path))?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused("back up to", path)(error)),
    };
    // The application's number is at offset 68 of the header (SQLite file format, 1.3).
    if header.is_empty() || header.get(68..72) == Some(&APPLICATION.to_be_bytes()) {
        return Ok(());
    }
    Err(FileError::Foreign {
        path: path.to_owned(),
        reason: "a backup takes the place of nothing but another backup".into(),
    })
}

/// Gives the old store a second name. Its log goes along: beside the new file it would be taken for its log.
fn set_aside(path: &Path) -> Result<Option<PathBuf>, FileError> {
    let log = beside(path, "-wal");
    if !path.exists() && !log.exists() {
        return Ok(None);
    }
    fold_log(path);
    let kept = free_name(path, ".before-restore", |_| false);
    let move_away = || {
        if path.exists() && fs::hard_link(path, &kept).is_err() {
            // A file system without links: for a moment nothing has the name.
            fs::rename(path, &kept)?;
        }
        for suffix in ["-wal", "-journal"] {
            if beside(path, suffix).exists() {
                fs::rename(beside(path, suffix), beside(&kept, suffix))?;
            }
        }
        match fs::remove_file(beside(path, "-shm")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => sync_folder(path),
        }
    };
    move_away().map_err(refused("keep the old store as", &kept))?;
    Ok(Some(kept))
}

/// Moves what is in the log into the file, so that the file is the whole store. A damaged one is left as it is.
fn fold_log(path: &Path) {
    let Ok(connection) = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE) else {
        return;
    };
    if check(path, &connection).is_ok() {
        let folded = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = folded {
            tracing::warn!(store = %path.display(), %error, "cannot move the log into the old store; it is kept beside it");
        }
    }
}

/// `path` with the suffix, and with a number if need be: the first name that is free, or whose file will do.
fn free_name(path: &Path, suffix: &str, will_do: impl Fn(&Path) -> bool) -> PathBuf {
    let first = beside(path, suffix);
    let numbered = (2_u32..).map(|number| beside(path, &format!("{suffix}-{number}")));
    std::iter::once(first)
        .chain(numbered)
        .find(|place| !place.exists() || will_do(place))
        .unwrap_or_else(|| beside(path, suffix))
}
