//! A program in the foreground, as `jmp shell` runs it.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::command::DEFAULT_GRACE;
use crate::error::SpawnError;
use crate::status::ExitStatus;

/// A program to run in the foreground with the standard streams and the terminal of this
/// process, in its process group.
///
/// From the start of it on, this process no longer ends by SIGINT, SIGQUIT, SIGTERM or SIGHUP
/// (tokio keeps its handlers for good): callers that go on for long after it react to them
/// themselves. They are caught, not ignored, so that the program starts with the defaults.
///
/// It is not supervised: killing this process with SIGKILL leaves the user's shell to the user.
#[derive(Debug)]
pub struct Foreground {
    program: String,
    command: tokio::process::Command,
    directory: Option<PathBuf>,
    grace: Duration,
}

impl Foreground {
    /// Runs `program`, looked up in the PATH it is given unless it holds a slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_string_lossy().into_owned(),
            command: tokio::process::Command::new(program),
            directory: None,
            grace: DEFAULT_GRACE,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Sets environment variables.
    #[must_use]
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.command.envs(variables);
        self
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Runs in this directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// How long the program may take to follow a forwarded SIGTERM or SIGHUP before SIGKILL.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]; [`SpawnError::shell_code`] is the code to end with.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with IO and time enabled.
    pub fn spawn(mut self) -> Result<ForegroundChild, SpawnError> {
        if let Some(directory) = self.directory {
            // Otherwise a missing directory looks like a missing program.
            if let Err(source) = std::fs::read_dir(&directory) {
                return Err(SpawnError::WorkingDirectory {
                    program: self.program,
                    directory,
                    source,
                });
            }
            self.command.current_dir(directory);
        }
        // Before the start: a Ctrl-C in between must not end this process alone.
        let signals = Signals::catch().map_err(|source| SpawnError::Setup {
            program: self.program.clone(),
            what: "signal handling",
            source,
        })?;
        match self.command.spawn() {
            Ok(child) => Ok(ForegroundChild {
                child,
                signals,
                grace: self.grace,
                forwarded: None,
                deadline: None,
            }),
            Err(source) => Err(SpawnError::from_exec(self.program, source)),
        }
    }

    /// Starts the program and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`Foreground::spawn`].
    ///
    /// # Panics
    ///
    /// As [`Foreground::spawn`].
    pub async fn run(self) -> Result<ExitStatus, SpawnError> {
        let program = self.program.clone();
        let mut child = self.spawn()?;
        child.wait().await.map_err(|source| SpawnError::Setup {
            program,
            what: "waiting",
            source,
        })
    }
}

#[derive(Debug)]
struct Signals {
    interrupt: SignalStream,
    quit: SignalStream,
    terminate: SignalStream,
    hangup: SignalStream,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal that is to be forwarded. The terminal sends SIGINT and SIGQUIT to the
    /// program as well, so those end here. Can be cancelled.
    async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.quit.recv() => {}
                _ = self.terminate.recv() => return Signal::TERM,
                _ = self.hangup.recv() => return Signal::HUP,
            }
        }
    }
}

/// A program that runs in the foreground. Dropping it sends SIGHUP to the program.
#[derive(Debug)]
pub struct ForegroundChild {
    child: tokio::process::Child,
    signals: Signals,
    grace: Duration,
    forwarded: Option<Signal>,
    deadline: Option<tokio::time::Instant>,
}

impl ForegroundChild {
    /// The process id, until the program has been waited for.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The last signal that this process got and passed on.
    #[must_use]
    pub fn forwarded(&self) -> Option<Signal> {
        self.forwarded
    }

    /// Sends `signal` to the program, for example SIGHUP when its lease has ended; nothing
    /// happens once it has ended. Does not start the grace time.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // Not waited for yet, so the id is still its own.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits for the end of the program. Meanwhile SIGINT and SIGQUIT are left to it, SIGTERM
    /// and SIGHUP are passed on, and SIGKILL follows when they are not obeyed in time. An
    /// interactive shell ignores SIGTERM, so SIGHUP goes with it.
    ///
    /// Can be cancelled and called again.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to wait.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            let deadline = self.deadline;
            let expired = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                status = self.child.wait() => return status.map(ExitStatus::from),
                signal = self.signals.next() => {
                    self.signal(signal);
                    if signal == Signal::TERM {
                        self.signal(Signal::HUP);
                    }
                    self.forwarded = Some(signal);
                    self.deadline
                        .get_or_insert_with(|| tokio::time::Instant::now() + self.grace);
                }
                () = expired => {
                    self.signal(Signal::KILL);
                    self.deadline = None;
                }
            }
        }
    }
}

impl Drop for ForegroundChild {
    fn drop(&mut self) {
        self.signal(Signal::HUP);
    }
}
