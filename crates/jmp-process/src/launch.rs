//! From a fresh process to the wanted program: session, terminal, standard streams, `exec`.
//!
//! The stage exists because these steps belong between fork and exec. In a fresh process they
//! are ordinary safe calls, and the parent-death signal it sets survives the `exec`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::Pid;

use crate::link::{self, Frame, Stage};

/// Hidden first argument of the supervisor.
pub(crate) const SUPERVISE: &str = "__supervise";
/// Hidden first argument of the launch stage.
pub(crate) const LAUNCH: &str = "__launch";

/// What supervisor and launch stage are told on their command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Time between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    /// Whether standard input is a pseudo terminal that becomes the controlling one.
    pub(crate) pty: bool,
    /// Whether what the program left behind lives on until the owner lets go.
    pub(crate) keep_descendants: bool,
    /// Where the program runs; the owner's directory if absent.
    pub(crate) directory: Option<PathBuf>,
    /// The program, then its arguments.
    pub(crate) program: Vec<OsString>,
}

impl Plan {
    pub(crate) fn arguments(&self, role: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec![role.into(), self.grace.as_millis().to_string().into()];
        arguments.push(if self.pty { "pty" } else { "pipes" }.into());
        arguments.push(if self.keep_descendants { "keep" } else { "end" }.into());
        // An empty path is no directory, so the empty argument can stand for "unchanged".
        arguments.push(self.directory.clone().unwrap_or_default().into());
        arguments.extend(self.program.iter().cloned());
        arguments
    }

    /// The inverse of [`Plan::arguments`], without the role.
    pub(crate) fn parse(arguments: &[OsString]) -> Option<Self> {
        let [grace, streams, descendants, directory, program @ ..] = arguments else {
            return None;
        };
        if program.is_empty() {
            return None;
        }
        Some(Self {
            grace: Duration::from_millis(grace.to_str()?.parse().ok()?),
            pty: streams == OsStr::new("pty"),
            keep_descendants: descendants == OsStr::new("keep"),
            directory: (!directory.is_empty()).then(|| PathBuf::from(directory)),
            program: program.to_vec(),
        })
    }
}

/// Standard input of this process as the control socket it is.
///
/// The copy closes on `exec`; descriptor 0 itself is replaced or points nowhere later.
pub(crate) fn control_socket() -> io::Result<UnixStream> {
    Ok(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// The launch stage: returns only when the program could not be started.
pub(crate) fn launch(plan: &Plan, parent: Option<Pid>) -> ExitCode {
    let Ok(control) = control_socket() else {
        return ExitCode::FAILURE;
    };
    let Some(streams) = link::receive_start(&control) else {
        return ExitCode::FAILURE;
    };
    let (stage, error) = become_program(plan, parent, &streams);
    let errno = error.raw_os_error().unwrap_or(0);
    // Without a supervisor there is nobody left to be told.
    let _ = link::send(&control, Frame::Failed(stage, errno));
    ExitCode::FAILURE
}

fn become_program(plan: &Plan, parent: Option<Pid>, streams: &[OwnedFd; 3]) -> (Stage, io::Error) {
    if let Err(error) = enter_session(plan.pty, parent, streams) {
        return (Stage::Session, error);
    }
    if let Some(directory) = &plan.directory
        && let Err(error) = std::env::set_current_dir(directory)
    {
        return (Stage::WorkingDirectory, error);
    }
    let [program, arguments @ ..] = plan.program.as_slice() else {
        return (Stage::Exec, io::Error::from(io::ErrorKind::NotFound));
    };
    let error = std::process::Command::new(program).args(arguments).exec();
    (Stage::Exec, error)
}

fn enter_session(
    pty: bool,
    parent: Option<Pid>,
    [stdin, stdout, stderr]: &[OwnedFd; 3],
) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // The supervisor may have died before the line above took effect.
        if rustix::process::getppid() != parent {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    rustix::process::setsid()?;
    if pty {
        rustix::process::ioctl_tiocsctty(stdin)?;
    }
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_survive_the_command_line() {
        let plan = Plan {
            grace: Duration::from_millis(1500),
            pty: true,
            keep_descendants: false,
            directory: None,
            program: vec!["sh".into(), "-c".into(), "".into()],
        };
        let elsewhere = Plan {
            pty: false,
            keep_descendants: true,
            directory: Some("/".into()),
            ..plan.clone()
        };
        for plan in [plan, elsewhere] {
            let arguments = plan.arguments(SUPERVISE);
            assert_eq!(arguments[0], SUPERVISE);
            assert_eq!(Plan::parse(&arguments[1..]), Some(plan));
        }
        assert_eq!(Plan::parse(&["1".into(), "pty".into()]), None);
    }
}
