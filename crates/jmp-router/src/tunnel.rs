//! Two peers and what flows between them.
//!
//! The body of the request of one peer *is* the body of the response to the other: nothing is
//! decoded, copied or queued here. hyper asks [`TunnelBody`] for the next chunk only when the peer
//! behind it has taken the last one, and taking a chunk from an [`Incoming`] is what gives HTTP/2
//! window back to the sender; so each peer is slowed down to the speed of the other.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::AtomicWaker;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use jmp_auth::TunnelRole;
use jmp_proto::jmp::v1::TunnelUse;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::relay::Relay;

/// One of the two places of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The peer that came first.
    First,
    /// The peer it waited for.
    Second,
}

// === impl Side ===

impl Side {
    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// One peer of a tunnel.
pub(crate) struct Seat {
    pub(crate) role: Option<TunnelRole>,
    /// Whom the peer counts for while it is parked.
    pub(crate) owner: String,
    /// Where it came from, for log lines.
    pub(crate) origin: Arc<str>,
    /// What the peer sends; its partner's response reads it.
    inbound: Mutex<Option<Incoming>>,
    /// Bytes delivered to the peer.
    received: AtomicU64,
    counter: Counter,
    /// Wakes the response to this peer when something other than data happens.
    waker: AtomicWaker,
    /// Resets the peer's call, whatever state it is in.
    cut: CancellationToken,
}

/// What has happened to a tunnel so far, by side.
#[derive(Default)]
struct Progress {
    /// The peer has ended its direction, and all of it was taken.
    ended: [bool; 2],
    /// The peer went away before the end, and why.
    lost: [Option<String>; 2],
    /// The response to the peer is over.
    departed: [bool; 2],
    /// Both peers are told this instead of any more data.
    verdict: Option<Status>,
    farewell: bool,
}

/// A tunnel, from its first peer's arrival to its last peer's departure.
pub(crate) struct Tunnel {
    pub(crate) number: u64,
    pub(crate) stream: String,
    pub(crate) lease: String,
    seats: [OnceLock<Seat>; 2],
    progress: Mutex<Progress>,
    /// Both peers have departed.
    pub(crate) over: CancellationToken,
}

/// What became of a tunnel when one of its peers departed.
pub(crate) enum Departure {
    /// The other peer is still there and is being told.
    SurvivorTold,
    /// Nobody is left; the reason.
    Over(String),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Seat ===

impl Seat {
    pub(crate) fn new(
        role: Option<TunnelRole>,
        owner: String,
        origin: Arc<str>,
        inbound: Incoming,
        counter: Counter,
        cut: CancellationToken,
    ) -> Self {
        Self {
            role,
            owner,
            origin,
            inbound: Mutex::new(Some(inbound)),
            received: AtomicU64::new(0),
            counter,
            waker: AtomicWaker::new(),
            cut,
        }
    }

    fn name(&self) -> &'static str {
        match self.role {
            Some(TunnelRole::Client) => "client",
            Some(TunnelRole::Exporter) => "exporter",
            None => "other peer",
        }
    }
}

// === impl Tunnel ===

impl Tunnel {
    pub(crate) fn new(number: u64, stream: String, lease: String, first: Seat) -> Self {
        Self {
            number,
            stream,
            lease,
            seats: [OnceLock::from(first), OnceLock::new()],
            progress: Mutex::default(),
            over: CancellationToken::new(),
        }
    }

    pub(crate) fn seat(&self, side: Side) -> Option<&Seat> {
        self.seats[side as usize].get()
    }

    /// Seats the second peer and starts the forwarding.
    pub(crate) fn join(&self, second: Seat) {
        // The caller took the tunnel from the table of parked peers, so there is no second yet.
        let _ = self.seats[Side::Second as usize].set(second);
        self.wake();
    }

    fn wake(&self) {
        for seat in self.seats.iter().filter_map(OnceLock::get) {
            seat.waker.wake();
        }
    }

    /// Ends the tunnel for both peers; the first verdict counts.
    pub(crate) fn close(&self, status: &Status) {
        lock(&self.progress)
            .verdict
            .get_or_insert_with(|| status.clone());
        self.wake();
    }

    /// Resets the calls of peers that have not taken their farewell.
    pub(crate) fn cut(&self) {
        for seat in self.seats.iter().filter_map(OnceLock::get) {
            seat.cut.cancel();
        }
    }

    /// True once, when the tunnel has begun to end.
    pub(crate) fn begins_farewell(&self) -> bool {
        let mut progress = lock(&self.progress);
        !std::mem::replace(&mut progress.farewell, true)
    }

    /// Bytes delivered so far, both directions.
    pub(crate) fn delivered(&self) -> u64 {
        let seats = self.seats.iter().filter_map(OnceLock::get);
        seats
            .map(|seat| seat.received.load(Ordering::Relaxed))
            .sum()
    }

    pub(crate) fn usage(&self) -> TunnelUse {
        let mut usage = TunnelUse {
            stream: self.stream.clone(),
            lease: self.lease.clone(),
            ..TunnelUse::default()
        };
        for (index, seat) in self.seats.iter().enumerate() {
            let Some(seat) = seat.get() else { continue };
            let received = seat.received.load(Ordering::Relaxed);
            match seat.role {
                Some(TunnelRole::Client) => {
                    usage.client.clone_from(&seat.owner);
                    usage.bytes_to_client += received;
                }
                Some(TunnelRole::Exporter) => usage.bytes_to_exporter += received,
                // Shipped tokens do not tell; no controller that asks for this issues them.
                None if index == 0 => usage.bytes_to_client += received,
                None => usage.bytes_to_exporter += received,
            }
        }
        usage
    }

    /// Notes that a peer's response is over. `finished` is false if the peer went away.
    fn depart(&self, side: Side, finished: bool) -> Departure {
        let (own, other) = (side as usize, side.other() as usize);
        let mut progress = lock(&self.progress);
        progress.departed[own] = true;
        if !finished && progress.lost[own].is_none() {
            progress.lost[own] = Some("it cancelled its call or lost its connection".into());
        }
        let over = progress.departed[other] || self.seats[other].get().is_none();
        let reason = over.then(|| self.reason(&progress));
        drop(progress);
        if let Some(partner) = self.seat(side.other()) {
            // Nobody reads it any more.
            drop(lock(&partner.inbound).take());
        }
        match reason {
            None => {
                self.wake();
                Departure::SurvivorTold
            }
            Some(reason) => {
                if let Some(seat) = self.seat(side) {
                    drop(lock(&seat.inbound).take());
                }
                self.over.cancel();
                Departure::Over(reason)
            }
        }
    }

    fn reason(&self, progress: &Progress) -> String {
        if let Some(verdict) = &progress.verdict {
            return verdict.message().to_owned();
        }
        if progress.ended == [true, true] {
            return "both peers have ended it".into();
        }
        // The one that went first caused it; the other was told, so it has no loss of its own.
        [Side::First, Side::Second]
            .into_iter()
            .find_map(|side| self.loss(progress, side))
            .unwrap_or_else(|| "it has ended".into())
    }

    fn loss(&self, progress: &Progress, side: Side) -> Option<String> {
        let reason = progress.lost[side as usize].as_deref()?;
        let name = self.seat(side).map_or("other peer", Seat::name);
        Some(format!("the {name} left the tunnel: {reason}"))
    }
}

// === the body of a response ===

/// What a peer receives: everything its partner sends, then how the tunnel ended.
pub(crate) struct TunnelBody {
    relay: Arc<Relay>,
    tunnel: Arc<Tunnel>,
    side: Side,
    /// When a parked peer's time is over.
    patience: Option<Pin<Box<Sleep>>>,
    finished: bool,
}

// === impl TunnelBody ===

impl TunnelBody {
    pub(crate) fn new(
        relay: Arc<Relay>,
        tunnel: Arc<Tunnel>,
        side: Side,
        patience: Option<Sleep>,
    ) -> Self {
        Self {
            relay,
            tunnel,
            side,
            patience: patience.map(Box::pin),
            finished: false,
        }
    }

    /// The next chunk, or how the tunnel has ended.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        let tunnel = &*self.tunnel;
        let Some(seat) = tunnel.seat(self.side) else {
            return Poll::Ready(Err(Status::internal(
                "the tunnel has no seat for this peer",
            )));
        };
        // Before anything is looked at, so that no change can be missed.
        seat.waker.register(context.waker());
        if let Some(verdict) = &lock(&tunnel.progress).verdict {
            return Poll::Ready(Err(verdict.clone()));
        }
        let Some(partner) = tunnel.seat(self.side.other()) else {
            return match &mut self.patience {
                Some(patience) => patience.as_mut().poll(context).map(|()| Err(no_partner())),
                None => Poll::Pending,
            };
        };
        self.patience = None;
        let mut inbound = lock(&partner.inbound);
        while let Some(body) = inbound.as_mut() {
            match Pin::new(body).poll_frame(context) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => {
                    // Requests of gRPC have no trailers; should there be any, they mean nothing.
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    let length = data.len() as u64;
                    seat.received.fetch_add(length, Ordering::Relaxed);
                    seat.counter.inc_by(length);
                    return Poll::Ready(Ok(data));
                }
                Poll::Ready(None) => {
                    *inbound = None;
                    lock(&tunnel.progress).ended[self.side.other() as usize] = true;
                    partner.waker.wake();
                }
                Poll::Ready(Some(Err(error))) => {
                    *inbound = None;
                    let reason = chain(&error);
                    lock(&tunnel.progress).lost[self.side.other() as usize] = Some(reason);
                }
            }
        }
        let drained = inbound.is_none();
        drop(inbound);
        self.poll_end(drained)
    }

    /// How the tunnel has ended, if it has and everything from the partner was taken.
    fn poll_end(&self, drained: bool) -> Poll<Result<Bytes, Status>> {
        if !drained {
            return Poll::Pending;
        }
        let progress = lock(&self.tunnel.progress);
        if progress.ended == [true, true] {
            return Poll::Ready(Err(Status::ok("")));
        }
        match self.tunnel.loss(&progress, self.side.other()) {
            Some(loss) => Poll::Ready(Err(Status::unavailable(loss))),
            None => Poll::Pending,
        }
    }
}

fn no_partner() -> Status {
    Status::deadline_exceeded(
        "nobody joined this end of the tunnel before its token expired; dial again",
    )
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // A text that no header can carry must not hide the status itself.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}

impl Body for TunnelBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.finished {
            return Poll::Ready(None);
        }
        this.poll_chunk(context).map(|chunk| match chunk {
            Ok(data) => Some(Ok(Frame::data(data))),
            Err(status) => {
                this.finished = true;
                Some(Ok(Frame::trailers(trailers(&status))))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.finished
    }
}

impl Drop for TunnelBody {
    fn drop(&mut self) {
        let departure = self.tunnel.depart(self.side, self.finished);
        self.relay.departed(&self.tunnel, departure);
    }
}
