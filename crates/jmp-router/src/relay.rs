//! Who is let in, who waits, and which tunnels are open.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use jmp_auth::{TunnelClaims, TunnelKeys, TunnelRole, TunnelVerifier};
use jmp_proto::jmp::v1::{RouterLoad, TunnelEnded};
use jmp_types::Timestamp;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::clock::Clock;
use crate::metrics::{Metrics, RefusalReason};
use crate::options::{Closing, Limits, RouterStats};
use crate::table::Table;
use crate::tunnel::{Departure, Seat, Side, Tunnel, TunnelBody};

/// How long a survivor may take nothing of what is left for it before its call is reset: the reason
/// comes after the data, so one that does not read would never hear it.
pub(crate) const FAREWELL: Duration = Duration::from_secs(10);
/// How often a slow survivor that takes something gets more time.
const FAREWELL_ROUNDS: usize = 6;

/// Ended tunnels that wait for a controller to hear of them.
const MAX_ENDED: usize = 10_000;
/// Tunnels that one report of the load lists.
const MAX_REPORTED: usize = 10_000;

/// A peer that is not let in.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: RefusalReason,
    pub(crate) status: Status,
}

/// A peer that asks to be joined with its partner.
pub(crate) struct Arrival {
    pub(crate) inbound: Incoming,
    pub(crate) origin: Arc<str>,
    pub(crate) cut: CancellationToken,
}

/// Everything the connections of a router share.
pub(crate) struct Relay {
    limits: Limits,
    clock: Arc<dyn Clock>,
    /// Empty until the keys are known.
    verifier: OnceLock<TunnelVerifier>,
    table: Mutex<Table>,
    /// Number of open tunnels.
    open: watch::Sender<usize>,
    /// Serves new tunnels: keys are known and nothing drains.
    ready: watch::Sender<bool>,
    /// Something to report at once.
    pub(crate) news: Notify,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: TaskTracker,
    /// Room for those who watch the health.
    pub(crate) watchers: Arc<Semaphore>,
}

pub(crate) fn refusal(reason: RefusalReason, status: Status) -> Refusal {
    Refusal { reason, status }
}

// === impl Relay ===

impl Relay {
    pub(crate) fn new(limits: Limits, clock: Arc<dyn Clock>, tasks: TaskTracker) -> Self {
        Self {
            watchers: Arc::new(Semaphore::new(limits.watchers)),
            limits,
            clock,
            verifier: OnceLock::new(),
            table: Mutex::new(Table::new()),
            open: watch::Sender::new(0),
            ready: watch::Sender::new(false),
            news: Notify::new(),
            metrics: Metrics::new(),
            tasks,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes these keys from now on, and is ready.
    pub(crate) fn set_keys(&self, keys: TunnelKeys) {
        match self.verifier.get() {
            Some(verifier) => verifier.replace_keys(keys),
            // Only the start and the one control task call this, one after the other.
            None => drop(self.verifier.set(TunnelVerifier::new(keys))),
        }
        let table = self.table();
        self.ready.send_replace(!table.draining);
    }

    /// Learns what the controller's clock shows now; returns how far ours is behind, in seconds.
    pub(crate) fn learn_time(&self, controller: Timestamp) -> i64 {
        let local = self.clock.now();
        if let Some(verifier) = self.verifier.get() {
            verifier.learn_time(controller, local);
        }
        controller.as_second().saturating_sub(local.as_second())
    }

    pub(crate) fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Lets a peer in: it is joined with its partner or waits for it.
    pub(crate) fn admit(
        self: &Arc<Self>,
        token: Option<&str>,
        arrival: Arrival,
    ) -> Result<TunnelBody, Refusal> {
        let admitted = self.try_admit(token, arrival);
        if let Err(refusal) = &admitted {
            self.metrics.refused(refusal.reason);
        }
        admitted
    }

    fn try_admit(
        self: &Arc<Self>,
        token: Option<&str>,
        arrival: Arrival,
    ) -> Result<TunnelBody, Refusal> {
        let verifier = self.verifier.get().ok_or_else(|| {
            let text = "the router has not reached its controller yet; try again";
            refusal(RefusalReason::NotReady, Status::unavailable(text))
        })?;
        let token = token.ok_or_else(|| {
            let text = "a tunnel needs the token of its dial as `authorization: Bearer`";
            refusal(RefusalReason::Token, Status::unauthenticated(text))
        })?;
        let local = self.clock.now();
        let claims = verifier.verify(token, local).map_err(|error| {
            refusal(
                RefusalReason::Token,
                Status::unauthenticated(error.to_string()),
            )
        })?;
        let now = verifier.issuer_time(local);
        let mut table = self.table();
        let table = &mut *table;
        if table.draining {
            let status = Status::unavailable("the router is draining; dial again");
            return Err(refusal(RefusalReason::Draining, status));
        }
        table.refuse_closed(&claims, now)?;
        let admitted = if table.parked.contains_key(&claims.stream) {
            self.join(table, &claims, arrival, now)?
        } else {
            self.park(table, &claims, arrival, now)?
        };
        self.metrics.parked.set(table.parked.len() as i64);
        self.metrics.tunnels.set(table.open.len() as i64);
        self.open.send_replace(table.open.len());
        Ok(admitted)
    }

    fn seat(&self, claims: &TunnelClaims, arrival: Arrival) -> Seat {
        let owner = claims.owner.as_ref().unwrap_or(&claims.stream);
        Seat::new(
            claims.role,
            owner.clone(),
            arrival.origin,
            arrival.inbound,
            self.metrics.bytes_to(claims.role),
            arrival.cut,
        )
    }

    fn join(
        self: &Arc<Self>,
        table: &mut Table,
        claims: &TunnelClaims,
        arrival: Arrival,
        now: Timestamp,
    ) -> Result<TunnelBody, Refusal> {
        let waiting = table
            .parked
            .get(&claims.stream)
            .and_then(|tunnel| tunnel.seat(Side::First));
        let expected = waiting.and_then(|seat| seat.role).map(TunnelRole::other);
        if claims.role != expected {
            let text = match claims.role {
                Some(role) => format!(
                    "this end of the tunnel is taken: another {} waits here already",
                    role.as_str()
                ),
                None => "the other end of this tunnel has a token of another kind".to_owned(),
            };
            return Err(refusal(
                RefusalReason::Role,
                Status::permission_denied(text),
            ));
        }
        table.use_token(claims, now)?;
        let tunnel = table.unpark(&claims.stream).ok_or_else(|| {
            let status = Status::unavailable("the partner has just left; dial again");
            refusal(RefusalReason::Closed, status)
        })?;
        tracing::debug!(
            stream = tunnel.stream,
            lease = tunnel.lease,
            first = tunnel.seat(Side::First).map(|seat| &*seat.origin),
            second = &*arrival.origin,
            "tunnel joined"
        );
        tunnel.join(self.seat(claims, arrival));
        table.open.insert(tunnel.number, Arc::clone(&tunnel));
        self.metrics.pairings.inc();
        Ok(TunnelBody::new(
            Arc::clone(self),
            tunnel,
            Side::Second,
            None,
        ))
    }

    fn park(
        self: &Arc<Self>,
        table: &mut Table,
        claims: &TunnelClaims,
        arrival: Arrival,
        now: Timestamp,
    ) -> Result<TunnelBody, Refusal> {
        let owner = claims.owner.as_ref().unwrap_or(&claims.stream);
        let own = table.parked_by_owner.get(owner).copied().unwrap_or(0);
        let limit = &self.limits;
        if own >= limit.parked_per_owner || table.parked.len() >= limit.parked {
            let text = if own >= limit.parked_per_owner {
                format!(
                    "{own} tunnels of this identity already wait here for their other end, which \
                     is the limit; close some or wait until their tokens expire"
                )
            } else {
                format!(
                    "{} tunnels already wait here for their other end, which is the router's \
                     limit; try again later or use another router",
                    table.parked.len()
                )
            };
            let status = Status::resource_exhausted(text);
            return Err(refusal(RefusalReason::ParkedLimit, status));
        }
        table.use_token(claims, now)?;
        let left = claims.expires_at.duration_since(now);
        let patience = Duration::try_from(left).unwrap_or_default();
        table.next += 1;
        let tunnel = Arc::new(Tunnel::new(
            table.next,
            claims.stream.clone(),
            claims.lease.clone().unwrap_or_default(),
            self.seat(claims, arrival),
        ));
        *table.parked_by_owner.entry(owner.clone()).or_default() += 1;
        table
            .parked
            .insert(claims.stream.clone(), Arc::clone(&tunnel));
        Ok(TunnelBody::new(
            Arc::clone(self),
            tunnel,
            Side::First,
            Some(tokio::time::sleep(patience)),
        ))
    }

    /// Accounts for a peer whose response is over.
    pub(crate) fn departed(&self, tunnel: &Arc<Tunnel>, departure: Departure) {
        match departure {
            Departure::SurvivorTold => self.farewell(tunnel),
            Departure::Over(reason) => {
                let mut table = self.table();
                if table.open.remove(&tunnel.number).is_some() {
                    tracing::debug!(stream = tunnel.stream, reason, "tunnel ended");
                    if table.ended.len() >= MAX_ENDED {
                        table.ended.pop_front();
                    }
                    table.ended.push_back(TunnelEnded {
                        r#use: Some(tunnel.usage()),
                        reason,
                    });
                    self.news.notify_one();
                } else if table
                    .parked
                    .get(&tunnel.stream)
                    .is_some_and(|parked| parked.number == tunnel.number)
                {
                    table.unpark(&tunnel.stream);
                }
                self.metrics.parked.set(table.parked.len() as i64);
                self.metrics.tunnels.set(table.open.len() as i64);
                self.open.send_replace(table.open.len());
            }
        }
    }

    /// Cuts off what is left of a tunnel that has begun to end, after a while.
    fn farewell(&self, tunnel: &Arc<Tunnel>) {
        if !tunnel.begins_farewell() {
            return;
        }
        let tunnel = Arc::clone(tunnel);
        self.tasks.spawn(async move {
            let mut taken = tunnel.delivered();
            for _ in 0..FAREWELL_ROUNDS {
                let waited = tokio::time::sleep(FAREWELL);
                if tunnel.over.run_until_cancelled(waited).await.is_none() {
                    return;
                }
                if std::mem::replace(&mut taken, tunnel.delivered()) == taken {
                    break;
                }
            }
            tunnel.cut();
        });
    }

    fn close_each(&self, tunnels: Vec<Arc<Tunnel>>, status: &Status) -> usize {
        for tunnel in &tunnels {
            tunnel.close(status);
            self.farewell(tunnel);
        }
        tunnels.len()
    }

    /// Ends tunnels, parked peers and future arrivals; returns how many were ended now.
    pub(crate) fn close(&self, closing: &Closing) -> usize {
        let local = self.clock.now();
        let now = self
            .verifier
            .get()
            .map_or(local, |verifier| verifier.issuer_time(local));
        let mut table = self.table();
        if table.remember(closing, now) {
            tracing::warn!("more closed leases than the router can remember; forgot the oldest");
        }
        let tunnels = table.all(|tunnel| {
            (!closing.lease.is_empty() && tunnel.lease == closing.lease)
                || (!closing.stream.is_empty() && tunnel.stream == closing.stream)
        });
        drop(table);
        self.close_each(tunnels, &Status::permission_denied(&closing.reason))
    }

    /// Lets no new peers in and sends the waiting ones away.
    pub(crate) fn begin_drain(&self) {
        let mut table = self.table();
        if std::mem::replace(&mut table.draining, true) {
            return;
        }
        let parked = table.parked.values().cloned().collect();
        self.ready.send_replace(false);
        drop(table);
        let status = Status::unavailable("the router is draining; dial again");
        self.close_each(parked, &status);
        self.news.notify_one();
    }

    /// Ends all tunnels.
    pub(crate) fn close_all(&self, status: &Status) -> usize {
        let tunnels = self.table().all(|_| true);
        self.close_each(tunnels, status)
    }

    /// Waits until no tunnel is open.
    pub(crate) async fn emptied(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    pub(crate) fn load(&self) -> RouterLoad {
        let table = self.table();
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        RouterLoad {
            tunnels: count(table.open.len()),
            parked: count(table.parked.len()),
            bytes_forwarded: self.metrics.bytes(),
            draining: table.draining,
            r#use: table
                .open
                .values()
                .take(MAX_REPORTED)
                .map(|tunnel| tunnel.usage())
                .collect(),
        }
    }

    /// The oldest ended tunnel that nobody was told of.
    pub(crate) fn take_ended(&self) -> Option<TunnelEnded> {
        self.table().ended.pop_front()
    }

    pub(crate) fn stats(&self) -> RouterStats {
        let table = self.table();
        RouterStats {
            tunnels: table.open.len(),
            parked: table.parked.len(),
            bytes_forwarded: self.metrics.bytes(),
            pairings: self.metrics.pairings.get(),
            draining: table.draining,
            ready: *self.ready.borrow(),
        }
    }
}
