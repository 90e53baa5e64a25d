//! A session with network drivers, and peers for them to talk to.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jmp_client::{AllowList, Client, Dialer, DriverHandle};
use jmp_driver::{NodeSpec, Origin, Registry};
use jmp_exporter::{Session, SessionOptions};
use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// A session on a unix socket and a client of it.
pub struct Fixture {
    pub session: Session,
    pub client: Client,
    directory: tempfile::TempDir,
}

pub fn tree(nodes: &[(&str, &str, Json)]) -> NodeSpec {
    let children = nodes.iter().map(|(name, class, config)| {
        let node = NodeSpec::Driver {
            type_name: format!("jumpstarter_driver_network.driver.{class}"),
            config: config.clone(),
            description: None,
            methods_description: BTreeMap::new(),
            children: Vec::new(),
        };
        ((*name).to_owned(), node)
    });
    NodeSpec::Group {
        description: None,
        children: children.collect(),
    }
}

pub fn registry() -> Registry {
    let mut registry = Registry::new();
    driver_composite::register(&mut registry);
    driver_network::register(&mut registry);
    registry
}

impl Fixture {
    pub async fn new(nodes: &[(&str, &str, Json)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let session = Session::open(&registry(), &tree(nodes), SessionOptions::default())
            .await
            .unwrap();
        let socket = directory.path().join("exporter");
        session.serve_unix(&socket, Origin::Client).unwrap();
        session.start_local();
        Self {
            client: connect(&socket).await,
            session,
            directory,
        }
    }

    pub fn device(&self, name: &str) -> DriverHandle {
        self.client.device(name).unwrap().handle().unwrap()
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("exporter")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

pub async fn connect(socket: &Path) -> Client {
    Client::connect_with(Dialer::unix(socket), &AllowList::Unsafe)
        .await
        .unwrap()
}

/// Why a session with this one driver does not open.
pub async fn refusal(class: &str, config: Json) -> String {
    let tree = tree(&[("net", class, config)]);
    match Session::open(&registry(), &tree, SessionOptions::default()).await {
        Ok(_) => panic!("the session opened"),
        Err(error) => error.to_string(),
    }
}

/// A server that ends with the test.
pub struct Server<A> {
    pub address: A,
    /// Connections at the moment.
    pub live: watch::Receiver<usize>,
    _running: AbortOnDropHandle<()>,
}

/// Counts a connection while it lives.
pub struct Alive(Arc<watch::Sender<usize>>);

impl Alive {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Serves what `accept` yields until the test ends.
pub fn serve<A, L, C, S>(address: A, listener: L, accept: C, serve: S) -> Server<A>
where
    L: Send + 'static,
    C: AsyncFnAccept<L>,
    S: FnServe<C::Io>,
{
    let count = Arc::new(watch::Sender::new(0));
    let live = count.subscribe();
    let running = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let io = accept.accept(&listener).await;
            let alive = Alive::new(&count);
            let serving = serve.serve(io);
            connections.spawn(async move {
                serving.await;
                drop(alive);
            });
        }
    });
    Server {
        address,
        live,
        _running: AbortOnDropHandle::new(running),
    }
}

/// How to accept.
pub trait AsyncFnAccept<L>: Send + 'static {
    type Io: Send + 'static;
    fn accept(&self, listener: &L) -> impl Future<Output = Self::Io> + Send;
}

/// What to do with a connection.
pub trait FnServe<Io>: Send + 'static {
    fn serve(&self, io: Io) -> impl Future<Output = ()> + Send + 'static;
}

impl<Io, F, R> FnServe<Io> for F
where
    F: Fn(Io) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    fn serve(&self, io: Io) -> impl Future<Output = ()> + Send + 'static {
        self(io)
    }
}

pub struct Plain;

impl AsyncFnAccept<TcpListener> for Plain {
    type Io = tokio::net::TcpStream;
    async fn accept(&self, listener: &TcpListener) -> Self::Io {
        listener.accept().await.unwrap().0
    }
}

impl AsyncFnAccept<UnixListener> for Plain {
    type Io = tokio::net::UnixStream;
    async fn accept(&self, listener: &UnixListener) -> Self::Io {
        listener.accept().await.unwrap().0
    }
}

/// Sends back what it gets until the end.
pub async fn echo<T: AsyncRead + AsyncWrite>(io: T) {
    let (mut reader, mut writer) = tokio::io::split(io);
    let mut buffer = vec![0; 65536];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        if writer.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

pub async fn tcp_server<S: FnServe<tokio::net::TcpStream>>(then: S) -> Server<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    serve(listener.local_addr().unwrap(), listener, Plain, then)
}

pub async fn udp_echo() -> Server<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (_, live) = watch::channel(0);
    let running = tokio::spawn(async move {
        let mut buffer = vec![0; 65536];
        loop {
            if let Ok((count, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&buffer[..count], from).await;
            }
        }
    });
    Server {
        address,
        live,
        _running: AbortOnDropHandle::new(running),
    }
}

/// A port on which nobody listens.
pub async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// Finds a program of a Debian package. Where all packages must be there, in CI, its lack is a
/// failure.
pub fn program(name: &str, package: &str) -> Option<PathBuf> {
    let directories = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];
    let found = directories
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        skipped(&format!("no `{name}`; install the package {package}"));
    }
    found
}

/// Says that a test did not run, which in CI counts as a failure.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot run: {why}");
    eprintln!("SKIPPED: {why}");
}
