//! Tunnels: what clients of a lease connect through (facts: protocol 8.2, 9).
//!
//! The session is served directly on the byte stream through the router. Tunnels belong to the
//! session, not to the controller: they go on while the controller is away, and each ends with
//! its own router or client alone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use http::HeaderMap;
use jmp_proto::v1::ListenResponse;
use jmp_wire::backoff::Backoff;
use jmp_wire::connection::{Connection, TCP_KEEP_ALIVE};
use jmp_wire::endpoint::{Endpoint, bearer};
use jmp_wire::rpc;
use jmp_wire::stream::{ByteReader, ByteStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::controller::Controller;
use crate::session::Session;

/// Tunnels of one lease at one time, those included whose client has not come yet.
const MOST_TUNNELS: usize = 256;
/// How long a client may take to come: router tokens live for half an hour (facts: protocol 9.1).
const CLIENT_LIMIT: Duration = Duration::from_secs(31 * 60);
/// How long the last bytes of a finished tunnel may take to leave.
const LINGER: Duration = Duration::from_secs(1);

/// Opens the tunnels of one lease.
pub(crate) struct Listener {
    pub controller: Arc<Controller>,
    pub session: Session,
    pub lease: String,
    /// Ends the listening, not the tunnels.
    pub ending: CancellationToken,
}

// === impl Listener ===

impl Listener {
    /// Listens until `ending` fires or the session closes, whatever the controller does.
    pub async fn run(self) {
        let slots = Arc::new(Semaphore::new(MOST_TUNNELS));
        let mut backoff = Backoff::reconnect();
        let listening = async {
            loop {
                let ended = self.listen(&slots, &mut backoff).await;
                let reason = ended.unwrap_or_else(|error| error.to_string());
                tracing::debug!(lease = %self.lease, reason, "not listening for clients; trying again");
                self.controller.pause(&mut backoff).await;
            }
        };
        tokio::select! {
            () = self.ending.cancelled() => {}
            () = self.session.inner().closing.cancelled() => {}
            never = listening => never,
        }
    }

    async fn listen(
        &self,
        slots: &Arc<Semaphore>,
        backoff: &mut Backoff,
    ) -> Result<String, super::controller::CallError> {
        let mut stream = self.controller.listen(&self.lease).await?;
        while let Some(asked) = stream.message().await? {
            backoff.reset();
            let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
                tracing::warn!(
                    lease = %self.lease,
                    "a client is refused: {MOST_TUNNELS} connections are open"
                );
                continue;
            };
            self.open(asked, slot);
        }
        Ok("the controller ended the stream".into())
    }

    fn open(&self, asked: ListenResponse, slot: OwnedSemaphorePermit) {
        let session = self.session.clone();
        let controller = Arc::clone(&self.controller);
        let router = asked.router_endpoint.clone();
        let closing = session.inner().closing.clone();
        self.session.inner().tasks.spawn(async move {
            let tunnel = async {
                prepared(&session).await;
                connect(&controller, asked).await
            };
            let tunnel = tokio::select! {
                tunnel = tunnel => tunnel,
                () = closing.cancelled() => return,
            };
            match tunnel {
                Ok((connection, stream)) => {
                    serve(&session, stream).await;
                    drop(connection);
                }
                Err(reason) => {
                    tracing::warn!("a client cannot be reached through router {router}: {reason}");
                }
            }
            drop(slot);
        });
    }
}

/// Waits until the beforeLease hook is over. Clients that know of no hooks (0.7) take a session that they
/// reach for one that is ready, so shipped exporters let them in only then, too (facts: protocol 7.2).
async fn prepared(session: &Session) {
    let mut status = session.status().watch();
    let over = status.wait_for(|now| {
        now.version > 0 && now.status != jmp_lease::ExporterStatus::BeforeLeaseHook
    });
    // The session ends first: then there is nothing to connect to, either.
    let _ = over.await;
}

/// Connects to the router. The connection must live as long as the stream.
async fn connect(
    controller: &Controller,
    asked: ListenResponse,
) -> Result<(Connection, ByteStream), String> {
    let metadata = bearer(&asked.router_token).map_err(|error| error.to_string())?;
    let endpoint: Endpoint = asked
        .router_endpoint
        .parse()
        .map_err(|error: jmp_wire::endpoint::EndpointError| error.to_string())?;
    let connecting = controller
        .connector()
        .connect(&endpoint, HeaderMap::new(), TCP_KEEP_ALIVE);
    let connection = connecting.await.map_err(|error| error.to_string())?;
    let stream = rpc::start_stream(&connection, metadata);
    Ok((connection, stream))
}

/// Serves the session on a tunnel until one of the two ends.
async fn serve(session: &Session, stream: ByteStream) {
    let (back, returned) = oneshot::channel();
    let spoken = Arc::new(AtomicBool::new(false));
    let closing = session.inner().closing.clone();
    let reader = Awaited {
        reader: Some(stream.reader),
        spoken: Arc::clone(&spoken),
        patience: Some(Box::pin(async move {
            let _ = tokio::time::timeout(CLIENT_LIMIT, closing.cancelled()).await;
        })),
        back: Some(back),
    };
    let tunnel = ByteStream {
        reader: Box::pin(reader),
        writer: stream.writer,
    };
    session.serve_stream(tunnel).await;
    // Dropping the reader would cancel the call, and overtake bytes that have not left yet.
    if let (true, Ok(mut reader)) = (spoken.load(Ordering::Relaxed), returned.await) {
        let rest = async { while let Some(Ok(_)) = reader.next().await {} };
        let _ = tokio::time::timeout(LINGER, rest).await;
    }
}

/// A reader that ends if nothing comes for too long at first, and that is handed back when its
/// user is done with it.
struct Awaited {
    reader: Option<ByteReader>,
    spoken: Arc<AtomicBool>,
    /// Until the first bytes.
    patience: Option<BoxFuture<'static, ()>>,
    back: Option<oneshot::Sender<ByteReader>>,
}

impl Stream for Awaited {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(patience) = &mut this.patience
            && patience.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(None);
        }
        let Some(reader) = &mut this.reader else {
            return Poll::Ready(None);
        };
        let item = ready!(reader.as_mut().poll_next(context));
        match &item {
            Some(Ok(_)) => {
                this.patience = None;
                this.spoken.store(true, Ordering::Relaxed);
            }
            Some(Err(error)) => tracing::debug!(%error, "a tunnel broke"),
            None => {}
        }
        Poll::Ready(item)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let (Some(reader), Some(back)) = (self.reader.take(), self.back.take()) {
            let _ = back.send(reader);
        }
    }
}
