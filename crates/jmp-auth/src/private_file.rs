//! Files that only their owner may read: keys.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The largest private file that is read, in bytes: a few hundred keys.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a file of ours cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Others than its owner may read or write the file.
    #[error(
        "{path} holds a secret but others may open it (mode {mode:04o}); \
         if nobody else can have read it run `chmod 600 {path}`, otherwise remove it and rotate what it signed",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is nothing in the file.
    #[error(
        "{path} is empty; restore it from a backup, or remove it to get a new {what}",
        path = path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
        /// What belongs in it.
        what: &'static str,
    },
    /// The content is not what belongs in the file.
    #[error(
        "{path} does not hold a usable {what}: {reason}; restore it from a backup, or remove it to get a new one",
        path = path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What belongs in it.
        what: &'static str,
        /// What is wrong with it; never a part of the content.
        reason: String,
    },
}

impl FileError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn malformed(path: &Path, what: &'static str, reason: impl ToString) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            what,
            reason: reason.to_string(),
        }
    }
}

/// Reads a private text file; `None` if there is none. `what` names the content in messages.
///
/// # Errors
///
/// If others may open the file, or it is empty, no UTF-8, longer than a mebibyte or unreadable.
pub fn read(path: &Path, what: &'static str) -> Result<Option<String>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io("read", path)(error)),
    };
    // Asked of the open file, so that it cannot be exchanged between the check and the reading.
    refuse_exposed(&file, path)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::io("read", path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileError::malformed(path, what, "it is too long"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| FileError::malformed(path, what, "it is not a text"))?;
    if text.trim().is_empty() {
        return Err(FileError::Empty {
            path: path.to_owned(),
            what,
        });
    }
    Ok(Some(text))
}

#[cfg(unix)]
fn refuse_exposed(file: &File, path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(FileError::io("read", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(FileError::Exposed {
        path: path.to_owned(),
        mode,
    })
}

#[cfg(not(unix))]
fn refuse_exposed(_file: &File, _path: &Path) -> Result<(), FileError> {
    Ok(())
}

/// Replaces `path` in one step with `text`, mode 0600, synchronised to disk. Missing directories are made with
/// mode 0700.
///
/// # Errors
///
/// If the operating system refuses.
pub fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    write(path, text, |file| {
        file.persist(path).map_err(|error| error.error).map(drop)
    })
    .map_err(FileError::io("write", path))
}

/// Like [`replace`], but leaves a file alone that exists already and says `false`.
///
/// # Errors
///
/// If the operating system refuses.
pub fn create(path: &Path, text: &str) -> Result<bool, FileError> {
    let written = write(path, text, |file| {
        file.persist_noclobber(path)
            .map_err(|error| error.error)
            .map(drop)
    });
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(FileError::io("write", path)(error)),
    }
}

fn write(
    path: &Path,
    text: &str,
    put_in_place: impl FnOnce(tempfile::NamedTempFile) -> io::Result<()>,
) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_private_directory(directory)?;
    // A named temporary file has mode 0600 from the start.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    put_in_place(file)?;
    // Without this the new name may be lost in a crash although the content is safe.
    File::open(directory)?.sync_all()
}

fn make_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(directory)
}

/// Reads a file that anybody may read (a certificate); `None` if there is none.
pub(crate) fn read_public(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::io("read", path)(error)),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{FileError, create, read, replace};

    #[test]
    fn what_is_written_is_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/secret.key");
        assert_eq!(read(&path, "key").unwrap(), None);
        assert!(create(&path, "one").unwrap());
        assert!(!create(&path, "two").unwrap(), "an existing file stays");
        assert_eq!(read(&path, "key").unwrap().as_deref(), Some("one"));
        replace(&path, "three").unwrap();
        assert_eq!(read(&path, "key").unwrap().as_deref(), Some("three"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no temporary file stays");
    }

    #[test]
    fn exposed_and_empty_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        replace(&path, "text").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path, "key").unwrap_err();
            assert!(matches!(error, FileError::Exposed { .. }), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        replace(&path, " \n").unwrap();
        let error = read(&path, "key").unwrap_err();
        assert!(matches!(error, FileError::Empty { .. }), "{error}");
        fs::write(&path, b"\xff\xfe").unwrap();
        let error = read(&path, "key").unwrap_err();
        assert!(matches!(error, FileError::Malformed { .. }), "{error}");
    }
}
