//! A running supervised child, seen from its owner.

use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::net::UnixStream;

use crate::command::{ChildStderr, ChildStdin, ChildStdout};
use crate::link::{FRAME_LENGTH, Frame};
use crate::pty::Pty;
use crate::status::ExitStatus;
use crate::supervisor::KILL_LIMIT;

/// How much longer than its own limits the supervisor may take before it is given up.
const SUPERVISOR_SLACK: Duration = Duration::from_secs(5);

/// A running supervised child.
///
/// Dropping it closes the control socket: the supervisor then ends the child and everything
/// below it, in the background. [`Child::terminate`] does the same and waits for it.
#[derive(Debug)]
pub struct Child {
    /// The write end of standard input, if it was piped.
    pub stdin: Option<ChildStdin>,
    /// The read end of standard output, if it was piped.
    pub stdout: Option<ChildStdout>,
    /// The read end of standard error, if it was piped.
    pub stderr: Option<ChildStderr>,
    /// The other side of the pseudo terminal, if one was asked for.
    pub pty: Option<Pty>,
    control: UnixStream,
    supervisor: tokio::process::Child,
    command: Option<Pid>,
    grace: Duration,
    keep_descendants: bool,
    /// Bytes of a frame that is not complete yet, kept here so that `wait` can be cancelled.
    partial: Vec<u8>,
    status: Option<ExitStatus>,
    done: bool,
}

impl Child {
    pub(crate) fn new(
        control: UnixStream,
        supervisor: tokio::process::Child,
        grace: Duration,
        keep_descendants: bool,
    ) -> Self {
        Self {
            stdin: None,
            stdout: None,
            stderr: None,
            pty: None,
            control,
            supervisor,
            command: None,
            grace,
            keep_descendants,
            partial: Vec::with_capacity(FRAME_LENGTH),
            status: None,
            done: false,
        }
    }

    pub(crate) fn started(&mut self, pid: i32) {
        self.command = Pid::from_raw(pid);
    }

    /// The process id of the program, also its process group and session.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.command
            .map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// The process id of the supervisor, once it has not been waited for.
    #[must_use]
    pub fn supervisor_id(&self) -> Option<u32> {
        self.supervisor.id()
    }

    /// Closes [`Child::stdin`] and waits until the program has ended and nothing it started is
    /// left (with `keep_descendants`: until the program has ended).
    ///
    /// Can be cancelled and called again.
    ///
    /// # Errors
    ///
    /// When the supervisor was killed; the program's process group is then killed as well.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        loop {
            if let Some(status) = self.status
                && (self.done || self.keep_descendants)
            {
                return Ok(status);
            }
            self.step().await?;
        }
    }

    /// Waits until the program and everything that it started have ended, also with
    /// `keep_descendants`. Can be cancelled and called again.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub async fn wait_all(&mut self) -> io::Result<()> {
        self.stdin = None;
        while !self.done {
            self.step().await?;
        }
        Ok(())
    }

    /// Ends the program and everything below it: SIGTERM, SIGKILL after the grace time. Returns
    /// when nothing is left, with how the program ended.
    ///
    /// # Errors
    ///
    /// When something survives SIGKILL, or the supervisor does not answer.
    pub async fn terminate(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        let limit = self.grace + KILL_LIMIT + SUPERVISOR_SLACK;
        if !self.done {
            self.send(Frame::Terminate);
        }
        let ended = tokio::time::timeout(limit, async {
            while !self.done {
                self.step().await?;
            }
            io::Result::Ok(())
        });
        match ended.await {
            Ok(ended) => ended?,
            Err(_) => {
                self.kill_group();
                self.supervisor.start_kill()?;
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "the supervisor of process {} did not end it within {} s",
                        self.id(),
                        limit.as_secs()
                    ),
                ));
            }
        }
        self.status
            .ok_or_else(|| io::Error::other("the program ended without a status"))
    }

    /// Sends `signal` to the program's process group; nothing happens once it has ended.
    pub fn signal(&self, signal: Signal) {
        self.send(Frame::Signal(signal.as_raw()));
    }

    fn send(&self, frame: Frame) {
        // Nine bytes always fit: the supervisor reads whenever there is something to read. A
        // supervisor that is gone shows in the next read.
        let _ = self.control.try_write(&frame.encode());
    }

    /// Takes the next event from the supervisor.
    async fn step(&mut self) -> io::Result<()> {
        match self.next_frame().await? {
            Some(Frame::Exited(code)) => self.status = Some(ExitStatus::Code((code & 0xff) as u8)),
            Some(Frame::Signaled(signal)) => self.status = Some(ExitStatus::Signal(signal)),
            Some(Frame::Done(survivors)) => {
                self.done = true;
                self.supervisor.wait().await?;
                if survivors > 0 {
                    return Err(io::Error::other(format!(
                        "{survivors} processes below process {} survived SIGKILL",
                        self.id()
                    )));
                }
            }
            Some(_) => {}
            None => {
                self.kill_group();
                self.done = true;
                self.supervisor.wait().await?;
                if self.status.is_none() {
                    return Err(io::Error::other(format!(
                        "the supervisor of process {} was killed",
                        self.id()
                    )));
                }
            }
        }
        Ok(())
    }

    /// For when the supervisor can no longer do it.
    fn kill_group(&self) {
        if let Some(command) = self.command {
            // Its parent-death signal may have ended it already.
            let _ = rustix::process::kill_process_group(command, Signal::KILL);
        }
    }

    /// The next frame, `None` at the end. Can be cancelled.
    pub(crate) async fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let mut buffer = [0; FRAME_LENGTH];
            let missing = FRAME_LENGTH - self.partial.len();
            self.control.readable().await?;
            match self.control.try_read(&mut buffer[..missing]) {
                Ok(0) => return Ok(None),
                Ok(count) => self.partial.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The supervisor died with something of ours unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
            if let Ok(frame) = <[u8; FRAME_LENGTH]>::try_from(self.partial.as_slice()) {
                self.partial.clear();
                return Frame::decode(frame).map(Some);
            }
        }
    }
}
