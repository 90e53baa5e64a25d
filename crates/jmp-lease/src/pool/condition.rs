//! Conditions, as clients parse them (facts: controller 3.2, protocol 8.1).

use jmp_types::Timestamp;
use jmp_types::resource::{Condition, Exporter, Lease};

use super::time::shown;

/// Waits for an exporter. Never returns to `False`: clients abort on that.
pub(super) const PENDING: &str = "Pending";
/// Has its exporter (`True`), or had it (`False`).
pub(super) const READY: &str = "Ready";
/// Will never have one.
pub(super) const UNSATISFIABLE: &str = "Unsatisfiable";
/// Makes no sense.
pub(super) const INVALID: &str = "Invalid";

/// What is said in a condition.
pub(super) struct Said<'a> {
    pub(super) kind: &'static str,
    pub(super) status: bool,
    pub(super) reason: &'a str,
    pub(super) message: String,
}

/// Sets a condition where it is, or appends it: the last entry of the list is what `get` shows.
pub(super) fn set(
    conditions: &mut Vec<Condition>,
    said: Said<'_>,
    generation: u64,
    now: Timestamp,
) -> bool {
    let status = if said.status { "True" } else { "False" };
    let fresh = Condition {
        kind: said.kind.to_owned(),
        status: status.to_owned(),
        reason: said.reason.to_owned(),
        message: said.message,
        last_transition_time: now,
        observed_generation: generation,
    };
    let Some(present) = conditions.iter_mut().find(|one| one.kind == said.kind) else {
        conditions.push(fresh);
        return true;
    };
    let time = if present.status == status {
        present.last_transition_time
    } else {
        now
    };
    let fresh = Condition {
        last_transition_time: time,
        ..fresh
    };
    let changed = *present != fresh;
    *present = fresh;
    changed
}

/// Says that a lease has its exporter, and until when; the text of it.
pub(super) fn assigned(
    lease: &mut Lease,
    exporter: &str,
    end: Timestamp,
    now: Timestamp,
) -> String {
    let message = format!("exporter {exporter} is assigned until {}", shown(end));
    let said = Said {
        kind: READY,
        status: true,
        reason: "Ready",
        message: message.clone(),
    };
    set_on_lease(lease, said, now);
    message
}

pub(super) fn set_on_lease(lease: &mut Lease, said: Said<'_>, now: Timestamp) -> bool {
    let generation = lease.metadata.generation;
    set(&mut lease.status.conditions, said, generation, now)
}

pub(super) fn set_on_exporter(exporter: &mut Exporter, said: Said<'_>, now: Timestamp) -> bool {
    let generation = exporter.metadata.generation;
    set(&mut exporter.status.conditions, said, generation, now)
}
