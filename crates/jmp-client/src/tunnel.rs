//! The way to the exporter of a lease: Dial at the controller, then a stream through a router.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use http::HeaderMap;
use jmp_wire::endpoint::{CONTROLLER_KEEP_ALIVE, Endpoint, bearer};
use jmp_wire::rpc;
use jmp_wire::stream::{self, ByteReader, ByteStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::{Code, Status};

use crate::controller::Controller;
use crate::dial::{Dial, Io};
use crate::error::{Error, Result};

/// First pause after a Dial that found the exporter not ready (facts: protocol 8.2).
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long one Dial may take: the controller waits up to 30 s for the exporter.
const DIAL_LIMIT: Duration = Duration::from_secs(40);
/// How long the exporter may take to come to the router. It is told at once, and speaks first there; a
/// router that was lost meanwhile has forgotten it, and then a new tunnel is the way.
const MEETING_LIMIT: Duration = Duration::from_secs(15);
/// Local connections that may be open at once; each is a tunnel.
const MOST_TUNNELS: usize = 256;

/// Opens tunnels to the exporter of one lease. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LeaseDial {
    controller: Controller,
    lease: Arc<str>,
    patience: Duration,
}

// === impl LeaseDial ===

impl LeaseDial {
    /// Tunnels to the exporter of `lease`; one that is not ready yet is waited for during `patience`.
    #[must_use]
    pub fn new(controller: Controller, lease: &str, patience: Duration) -> Self {
        Self {
            controller,
            lease: lease.into(),
            patience,
        }
    }

    /// Opens one tunnel.
    ///
    /// # Errors
    ///
    /// The status of whoever refused it: controller or router.
    pub async fn open(&self) -> Result<ByteStream> {
        let deadline = Instant::now() + self.patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.attempt().await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            if !may_pass(&error) || Instant::now() + pause >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, lease = %self.lease, "no tunnel yet; trying again");
            tokio::time::sleep(jmp_wire::backoff::jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self) -> Result<ByteStream> {
        let (address, token) = self.controller.dial(&self.lease, DIAL_LIMIT).await?;
        let endpoint: Endpoint = address
            .parse()
            .map_err(|error| Error::Router(format!("{error}")))?;
        let metadata = bearer(&token).map_err(|error| Error::Router(format!("{error}")))?;
        let connecting =
            self.controller
                .connector()
                .connect(&endpoint, metadata, CONTROLLER_KEEP_ALIVE);
        let connection = connecting.await.map_err(Error::RouterUnreachable)?;
        let opened = rpc::open_stream(&connection, HeaderMap::new())
            .await
            .map_err(|status| Error::refused("opening a tunnel through the router", status))?;
        let stream = ByteStream {
            reader: told(opened.stream.reader, address.clone()),
            writer: opened.stream.writer,
        };
        let stream = met(stream, &address).await?;
        // The tunnel is the only user of its connection, which ends with it.
        Ok(stream.guarded(connection))
    }
}

/// The router was lost, and with it what went through this tunnel; nothing else was.
#[derive(Debug, thiserror::Error)]
#[error(
    "the tunnel ended because router {router} was lost ({reason}); the lease goes on, and what is started now gets a new tunnel"
)]
struct RouterLost {
    router: String,
    reason: String,
}

/// Has the end of a tunnel say what ended: not the exporter, as far as is known, but the way to it.
fn told(reader: ByteReader, router: String) -> ByteReader {
    let explained = move |error: io::Error| {
        let kind = error.kind();
        if error.get_ref().is_some_and(|inner| inner.is::<Status>()) {
            let status = rpc::status_of(error);
            let text = format!("router {router} ended the tunnel: {}", status.message());
            return io::Error::new(kind, text);
        }
        let lost = RouterLost {
            router: router.clone(),
            reason: error.to_string(),
        };
        io::Error::new(kind, lost)
    };
    Box::pin(reader.map(move |item| item.map_err(&explained)))
}

/// Whether [`told`] says that a tunnel ended with its router.
fn is_router_lost(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(|inner| inner.is::<RouterLost>())
}

/// Waits until the exporter is there: the server of an HTTP/2 connection sends its settings unasked.
async fn met(stream: ByteStream, router: &str) -> Result<ByteStream> {
    let ByteStream { mut reader, writer } = stream;
    let Ok(first) = tokio::time::timeout(MEETING_LIMIT, reader.next()).await else {
        let limit = MEETING_LIMIT.as_secs();
        let text = format!("the exporter did not come to router {router} within {limit} s");
        let status = Status::unavailable(text);
        return Err(Error::refused("meeting the exporter", status));
    };
    if let Some(Err(error)) = &first
        && is_router_lost(error)
    {
        return Err(Error::TunnelLost(error.to_string()));
    }
    let reader = futures::stream::iter(first).chain(reader);
    Ok(ByteStream::new(reader, writer))
}

/// Whether the same may work a moment later.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Refused { status, .. } => match status.code() {
            Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => true,
            Code::FailedPrecondition => status.message().contains("not ready"),
            _ => false,
        },
        Error::ControllerUnreachable(_) | Error::RouterUnreachable(_) | Error::TunnelLost(_) => {
            true
        }
        _ => false,
    }
}

#[async_trait]
impl Dial for LeaseDial {
    async fn dial(&self) -> io::Result<Pin<Box<dyn Io>>> {
        let stream = self.open().await.map_err(into_io)?;
        Ok(Box::pin(stream.into_io()))
    }

    fn target(&self) -> String {
        format!("the exporter of lease {}", self.lease)
    }

    fn patience(&self) -> Duration {
        self.patience + DIAL_LIMIT
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Refused { status, .. } => rpc::error_of(*status),
        _ => io::Error::new(io::ErrorKind::NotConnected, error.to_string()),
    }
}

/// A private unix socket every connection to which becomes a tunnel. Dropping it ends them all.
#[derive(Debug)]
pub struct LeaseSocket {
    path: PathBuf,
    tasks: TaskTracker,
    stop: DropGuard,
    accepting: AbortOnDropHandle<()>,
}

// === impl LeaseSocket ===

impl LeaseSocket {
    /// Listens on `path`, in a directory that only the user can enter. `failed` hears why a connection
    /// got no tunnel, or lost it with its router.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made.
    pub fn bind(
        path: &Path,
        dial: LeaseDial,
        failed: impl Fn(&Error) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let accept = accept(
            listener,
            dial,
            tasks.clone(),
            stop.clone(),
            Arc::new(failed),
        );
        Ok(Self {
            path: path.to_owned(),
            tasks,
            stop: stop.drop_guard(),
            accepting: AbortOnDropHandle::new(tokio::spawn(accept)),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends all tunnels and waits for that.
    pub async fn close(self) {
        drop(self.stop);
        drop(self.accepting);
        self.tasks.close();
        self.tasks.wait().await;
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(
    listener: UnixListener,
    dial: LeaseDial,
    tasks: TaskTracker,
    stop: CancellationToken,
    failed: Arc<dyn Fn(&Error) + Send + Sync>,
) {
    let places = Arc::new(Semaphore::new(MOST_TUNNELS));
    loop {
        // Those who come when all places are taken wait in the socket's own queue.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                // Out of descriptors: those in use will be given back.
                tracing::warn!(%error, "cannot accept a connection to the session");
                tokio::time::sleep(LONGEST_PAUSE).await;
                continue;
            }
        };
        let (dial, stop, failed) = (dial.clone(), stop.clone(), failed.clone());
        tasks.spawn(async move {
            let carried = carry(connection, dial);
            if let Some(Err(error)) = stop.run_until_cancelled(carried).await {
                failed(&error);
            }
            drop(place);
        });
    }
}

/// Carries one local connection through a tunnel of its own until both directions have ended.
async fn carry(connection: UnixStream, dial: LeaseDial) -> Result<()> {
    let tunnel = dial.open().await?;
    match stream::bridge(ByteStream::from_io(connection), tunnel).await {
        Ok((sent, received)) => tracing::debug!(sent, received, "tunnel ended"),
        Err(error) if is_router_lost(&error) => {
            return Err(Error::TunnelLost(error.to_string()));
        }
        Err(error) => tracing::debug!(%error, "tunnel broke"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::SinkExt;
    use jmp_wire::endpoint::{CallerKind, Connector, Credentials, ServerTrust};
    use tokio::io::AsyncReadExt;

    use super::*;

    /// A tunnel at whose other end nobody is.
    fn lonely() -> (ByteStream, stream::ByteWriter) {
        let (to_us, reader) = stream::channel(4);
        let (writer, _) = stream::channel(4);
        (ByteStream::new(reader, writer), to_us)
    }

    #[tokio::test(start_paused = true)]
    async fn an_exporter_that_does_not_come_is_not_waited_for_without_end() {
        let (tunnel, _to_us) = lonely();
        let Err(error) = met(tunnel, "router:8083").await else {
            panic!("there is no exporter");
        };
        assert!(may_pass(&error), "another tunnel may work: {error}");
        let text = "the exporter did not come to router router:8083 within 15 s";
        assert!(error.to_string().contains(text), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_exporter_says_first_is_not_lost() {
        let (tunnel, mut to_us) = lonely();
        let say = async {
            tokio::time::sleep(MEETING_LIMIT / 2).await;
            to_us.send("settings".into()).await.unwrap();
            to_us.send("more".into()).await.unwrap();
        };
        let (met, ()) = tokio::join!(met(tunnel, "router:8083"), say);
        drop(to_us);
        let said: Vec<_> = met.unwrap().reader.map(Result::unwrap).collect().await;
        assert_eq!(said, ["settings", "more"]);
    }

    #[tokio::test]
    async fn what_a_dropped_socket_was_carrying_ends() {
        // A controller that takes the connection and says nothing.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint: Endpoint = silent.local_addr().unwrap().to_string().parse().unwrap();
        let credentials = Credentials {
            kind: CallerKind::Client,
            namespace: "default".into(),
            name: "me".into(),
            token: "t".into(),
        };
        let connector = Connector::new(ServerTrust::System);
        let controller = Controller::new(connector, endpoint, &credentials).unwrap();
        let dial = LeaseDial::new(controller, "lease", Duration::from_secs(60));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = LeaseSocket::bind(&path, dial, |_| {}).unwrap();
        let mut connection = UnixStream::connect(&path).await.unwrap();
        let (_held, _) = silent.accept().await.unwrap();
        drop(socket);
        let mut byte = [0];
        let ended = tokio::time::timeout(Duration::from_secs(5), connection.read(&mut byte)).await;
        assert_eq!(ended.expect("ends at once").unwrap(), 0);
    }
}
