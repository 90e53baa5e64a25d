//! Sockets of a session: unix sockets for this machine, TCP for the direct mode.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jmp_driver::{ByteStream, Origin};
use jmp_wire::connection::{KeepAlive, serve};
use jmp_wire::tls::TlsAcceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;

use crate::service::ConnectionService;
use crate::session::Session;

/// Connections at one time through one listener.
const MAX_CONNECTIONS: usize = 512;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, which is almost always a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Finds dead TCP peers.
const KEEP_ALIVE: KeepAlive = KeepAlive {
    interval: Duration::from_secs(20),
    timeout: Duration::from_secs(60),
};

/// Finds clients that went away behind a router which does not tell (facts: protocol 9.2). Longer
/// than a network may be out for.
const TUNNEL_KEEP_ALIVE: KeepAlive = KeepAlive {
    interval: Duration::from_secs(30),
    timeout: Duration::from_secs(180),
};

/// How a direct listener admits its clients.
#[derive(Clone, Default)]
pub struct DirectOptions {
    /// TLS, unless the administrator asked for plain text.
    pub tls: Option<TlsAcceptor>,
    /// Must accompany each call.
    pub passphrase: Option<Arc<str>>,
}

/// Something that yields connections.
trait Accept: Send + 'static {
    type Io: Send + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Accept for UnixListener {
    type Io = tokio::net::UnixStream;
    async fn accept(&self) -> io::Result<Self::Io> {
        UnixListener::accept(self).await.map(|(stream, _)| stream)
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;
    async fn accept(&self) -> io::Result<Self::Io> {
        let (stream, _) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Session {
    /// Serves the session on a new unix socket that only this user can open. The directory
    /// should be private, too. The socket is removed with the session's directory.
    ///
    /// # Errors
    ///
    /// If the socket cannot be made, for example because it exists.
    pub fn serve_unix(&self, path: &Path, origin: Origin) -> io::Result<()> {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let session = self.clone();
        self.inner().tasks.spawn(async move {
            let service = session.clone();
            session
                .accept_all(listener, move |io| {
                    let session = service.clone();
                    async move { session.converse(io, origin, None, None).await }
                })
                .await;
        });
        Ok(())
    }

    /// Serves the session on TCP.
    ///
    /// # Errors
    ///
    /// If the listener has no local address.
    pub fn serve_tcp(
        &self,
        listener: TcpListener,
        options: DirectOptions,
    ) -> io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        let session = self.clone();
        self.inner().tasks.spawn(async move {
            let service = session.clone();
            session
                .accept_all(listener, move |io| {
                    let session = service.clone();
                    let options = options.clone();
                    async move { session.admit(io, options).await }
                })
                .await;
        });
        Ok(address)
    }

    /// Serves the session to the client behind a tunnel, until one of the two ends.
    pub(crate) async fn serve_stream(&self, stream: ByteStream) {
        let io = stream.into_io();
        self.converse(io, Origin::Client, None, Some(TUNNEL_KEEP_ALIVE))
            .await;
    }

    async fn admit(&self, io: TcpStream, options: DirectOptions) {
        let passphrase = options.passphrase;
        let Some(tls) = options.tls else {
            return self
                .converse(io, Origin::Client, passphrase, Some(KEEP_ALIVE))
                .await;
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(io)).await {
            Ok(Ok(io)) => {
                self.converse(io, Origin::Client, passphrase, Some(KEEP_ALIVE))
                    .await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake timed out"),
        }
    }

    async fn accept_all<L, F, C>(&self, listener: L, converse: F)
    where
        L: Accept,
        F: Fn(L::Io) -> C + Send,
        C: Future<Output = ()> + Send + 'static,
    {
        let inner = self.inner();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let next = async {
                let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
                Some((listener.accept().await, slot))
            };
            let accepted = tokio::select! {
                accepted = next => accepted,
                () = inner.closing.cancelled() => return,
            };
            match accepted {
                Some((Ok(io), slot)) => {
                    let conversation = converse(io);
                    inner.tasks.spawn(async move {
                        conversation.await;
                        drop(slot);
                    });
                }
                Some((Err(error), _)) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None => return,
            }
        }
    }

    async fn converse<IO>(
        &self,
        io: IO,
        origin: Origin,
        passphrase: Option<Arc<str>>,
        keep_alive: Option<KeepAlive>,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = ConnectionService::new(self, origin, passphrase);
        let stop = self.inner().closing.clone().cancelled_owned();
        let cut = self.inner().cut.cancelled();
        let served = serve(io, service, &self.inner().tasks, keep_alive, stop);
        tokio::select! {
            result = served => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
            }
            () = cut => tracing::debug!("connection was cut with its session"),
        }
    }
}
