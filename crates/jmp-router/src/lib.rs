//! The relay that joins a client's and an exporter's end of a tunnel.
//!
//! A peer calls `/jumpstarter.v1.RouterService/Stream` with the token of its dial. The first peer
//! of a stream is parked, the second is joined with it, and from then on the bytes of either
//! request are the bytes of the other's response. The router never makes a frame: how a tunnel
//! ended is told in trailers.
//!
//! Start reading at `relay` (who is let in) and `tunnel` (what flows); `serve` accepts connections,
//! `control` talks to the controller. A tunnel makes the router hold at most [`TUNNEL_MEMORY`].

mod clock;
mod control;
mod expiring;

mod listener;
mod metrics;
mod monitoring;
mod options;
mod relay;
mod serve;
mod service;
mod table;
mod tunnel;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::Status;

pub use crate::clock::{Clock, SystemClock};
pub use crate::listener::{Accepted, Io, Listener, MemoryDialer, ReadWrite};
pub use crate::options::{
    CONNECTION_WINDOW, Closing, ControlOptions, Dial, Dialling, FRAME_SIZE, Keys, Limits,
    RouterOptions, RouterStats, SEND_BUFFER, STREAM_WINDOW, TUNNEL_MEMORY, Tls, TlsDial,
};

use crate::control::Control;
use crate::relay::{FAREWELL, Relay};
use crate::serve::{Encryption, Stop};

/// Starts routers.
pub struct Router;

/// A running router. Dropping it ends everything at once; [`RouterHandle::drain`] ends it gently.
pub struct RouterHandle {
    inner: Inner,
    address: Option<SocketAddr>,
    metrics_address: Option<SocketAddr>,
    /// Drains when the token of the start is cancelled.
    supervisor: AbortOnDropHandle<()>,
    _end: DropGuard,
}

#[derive(Clone)]
struct Inner {
    relay: Arc<Relay>,
    stop: Stop,
}

// === impl Router ===

impl Router {
    /// Starts a router; it drains (with the grace of its options) when `stop` is cancelled. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the options contradict each other or the control metadata cannot be sent.
    pub fn start(options: RouterOptions, stop: CancellationToken) -> io::Result<RouterHandle> {
        let tasks = TaskTracker::new();
        let relay = Arc::new(Relay::new(options.limits, options.clock, tasks.clone()));
        let own = Stop {
            gently: CancellationToken::new(),
            now: CancellationToken::new(),
        };
        let inner = Inner {
            relay: Arc::clone(&relay),
            stop: own.clone(),
        };
        let (encryption, certificate) = match options.tls {
            Tls::None => (Encryption::None, None),
            Tls::Config(config) => (Encryption::Tls(watch::channel(Some(config)).1), None),
            Tls::FromController => {
                let (sender, receiver) = watch::channel(None);
                (Encryption::Tls(receiver), Some(sender))
            }
        };
        let wants_keys = match options.keys {
            Keys::FromController => true,
            Keys::Fixed(keys) => {
                relay.set_keys(keys);
                false
            }
        };
        match options.control {
            Some(control) => {
                let gently = own.gently.clone();
                let control =
                    Control::new(Arc::clone(&relay), control, wants_keys, certificate, gently)
                        .map_err(invalid)?;
                let now = own.now.clone();
                tasks.spawn(async move { now.run_until_cancelled(control.run()).await });
            }
            None if wants_keys || certificate.is_some() => {
                return Err(invalid(
                    "keys or certificate should come from a controller, but there is none",
                ));
            }
            None => {}
        }
        let metrics_address = match options.metrics {
            Some(listener) => {
                let address = listener.local_addr()?;
                let served = monitoring::serve(listener, Arc::clone(&relay), own.gently.clone());
                let now = own.now.clone();
                tasks.spawn(async move { now.run_until_cancelled(served).await });
                Some(address)
            }
            None => None,
        };
        let address = options.listener.address;
        let accepting = serve::accept(options.listener, relay, encryption, own.clone());
        let now = own.now.clone();
        tasks.spawn(async move { now.run_until_cancelled(accepting).await });
        let (drained, grace) = (inner.clone(), options.grace);
        let supervisor = AbortOnDropHandle::new(tokio::spawn(async move {
            stop.cancelled().await;
            drained.shut_down(grace).await;
        }));
        Ok(RouterHandle {
            inner,
            address,
            metrics_address,
            supervisor,
            _end: own.now.drop_guard(),
        })
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

// === impl RouterHandle ===

impl RouterHandle {
    /// Where peers connect, if that is a TCP socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Where metrics and health are served, if they are.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// What the router does right now.
    pub fn stats(&self) -> RouterStats {
        self.inner.relay.stats()
    }

    /// Waits until new tunnels are let in, which may take a controller.
    pub async fn ready(&self) {
        // The relay has the sender, so waiting cannot fail.
        let _ = self.inner.relay.readiness().wait_for(|ready| *ready).await;
    }

    /// Ends tunnels and parked peers, and refuses those that still come with tokens issued before;
    /// returns how many were ended now.
    pub fn close_tunnels(&self, closing: &Closing) -> usize {
        self.inner.relay.close(closing)
    }

    /// Lets in no more tunnels; those that are open may end by themselves. The router stays, to
    /// say so, until it is stopped.
    pub fn begin_drain(&self) {
        self.inner.relay.begin_drain();
    }

    /// Lets in no more tunnels, gives the open ones `grace` to end, ends the others with
    /// UNAVAILABLE, and returns when no task is left.
    pub async fn drain(self, grace: Duration) {
        self.supervisor.abort();
        self.inner.shut_down(grace).await;
    }

    /// Waits until the router has drained because the token of its start was cancelled.
    pub async fn stopped(self) {
        // It can only fail by a bug that has been reported as a panic already.
        let _ = self.supervisor.await;
    }
}

// === impl Inner ===

impl Inner {
    async fn shut_down(&self, grace: Duration) {
        let relay = &self.relay;
        relay.begin_drain();
        if tokio::time::timeout(grace, relay.emptied()).await.is_err() {
            let ended = relay.close_all(&Status::unavailable(
                "the router is shutting down; dial again",
            ));
            tracing::info!(ended, ?grace, "ended the tunnels that outlived the grace");
            // Peers that do not take their farewell are cut off by then.
            let _ = tokio::time::timeout(FAREWELL * 2, relay.emptied()).await;
        }
        self.stop.gently.cancel();
        relay.tasks.close();
        let _ = tokio::time::timeout(FAREWELL, relay.tasks.wait()).await;
        self.stop.now.cancel();
        relay.tasks.wait().await;
    }
}
