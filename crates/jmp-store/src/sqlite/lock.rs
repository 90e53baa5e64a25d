//! One process per store. SQLite itself lets several in; two controllers would each believe that they alone
//! assign exporters.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::FileError;

/// Held as long as the file is open: the system lets go of it with the process, however that ends. The file
/// stays, since removing it would let two processes lock two files of that name.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the store at `path`, without waiting.
    pub(super) fn take(path: &Path) -> Result<Self, FileError> {
        let place = beside(path, ".lock");
        let failed = |source| FileError::Io {
            action: "lock the store with",
            path: place.clone(),
            source,
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&place)
            .map_err(|error| match error.kind() {
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                    FileError::ReadOnly {
                        path: path.to_owned(),
                    }
                }
                _ => failed(error),
            })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FileError::InUse {
                    path: path.to_owned(),
                    process: holder(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // Only for the message above: a full disk must not keep a store from being read.
        let noted = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = noted {
            tracing::warn!(file = %place.display(), %error, "cannot note the process in the lock file");
        }
        Ok(Self { file })
    }
}

impl Drop for Lock {
    /// Closing alone would not do while a child that is being started still has a copy of the descriptor.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "cannot unlock the store");
        }
    }
}

/// The process that noted itself in the file.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// `path` with more at the end of its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    name.into()
}
