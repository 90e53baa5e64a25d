//! Accepting connections and serving HTTP/2 on them, within limits.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use jmp_auth::{Places, peer_network};
use jmp_wire::authority::AuthorityFilter;
use jmp_wire::read_ahead::ReadAhead;
use jmp_wire::tls::TlsAcceptor;
use rustls::ServerConfig;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listener::{Accepted, Io, Listener};
use crate::metrics::RefusalReason;
use crate::options::{CONNECTION_WINDOW, FRAME_SIZE, SEND_BUFFER, STREAM_WINDOW};
use crate::relay::{FAREWELL, Relay};
use crate::service::{CUT, RouterService};

/// Pause after a failed accept, so that a lack of file descriptors does not burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the certificate is, or will be.
#[derive(Clone)]
pub(crate) enum Encryption {
    None,
    Tls(watch::Receiver<Option<Arc<ServerConfig>>>),
}

/// Two steps to the end.
#[derive(Clone)]
pub(crate) struct Stop {
    /// Connections end when their calls have.
    pub(crate) gently: CancellationToken,
    /// Connections end.
    pub(crate) now: CancellationToken,
}

/// Runs the calls of one connection: each can be cut off, and they are counted.
#[derive(Clone)]
struct Calls {
    tasks: TaskTracker,
    running: watch::Sender<usize>,
}

/// Counts a call for as long as it runs.
struct Running(watch::Sender<usize>);

// === impl Calls ===

impl<F> hyper::rt::Executor<F> for Calls
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, call: F) {
        self.running.send_modify(|running| *running += 1);
        let running = Running(self.running.clone());
        let cut = CancellationToken::new();
        let call = CUT.scope(cut.clone(), call);
        self.tasks.spawn(async move {
            // Dropping the call resets it for the peer.
            cut.run_until_cancelled(call).await;
            drop(running);
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

/// Accepts connections until told to stop.
pub(crate) async fn accept(
    mut listener: Listener,
    relay: Arc<Relay>,
    encryption: Encryption,
    stop: Stop,
) {
    let places = Arc::new(Semaphore::new(relay.limits().connections));
    let hosts = Places::new(relay.limits().connections_per_address);
    loop {
        let next = stop
            .gently
            .run_until_cancelled(listener.incoming.next())
            .await;
        let accepted = match next {
            None | Some(None) => return,
            Some(Some(Ok(accepted))) => accepted,
            Some(Some(Err(error))) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            relay.metrics.refused(RefusalReason::Connections);
            tracing::warn!(
                peer = accepted.peer,
                limit = relay.limits().connections,
                "connection refused: the limit is reached"
            );
            continue;
        };
        let address = accepted.address.map(peer_network);
        let host = address.map(|address| hosts.take(address));
        if matches!(host, Some(None)) {
            relay.metrics.refused(RefusalReason::Connections);
            tracing::warn!(
                peer = accepted.peer,
                limit = hosts.limit(),
                "connection refused: its host has too many"
            );
            continue;
        }
        let (relay, encryption, stop) = (Arc::clone(&relay), encryption.clone(), stop.clone());
        let tasks = relay.tasks.clone();
        tasks.spawn(async move {
            let now = stop.now.clone();
            let served = serve_one(accepted, relay, encryption, stop.gently);
            now.run_until_cancelled(served).await;
            drop((place, host));
        });
    }
}

async fn serve_one(
    accepted: Accepted,
    relay: Arc<Relay>,
    encryption: Encryption,
    gently: CancellationToken,
) {
    let Accepted { io, peer, .. } = accepted;
    let limit = relay.limits().handshake;
    let secured = tokio::time::timeout(limit, secure(io, encryption)).await;
    let io = match secured {
        Ok(Ok(io)) => io,
        Ok(Err(error)) => {
            tracing::debug!(peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(peer, ?limit, "TLS handshake took too long");
            return;
        }
    };
    relay.metrics.connections.inc();
    let ended = serve_http2(io, &peer, Arc::clone(&relay), gently).await;
    relay.metrics.connections.dec();
    if let Err(error) = ended {
        tracing::debug!(peer, %error, "connection broke");
    }
}

async fn secure(io: Io, encryption: Encryption) -> io::Result<Io> {
    let Encryption::Tls(mut source) = encryption else {
        return Ok(io);
    };
    let gone = |_| io::Error::other("the router is stopping");
    let config = source
        .wait_for(Option::is_some)
        .await
        .map_err(gone)?
        .clone();
    let Some(config) = config else {
        return Err(io::Error::other("no certificate"));
    };
    let io = ReadAhead::new(io);
    Ok(Box::new(TlsAcceptor::from(config).accept(io).await?))
}

async fn serve_http2(
    io: Io,
    peer: &str,
    relay: Arc<Relay>,
    gently: CancellationToken,
) -> Result<(), hyper::Error> {
    let limits = relay.limits().clone();
    let running = watch::Sender::new(0);
    let mut idle = running.subscribe();
    let calls = Calls {
        tasks: relay.tasks.clone(),
        running,
    };
    let mut builder = hyper::server::conn::http2::Builder::new(calls);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(limits.header_bytes)
        .keep_alive_interval(limits.keep_alive.interval)
        .keep_alive_timeout(limits.keep_alive.timeout);
    let service = RouterService {
        relay,
        origin: Arc::from(peer),
    };
    let service = hyper::service::service_fn(move |request| service.clone().answer(request));
    let connection = builder.serve_connection(TokioIo::new(AuthorityFilter::new(io)), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = gently.cancelled() => {
            connection.as_mut().graceful_shutdown();
            return connection.await;
        }
        () = idle_for(&mut idle, limits.idle) => {}
    }
    // A call that arrives just now is still served, so the end may take as long as that.
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = idle_for(&mut idle, FAREWELL) => Ok(()),
    }
}

/// Ready when no call has run for `time`.
async fn idle_for(running: &mut watch::Receiver<usize>, time: Duration) {
    loop {
        // The connection has the sender, so neither wait can fail.
        let _ = running.wait_for(|running| *running == 0).await;
        let busy = tokio::time::timeout(time, running.wait_for(|running| *running > 0));
        if busy.await.is_err() {
            return;
        }
    }
}
