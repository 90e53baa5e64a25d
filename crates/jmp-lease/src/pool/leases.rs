//! What happens to leases: assignment and end.

use std::time::Duration;

use jmp_types::Timestamp;
use jmp_types::resource::{Kind, LEASE_ENDED_LABEL, Lease, Reference};

use super::access::Grant;
use super::api::Effect;
use super::condition::{self, INVALID, PENDING, READY, Said, UNSATISFIABLE};
use super::outbox::Context;
use super::space::{Phase, Space};
use super::time::{self, shown, shown_duration};
use crate::time::Moment;

/// Why a lease is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Somebody or something ended it; the message says who and why.
    Released(String),
    /// Its time is up.
    Expired,
    /// Its time is up, and it never had an exporter.
    WindowPassed,
    /// There is, or will be, no exporter for it.
    Unsatisfiable(&'static str, String),
    /// It makes no sense.
    Invalid(&'static str, String),
}

/// When a lease that begins to wait stops. A restart does not begin the wait anew: how long it has
/// waited is told by its condition.
pub(super) fn give_up(lease: &Lease, context: &Context<'_>) -> Option<Moment> {
    if planted!(context.settings, NoPendingLimit) {
        return None;
    }
    let since = lease.condition(PENDING).map(|one| one.last_transition_time);
    let waited = since.map_or(Duration::ZERO, |since| {
        time::between(since, context.now.wall)
    });
    let limit = context.settings.pending_limit;
    Some(context.now.monotonic + limit.saturating_sub(waited))
}

// === impl Space ===

impl Space {
    /// The wall clock has reached the timer of a lease.
    pub(super) fn lease_time_came(&mut self, name: &str, context: &mut Context<'_>) {
        let wall = context.now.wall;
        let Some(entry) = self.leases.get_mut(name) else {
            return;
        };
        match entry.phase {
            Phase::Held if time::expiry(&entry.lease, wall) <= wall => {
                self.end_lease(name, Ending::Expired, context);
            }
            Phase::Scheduled | Phase::Waiting
                if time::fixed_end(&entry.lease.spec).is_some_and(|end| end <= wall) =>
            {
                self.end_lease(name, Ending::WindowPassed, context);
            }
            Phase::Scheduled => self.rephase(name, Phase::Waiting, context),
            Phase::Held | Phase::Waiting => self.touch_lease(name, context),
        }
    }

    pub(super) fn rephase(&mut self, name: &str, phase: Phase, context: &Context<'_>) {
        self.unindex_lease(name);
        if let Some(entry) = self.leases.get_mut(name) {
            entry.phase = phase;
        }
        self.index_lease(name, context);
    }

    pub(super) fn lease_waited_too_long(&mut self, name: &str, context: &mut Context<'_>) {
        let limit = shown_duration(context.settings.pending_limit);
        let message = format!("no exporter became free within {limit}");
        self.end_lease(
            name,
            Ending::Unsatisfiable("QueueTimeout", message),
            context,
        );
    }

    /// Gives an exporter to a waiting lease.
    pub(super) fn assign(
        &mut self,
        name: &str,
        exporter: &str,
        grant: Grant,
        context: &mut Context<'_>,
    ) {
        let wall = context.now.wall;
        self.unindex_lease(name);
        let Some(entry) = self.leases.get_mut(name) else {
            return;
        };
        entry.phase = Phase::Held;
        entry.give_up = None;
        let lease = &mut entry.lease;
        lease.status.begin_time = Some(wall);
        lease.status.exporter_ref = Some(Reference::new(exporter));
        lease.status.reserved_exporter_ref = None;
        lease.status.priority = grant.priority;
        lease.status.spot_access = grant.spot;
        let end = time::expiry(lease, wall);
        let message = condition::assigned(lease, exporter, end, wall);
        let asked = lease.metadata.creation_timestamp.unwrap_or(wall);
        let since = lease
            .spec
            .begin_time
            .map_or(asked, |begin| begin.max(asked));
        let waited = time::between(since, wall);
        let client = lease.spec.client_ref.name.clone();
        if !planted!(context.settings, UnsavedAssignment) {
            context.out.save_lease(lease);
        }
        let key = lease.key();
        self.index_lease(name, context);
        self.set_turn(exporter, Some(name), context);
        context.out.then(Effect::Acquired {
            lease: key.clone(),
            waited,
        });
        context
            .out
            .record((Kind::Lease, key), "Assigned", message, false);
        let message = format!("leased by {client} as {name} until {}", shown(end));
        let exporter = (Kind::Exporter, self.key(exporter));
        context.out.record(exporter, "Leased", message, false);
    }

    /// Ends a lease: it is written once more, and leaves the pool.
    pub(super) fn end_lease(&mut self, name: &str, ending: Ending, context: &mut Context<'_>) {
        let wall = context.now.wall;
        let Some(mut entry) = self.remove_lease(name) else {
            return;
        };
        let assigned = entry.exporter().map(ToOwned::to_owned);
        let lease = &mut entry.lease;
        let key = (Kind::Lease, lease.key());
        let (word, message) = mark_ended(lease, &ending, wall);
        let failed = matches!(
            ending,
            Ending::Unsatisfiable(..) | Ending::Invalid(..) | Ending::WindowPassed
        );
        context.out.save_lease(lease);
        context.out.record(key.clone(), word, &message, failed);
        let Some(exporter) = assigned else {
            if failed {
                context.out.then(Effect::Failed {
                    lease: key.1,
                    reason: word.to_owned(),
                });
            }
            return;
        };
        let begin = lease.status.begin_time.unwrap_or(wall);
        context.out.then(Effect::CloseTunnels {
            lease: key.1.clone(),
            reason: format!("the lease has ended: {message}"),
        });
        context.out.then(Effect::Ended {
            lease: key.1,
            exporter: self.key(&exporter),
            held: time::between(begin, wall),
        });
        let holds = |station: &super::station::Station| station.holder() == Some(name);
        if self.stations.get(&exporter).is_some_and(holds) {
            self.set_turn(&exporter, None, context);
            let key = (Kind::Exporter, self.key(&exporter));
            let message = format!("lease {name} has ended: {message}");
            context.out.record(key, "Unleased", message, false);
        }
    }
}

/// Writes the end into the lease; the word and the message for people.
fn mark_ended(lease: &mut Lease, ending: &Ending, wall: Timestamp) -> (&'static str, String) {
    let (kind, status, reason, message) = match ending {
        Ending::Released(message) => (READY, false, "Released", message.clone()),
        Ending::Expired => {
            let message = format!("the lease ended at its time, {}", shown(wall));
            (READY, false, "Expired", message)
        }
        Ending::WindowPassed => {
            let message = "the time of the lease passed before an exporter was free".to_owned();
            // Shipped clients go on waiting at Ready=False with this reason; this one ends that.
            let said = Said {
                kind: UNSATISFIABLE,
                status: true,
                reason: "Expired",
                message: message.clone(),
            };
            condition::set_on_lease(lease, said, wall);
            (READY, false, "Expired", message)
        }
        Ending::Unsatisfiable(reason, message) => (UNSATISFIABLE, true, *reason, message.clone()),
        Ending::Invalid(reason, message) => (INVALID, true, *reason, message.clone()),
    };
    let said = Said {
        kind,
        status,
        reason,
        message: message.clone(),
    };
    condition::set_on_lease(lease, said, wall);
    lease.status.ended = true;
    lease.status.end_time = Some(wall);
    lease.status.reserved_exporter_ref = None;
    let labels = &mut lease.metadata.labels;
    labels.insert(LEASE_ENDED_LABEL.to_owned(), "true".to_owned());
    (reason, message)
}
