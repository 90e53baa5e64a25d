//! Signals that end an exporter (facts: command line 7).

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Name of the signal.
    pub name: &'static str,
    /// After the present lease instead of now. Without a controller there is none.
    pub graceful: bool,
    /// 128 plus the number of the signal.
    pub exit_code: u8,
}

/// The signals, caught from now on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Signal,
}

// === impl Signals ===

impl Signals {
    /// Starts to catch them.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub fn catch() -> Result<Self, CliError> {
        let catch = |kind| {
            signal(kind).map_err(|error| CliError::new(format!("cannot catch signals: {error}")))
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            quit: catch(SignalKind::quit())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    /// The next one. Can be cancelled.
    pub async fn next(&mut self) -> Stop {
        let (name, graceful, number) = tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", false, 2),
            _ = self.terminate.recv() => ("SIGTERM", false, 15),
            _ = self.quit.recv() => ("SIGQUIT", false, 3),
            _ = self.hangup.recv() => ("SIGHUP", true, 1),
        };
        Stop {
            name,
            graceful,
            exit_code: 128 + number,
        }
    }
}
