//! What must hold, judged from the objects and messages alone, not from the pool's own notes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jmp_types::Timestamp;
use jmp_types::resource::{AccessPolicy, Client, Exporter, Lease};

use super::super::api::{Event, Notice};
use super::super::time::{between, end_from, expiry, fixed_end, requested};
use crate::status::ExporterStatus;

/// What the store has.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) exporters: BTreeMap<String, Exporter>,
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) policies: BTreeMap<String, AccessPolicy>,
    pub(super) leases: BTreeMap<String, Lease>,
}

/// What is known about an exporter from the messages that the pool was given.
#[derive(Clone, Debug, Default)]
struct Evidence {
    connection: Option<u64>,
    newest: u64,
    told: Option<u64>,
    settled: bool,
}

/// The judge.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    evidence: BTreeMap<String, Evidence>,
    /// The lease that the last notice of each stream was about.
    said: BTreeMap<u64, Option<String>>,
    /// Leases whose making was acknowledged, with their exporter as acknowledged.
    pub(super) acknowledged: BTreeMap<String, Option<String>>,
}

type Verdict = Result<(), String>;

/// How long an AVAILABLE from before the end has to wait at least.
const SETTLE: u64 = 2000;

// === impl Oracle ===

impl Oracle {
    /// The pool is about to be given this.
    pub(super) fn hears(&mut self, event: &Event, now: u64) {
        for evidence in self.evidence.values_mut() {
            evidence.settled |= evidence.told.is_some_and(|told| now >= told + SETTLE);
        }
        match event {
            Event::Connected {
                exporter,
                connection,
            } => {
                let evidence = self.evidence.entry(exporter.name.clone()).or_default();
                if *connection > evidence.newest {
                    evidence.newest = *connection;
                    evidence.connection = Some(*connection);
                    evidence.told = None;
                }
            }
            Event::Disconnected {
                exporter,
                connection,
            } => {
                let evidence = self.evidence.entry(exporter.name.clone()).or_default();
                if evidence.connection == Some(*connection) {
                    evidence.connection = None;
                    evidence.told = None;
                }
            }
            Event::NoticeDelivered {
                exporter,
                connection,
                notice,
            } => {
                let evidence = self.evidence.entry(exporter.name.clone()).or_default();
                if evidence.connection == Some(*connection) && !notice.leased {
                    evidence.told.get_or_insert(now);
                }
            }
            Event::Registered { exporter, .. } => {
                let evidence = self.evidence.entry(exporter.name.clone()).or_default();
                evidence.settled = true;
            }
            Event::StatusReported {
                exporter,
                status: ExporterStatus::Available,
                ..
            } => {
                let evidence = self.evidence.entry(exporter.name.clone()).or_default();
                evidence.settled |= evidence.told.is_some();
            }
            _ => {}
        }
    }

    /// The controller starts from the store.
    pub(super) fn restarted(&mut self) {
        for evidence in self.evidence.values_mut() {
            evidence.connection = None;
            evidence.told = None;
            evidence.settled = false;
        }
    }

    pub(super) fn connection(&self, exporter: &str) -> Option<u64> {
        self.evidence.get(exporter)?.connection
    }

    /// A notice goes out on a stream.
    pub(super) fn says(&mut self, connection: u64, notice: &Notice) -> Verdict {
        let before = self.said.insert(connection, notice.lease.clone()).flatten();
        match (before, &notice.lease) {
            (Some(before), Some(after)) if before != *after => Err(format!(
                "stream {connection} said {before}, then {after}, without leased=false between"
            )),
            _ => Ok(()),
        }
    }

    /// A lease is written.
    pub(super) fn writes(
        &mut self,
        store: &Store,
        lease: &Lease,
        now: (u64, Timestamp),
    ) -> Verdict {
        let name = &lease.metadata.name;
        let old = store.leases.get(name);
        if old.is_some_and(|old| old.status.ended) {
            return Err(format!("ended lease {name} is written again"));
        }
        let Some(exporter) = lease.exporter() else {
            return Ok(());
        };
        let held = old.is_some_and(|old| old.status.exporter_ref.is_some());
        if lease.status.ended {
            if held {
                let evidence = self.evidence.entry(exporter.name.clone()).or_default();
                evidence.told = None;
                evidence.settled = false;
            }
            return Ok(());
        }
        let other = store.leases.values().find(|one| {
            one.metadata.name != *name
                && !one.status.ended
                && one.exporter().as_ref() == Some(&exporter)
        });
        if let Some(other) = other {
            let other = &other.metadata.name;
            return Err(format!(
                "{exporter} is given to {name} while {other} has it"
            ));
        }
        if held {
            return Ok(());
        }
        let evidence = self.evidence.entry(exporter.name.clone()).or_default();
        let settled = evidence.settled || evidence.told.is_some_and(|told| now.0 >= told + SETTLE);
        if evidence.told.is_none() {
            return Err(format!(
                "{exporter} was not told leased=false before {name}"
            ));
        }
        if !settled {
            return Err(format!("{exporter} was not available again before {name}"));
        }
        if let Some(blocker) = reserved_by_other(store, lease, &exporter.name, now.1) {
            return Err(format!(
                "{exporter} is kept for {blocker}, but given to {name}"
            ));
        }
        Ok(())
    }

    /// Nothing that was acknowledged is lost.
    pub(super) fn acknowledged(&self, store: &Store) -> Verdict {
        for (name, exporter) in &self.acknowledged {
            let Some(lease) = store.leases.get(name) else {
                return Err(format!("acknowledged lease {name} is lost"));
            };
            let stored = lease.status.exporter_ref.as_ref().map(|one| &one.name);
            if exporter.is_some() && stored != exporter.as_ref() {
                return Err(format!("lease {name} had {exporter:?}, has {stored:?}"));
            }
        }
        Ok(())
    }
}

/// A lease whose reservation would be broken.
fn reserved_by_other(
    store: &Store,
    lease: &Lease,
    exporter: &str,
    now: Timestamp,
) -> Option<String> {
    let end = end_from(&lease.spec, now);
    let mut others = store.leases.values();
    let other = others.find(|other| {
        let kept = other.status.reserved_exporter_ref.as_ref();
        let window = other.spec.begin_time.zip(fixed_end(&other.spec));
        other.metadata.name != lease.metadata.name
            && !other.status.ended
            && other.status.exporter_ref.is_none()
            && kept.is_some_and(|kept| kept.name == exporter)
            && window.is_some_and(|(from, until)| from < end && until > now)
    })?;
    Some(other.metadata.name.clone())
}

/// Place of a lease in the order on an exporter; `None` if it may not have it now.
type Place<'a> = (bool, std::cmp::Reverse<i64>, Option<Timestamp>, &'a str);

fn place<'a>(
    store: &Store,
    lease: &'a Lease,
    exporter: &Exporter,
    now: Timestamp,
) -> Option<Place<'a>> {
    let pin = lease.spec.exporter_ref.as_ref();
    let kept = lease.status.reserved_exporter_ref.as_ref();
    let end = end_from(&lease.spec, now);
    let fits = pin.is_none_or(|pin| pin.name == exporter.metadata.name)
        && kept.is_none_or(|kept| kept.name == exporter.metadata.name)
        && lease.spec.begin_time.is_none_or(|begin| begin <= now)
        && (exporter.is_enabled() || lease.spec.allow_disabled)
        && lease.spec.selector.matches(&exporter.metadata.labels)
        && end > now
        && reserved_by_other(store, lease, &exporter.metadata.name, now).is_none();
    if !fits {
        return None;
    }
    let (spot, priority) = granted(store, lease, exporter)?;
    Some((
        spot,
        std::cmp::Reverse(priority),
        lease.metadata.creation_timestamp,
        &lease.metadata.name,
    ))
}

fn granted(store: &Store, lease: &Lease, exporter: &Exporter) -> Option<(bool, i64)> {
    if store.policies.is_empty() {
        return Some((false, 0));
    }
    let client = &store
        .clients
        .get(&lease.spec.client_ref.name)?
        .metadata
        .labels;
    let wanted = requested(lease);
    let about = store.policies.values().filter(|policy| {
        let selector = &policy.spec.exporter_selector;
        selector.matches(&exporter.metadata.labels)
    });
    about
        .flat_map(|policy| &policy.spec.policies)
        .filter(|rule| {
            rule.from
                .iter()
                .any(|one| one.client_selector.matches(client))
        })
        .filter(|rule| rule.maximum_duration.is_none_or(|most| wanted <= most.0))
        .map(|rule| (rule.spot_access, rule.priority))
        .max_by_key(|(spot, priority)| (!spot, *priority))
}

/// Those who were given an exporter in a step came before all that still wait.
pub(super) fn order(store: &Store, assigned: &BTreeSet<String>, now: Timestamp) -> Verdict {
    for name in assigned {
        let Some(lease) = store.leases.get(name).filter(|lease| !lease.status.ended) else {
            continue;
        };
        let exporter = lease
            .exporter()
            .and_then(|key| store.exporters.get(&key.name));
        let Some(exporter) = exporter else { continue };
        let Some(own) = place(store, lease, exporter, now) else {
            return Err(format!(
                "{name} got {} without a right",
                exporter.metadata.name
            ));
        };
        for other in store.leases.values() {
            if other.status.ended || other.status.exporter_ref.is_some() {
                continue;
            }
            if let Some(theirs) = place(store, other, exporter, now)
                && theirs < own
            {
                return Err(format!(
                    "{name} ({own:?}) got {} before {theirs:?}: {:?} {:?}",
                    exporter.metadata.name, other.spec, other.status
                ));
            }
        }
    }
    Ok(())
}

/// No lease outlives its time.
pub(super) fn in_time(store: &Store, now: Timestamp) -> Verdict {
    for lease in store.leases.values().filter(|lease| !lease.status.ended) {
        let over = match lease.status.begin_time {
            Some(_) => Some(expiry(lease, now)),
            None => fixed_end(&lease.spec),
        };
        if over.is_some_and(|over| over <= now) {
            let late = between(over.unwrap_or(now), now).max(Duration::ZERO);
            return Err(format!(
                "{} should have ended {late:?} ago",
                lease.metadata.name
            ));
        }
    }
    Ok(())
}
