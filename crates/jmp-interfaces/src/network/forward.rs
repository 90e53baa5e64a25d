//! Local ports and sockets that lead to a byte stream of a device.
//!
//! ```no_run
//! use jmp_driver::DriverHandle;
//! use jmp_interfaces::network::forward::Forward;
//!
//! # async fn example(device: DriverHandle) -> jmp_driver::Result<()> {
//! let forward = Forward::new(device).listen_tcp("127.0.0.1", 0).await?;
//! let page = tokio::net::TcpStream::connect(forward.local_addr()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Each accepted connection opens a stream of its own. An end of file on one side reaches the
//! other side as one. A forward owns its connections: when it is dropped they all end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jmp_driver::{ByteStream, DriverHandle, Error, ErrorKind, Result};
use jmp_wire::stream::bridge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::task::AbortOnDropHandle;

/// Connections through one forward at a time, unless told otherwise. More wait in the backlog.
pub const DEFAULT_MAX_CONNECTIONS: usize = 256;
/// How long the exporter may take to open a stream; its own attempts end earlier.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a failed accept, which is almost always a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What to forward, before it is known to where.
#[derive(Debug, Clone)]
pub struct Forward {
    device: DriverHandle,
    method: String,
    max_connections: usize,
}

/// A local TCP port that leads to a device. Dropping it closes the port and all connections.
#[derive(Debug)]
pub struct TcpPortForward {
    local: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

/// A local unix socket that leads to a device. Dropping it removes the socket and ends all
/// connections.
#[derive(Debug)]
pub struct UnixPortForward {
    path: PathBuf,
    _accepting: AbortOnDropHandle<()>,
    _cleanup: SocketCleanup,
}

/// What is left to remove.
#[derive(Debug)]
enum SocketCleanup {
    File(PathBuf),
    Directory(#[expect(dead_code, reason = "removed on drop")] tempfile::TempDir),
}

// === impl Forward ===

impl Forward {
    /// Forwards the stream `connect` of a device.
    pub fn new(device: DriverHandle) -> Self {
        Self {
            device,
            method: "connect".into(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
        }
    }

    /// Forwards another stream of the device.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = method.into();
        self
    }

    /// Serves at most this many connections at a time, at least one.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count.max(1);
        self
    }

    /// Opens one stream.
    ///
    /// # Errors
    ///
    /// Those of the driver; TIMEOUT if it does not answer within a minute.
    pub async fn open(&self) -> Result<ByteStream> {
        let opening = self.device.open_stream(&self.method);
        match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::timeout(format!(
                "opening the stream `{}`: no answer within {} s; is the exporter alive?",
                self.method,
                OPEN_TIMEOUT.as_secs()
            ))),
        }
    }

    /// Listens on a TCP port; port 0 takes any free one. Of the addresses that `host` stands
    /// for the first usable one is taken, IPv4 before IPv6.
    ///
    /// # Errors
    ///
    /// If the host is unknown or the port cannot be used.
    pub async fn listen_tcp(self, host: &str, port: u16) -> Result<TcpPortForward> {
        let listener = bind_tcp(host, port).await?;
        let local = listener.local_addr()?;
        let name = local.to_string();
        let limit = self.max_connections;
        let accepting = accept_all(listener, limit, name, move |local| {
            let forward = self.clone();
            async move { forward.carry(ByteStream::from_io(local)).await }
        });
        Ok(TcpPortForward {
            local,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
        })
    }

    /// Listens on a unix socket that only this user can open; without a path on one named
    /// `socket` in a new private directory below the user's runtime directory.
    ///
    /// # Errors
    ///
    /// If the socket cannot be made, for example because something is there already.
    pub fn listen_unix(self, path: Option<&Path>) -> Result<UnixPortForward> {
        let (path, private) = match path {
            Some(path) => (path.to_owned(), None),
            None => {
                let directory = private_directory()?;
                (directory.path().join("socket"), Some(directory))
            }
        };
        let refused = |error: io::Error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse => "; something is there already: remove it first",
                _ => "",
            };
            Error::from(error).context(format!("listening on {}{advice}", path.display()))
        };
        let listener = UnixListener::bind(&path).map_err(refused)?;
        // From here on the socket is ours to remove, and nothing that was there before.
        let cleanup = match private {
            Some(directory) => SocketCleanup::Directory(directory),
            None => SocketCleanup::File(path.clone()),
        };
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, owner_only).map_err(refused)?;
        let name = path.display().to_string();
        let limit = self.max_connections;
        let accepting = accept_all(listener, limit, name, move |local| {
            let forward = self.clone();
            async move { forward.carry(ByteStream::from_io(local)).await }
        });
        Ok(UnixPortForward {
            path,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
            _cleanup: cleanup,
        })
    }

    /// Serves one local connection until both directions have ended.
    async fn carry(&self, local: ByteStream) -> Result<()> {
        let remote = self.open().await?;
        bridge(local, remote).await?;
        Ok(())
    }

    pub(super) fn connection_limit(&self) -> usize {
        self.max_connections
    }
}

// === impl TcpPortForward ===

impl TcpPortForward {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

// === impl UnixPortForward ===

impl UnixPortForward {
    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

// === impl SocketCleanup ===

impl Drop for SocketCleanup {
    fn drop(&mut self) {
        if let Self::File(path) = self
            && let Err(error) = std::fs::remove_file(&*path)
        {
            tracing::debug!("removing {}: {error}", path.display());
        }
    }
}

/// A directory that only this user can enter, removed on drop.
fn private_directory() -> Result<tempfile::TempDir> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let parent = runtime
        .filter(|directory| directory.is_dir())
        .unwrap_or_else(std::env::temp_dir);
    tempfile::Builder::new()
        .prefix("jumpstarter-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(&parent)
        .map_err(|error| {
            Error::from(error).context(format!("making a directory in {}", parent.display()))
        })
}

/// Listens on the first usable address of a host.
pub(super) async fn bind_tcp(host: &str, port: u16) -> Result<TcpListener> {
    let what = || format!("listening on {}", host_and_port(host, port));
    let resolved = tokio::net::lookup_host((bare_host(host), port)).await;
    let mut addresses: Vec<_> = resolved
        .map_err(|error| {
            Error::new(ErrorKind::Connection, error.to_string())
                .with_source(error)
                .context(what())
        })?
        .collect();
    // A `localhost` that is only ::1 would surprise everybody who types 127.0.0.1.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    match TcpListener::bind(addresses.as_slice()).await {
        Ok(listener) => Ok(listener),
        Err(error) => {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => {
                    "; choose another port, or 0 for any free one"
                }
                _ => "",
            };
            let message = format!("{}: {error}{advice}", what());
            Err(Error::new(ErrorKind::Connection, message).with_source(error))
        }
    }
}

/// A host as name resolution wants it: IPv6 without brackets.
pub fn bare_host(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(host)
}

/// `host:port`, with brackets around IPv6.
pub fn host_and_port(host: &str, port: u16) -> String {
    match bare_host(host) {
        host if host.contains(':') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// Something that yields local connections.
pub(super) trait Accept: Send + 'static {
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Accept for UnixListener {
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        UnixListener::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Accepts for ever, at most `limit` connections at a time. The connections belong to this
/// future and end with it.
pub(super) async fn accept_all<A, S, F>(listener: A, limit: usize, name: String, serve: S)
where
    A: Accept,
    S: Fn(A::Io) -> F + Send,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut connections: JoinSet<Result<()>> = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = connections.join_next() => report(&name, ended),
            accepted = listener.accept(), if connections.len() < limit => match accepted {
                Ok(local) => {
                    connections.spawn(serve(local));
                }
                Err(error) => {
                    tracing::warn!("forward {name}: accepting a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn report(name: &str, ended: Result<Result<()>, JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("forward {name}: a connection ended: {error}"),
        Err(error) => tracing::error!("forward {name}: a connection broke down: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        assert_eq!(host_and_port("localhost", 22), "localhost:22");
        assert_eq!(host_and_port("::1", 22), "[::1]:22");
        assert_eq!(host_and_port("[::1]", 22), "[::1]:22");
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_with_advice() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind_tcp("127.0.0.1", port).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("listening on 127.0.0.1:{port}: "))
                && error.ends_with("choose another port, or 0 for any free one"),
            "{error}"
        );
    }
}
