//! What a router is started with, and what it tells about itself.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jmp_auth::{Secret, TunnelKeys};
use jmp_wire::connection::KeepAlive;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::clock::{Clock, SystemClock};
use crate::listener::{Io, Listener};

/// HTTP/2 window of one stream: 16 MiB keep 100 MB/s going at 100 ms round trip, with room to spare.
pub const STREAM_WINDOW: u32 = 16 * 1024 * 1024;

/// HTTP/2 window of a connection. Wide enough for 64 streams that nobody reads, so that a stalled
/// tunnel does not hold up the others of its connection.
pub const CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;

/// Bytes that may wait in one call for the socket of its peer.
pub const SEND_BUFFER: usize = 1024 * 1024;

/// Largest HTTP/2 frame that is accepted, hence the largest chunk that is forwarded in one piece.
pub const FRAME_SIZE: u32 = 256 * 1024;

/// The most bytes that one tunnel can make the router hold: in each direction a full window of the
/// sender, a full send buffer of the receiver, and two chunks on their way between. 35 MiB; only a
/// tunnel whose both receivers stall while both senders go on gets there.
pub const TUNNEL_MEMORY: usize =
    2 * (STREAM_WINDOW as usize + SEND_BUFFER + 2 * FRAME_SIZE as usize);

/// What is bounded, and how.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections of peers; more are closed at once.
    pub connections: usize,
    /// Those of one host, which must not keep all the others out.
    pub connections_per_address: usize,
    /// Calls on one connection; peers queue the others.
    pub streams_per_connection: u32,
    /// Bytes of the metadata of a call.
    pub header_bytes: u32,
    /// How long TLS may take, and the request for a health check.
    pub handshake: Duration,
    /// How long a connection may be without a call, the time before the first one included.
    pub idle: Duration,
    /// Probes of connections. The time-out is long because a network blip shorter than a lease
    /// must not end a session; a peer whose host is alive is noticed without probes.
    pub keep_alive: KeepAlive,
    /// Peers of one identity that may wait for their partner; many jobs may share an identity, and
    /// shipped exporters come only after their hook.
    pub parked_per_owner: usize,
    /// Peers that may wait for their partner.
    pub parked: usize,
    /// Strangers that may watch the router's health.
    pub watchers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 5_000,
            streams_per_connection: 1024,
            header_bytes: 16 * 1024,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            keep_alive: KeepAlive {
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(180),
            },
            parked_per_owner: 256,
            parked: 4096,
            watchers: 256,
        }
    }
}

/// The router's certificate.
#[derive(Clone)]
pub enum Tls {
    /// Plain HTTP/2, for simulations in memory.
    None,
    /// This certificate; `jmp_auth::pki::ServerCertificate` makes it and keeps it fresh.
    Config(Arc<ServerConfig>),
    /// The controller's welcome brings it. Peers that come earlier wait for it.
    FromController,
}

/// Where the keys for tunnel tokens come from.
#[derive(Clone)]
pub enum Keys {
    /// Given, for example the `ROUTER_KEY` of a shipped controller: ready from the start.
    Fixed(TunnelKeys),
    /// The controller's welcome brings them.
    FromController,
}

/// A connection being made.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Io>> + Send>>;

/// Opens connections to the controller.
pub trait Dial: Send + Sync + 'static {
    /// Opens one, TLS included.
    fn dial(&self) -> Dialling;
}

impl<F: Fn() -> Dialling + Send + Sync + 'static> Dial for F {
    fn dial(&self) -> Dialling {
        self()
    }
}

/// Opens connections over TCP and TLS.
pub struct TlsDial {
    /// `host:port`.
    pub endpoint: String,
    /// What is trusted; [`jmp_wire::tls::client`] makes it.
    pub connector: TlsConnector,
}

impl Dial for TlsDial {
    fn dial(&self) -> Dialling {
        let (endpoint, connector) = (self.endpoint.clone(), self.connector.clone());
        Box::pin(async move {
            let host = endpoint
                .rsplit_once(':')
                .map_or(&*endpoint, |(host, _)| host)
                .trim_start_matches('[')
                .trim_end_matches(']');
            let name = jmp_wire::tls::server_name(host)?;
            let socket = TcpStream::connect(&endpoint).await?;
            socket.set_nodelay(true)?;
            let io = connector.connect(name, socket).await?;
            Ok(Box::new(io) as Io)
        })
    }
}

/// How the router joins its controller.
#[derive(Clone)]
pub struct ControlOptions {
    /// Opens connections to the controller.
    pub dial: Arc<dyn Dial>,
    /// The controller's address, for messages and as `:authority`.
    pub controller: String,
    /// The join credential.
    pub credential: Secret,
    /// The router's name.
    pub name: String,
    /// Its public address, `host:port`.
    pub endpoint: String,
    /// What exporters' labels are compared with.
    pub labels: HashMap<String, String>,
    /// Differs after every start of the process.
    pub instance: String,
    /// Version of the program.
    pub version: String,
    /// Time between two reports of the load.
    pub report_every: Duration,
}

/// Everything a router needs.
pub struct RouterOptions {
    /// Where peers connect.
    pub listener: Listener,
    /// Whether and how they are encrypted.
    pub tls: Tls,
    /// How their tokens are checked.
    pub keys: Keys,
    /// The controller, if this router has one that speaks our control service.
    pub control: Option<ControlOptions>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served over plain HTTP/1.
    pub metrics: Option<TcpListener>,
    /// What is bounded.
    pub limits: Limits,
    /// How long tunnels may go on when the router is stopped by its token.
    pub grace: Duration,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

impl RouterOptions {
    /// A router with default limits, without controller and metrics.
    pub fn new(listener: Listener, tls: Tls, keys: Keys) -> Self {
        Self {
            listener,
            tls,
            keys,
            control: None,
            metrics: None,
            limits: Limits::default(),
            grace: Duration::from_secs(30),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Which tunnels to end; at least one of lease and stream is not empty.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    /// All tunnels of this lease whose tokens were issued until now.
    pub lease: String,
    /// The tunnel of this stream.
    pub stream: String,
    /// Shown to both peers.
    pub reason: String,
}

/// What a router does right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterStats {
    /// Tunnels with both peers.
    pub tunnels: usize,
    /// Peers that wait for their partner.
    pub parked: usize,
    /// Bytes of bodies delivered since the start, both directions.
    pub bytes_forwarded: u64,
    /// Tunnels joined since the start.
    pub pairings: u64,
    /// No new tunnels are let in.
    pub draining: bool,
    /// New tunnels are let in.
    pub ready: bool,
}
