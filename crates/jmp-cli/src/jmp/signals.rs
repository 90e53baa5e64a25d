//! Being told to stop while a command prepares something that must be cleaned up.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;
use crate::exit;

/// Runs `work` unless SIGINT, SIGTERM or SIGHUP comes first; then `work` is dropped and the result is an
/// error with exit code 2, so that the caller's guards clean up.
///
/// # Errors
///
/// What `work` says, or that it was cancelled.
pub async fn unless_cancelled<T>(
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let catch = |kind| {
        signal(kind).map_err(|error| CliError::new(format!("cannot catch signals: {error}")))
    };
    let mut interrupt = catch(SignalKind::interrupt())?;
    let mut terminate = catch(SignalKind::terminate())?;
    let mut hangup = catch(SignalKind::hangup())?;
    tokio::select! {
        result = work => result,
        error = told(&mut interrupt, "SIGINT") => Err(error),
        error = told(&mut terminate, "SIGTERM") => Err(error),
        error = told(&mut hangup, "SIGHUP") => Err(error),
    }
}

async fn told(signal: &mut Signal, name: &str) -> CliError {
    signal.recv().await;
    CliError::new(format!("stopped by {name}")).with_code(exit::USAGE)
}
