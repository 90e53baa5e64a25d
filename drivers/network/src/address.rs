//! Telling clients where a service is.

use std::net::IpAddr;
use std::time::Duration;

use jmp_driver::{Error, Result};
use jmp_interfaces::network::forward::{bare_host, host_and_port};

/// How long name resolution may take before the name itself is told.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Refuses to tell the address unless the configuration allows it. The text is the one that
/// shipped clients look for (facts: drivers 1.2).
pub(crate) fn check_enabled(enabled: bool) -> Result<()> {
    if enabled {
        Ok(())
    } else {
        Err(Error::invalid_argument(
            "enable_address mode is not true in the exporter configuration",
        ))
    }
}

/// `scheme://ip:port`. Names are resolved, the first answer counts; a name that cannot be
/// resolved stays as it is.
pub(crate) async fn resolved(scheme: &str, host: &str, port: u16) -> String {
    let bare = bare_host(host);
    if bare.parse::<IpAddr>().is_ok() {
        return format!("{scheme}://{}", host_and_port(bare, port));
    }
    let looking = tokio::net::lookup_host((bare, port));
    let found = tokio::time::timeout(RESOLVE_TIMEOUT, looking).await;
    let first = found
        .ok()
        .and_then(|found| found.ok())
        .and_then(|mut addresses| addresses.next());
    match first {
        Some(address) => format!("{scheme}://{address}"),
        None => format!("{scheme}://{}", host_and_port(bare, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses() {
        for (host, expected) in [
            ("192.0.2.1", "tcp://192.0.2.1:22"),
            ("::1", "tcp://[::1]:22"),
            ("[2001:db8::1]", "tcp://[2001:db8::1]:22"),
            ("no such host", "tcp://no such host:22"),
        ] {
            assert_eq!(resolved("tcp", host, 22).await, expected);
        }
        let local = resolved("udp", "localhost", 53).await;
        assert!(["udp://127.0.0.1:53", "udp://[::1]:53"].contains(&local.as_str()));
    }
}
