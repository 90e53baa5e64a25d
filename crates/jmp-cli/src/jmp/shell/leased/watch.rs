//! The end of a lease while a program uses it: told in time, put off if that was asked for, enforced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jmp_client::lease::{Standing, States, end, now, short_name, standing};
use jmp_client::{Controller, LeaseChange};
use jmp_proto::jumpstarter::client::v1 as wire;
use jmp_types::Timestamp;

use super::Held;
use crate::jmp::lease::view::{local_time, span};
use crate::output;

/// How long before the end it is told; a lease shorter than that is told at half of what is left.
const NOTICE: Duration = Duration::from_secs(300);
/// How long before the end a lease is extended, if that was asked for.
const EXTEND_BEFORE: Duration = Duration::from_secs(120);
/// How often an extension is tried at most.
const EXTEND_AGAIN: Duration = Duration::from_secs(15);
/// What the controller may be late with the end; after that the lease is over for us, too.
const LATE: Duration = Duration::from_secs(2);

/// Follows one lease.
pub struct Watch<'a> {
    held: &'a Held,
    extend: Option<Duration>,
    over: Arc<AtomicBool>,
}

// === impl Watch ===

impl<'a> Watch<'a> {
    /// Extends by `extend` whenever the end is near.
    pub fn new(held: &'a Held, extend: Option<Duration>) -> Self {
        Self {
            held,
            extend,
            over: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Whether [`Self::over`] has said so.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Resolves when the lease is over, after having told why. A controller that cannot be reached is no
    /// end: the last known time counts.
    pub fn over(&mut self) -> impl Future<Output = ()> + use<> {
        let mut follower = Follower {
            controller: self.held.controller.clone(),
            name: self.held.name().to_owned(),
            owner: short_name(self.held.lease.client.as_deref().unwrap_or_default()).to_owned(),
            lease: self.held.lease.clone(),
            extend: self.extend,
            told: None,
        };
        let over = self.over.clone();
        async move {
            let reason = follower.follow().await;
            over.store(true, Ordering::Relaxed);
            output::note(&reason);
        }
    }
}

struct Follower {
    controller: Controller,
    name: String,
    owner: String,
    lease: wire::Lease,
    extend: Option<Duration>,
    /// The end that was told.
    told: Option<Timestamp>,
}

// === impl Follower ===

impl Follower {
    async fn follow(&mut self) -> String {
        let controller = self.controller.clone();
        let name = self.name.clone();
        let mut states = States::new(&controller, &name);
        loop {
            let next = tokio::select! {
                state = states.next() => state,
                () = self.until_something() => {
                    if let Some(reason) = self.passed() {
                        return reason;
                    }
                    self.near_the_end().await;
                    continue;
                }
            };
            match next {
                Ok(state) => {
                    let Some(lease) = state.lease else { continue };
                    if let Some(reason) = self.ended(&lease) {
                        return reason;
                    }
                    self.lease = lease;
                }
                Err(error) => {
                    // The controller does not let us look any more: what is known has to do.
                    tracing::warn!(%error, "the lease cannot be followed");
                    tokio::time::sleep(EXTEND_AGAIN).await;
                }
            }
        }
    }

    fn ended(&self, lease: &wire::Lease) -> Option<String> {
        let owner = short_name(lease.client.as_deref().unwrap_or_default());
        if owner != self.owner {
            return Some(format!(
                "lease {} was transferred to client {owner}",
                self.name
            ));
        }
        match standing(lease) {
            Standing::Over(reason, message) => Some(format!(
                "lease {} has ended, {reason}: {message}",
                self.name
            )),
            _ => None,
        }
    }

    fn left(&self) -> Option<Duration> {
        let end = end(&self.lease)?;
        let left = end.as_millisecond() - now().as_millisecond();
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    fn passed(&self) -> Option<String> {
        let end = end(&self.lease)?;
        let late = now().as_millisecond() - end.as_millisecond();
        (u128::try_from(late).unwrap_or(0) >= LATE.as_millis())
            .then(|| format!("lease {} has ended, its time is over", self.name))
    }

    /// Until something is to be told or done.
    async fn until_something(&self) {
        let Some(left) = self.left() else {
            return std::future::pending().await;
        };
        let end = end(&self.lease);
        let mut pause = left + LATE;
        if self.extend.is_none() && self.told != end {
            pause = pause.min(left.saturating_sub(NOTICE).max(Duration::from_millis(1)));
        }
        if let Some(before) = self.extend_before()
            && !left.is_zero()
        {
            let wait = left.saturating_sub(before);
            pause = pause.min(if wait.is_zero() {
                EXTEND_AGAIN.min(left / 4)
            } else {
                wait
            });
        }
        tokio::time::sleep(pause).await;
    }

    async fn near_the_end(&mut self) {
        let (Some(left), Some(end)) = (self.left(), end(&self.lease)) else {
            return;
        };
        if self.extend_before().is_some_and(|before| left <= before) && self.extend().await {
            return;
        }
        if self.extend.is_none() && left <= NOTICE && self.told != Some(end) {
            self.told = Some(end);
            let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            output::warn(&format!(
                "lease {} ends in {} at {}; `jmp update lease {} --duration DURATION` makes it longer",
                self.name,
                span(seconds),
                local_time(end),
                self.name
            ));
        }
    }

    /// How long before the end the lease is extended. A short extension comes late, so that extensions do
    /// not follow one another at once.
    fn extend_before(&self) -> Option<Duration> {
        Some(self.extend?.min(EXTEND_BEFORE))
    }

    async fn extend(&mut self) -> bool {
        let Some(extension) = self.extend else {
            return false;
        };
        let present = self.lease.duration.as_ref();
        let present = present.and_then(|duration| Duration::try_from(*duration).ok());
        let change = LeaseChange {
            duration: Some(present.unwrap_or_default() + extension),
            ..LeaseChange::default()
        };
        match self.controller.update_lease(&self.name, &change).await {
            Ok(lease) => {
                self.lease = lease;
                if let Some(end) = end(&self.lease) {
                    output::note(&format!(
                        "lease {} extended to {}",
                        self.name,
                        local_time(end)
                    ));
                }
                true
            }
            Err(error) => {
                output::warn(&format!("lease {} cannot be extended: {error}", self.name));
                self.extend = None;
                false
            }
        }
    }
}
