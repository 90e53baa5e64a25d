//! What to run, and starting it under supervision.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::child::Child;
use crate::error::SpawnError;
use crate::launch::{Plan, SUPERVISE};
use crate::link::{self, Frame, Stage};
use crate::pty::{self, Pty, WindowSize};
use crate::status::ExitStatus;
use crate::supervisor::own_executable;

/// Time between SIGTERM and SIGKILL unless the caller wants another (protocol 6.6: 5 s).
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// How long the supervisor may take to start the program.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The write end of a child's standard input; dropping it is the child's end of file.
pub type ChildStdin = pipe::Sender;
/// The read end of a child's standard output.
pub type ChildStdout = pipe::Receiver;
/// The read end of a child's standard error.
pub type ChildStderr = pipe::Receiver;

static SUPERVISOR: OnceLock<PathBuf> = OnceLock::new();

/// Names, once for this process, the executable that supervises children; it must call
/// [`crate::maybe_run_supervisor`]. For programs that are not `jmp` themselves, such as tests.
///
/// Without it this process's own executable is used. Returns `false` when one was named before,
/// which then stays.
pub fn set_supervisor_executable(path: impl Into<PathBuf>) -> bool {
    SUPERVISOR.set(path.into()).is_ok()
}

/// Where a standard stream of the child leads.
#[derive(Debug, Default)]
pub enum Stdio {
    /// Nowhere: reads end at once, writes vanish.
    #[default]
    Null,
    /// Where that stream of this process leads.
    Inherit,
    /// Into a pipe, found in [`Child::stdin`], [`Child::stdout`], [`Child::stderr`].
    Piped,
    /// To this open file, pipe or socket.
    Descriptor(OwnedFd),
}

/// What a child that ran to its end wrote and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to standard output.
    pub stdout: Vec<u8>,
    /// Everything it wrote to standard error.
    pub stderr: Vec<u8>,
}

/// A program to run as a child that dies with this process. See the crate documentation.
///
/// Standard streams are [`Stdio::Null`] unless said otherwise.
#[derive(Debug)]
pub struct Command {
    program: Vec<OsString>,
    /// Changes to the environment in the order they were asked for; `None` removes.
    environment: Vec<(OsString, Option<OsString>)>,
    clear_environment: bool,
    directory: Option<PathBuf>,
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
    pty: Option<WindowSize>,
    grace: Duration,
    keep_descendants: bool,
    supervisor: Option<PathBuf>,
}

impl Command {
    /// Runs `program`, looked up in the child's PATH unless it holds a slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: vec![program.as_ref().to_owned()],
            environment: Vec::new(),
            clear_environment: false,
            directory: None,
            stdin: Stdio::Null,
            stdout: Stdio::Null,
            stderr: Stdio::Null,
            pty: None,
            grace: DEFAULT_GRACE,
            keep_descendants: false,
            supervisor: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.program.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        for argument in arguments {
            self.program.push(argument.as_ref().to_owned());
        }
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let value = Some(value.as_ref().to_owned());
        self.environment.push((key.as_ref().to_owned(), value));
        self
    }

    /// Sets environment variables.
    #[must_use]
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        variables
            .into_iter()
            .fold(self, |command, (key, value)| command.env(key, value))
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.as_ref().to_owned(), None));
        self
    }

    /// Starts from an empty environment instead of this process's.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.clear_environment = true;
        self.environment.clear();
        self
    }

    /// Runs in this directory. A relative program path is then relative to it.
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Where standard input comes from.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdio) -> Self {
        self.stdin = stdin;
        self
    }

    /// Where standard output goes.
    #[must_use]
    pub fn stdout(mut self, stdout: Stdio) -> Self {
        self.stdout = stdout;
        self
    }

    /// Where standard error goes.
    #[must_use]
    pub fn stderr(mut self, stderr: Stdio) -> Self {
        self.stderr = stderr;
        self
    }

    /// Runs on a pseudo terminal of that size: all three streams are its, whatever else was
    /// asked for, and [`Child::pty`] is the other side.
    #[must_use]
    pub fn pty(mut self, size: WindowSize) -> Self {
        self.pty = Some(size);
        self
    }

    /// Time between SIGTERM and SIGKILL, whole milliseconds.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Lets what the program left behind (`server &`) live on after the program ended, until
    /// the [`Child`] is dropped or terminated. Otherwise it ends with the program.
    #[must_use]
    pub fn keep_descendants(mut self, keep: bool) -> Self {
        self.keep_descendants = keep;
        self
    }

    /// The supervising executable for this child only; see [`set_supervisor_executable`].
    #[must_use]
    pub fn supervisor_executable(mut self, path: impl Into<PathBuf>) -> Self {
        self.supervisor = Some(path.into());
        self
    }

    /// Starts the program and waits until it runs. Dropping the future ends whatever started.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] says whether the program, its directory or the supervision is at fault.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with IO and time enabled.
    pub async fn spawn(mut self) -> Result<Child, SpawnError> {
        let name = self.program[0].to_string_lossy().into_owned();
        let streams = Streams::prepare(&mut self).map_err(|(what, source)| SpawnError::Setup {
            program: name.clone(),
            what,
            source,
        })?;
        let executable = self.executable(&name)?;
        let fail = |source| SpawnError::Supervisor {
            program: name.clone(),
            executable: executable.clone(),
            source,
        };
        let (ours, theirs) = UnixStream::pair().map_err(fail)?;
        let supervisor = self.start_supervisor(&executable, theirs).map_err(fail)?;
        let ended_early = || {
            fail(io::Error::other(
                "it ended before it started anything; its main must call maybe_run_supervisor first",
            ))
        };
        streams.send(&ours).map_err(|source| match source.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ended_early(),
            _ => fail(source),
        })?;
        ours.set_nonblocking(true).map_err(fail)?;
        let control = tokio::net::UnixStream::from_std(ours).map_err(fail)?;
        let mut child = Child::new(control, supervisor, self.grace, self.keep_descendants);
        (child.stdin, child.stdout, child.stderr, child.pty) = streams.into_ours();

        match tokio::time::timeout(START_LIMIT, child.next_frame()).await {
            Ok(Ok(Some(Frame::Started(pid)))) => {
                child.started(pid);
                Ok(child)
            }
            Ok(Ok(Some(Frame::Failed(stage, errno)))) => Err(self.explain(name, stage, errno)),
            Ok(Ok(_)) => Err(ended_early()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Err(ended_early()),
            Ok(Err(error)) => Err(fail(error)),
            Err(_) => Err(SpawnError::Timeout {
                program: name,
                limit: START_LIMIT,
            }),
        }
    }

    /// Runs the program to its end and collects what it writes. Dropping the future, for
    /// example by a timeout, ends the program.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`], and when a pipe or the supervisor breaks on the way.
    pub async fn output(mut self) -> Result<Output, SpawnError> {
        let program = self.program[0].to_string_lossy().into_owned();
        self.stdout = Stdio::Piped;
        self.stderr = Stdio::Piped;
        let mut child = self.spawn().await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let collected = tokio::try_join!(
            read_all(out, &mut stdout),
            read_all(err, &mut stderr),
            child.wait()
        );
        let ((), (), status) = collected.map_err(|source| SpawnError::Setup {
            program,
            what: "the output pipes",
            source,
        })?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    fn executable(&self, program: &str) -> Result<PathBuf, SpawnError> {
        match self.supervisor.as_ref().or_else(|| SUPERVISOR.get()) {
            Some(path) => Ok(path.clone()),
            None => own_executable().map_err(|source| SpawnError::Supervisor {
                program: program.to_owned(),
                executable: PathBuf::new(),
                source,
            }),
        }
    }

    fn start_supervisor(
        &self,
        executable: &Path,
        control: UnixStream,
    ) -> io::Result<tokio::process::Child> {
        let plan = Plan {
            grace: self.grace,
            pty: self.pty.is_some(),
            keep_descendants: self.keep_descendants,
            directory: self.directory.clone(),
            program: self.program.clone(),
        };
        let mut command = tokio::process::Command::new(executable);
        if self.clear_environment {
            command.env_clear();
        }
        for (key, value) in &self.environment {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
            .arg0("jmp-supervisor")
            .args(plan.arguments(SUPERVISE))
            .stdin(std::process::Stdio::from(OwnedFd::from(control)))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            // Ctrl-C at the terminal is for the owner, which then decides.
            .process_group(0)
            .spawn()
    }

    fn explain(&self, program: String, stage: Stage, errno: i32) -> SpawnError {
        let source = io::Error::from_raw_os_error(errno);
        match (stage, &self.directory) {
            (Stage::Exec, _) => SpawnError::from_exec(program, source),
            (Stage::WorkingDirectory, Some(directory)) => SpawnError::WorkingDirectory {
                program,
                directory: directory.clone(),
                source,
            },
            (Stage::Launcher, _) => SpawnError::Setup {
                program,
                what: "a process",
                source,
            },
            (Stage::Session | Stage::WorkingDirectory, _) => SpawnError::Setup {
                program,
                what: "session and standard streams",
                source,
            },
        }
    }
}

async fn read_all(from: Option<pipe::Receiver>, into: &mut Vec<u8>) -> io::Result<()> {
    if let Some(mut from) = from {
        from.read_to_end(into).await?;
    }
    Ok(())
}

/// The child's sides of its standard streams, and ours.
struct Streams {
    theirs: [Theirs; 3],
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    pty: Option<Pty>,
}

type Ours = (
    Option<ChildStdin>,
    Option<ChildStdout>,
    Option<ChildStderr>,
    Option<Pty>,
);

/// A descriptor that becomes a standard stream of the child.
enum Theirs {
    Stdin,
    Stdout,
    Stderr,
    Descriptor(OwnedFd),
}

impl Streams {
    fn prepare(command: &mut Command) -> Result<Self, (&'static str, io::Error)> {
        if let Some(size) = command.pty {
            let (pty, terminal) = pty::open(size).map_err(|error| ("a pseudo terminal", error))?;
            let copy = |terminal: &OwnedFd| terminal.try_clone().map(Theirs::Descriptor);
            let theirs = copy(&terminal)
                .and_then(|first| Ok([first, copy(&terminal)?, Theirs::Descriptor(terminal)]))
                .map_err(|error| ("a pseudo terminal", error))?;
            return Ok(Self {
                theirs,
                stdin: None,
                stdout: None,
                stderr: None,
                pty: Some(pty),
            });
        }
        let (stdin, write) =
            input(std::mem::take(&mut command.stdin)).map_err(|error| ("standard input", error))?;
        let (stdout, read) = output(std::mem::take(&mut command.stdout), Theirs::Stdout)
            .map_err(|error| ("standard output", error))?;
        let (stderr, read_error) = output(std::mem::take(&mut command.stderr), Theirs::Stderr)
            .map_err(|error| ("standard error", error))?;
        Ok(Self {
            theirs: [stdin, stdout, stderr],
            stdin: write,
            stdout: read,
            stderr: read_error,
            pty: None,
        })
    }

    fn send(&self, control: &UnixStream) -> io::Result<()> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let mut descriptors: [BorrowedFd<'_>; 3] = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        for (descriptor, theirs) in descriptors.iter_mut().zip(&self.theirs) {
            *descriptor = match theirs {
                Theirs::Stdin => stdin.as_fd(),
                Theirs::Stdout => stdout.as_fd(),
                Theirs::Stderr => stderr.as_fd(),
                Theirs::Descriptor(descriptor) => descriptor.as_fd(),
            };
        }
        link::send_start(control, descriptors)
    }

    /// Lets go of the child's sides, so that its end is seen as end of file.
    fn into_ours(self) -> Ours {
        (self.stdin, self.stdout, self.stderr, self.pty)
    }
}

fn input(stdin: Stdio) -> io::Result<(Theirs, Option<ChildStdin>)> {
    Ok(match stdin {
        Stdio::Null => (null()?, None),
        Stdio::Inherit => (Theirs::Stdin, None),
        Stdio::Descriptor(descriptor) => (Theirs::Descriptor(descriptor), None),
        Stdio::Piped => {
            // Closed on exec, on every platform.
            let (read, write) = io::pipe()?;
            let write = pipe::Sender::from_owned_fd(write.into())?;
            (Theirs::Descriptor(read.into()), Some(write))
        }
    })
}

fn output(stdio: Stdio, inherited: Theirs) -> io::Result<(Theirs, Option<pipe::Receiver>)> {
    Ok(match stdio {
        Stdio::Null => (null()?, None),
        Stdio::Inherit => (inherited, None),
        Stdio::Descriptor(descriptor) => (Theirs::Descriptor(descriptor), None),
        Stdio::Piped => {
            let (read, write) = io::pipe()?;
            let read = pipe::Receiver::from_owned_fd(read.into())?;
            (Theirs::Descriptor(write.into()), Some(read))
        }
    })
}

fn null() -> io::Result<Theirs> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(Theirs::Descriptor(null.into()))
}
