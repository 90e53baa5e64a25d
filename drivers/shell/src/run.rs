//! A command at work.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use jmp_driver::{Error, Result};
use jmp_process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::{MethodConfig, ShellConfig};
use crate::interface::ShellOutput;
use crate::output::Utf8Decoder;

/// Longest piece of output in one item, in bytes.
const CHUNK: usize = 8 * 1024;
/// What is still taken from the pipes once a command has ended, in bytes: more than they hold.
/// Something that it left running may go on writing.
const REST_LIMIT: usize = 1024 * 1024;
/// Return code of a command that took too long; shipped clients know it.
const TIMED_OUT: i64 = 199;

/// A command at work. Dropping it ends the command and all it started.
#[derive(Debug)]
pub(crate) struct Run {
    method: String,
    child: Child,
    stdout: Pipe<ChildStdout>,
    stderr: Pipe<ChildStderr>,
    timeout: Duration,
    deadline: Instant,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Until the deadline.
    Running,
    /// The deadline has passed, the command is being ended.
    Ending,
    /// The text of the pipes' last content was handed out.
    Ended(Ending),
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Status(ExitStatus),
    TimedOut,
}

// === impl Run ===

impl Run {
    pub async fn start(
        config: &ShellConfig,
        method: &MethodConfig,
        name: &str,
        env: HashMap<String, String>,
        args: Vec<String>,
    ) -> Result<Self> {
        let timeout = config.timeout_of(method)?;
        let (program, options) = config
            .shell
            .split_first()
            .ok_or_else(|| Error::configuration("`shell` names no program"))?;
        let mut command = Command::new(program)
            .args(options)
            .arg(&method.command)
            .arg(name)
            .args(args)
            // Meant for the exporter itself.
            .env_remove("JMP_GRPC_PASSPHRASE")
            .env_remove("NOTIFY_SOCKET")
            .envs(env)
            .stdout(Stdio::Piped)
            .stderr(Stdio::Piped)
            // A command may start a server for later ones; it lives until the session ends.
            .keep_descendants(true);
        if let Some(directory) = &config.cwd {
            command = command.current_dir(directory);
        }
        let mut child = command
            .spawn()
            .await
            .map_err(|error| Error::other(format!("method '{name}': {error}")))?;
        Ok(Self {
            method: name.to_owned(),
            stdout: Pipe::new(child.stdout.take()),
            stderr: Pipe::new(child.stderr.take()),
            child,
            timeout,
            deadline: Instant::now() + timeout,
            phase: Phase::Running,
        })
    }

    pub fn method(&self) -> &str {
        &self.method
    }

    /// What may still run in the background.
    pub fn into_child(self) -> Child {
        self.child
    }

    /// The next piece of output; the last one has the return code.
    pub async fn next(&mut self) -> Result<ShellOutput> {
        loop {
            let ending = match self.phase {
                Phase::Ended(ending) => return Ok(self.last(ending)),
                Phase::Running => tokio::select! {
                    biased;
                    text = self.stdout.read() => match text? {
                        Some(text) => return Ok((text, String::new(), None)),
                        None => continue,
                    },
                    text = self.stderr.read() => match text? {
                        Some(text) => return Ok((String::new(), text, None)),
                        None => continue,
                    },
                    status = self.child.wait() => Ending::Status(self.ended(status)?),
                    () = tokio::time::sleep_until(self.deadline) => {
                        self.phase = Phase::Ending;
                        continue;
                    }
                },
                // Read on, or a command that wants to say something at its end hangs.
                Phase::Ending => tokio::select! {
                    status = self.child.terminate() => {
                        self.ended(status)?;
                        Ending::TimedOut
                    }
                    text = self.stdout.read() => match text? {
                        Some(text) => return Ok((text, String::new(), None)),
                        None => continue,
                    },
                    text = self.stderr.read() => match text? {
                        Some(text) => return Ok((String::new(), text, None)),
                        None => continue,
                    },
                },
            };
            self.phase = Phase::Ended(ending);
            let (out, err) = (self.stdout.rest()?, self.stderr.rest()?);
            if !out.is_empty() || !err.is_empty() {
                return Ok((out, err, None));
            }
        }
    }

    fn ended(&self, status: io::Result<ExitStatus>) -> Result<ExitStatus> {
        status.map_err(|error| Error::other(format!("method '{}': {error}", self.method)))
    }

    fn last(&self, ending: Ending) -> ShellOutput {
        match ending {
            Ending::Status(ExitStatus::Code(code)) => {
                (String::new(), String::new(), Some(code.into()))
            }
            Ending::Status(ExitStatus::Signal(signal)) => {
                (String::new(), String::new(), Some(-i64::from(signal)))
            }
            Ending::TimedOut => {
                let text = format!(
                    "\nTimeout expired while running {}: no end after {} s\n",
                    self.method,
                    self.timeout.as_secs_f64()
                );
                (String::new(), text, Some(TIMED_OUT))
            }
        }
    }
}

/// The reading end of a standard stream, as text.
#[derive(Debug)]
struct Pipe<R> {
    /// `None` once it has ended.
    source: Option<R>,
    decoder: Utf8Decoder,
    buffer: Vec<u8>,
}

// === impl Pipe ===

impl<R: AsyncReadExt + AsFd + Unpin> Pipe<R> {
    fn new(source: Option<R>) -> Self {
        Self {
            source,
            decoder: Utf8Decoder::default(),
            buffer: vec![0; CHUNK],
        }
    }

    /// The next piece of text, `None` if there is no whole character yet. Waits for ever once
    /// the stream has ended. Can be cancelled.
    async fn read(&mut self) -> Result<Option<String>> {
        let Some(source) = &mut self.source else {
            return std::future::pending().await;
        };
        let count = source.read(&mut self.buffer).await?;
        let text = if count == 0 {
            self.source = None;
            self.decoder.finish()
        } else {
            self.decoder.feed(&self.buffer[..count])
        };
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// What is there without waiting, after the end of the command.
    fn rest(&mut self) -> Result<String> {
        let mut text = String::new();
        if let Some(source) = self.source.take() {
            // Not through the runtime: it may not have heard yet that there is something.
            while text.len() < REST_LIMIT {
                match rustix::io::read(&source, &mut self.buffer) {
                    Ok(0) => break,
                    Ok(count) => text.push_str(&self.decoder.feed(&self.buffer[..count])),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(io::Error::from(error).into()),
                }
            }
        }
        text.push_str(&self.decoder.finish());
        Ok(text)
    }
}

/// What commands left running in the background; ends with the session.
#[derive(Debug)]
pub(crate) struct Leftovers {
    tasks: TaskTracker,
    ending: CancellationToken,
    /// Ends everything also if nobody asks for it.
    _guard: DropGuard,
}

impl Default for Leftovers {
    fn default() -> Self {
        let ending = CancellationToken::new();
        Self {
            tasks: TaskTracker::new(),
            _guard: ending.clone().drop_guard(),
            ending,
        }
    }
}

// === impl Leftovers ===

impl Leftovers {
    /// Takes over a child whose command has ended.
    pub fn keep(&self, mut child: Child) {
        let ending = self.ending.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                // An error means that the supervisor was killed, and all below it with it.
                _ = child.wait_all() => {}
                () = ending.cancelled() => {
                    let _ = child.terminate().await;
                }
            }
        });
    }

    /// Ends everything and waits for that.
    pub async fn end(&self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
