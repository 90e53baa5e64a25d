//! The background session of `jmp local start`: one record for each user, found without
//! environment variables.
//!
//! The record is a small JSON file in a directory that belongs to the user alone. It names the
//! process that serves the session by id *and* start time, so that what a crash left behind is
//! never taken for a session.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const RECORD: &str = "local.json";
const LOCK: &str = "local.lock";

/// A background session as its record describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSession {
    /// Unix socket of the session.
    pub socket: PathBuf,
    /// The process that serves it.
    pub pid: u32,
    /// When that process started, in the unit of the operating system; see
    /// [`process_start_time`].
    pub start_time: u64,
    /// Name of the exporter.
    pub exporter: String,
    /// Its configuration file.
    pub config: PathBuf,
    /// Where the process writes its log, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
}

/// The directory of records. Everything outside of tests uses [`LocalRecords::of_user`].
#[derive(Debug, Clone)]
pub struct LocalRecords {
    directory: PathBuf,
}

/// The background session of this user, if one is running.
pub fn find() -> Option<LocalSession> {
    LocalRecords::of_user().find()
}

/// When a process started: on Linux, clock ticks since the machine started. `None` if there is
/// no such process or it has ended and only waits to be collected.
pub fn process_start_time(pid: u32) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in parentheses, which may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        // Field 22 of proc_pid_stat(5); the state taken above is field 3.
        fields.nth(22 - 4)?.parse().ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
        rustix::process::test_kill_process(pid).ok().map(|()| 0)
    }
}

// === impl LocalSession ===

impl LocalSession {
    /// A session that this process serves. `None` if the system does not tell when it started.
    pub fn of_this_process(
        socket: impl Into<PathBuf>,
        exporter: impl Into<String>,
        config: impl Into<PathBuf>,
    ) -> Option<Self> {
        let pid = std::process::id();
        Some(Self {
            socket: socket.into(),
            pid,
            start_time: process_start_time(pid)?,
            exporter: exporter.into(),
            config: config.into(),
            log: None,
        })
    }

    /// Whether the process that wrote the record is still running.
    pub fn is_alive(&self) -> bool {
        process_start_time(self.pid) == Some(self.start_time)
    }
}

// === impl LocalRecords ===

impl LocalRecords {
    /// `$XDG_RUNTIME_DIR/jumpstarter`, or `jumpstarter-UID` in the directory for temporary files.
    pub fn of_user() -> Self {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let directory = match runtime.filter(|path| path.is_absolute()) {
            Some(runtime) => runtime.join("jumpstarter"),
            None => {
                let user = rustix::process::getuid().as_raw();
                std::env::temp_dir().join(format!("jumpstarter-{user}"))
            }
        };
        Self { directory }
    }

    /// Records in a directory of the caller's choice.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The directory; sockets may lie there, too.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directory if need be and checks that it belongs to this user alone.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or somebody else could write to it.
    pub fn prepare(&self) -> Result<()> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory);
        made.and_then(|()| self.check())
            .map_err(|source| failed("preparing the directory", &self.directory, source))
    }

    /// Others could point us to a session of theirs if they could write to the directory, which
    /// matters where it lies in the directory for temporary files.
    fn check(&self) -> io::Result<()> {
        let metadata = std::fs::symlink_metadata(&self.directory)?;
        let refused = |reason: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        if !metadata.is_dir() {
            return refused("it is no directory");
        }
        if metadata.uid() != rustix::process::getuid().as_raw() {
            return refused("it belongs to another user");
        }
        if metadata.mode() & 0o077 != 0 {
            return refused("others may use it; `chmod 700` it");
        }
        Ok(())
    }

    /// The session of the record, if its process is still running.
    pub fn find(&self) -> Option<LocalSession> {
        self.read().filter(LocalSession::is_alive)
    }

    /// The record, whatever became of its process. A record that cannot be read counts as none.
    pub fn read(&self) -> Option<LocalSession> {
        self.check().ok()?;
        let text = std::fs::read(self.directory.join(RECORD)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes the record in one step, readable by this user only.
    ///
    /// # Errors
    ///
    /// [`Error::LocalSessionExists`] if another background session is running; otherwise if the
    /// file cannot be written.
    pub fn publish(&self, session: &LocalSession) -> Result<()> {
        self.prepare()?;
        let _lock = self.lock()?;
        if let Some(other) = self.find().filter(|other| other != session) {
            return Err(Error::LocalSessionExists {
                exporter: other.exporter,
                pid: other.pid,
            });
        }
        let path = self.directory.join(RECORD);
        let temporary = self
            .directory
            .join(format!("{RECORD}.{}", std::process::id()));
        let write = || {
            let mut text = serde_json::to_vec_pretty(session)?;
            text.push(b'\n');
            // A left-over of an earlier process with our id.
            let _ = std::fs::remove_file(&temporary);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&text)?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|source| {
            let _ = std::fs::remove_file(&temporary);
            failed("writing", &path, source)
        })
    }

    /// Removes the record if it is still the one of `session`.
    ///
    /// # Errors
    ///
    /// If the file cannot be removed.
    pub fn withdraw(&self, session: &LocalSession) -> Result<()> {
        if self.read().is_none() {
            return Ok(());
        }
        let _lock = self.lock()?;
        if self.read().as_ref() != Some(session) {
            return Ok(());
        }
        let path = self.directory.join(RECORD);
        std::fs::remove_file(&path).map_err(|source| failed("removing", &path, source))
    }

    /// Held while the record is changed; nobody holds it longer than that.
    fn lock(&self) -> Result<File> {
        let path = self.directory.join(LOCK);
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        open.and_then(|file| file.lock().map(|()| file))
            .map_err(|source| failed("locking", &path, source))
    }
}

fn failed(what: &str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        what: format!("{what} `{}`", path.display()),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn records() -> (tempfile::TempDir, LocalRecords) {
        let directory = tempfile::tempdir().unwrap();
        let records = LocalRecords::at(directory.path().join("jumpstarter"));
        (directory, records)
    }

    fn session() -> LocalSession {
        LocalSession::of_this_process("/run/socket", "example", "/etc/example.yaml").unwrap()
    }

    #[test]
    fn a_record_is_private_and_goes_away() {
        let (_directory, records) = records();
        assert_eq!(records.find(), None);
        records.publish(&session()).unwrap();
        assert_eq!(records.find(), Some(session()));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(records.directory()), 0o700);
        assert_eq!(mode(&records.directory().join(RECORD)), 0o600);
        records.withdraw(&session()).unwrap();
        assert_eq!(records.read(), None);
        records.withdraw(&session()).unwrap();
    }

    #[test]
    fn what_a_dead_process_left_is_no_session() {
        let (_directory, records) = records();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = LocalSession {
            pid: child.id(),
            start_time: 1,
            ..session()
        };
        child.wait().unwrap();
        records.publish(&dead).unwrap();
        assert_eq!(records.find(), None);
        assert_eq!(records.read(), Some(dead));
        let reused = LocalSession {
            start_time: session().start_time + 1,
            ..session()
        };
        records.publish(&reused).unwrap();
        assert_eq!(records.find(), None);
        records.publish(&session()).unwrap();
    }

    #[test]
    fn a_second_session_is_refused_and_cannot_withdraw_the_first() {
        let (_directory, records) = records();
        records.publish(&session()).unwrap();
        let other = LocalSession {
            exporter: "other".into(),
            ..session()
        };
        let error = records.publish(&other).unwrap_err();
        assert!(matches!(error, Error::LocalSessionExists { .. }), "{error}");
        records.withdraw(&other).unwrap();
        assert_eq!(records.find(), Some(session()));
    }

    #[test]
    fn a_directory_that_others_may_use_is_not_trusted() {
        let (_directory, records) = records();
        records.publish(&session()).unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(records.directory(), open).unwrap();
        assert_eq!(records.find(), None);
        let error = records.publish(&session()).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }
}
