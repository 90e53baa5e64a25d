//! The private directory of a session: its socket, and `j` and `jmp` for the session's PATH.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::CliError;

/// Tries for a name that is not taken.
const ATTEMPTS: usize = 16;
/// Addresses of unix sockets have room for 103 bytes at least (macOS; Linux has 107), of which
/// `/jumpstarter-XXXXXXXX/socket` takes 28.
const LONGEST_BASE: usize = 103 - 28;

/// A directory only this user can enter, removed when this is dropped (facts: protocol 10.1).
///
/// ```text
/// $XDG_RUNTIME_DIR/jumpstarter-XXXXXXXX/
///   socket     where the session is served
///   bin/j      this program, as j
///   bin/jmp    this program
/// ```
#[derive(Debug)]
pub struct RuntimeDirectory {
    path: PathBuf,
}

// === impl RuntimeDirectory ===

impl RuntimeDirectory {
    /// Makes the directory in `XDG_RUNTIME_DIR`, or in the temporary directory when there is none, when
    /// it belongs to somebody else (as with sudo), or when its path is too long for a socket.
    ///
    /// # Errors
    ///
    /// When it cannot be made anywhere.
    pub fn new() -> Result<Self, CliError> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        Self::first(&[runtime, Some(std::env::temp_dir()), Some("/tmp".into())])
    }

    fn first(places: &[Option<PathBuf>]) -> Result<Self, CliError> {
        let mut failures = Vec::new();
        for base in places.iter().flatten() {
            if !base.is_absolute() {
                continue;
            }
            if base.as_os_str().len() > LONGEST_BASE {
                failures.push(format!("{}: too long for a socket", base.display()));
                continue;
            }
            match Self::new_in(base) {
                Ok(this) => return Ok(this),
                Err(error) => failures.push(format!("{}: {error}", base.display())),
            }
        }
        Err(CliError::new(format!(
            "cannot make a directory for the session in {}",
            failures.join(", or in ")
        ))
        .with_hint("set XDG_RUNTIME_DIR or TMPDIR to a directory that you can write"))
    }

    fn new_in(base: &Path) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..ATTEMPTS {
            let random = uuid::Uuid::new_v4().simple().to_string();
            let path = base.join(format!("jumpstarter-{}", &random[..8]));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let this = Self { path };
                    this.link_programs()?;
                    return Ok(this);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn link_programs(&self) -> io::Result<()> {
        let program = std::env::current_exe()?;
        let bin = self.path.join("bin");
        std::fs::DirBuilder::new().mode(0o700).create(&bin)?;
        symlink(&program, bin.join("j"))?;
        symlink(&program, bin.join("jmp"))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the session is served.
    pub fn socket(&self) -> PathBuf {
        self.path.join("socket")
    }

    /// The caller's `PATH` with this directory's programs in front, so that `j` is found wherever
    /// `jmp` was started from.
    pub fn search_path(&self) -> OsString {
        let mut path = self.path.join("bin").into_os_string();
        match std::env::var_os("PATH") {
            Some(rest) if !rest.is_empty() => {
                path.push(":");
                path.push(rest);
            }
            _ => path.push(":/usr/local/bin:/usr/bin:/bin"),
        }
        path
    }
}

impl Drop for RuntimeDirectory {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_private_and_goes_away() {
        let base = tempfile::tempdir().unwrap();
        let directory = RuntimeDirectory::new_in(base.path()).unwrap();
        let mode = std::fs::metadata(directory.path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(directory.path().join("bin/j").exists());
        assert!(directory.search_path().to_str().unwrap().contains("/bin:"));
        drop(directory);
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_next_place_is_taken_when_one_cannot_be_used() {
        let base = tempfile::tempdir().unwrap();
        let long = base.path().join("x".repeat(LONGEST_BASE));
        std::fs::create_dir(&long).unwrap();
        let places = [
            None,
            Some(base.path().join("missing")),
            Some(long),
            Some(base.path().to_owned()),
        ];
        let directory = RuntimeDirectory::first(&places).unwrap();
        assert_eq!(directory.path().parent(), Some(base.path()));
        let error = RuntimeDirectory::first(&places[..3]).unwrap_err();
        assert!(error.message().contains("missing: No such file"), "{error}");
    }
}
