//! How connections are made. Everything above sees a [`Dial`] only, so direct paths and resumed
//! sessions can be more implementations of it.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};
use jmp_wire::connection::{Connection, KeepAlive, TCP_KEEP_ALIVE};
use jmp_wire::rpc;
use jmp_wire::tls::{self, Trust};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::error::{Error, Result};

/// How long connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Metadata key of the direct listener's passphrase (facts: protocol 10.3).
const PASSPHRASE_KEY: &str = "x-jumpstarter-passphrase";

/// A byte stream to an exporter.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A way to an exporter session.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens one byte stream.
    ///
    /// # Errors
    ///
    /// If the other side cannot be reached.
    async fn dial(&self) -> io::Result<Pin<Box<dyn Io>>>;

    /// Where it leads, for people.
    fn target(&self) -> String;

    /// How long opening a stream may take.
    fn patience(&self) -> Duration {
        CONNECT_TIMEOUT
    }

    /// How to find out that the other side is gone; unix sockets tell by themselves.
    fn keep_alive(&self) -> Option<KeepAlive> {
        None
    }

    /// Added to each call.
    fn metadata(&self) -> HeaderMap {
        HeaderMap::new()
    }
}

/// What stands behind a unix socket.
#[derive(Debug, Clone)]
struct UnixDial(PathBuf);

#[async_trait]
impl Dial for UnixDial {
    async fn dial(&self) -> io::Result<Pin<Box<dyn Io>>> {
        Ok(Box::pin(UnixStream::connect(&self.0).await?))
    }

    fn target(&self) -> String {
        self.0.display().to_string()
    }
}

/// A direct listener on TCP.
struct TcpDial {
    host: String,
    port: u16,
    trust: Option<Trust>,
    passphrase: Option<HeaderValue>,
}

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self) -> io::Result<Pin<Box<dyn Io>>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(trust) = &self.trust else {
            return Ok(Box::pin(stream));
        };
        let connector = tls::client(trust)?;
        let name = tls::server_name(&self.host)?;
        let stream = connector.connect(name, stream).await;
        Ok(Box::pin(stream.map_err(explained)?))
    }

    fn target(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn keep_alive(&self) -> Option<KeepAlive> {
        Some(TCP_KEEP_ALIVE)
    }

    fn metadata(&self) -> HeaderMap {
        self.passphrase
            .iter()
            .map(|value| (http::HeaderName::from_static(PASSPHRASE_KEY), value.clone()))
            .collect()
    }
}

/// Says what to do about a certificate that people make by mistake.
fn explained(error: io::Error) -> io::Error {
    if error.to_string().contains("CaUsedAsEndEntity") {
        return io::Error::new(
            error.kind(),
            "the exporter's certificate is marked as a certificate authority; make one with \
             `basicConstraints=CA:FALSE`",
        );
    }
    error
}

/// Makes connections to one exporter session. Cheap to clone.
#[derive(Clone)]
pub struct Dialer(Arc<dyn Dial>);

impl std::fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Dialer({})", self.0.target())
    }
}

// === impl Dialer ===

impl Dialer {
    /// Uses any way.
    pub fn new(dial: impl Dial) -> Self {
        Self(Arc::new(dial))
    }

    /// A unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(UnixDial(path.into()))
    }

    /// A direct listener, `host:port`. Without `trust` the connection is plain text.
    ///
    /// # Errors
    ///
    /// If the address is not `host:port` or the passphrase cannot be sent.
    pub fn tcp(address: &str, trust: Option<Trust>, passphrase: Option<&str>) -> Result<Self> {
        let refused = |reason: &str| Error::Address {
            address: address.to_owned(),
            reason: reason.to_owned(),
        };
        let (host, port) = host_and_port(address).ok_or_else(|| refused("expected HOST:PORT"))?;
        let passphrase = passphrase
            .map(HeaderValue::from_str)
            .transpose()
            .map_err(|_| {
                refused("the passphrase has characters that cannot be sent; use visible ASCII")
            })?
            .map(|mut value| {
                value.set_sensitive(true);
                value
            });
        Ok(Self::new(TcpDial {
            host: host.to_owned(),
            port,
            trust,
            passphrase,
        }))
    }

    /// What `JUMPSTARTER_HOST` names: a unix socket, or `host:port` with TLS unless
    /// `JMP_GRPC_INSECURE` or `JUMPSTARTER_GRPC_INSECURE` is 1, and the passphrase of
    /// `JMP_GRPC_PASSPHRASE` (facts: protocol 10.2), and as ours the PEM file named by `JMP_TLS_CA`
    /// as the only trusted authorities. Without `JUMPSTARTER_HOST`, the background session of
    /// `jmp local start`, if one is running.
    ///
    /// # Errors
    ///
    /// If there is neither, or the address makes no sense.
    pub fn from_environment() -> Result<Self> {
        let address = std::env::var("JUMPSTARTER_HOST")
            .ok()
            .filter(|address| !address.is_empty());
        let Some(address) = address else {
            let session = crate::local::find().ok_or(Error::NoSession)?;
            return Ok(Self::unix(session.socket));
        };
        if host_and_port(&address).is_none() {
            return Ok(Self::unix(address));
        }
        let on = |name: &str| std::env::var(name).is_ok_and(|value| value == "1");
        let plain = on("JMP_GRPC_INSECURE") || on("JUMPSTARTER_GRPC_INSECURE");
        let trust = if plain {
            None
        } else {
            Some(trust_from_environment()?)
        };
        let passphrase = std::env::var("JMP_GRPC_PASSPHRASE").ok();
        Self::tcp(&address, trust, passphrase.as_deref())
    }

    /// Where it leads, for people.
    pub fn target(&self) -> String {
        self.0.target()
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// If the exporter cannot be reached within [`Dial::patience`].
    pub async fn connect(&self) -> Result<Connection> {
        let unreachable = |source: io::Error| Error::Unreachable {
            target: self.target(),
            source,
        };
        let open = async {
            let dialled = self.0.dial().await;
            let io = dialled.map_err(|error| match error.get_ref() {
                // Who refuses a tunnel is no exporter that cannot be reached.
                Some(inner) if inner.is::<tonic::Status>() => {
                    Error::refused("connecting to the exporter", rpc::status_of(error))
                }
                _ => unreachable(error),
            })?;
            Connection::handshake(io, "localhost", self.0.metadata(), self.0.keep_alive())
                .await
                .map_err(|status| Error::refused("connecting", status))
        };
        let patience = self.0.patience();
        tokio::time::timeout(patience, open)
            .await
            .unwrap_or_else(|_| {
                Err(unreachable(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer within {} seconds", patience.as_secs()),
                )))
            })
    }
}

/// Files with trusted authorities: ours, then the one that every gRPC program of other
/// implementations reads.
const TRUST_VARIABLES: [&str; 2] = ["JMP_TLS_CA", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"];

/// The authorities that `JMP_TLS_CA` or else `GRPC_DEFAULT_SSL_ROOTS_FILE_PATH` names, else those
/// of the system.
///
/// # Errors
///
/// If the file cannot be read.
pub fn trust_from_environment() -> Result<Trust> {
    let named = TRUST_VARIABLES.iter().find_map(|variable| {
        let path = std::env::var_os(variable).filter(|path| !path.is_empty())?;
        Some((variable, PathBuf::from(path)))
    });
    let Some((variable, path)) = named else {
        return Ok(Trust::System);
    };
    std::fs::read(&path)
        .map(Trust::Authorities)
        .map_err(|source| Error::Io {
            what: format!(
                "reading the certificate authorities {} named by {variable}",
                path.display()
            ),
            source,
        })
}

/// Splits `host:port`; a text whose end is no port from 1 to 65535 is something else.
fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(host_and_port("a:1"), Some(("a", 1)));
        assert_eq!(host_and_port("[::1]:80"), Some(("::1", 80)));
        for path in ["/run/x/socket", "a:0", "a:65536", ":1", "a:b", "a"] {
            assert_eq!(host_and_port(path), None, "{path}");
        }
    }
}
