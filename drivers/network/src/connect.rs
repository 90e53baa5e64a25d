//! Connecting with a deadline and a message that helps.

use std::future::Future;
use std::io;
use std::time::Duration;

use jmp_driver::{Error, ErrorKind, Result};

/// How long a driver tries to connect before it gives up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits for a connection to `address`, but not longer than [`CONNECT_TIMEOUT`].
///
/// # Errors
///
/// UNAVAILABLE if the peer cannot be reached and DEADLINE_EXCEEDED if it does not answer; both
/// name the address and what to look at.
pub(crate) async fn connect<T>(
    address: &str,
    connecting: impl Future<Output = io::Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(error)) => {
            let message = format!("connecting to {address}: {error}; {}", advice(error.kind()));
            Err(Error::new(ErrorKind::Connection, message).with_source(error))
        }
        Err(_) => Err(Error::timeout(format!(
            "connecting to {address}: no answer within {} s; is the host up and does a firewall \
             let the exporter through?",
            CONNECT_TIMEOUT.as_secs()
        ))),
    }
}

fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => "is the service running and listening there?",
        io::ErrorKind::NotFound => "nothing is there; is the service running?",
        io::ErrorKind::PermissionDenied => "the exporter's user needs access to it",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "is the network of the exporter up?"
        }
        _ => "check the address in the exporter's configuration",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let never = std::future::pending::<io::Result<()>>();
        let error = connect("tcp://192.0.2.1:22", never).await.unwrap_err();
        assert_eq!(error.code_name(), "DEADLINE_EXCEEDED");
        let expected = "connecting to tcp://192.0.2.1:22: no answer within 30 s; is the host up";
        assert!(error.message().starts_with(expected), "{error}");
    }

    #[tokio::test]
    async fn refusals_are_connection_errors_with_advice() {
        let refused = async { Err::<(), _>(io::ErrorKind::ConnectionRefused.into()) };
        let error = connect("tcp://a:1", refused).await.unwrap_err();
        assert_eq!(error.code_name(), "UNAVAILABLE");
        assert_eq!(
            error.message(),
            "connecting to tcp://a:1: connection refused; is the service running and listening \
             there?"
        );
    }
}
