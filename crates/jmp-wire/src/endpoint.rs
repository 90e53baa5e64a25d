//! Ways to controllers and routers: their addresses, how their certificates are checked, and what
//! says who calls.
//!
//! Controllers and routers always speak TLS (facts: protocol 11). A [`Connector`] knows whom to
//! trust and makes one [`Connection`] at a time to an [`Endpoint`]; reconnecting is its caller's.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tonic::Status;

use crate::connection::{Connection, KeepAlive};
use crate::read_ahead::ReadAhead;
use crate::tls::{self, TlsConnector, Trust};

/// Port of an endpoint that names none (facts: protocol 11).
pub const DEFAULT_PORT: u16 = 443;
/// How long connecting may take: looking the name up, TCP, TLS and HTTP/2.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address may keep the next one waiting.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 16;

/// Liveness of a connection to a controller: a dead one is noticed in 40 s.
pub const CONTROLLER_KEEP_ALIVE: KeepAlive = KeepAlive {
    interval: Duration::from_secs(20),
    timeout: Duration::from_secs(20),
};

/// Where a controller or a router is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("endpoint `{text}`: {reason}")]
pub struct EndpointError {
    text: String,
    reason: &'static str,
}

/// How the certificates of servers are checked.
#[derive(Clone, PartialEq, Eq)]
pub enum ServerTrust {
    /// By the certificates of the operating system.
    System,
    /// By those of a PEM bundle alone.
    Authorities(Vec<u8>),
    /// By whatever the server presents when it is first connected to (`tls.insecure`). The host
    /// name and the period of validity are still checked.
    Presented,
}

/// `tls.ca` of a configuration cannot be used.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`tls.ca` is not the base64 text of a PEM bundle: {0}")]
pub struct CaError(String);

/// Which kind of object of the controller calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerKind {
    /// `Client`.
    Client,
    /// `Exporter`.
    Exporter,
    /// `Admin`, ours alone.
    Admin,
    /// `Router`, ours alone.
    Router,
}

/// Who calls a controller (facts: protocol 7.1). `Debug` does not show the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `jumpstarter-kind`.
    pub kind: CallerKind,
    /// `jumpstarter-namespace`; left out when empty.
    pub namespace: String,
    /// `jumpstarter-name`; left out when empty, for identities that are told by the token alone.
    pub name: String,
    /// The bearer token.
    pub token: String,
}

/// A token or a name has characters that no call can carry.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("the {0} has characters that cannot be sent; copy it again without blanks and line ends")]
pub struct CredentialsError(&'static str);

/// Why a server cannot be connected to.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {endpoint}: {reason}")]
pub struct ConnectError {
    /// `host:port`.
    pub endpoint: String,
    /// What went wrong.
    pub reason: ConnectFailure,
}

/// What goes wrong on the way to a server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailure {
    /// The host name is not known.
    #[error("the name cannot be looked up ({0}); check the endpoint for a typing error")]
    Lookup(io::Error),
    /// No address answers.
    #[error("{0}")]
    Tcp(io::Error),
    /// The server's certificate is refused.
    #[error("its certificate is not accepted: {0}")]
    Certificate(String),
    /// TLS fails for another reason.
    #[error("the TLS handshake failed ({0}); is this the port of a controller or router?")]
    Tls(io::Error),
    /// What we are to trust cannot be used.
    #[error("the trusted certificates cannot be used: {0}")]
    Trust(io::Error),
    /// The server does not speak HTTP/2.
    #[error("{}", .0.message())]
    Http(Status),
    /// Nothing of all that within the time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// Makes connections to servers that are trusted in one way. Cheap to clone; clones share what
/// the first connection has learnt.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

/// Bytes of a connection that is no socket.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// A connection being made some other way.
pub type Transporting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// Opens connections to endpoints without sockets.
type Transports = Box<dyn Fn(&Endpoint) -> Transporting + Send + Sync>;

struct Inner {
    trust: ServerTrust,
    /// Instead of TCP and TLS.
    transports: Option<Transports>,
    /// Checked against the certificate instead of the host (`grpc.ssl_target_name_override`).
    server_name: Option<String>,
    /// Reading the trusted certificates takes milliseconds. Not for [`ServerTrust::Presented`],
    /// where each server presents its own.
    tls: OnceCell<TlsConnector>,
}

// === impl Endpoint ===

impl Endpoint {
    /// The host, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// `host[:port]`, port 443 if there is none; an IPv6 address with a port needs brackets. A
    /// scheme (`grpcs://`, `https://`) is forgiven.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let refused = |reason| EndpointError {
            text: text.to_owned(),
            reason,
        };
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let bare = bare.trim().trim_end_matches('/');
        let (host, port) = match bare.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (bare, None),
        };
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = match port.map(str::parse) {
            None => DEFAULT_PORT,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return Err(refused("the port is no number from 1 to 65535")),
        };
        if host.is_empty() {
            return Err(refused("expected HOST or HOST:PORT"));
        }
        tls::server_name(host).map_err(|_| refused("the host is no name and no address"))?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

// === impl ServerTrust ===

impl ServerTrust {
    /// What a configuration asks for (facts: protocol 11): `tls.insecure`, else the bundle of
    /// `tls.ca` (base64 of PEM) unless it is empty, else `fallback`.
    ///
    /// # Errors
    ///
    /// If `tls.ca` is no base64 text or holds no certificate.
    pub fn configured(insecure: bool, ca: Option<&str>, fallback: Trust) -> Result<Self, CaError> {
        if insecure {
            return Ok(Self::Presented);
        }
        let Some(ca) = ca.filter(|ca| !ca.trim().is_empty()) else {
            return Ok(match fallback {
                Trust::System => Self::System,
                Trust::Authorities(bundle) => Self::Authorities(bundle),
            });
        };
        // Text that was wrapped on its way is still the same text.
        let text: String = ca.split_ascii_whitespace().collect();
        let bundle = base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| CaError(error.to_string()))?;
        tls::pinned_client(&bundle).map_err(|error| CaError(error.to_string()))?;
        Ok(Self::Authorities(bundle))
    }
}

impl fmt::Debug for ServerTrust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::System => "System",
            Self::Authorities(_) => "Authorities(…)",
            Self::Presented => "Presented",
        })
    }
}

// === impl CallerKind ===

impl CallerKind {
    /// The word on the wire; upper and lower case count.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "Client",
            Self::Exporter => "Exporter",
            Self::Admin => "Admin",
            Self::Router => "Router",
        }
    }
}

// === impl Credentials ===

impl Credentials {
    /// What accompanies each call.
    ///
    /// # Errors
    ///
    /// If a part cannot be sent; the message names it and does not show it.
    pub fn metadata(&self) -> Result<HeaderMap, CredentialsError> {
        let mut metadata = bearer(&self.token)?;
        metadata.insert(
            HeaderName::from_static("jumpstarter-kind"),
            HeaderValue::from_static(self.kind.as_str()),
        );
        for (key, what, text) in [
            ("jumpstarter-namespace", "namespace", &self.namespace),
            ("jumpstarter-name", "name", &self.name),
        ] {
            if !text.is_empty() {
                let value = HeaderValue::from_str(text).map_err(|_| CredentialsError(what))?;
                metadata.insert(HeaderName::from_static(key), value);
            }
        }
        Ok(metadata)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("kind", &self.kind)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Metadata with a bearer token alone, as routers want it (facts: protocol 9.1).
///
/// # Errors
///
/// If the token cannot be sent.
pub fn bearer(token: &str) -> Result<HeaderMap, CredentialsError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| CredentialsError("token"))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
}

// === impl Connector ===

impl Connector {
    /// Makes connections to servers that `trust` accepts.
    #[must_use]
    pub fn new(trust: ServerTrust) -> Self {
        Self::with_server_name(trust, None)
    }

    /// As [`Connector::new`], with a name that certificates must carry instead of the host's.
    #[must_use]
    pub fn with_server_name(trust: ServerTrust, server_name: Option<String>) -> Self {
        Self(Arc::new(Inner {
            trust,
            transports: None,
            server_name,
            tls: OnceCell::new(),
        }))
    }

    /// Makes connections through `open`, without TCP and TLS: for simulations, where everything is in
    /// one process and time is virtual.
    #[must_use]
    pub fn in_memory(open: impl Fn(&Endpoint) -> Transporting + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            trust: ServerTrust::Presented,
            transports: Some(Box::new(open)),
            server_name: None,
            tls: OnceCell::new(),
        }))
    }

    /// Connects; `metadata` accompanies each call.
    ///
    /// # Errors
    ///
    /// What went wrong, within ten seconds.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        metadata: HeaderMap,
        keep_alive: KeepAlive,
    ) -> Result<Connection, ConnectError> {
        let connecting = self.connect_anyhow_long(endpoint, metadata, keep_alive);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        let connected = connected.unwrap_or(Err(ConnectFailure::TimedOut(CONNECT_TIMEOUT)));
        connected.map_err(|reason| ConnectError {
            endpoint: endpoint.to_string(),
            reason,
        })
    }

    async fn connect_anyhow_long(
        &self,
        endpoint: &Endpoint,
        metadata: HeaderMap,
        keep_alive: KeepAlive,
    ) -> Result<Connection, ConnectFailure> {
        if let Some(open) = &self.0.transports {
            let io = open(endpoint).await.map_err(ConnectFailure::Tcp)?;
            return Connection::handshake(io, &endpoint.to_string(), metadata, Some(keep_alive))
                .await
                .map_err(ConnectFailure::Http);
        }
        let name = self.0.server_name.as_deref().unwrap_or(&endpoint.host);
        let name = tls::server_name(name).map_err(ConnectFailure::Trust)?;
        let client = match self.0.trust {
            ServerTrust::Presented => {
                let io = tcp(endpoint).await?;
                tls::presented_client(io, name.clone())
                    .await
                    .map_err(explained)?
            }
            _ => self.0.tls.get_or_try_init(|| self.client()).await?.clone(),
        };
        let io = ReadAhead::new(tcp(endpoint).await?);
        let io = client.connect(name, io).await.map_err(explained)?;
        Connection::handshake(io, &endpoint.to_string(), metadata, Some(keep_alive))
            .await
            .map_err(ConnectFailure::Http)
    }

    async fn client(&self) -> Result<TlsConnector, ConnectFailure> {
        match &self.0.trust {
            ServerTrust::Authorities(bundle) => tls::pinned_client(bundle),
            ServerTrust::System | ServerTrust::Presented => tls::client(&Trust::System),
        }
        .map_err(ConnectFailure::Trust)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connector")
            .field("trust", &self.0.trust)
            .finish_non_exhaustive()
    }
}

/// Connects to the first address of the host that answers: a broken IPv6 route must not cost the
/// whole time.
async fn tcp(endpoint: &Endpoint) -> Result<TcpStream, ConnectFailure> {
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(ConnectFailure::Lookup)?
            .take(MOST_ADDRESSES)
            .collect();
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    attempts.extend(waiting.next().map(TcpStream::connect));
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    while !attempts.is_empty() {
        let more = waiting.len() > 0;
        let connected = tokio::select! {
            Some(connected) = attempts.next() => connected,
            () = tokio::time::sleep(NEXT_ADDRESS), if more => {
                attempts.extend(waiting.next().map(TcpStream::connect));
                continue;
            }
        };
        match connected {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(ConnectFailure::Tcp)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
        attempts.extend(waiting.next().map(TcpStream::connect));
    }
    Err(ConnectFailure::Tcp(failure))
}

/// Tells a refused certificate, which a person can do something about, from the rest.
fn explained(error: io::Error) -> ConnectFailure {
    use rustls::{CertificateError, Error};
    let reason = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    let advice = match reason {
        Some(Error::InvalidCertificate(reason)) => match reason {
            // A bad signature: an authority of the same name has been made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "nobody that is trusted has issued it; set `tls.ca` to the certificate of its \
                 authority"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "it is for another host name; use an endpoint that it names"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "it has expired; renew it, and check the clock of this machine"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "it is not valid yet; check the clock of this machine"
            }
            _ => "make a new one",
        },
        _ => return ConnectFailure::Tls(error),
    };
    let shown = reason.map(ToString::to_string).unwrap_or_default();
    ConnectFailure::Certificate(format!("{advice} ({shown})"))
}

#[cfg(test)]
mod tests;
