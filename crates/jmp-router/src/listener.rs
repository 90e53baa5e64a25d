//! Where connections come from: sockets, or memory for tests and simulations.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A byte stream of any kind.
pub trait ReadWrite: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ReadWrite for T {}

/// A byte stream whose kind nobody needs to know.
pub type Io = Box<dyn ReadWrite>;

/// A connection somebody opened to us.
pub struct Accepted {
    /// Its bytes, before TLS.
    pub io: Io,
    /// Who it is, for log lines.
    pub peer: String,
    /// Address of the host, for limits; none for connections in memory.
    pub address: Option<IpAddr>,
}

/// A source of connections.
pub struct Listener {
    pub(crate) incoming: BoxStream<'static, io::Result<Accepted>>,
    pub(crate) address: Option<SocketAddr>,
}

/// Opens connections to a [`Listener::memory`].
#[derive(Clone)]
pub struct MemoryDialer {
    accepted: mpsc::Sender<Accepted>,
    buffer: usize,
}

// === impl Listener ===

impl Listener {
    /// Connections from any source. An error of the stream is logged and skipped; its end ends
    /// the accepting.
    pub fn new(incoming: impl Stream<Item = io::Result<Accepted>> + Send + 'static) -> Self {
        Self {
            incoming: incoming.boxed(),
            address: None,
        }
    }

    /// Connections to a TCP socket, without Nagle's delay.
    ///
    /// # Errors
    ///
    /// If the socket has no local address.
    pub fn tcp(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let incoming = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.and_then(|(socket, peer)| {
                socket.set_nodelay(true)?;
                Ok(Accepted {
                    io: Box::new(socket) as Io,
                    peer: peer.to_string(),
                    address: Some(peer.ip()),
                })
            });
            Some((accepted, listener))
        });
        let mut listener = Self::new(incoming);
        listener.address = Some(address);
        Ok(listener)
    }

    /// Connections in memory, each with `buffer` bytes in either direction.
    pub fn memory(buffer: usize) -> (Self, MemoryDialer) {
        let (accepted, arrivals) = mpsc::channel::<Accepted>(64);
        let incoming = futures::stream::unfold(arrivals, |mut arrivals| async {
            let next = arrivals.recv().await?;
            Some((Ok(next), arrivals))
        });
        (Self::new(incoming), MemoryDialer { accepted, buffer })
    }
}

// === impl MemoryDialer ===

impl MemoryDialer {
    /// Opens a connection; `peer` is the name the router logs.
    ///
    /// # Errors
    ///
    /// CONNECTION_REFUSED if the router is gone.
    pub async fn dial(&self, peer: &str) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(self.buffer);
        let accepted = Accepted {
            io: Box::new(theirs),
            peer: peer.to_owned(),
            address: None,
        };
        let sent = self.accepted.send(accepted).await;
        sent.map_err(|_| io::Error::new(io::ErrorKind::ConnectionRefused, "the router is gone"))?;
        Ok(ours)
    }
}
