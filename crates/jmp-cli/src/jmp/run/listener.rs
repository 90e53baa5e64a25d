//! The direct listener: where it listens and whom it lets in (facts: protocol 10.3).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jmp_exporter::{DirectOptions, Session};
use tokio::net::TcpListener;

use crate::error::CliError;
use crate::output;

/// Where it listens when only a port is given.
const ANY_HOST: &str = "0.0.0.0";

/// Whom a listener lets in.
#[derive(Debug)]
pub struct Security {
    /// Certificate chain and key, PEM files; plain text without.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// What clients must present.
    pub passphrase: Option<String>,
}

/// A bound listener.
pub struct Listener {
    socket: TcpListener,
    options: DirectOptions,
}

/// A listener at work.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// The address with its true port.
    pub address: SocketAddr,
    /// Whether it is encrypted.
    pub tls: bool,
    /// Whether it asks for a passphrase.
    pub passphrase: bool,
}

// === impl Listener ===

impl Listener {
    /// Takes the address and reads the certificate.
    ///
    /// # Errors
    ///
    /// When the address makes no sense (a usage error), is taken or is not this machine's, or
    /// when the certificate or its key cannot be used.
    pub async fn bind(address: &str, security: Security) -> Result<Self, CliError> {
        let (host, port) = split(address)?;
        let tls = security
            .certificate
            .map(|(certificate, key)| jmp_wire::tls::server(&certificate, &key))
            .transpose()
            .map_err(|error| {
                CliError::new(format!("cannot serve TLS: {error}"))
                    .with_hint("--tls-cert and --tls-key name PEM files that belong together")
            })?;
        let socket = TcpListener::bind((host.as_str(), port))
            .await
            .map_err(|error| refused(address, &error))?;
        warn_if_open(tls.is_some(), security.passphrase.is_some(), &socket);
        Ok(Self {
            socket,
            options: DirectOptions {
                tls,
                passphrase: security.passphrase.map(Arc::from),
            },
        })
    }

    /// Lets clients in.
    ///
    /// # Errors
    ///
    /// When the socket has no address.
    pub fn serve(self, session: &Session) -> Result<Served, CliError> {
        let (tls, passphrase) = (
            self.options.tls.is_some(),
            self.options.passphrase.is_some(),
        );
        let address = session.serve_tcp(self.socket, self.options)?;
        Ok(Served {
            address,
            tls,
            passphrase,
        })
    }
}

fn refused(address: &str, error: &std::io::Error) -> CliError {
    use std::io::ErrorKind;
    let told = CliError::new(format!("cannot listen on {address}: {error}"));
    match error.kind() {
        ErrorKind::AddrInUse => told.with_hint(
            "another program uses this port, perhaps another exporter; choose another one",
        ),
        ErrorKind::PermissionDenied => told.with_hint("choose a port above 1023"),
        ErrorKind::AddrNotAvailable => {
            told.with_hint("the host must be an address or a name of this machine")
        }
        _ => told,
    }
}

fn warn_if_open(tls: bool, passphrase: bool, socket: &TcpListener) {
    let local = socket
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback());
    match (tls, passphrase) {
        (false, true) => output::warn(
            "the passphrase and everything else travels without encryption; use --tls-cert and \
             --tls-key unless the network is trusted",
        ),
        (false, false) if !local => output::warn(
            "without TLS and a passphrase everybody who can reach this port can use the devices",
        ),
        (true, false) if !local => {
            output::warn(
                "without a passphrase everybody who can reach this port can use the devices",
            );
        }
        _ => {}
    }
}

/// `PORT`, `HOST:PORT` or `[ADDRESS]:PORT`.
fn split(address: &str) -> Result<(String, u16), CliError> {
    let wrong = |why: &str| {
        CliError::usage(format!("--tls-grpc-listener `{address}`: {why}"))
            .with_hint("write PORT, HOST:PORT or [IPV6-ADDRESS]:PORT, for example 8082")
    };
    let (host, port) = match address.rsplit_once(':') {
        None => (ANY_HOST, address),
        Some(("", port)) => (ANY_HOST, port),
        Some((host, port)) => (host, port),
    };
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(inner) => inner,
        None if host.contains(':') => return Err(wrong("an IPv6 address needs brackets")),
        None => host,
    };
    let port = port
        .parse()
        .map_err(|_| wrong("the port is no number from 0 to 65535"))?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("8082", "0.0.0.0", 8082),
            (":8082", "0.0.0.0", 8082),
            ("127.0.0.1:0", "127.0.0.1", 0),
            ("lab.example:1", "lab.example", 1),
            ("[::1]:2", "::1", 2),
        ] {
            assert_eq!(split(text).unwrap(), (host.to_owned(), port), "{text}");
        }
        for text in ["", "x", "host:", "host:99999", "::1:2", "127.0.0.1"] {
            assert_eq!(
                split(text).unwrap_err().code(),
                crate::exit::USAGE,
                "{text}"
            );
        }
    }
}
