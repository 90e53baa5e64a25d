//! Finding and ending the exporter in the background.

use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::error::CliError;
use crate::session_record::{LocalRecords, LocalSession};

/// How long an exporter may take to close its devices.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the kernel may take to end a process.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// The session in the background. What a crashed one left behind is removed.
pub fn running() -> Result<Option<LocalSession>, CliError> {
    let records = LocalRecords::of_user();
    match records.read() {
        Some(session) if session.is_alive() => Ok(Some(session)),
        Some(stale) => {
            records.withdraw(&stale)?;
            remove_directory(&stale);
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Ends a session and waits until its process is gone.
pub async fn stop(session: &LocalSession) -> Result<(), CliError> {
    let failed = |error: io::Error| {
        CliError::new(format!(
            "cannot stop exporter {} (process {}): {error}",
            session.exporter, session.pid
        ))
    };
    let Some(process) = Process::open(session).map_err(failed)? else {
        return Ok(());
    };
    process.signal(Signal::TERM).map_err(failed)?;
    if tokio::time::timeout(PATIENCE, process.gone())
        .await
        .is_err()
    {
        process.signal(Signal::KILL).map_err(failed)?;
        tokio::time::timeout(KILL_LIMIT, process.gone())
            .await
            .map_err(|_| failed(io::Error::other("it survives SIGKILL")))?
            .map_err(failed)?;
    }
    // Only after SIGKILL is there anything left.
    LocalRecords::of_user().withdraw(session)?;
    remove_directory(session);
    Ok(())
}

/// Removes the session's own directory, if that is what it is.
fn remove_directory(session: &LocalSession) {
    let directory = session.socket.parent().filter(|directory| {
        let name = directory.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("jumpstarter-")
    });
    if let Some(directory) = directory {
        // Usually the session has done so itself.
        let _ = std::fs::remove_dir_all(directory);
    }
}

#[cfg(target_os = "linux")]
use descriptor::Process;
#[cfg(not(target_os = "linux"))]
use number::Process;

/// A process by a descriptor, which cannot be taken for a later process with its number.
#[cfg(target_os = "linux")]
mod descriptor {
    use std::os::fd::OwnedFd;

    use rustix::process::PidfdFlags;
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    use super::*;

    pub struct Process(AsyncFd<OwnedFd>);

    // === impl Process ===

    impl Process {
        /// The process of a session, `None` if it has ended.
        pub fn open(session: &LocalSession) -> io::Result<Option<Self>> {
            let pid = i32::try_from(session.pid).ok().and_then(Pid::from_raw);
            let Some(pid) = pid else { return Ok(None) };
            match rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK) {
                // Checked once the descriptor is there: from now on it means this process only.
                Ok(descriptor) if session.is_alive() => {
                    #[expect(
                        deprecated,
                        reason = "its hazard is a type that gives its descriptor away; OwnedFd does not"
                    )]
                    let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
                    Ok(Some(Self(descriptor)))
                }
                Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }

        pub fn signal(&self, signal: Signal) -> io::Result<()> {
            match rustix::process::pidfd_send_signal(self.0.get_ref(), signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }

        /// Waits for its end.
        pub async fn gone(&self) -> io::Result<()> {
            self.0.readable().await.map(|_| ())
        }
    }
}

/// A process by its number, for systems without descriptors of processes.
#[cfg(not(target_os = "linux"))]
mod number {
    use super::*;

    pub struct Process(LocalSession, Pid);

    // === impl Process ===

    impl Process {
        /// The process of a session, `None` if it has ended.
        pub fn open(session: &LocalSession) -> io::Result<Option<Self>> {
            let pid = i32::try_from(session.pid).ok().and_then(Pid::from_raw);
            Ok(pid
                .filter(|_| session.is_alive())
                .map(|pid| Self(session.clone(), pid)))
        }

        pub fn signal(&self, signal: Signal) -> io::Result<()> {
            match rustix::process::kill_process(self.1, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }

        /// Waits for its end; there is no event for that of a stranger.
        pub async fn gone(&self) -> io::Result<()> {
            while self.0.is_alive() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        }
    }
}
