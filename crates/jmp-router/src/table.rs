//! What the router remembers: who waits, which tunnels are open, what was used or closed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jmp_auth::{TunnelClaims, UseError, UsedTokens};
use jmp_proto::jmp::v1::TunnelEnded;
use jmp_types::Timestamp;
use tonic::Status;

use crate::expiring::Expiring;
use crate::metrics::RefusalReason;
use crate::options::Closing;
use crate::relay::{Refusal, refusal};
use crate::tunnel::{Side, Tunnel};

/// How long a closed lease is remembered: no token that was issued before lives longer.
const CLOSED_MEMORY: Duration = Duration::from_secs(60 * 60);
/// Closed leases and streams that are remembered.
const MAX_CLOSED: usize = 100_000;
/// Used tokens that are remembered; 200 bytes each.
const MAX_USED: usize = 200_000;
/// A lease or stream that was closed.
struct Closed {
    at: Timestamp,
    reason: String,
}

/// Peers and tunnels by what they are looked up with.
pub(crate) struct Table {
    pub(crate) draining: bool,
    pub(crate) next: u64,
    /// By stream.
    pub(crate) parked: HashMap<String, Arc<Tunnel>>,
    pub(crate) parked_by_owner: HashMap<String, usize>,
    /// Tunnels with two peers, by number.
    pub(crate) open: HashMap<u64, Arc<Tunnel>>,
    used: UsedTokens,
    closed_leases: Expiring<Closed>,
    closed_streams: Expiring<Closed>,
    /// Not yet reported, oldest first.
    pub(crate) ended: VecDeque<TunnelEnded>,
}

// === impl Table ===

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            draining: false,
            next: 0,
            parked: HashMap::new(),
            parked_by_owner: HashMap::new(),
            open: HashMap::new(),
            used: UsedTokens::new(MAX_USED),
            closed_leases: Expiring::new(MAX_CLOSED),
            closed_streams: Expiring::new(MAX_CLOSED),
            ended: VecDeque::new(),
        }
    }

    /// Refuses what was issued until `now` from now on. True if an older closing had to go.
    pub(crate) fn remember(&mut self, closing: &Closing, now: Timestamp) -> bool {
        let until = now.saturating_add(CLOSED_MEMORY).unwrap_or(Timestamp::MAX);
        let mut forgotten = false;
        for (closed, name) in [
            (&mut self.closed_leases, &closing.lease),
            (&mut self.closed_streams, &closing.stream),
        ] {
            if !name.is_empty() {
                let reason = closing.reason.clone();
                forgotten |= closed.insert(name.clone(), Closed { at: now, reason }, until);
            }
        }
        forgotten
    }

    pub(crate) fn refuse_closed(
        &mut self,
        claims: &TunnelClaims,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.closed_leases.purge(now);
        self.closed_streams.purge(now);
        let lease = claims.lease.as_deref().unwrap_or_default();
        let closed = self
            .closed_streams
            .get(&claims.stream)
            .or_else(|| self.closed_leases.get(lease))
            // What was issued later, for example after a transfer of the lease, is not meant.
            .filter(|closed| claims.issued_at.is_none_or(|issued| issued <= closed.at));
        match closed {
            None => Ok(()),
            Some(closed) => Err(refusal(
                RefusalReason::Closed,
                Status::permission_denied(&closed.reason),
            )),
        }
    }

    pub(crate) fn use_token(
        &mut self,
        claims: &TunnelClaims,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.used.admit(claims, now).map_err(|error| {
            let status = match error {
                UseError::AlreadyUsed => Status::unauthenticated(error.to_string()),
                UseError::Full => Status::resource_exhausted(error.to_string()),
            };
            refusal(RefusalReason::TokenUsed, status)
        })
    }

    pub(crate) fn unpark(&mut self, stream: &str) -> Option<Arc<Tunnel>> {
        let tunnel = self.parked.remove(stream)?;
        if let Some(seat) = tunnel.seat(Side::First)
            && let Some(count) = self.parked_by_owner.get_mut(&seat.owner)
        {
            *count -= 1;
            if *count == 0 {
                self.parked_by_owner.remove(&seat.owner);
            }
        }
        Some(tunnel)
    }

    pub(crate) fn all(&self, wanted: impl Fn(&Tunnel) -> bool) -> Vec<Arc<Tunnel>> {
        self.open
            .values()
            .chain(self.parked.values())
            .filter(|tunnel| wanted(tunnel))
            .cloned()
            .collect()
    }
}
