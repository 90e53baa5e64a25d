//! Why a program could not be started.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program. Shells report 127.
    #[error(
        "cannot run `{program}`: no such program; check the spelling, PATH, and for a script its `#!` line"
    )]
    NotFound {
        /// The program as it was given.
        program: String,
    },
    /// There is a file of that name, but it cannot be executed. Shells report 126.
    #[error("cannot run `{program}`: {source}; check its permissions and its format")]
    NotExecutable {
        /// The program as it was given.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The working directory cannot be entered.
    #[error("cannot run `{program}` in `{}`: {source}", directory.display())]
    WorkingDirectory {
        /// The program as it was given.
        program: String,
        /// The directory as it was given.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A pipe, socket or pseudo terminal for the program could not be made or set up.
    #[error("cannot prepare {what} for `{program}`: {source}")]
    Setup {
        /// The program as it was given.
        program: String,
        /// What was being prepared.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The supervising process did not do its part.
    #[error("cannot supervise `{program}` with `{}`: {source}", executable.display())]
    Supervisor {
        /// The program as it was given.
        program: String,
        /// The executable that was to be the supervisor.
        executable: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The supervising process did not answer in time.
    #[error("cannot run `{program}`: no answer from its supervisor within {} s", limit.as_secs())]
    Timeout {
        /// The program as it was given.
        program: String,
        /// How long was waited.
        limit: Duration,
    },
}

impl SpawnError {
    /// The exit code a shell would use: 127 not found, 126 not executable, 1 otherwise.
    #[must_use]
    pub fn shell_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 1,
        }
    }

    /// The error for a failed `exec` of `program`.
    pub(crate) fn from_exec(program: String, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            Self::NotFound { program }
        } else {
            Self::NotExecutable { program, source }
        }
    }
}
