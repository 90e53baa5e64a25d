//! How things stand, for people.

use std::time::Duration;

use jmp_types::Timestamp;
use jmp_types::resource::{Key, Lease};

use super::MAX_CANDIDATES;
use super::access::Access;
use super::api::{Candidate, DialRefusal, Now, Queue, Settings, Waiting};
use super::condition::{self, PENDING, Said};
use super::space::{Entry, Phase, Space};
use super::station::{Overdue, Station};
use super::time::{self, shown};
use crate::status::ExporterStatus;

/// More waiting leases than this are not compared just to tell one its place.
const COMPARED: usize = 64;

/// Why an exporter cannot be had now, from far to near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Offline,
    Busy,
    NotReady,
}

// === impl Space ===

impl Space {
    /// The exporters that the lease may have at some time, by name.
    fn possible<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a Station> {
        let wanted = time::requested(&entry.lease);
        self.candidates(entry).filter(move |station| {
            let access = self.access(station, entry.client(), wanted);
            entry.wants(station) && matches!(access, Access::Granted(_))
        })
    }

    /// What is in the way of that exporter, for that lease; `None` if nothing is.
    fn obstacle(
        &self,
        station: &Station,
        entry: &Entry,
        now: Timestamp,
    ) -> Option<(Obstacle, Candidate)> {
        let mut candidate = Candidate {
            exporter: station.name().to_owned(),
            reason: String::new(),
            client: None,
            lease: None,
            until: None,
        };
        if let Some(holder) = station.holder().and_then(|name| self.leases.get(name)) {
            let until = time::expiry(&holder.lease, now);
            candidate.reason = format!("leased by {} until {}", holder.client(), shown(until));
            candidate.client = Some(holder.client().to_owned());
            candidate.lease = Some(holder.name().to_owned());
            candidate.until = Some(until);
            let online = station.online && station.is_registered();
            let obstacle = if online {
                Obstacle::Busy
            } else {
                Obstacle::Offline
            };
            return Some((obstacle, candidate));
        }
        if !station.is_registered() {
            candidate.reason = match station.connection {
                Some(_) => "without any device".to_owned(),
                None => "not registered".to_owned(),
            };
            return Some((Obstacle::Offline, candidate));
        }
        if station.connection.is_none() || station.word == Some(ExporterStatus::Offline) {
            candidate.reason = "offline".to_owned();
            return Some((Obstacle::Offline, candidate));
        }
        if !station.is_ready() {
            let flagged = station.idle().and_then(|idle| idle.flagged.as_deref());
            candidate.reason = match (flagged, station.word) {
                (Some(why), _) => format!("flagged: {why}"),
                (None, None | Some(ExporterStatus::Available)) => {
                    "just coming back from its last lease".to_owned()
                }
                (None, Some(word)) => format!("not ready ({})", word.name()),
            };
            return Some((Obstacle::NotReady, candidate));
        }
        let end = time::end_from(&entry.lease.spec, now);
        let blocker = self.blocker(station, entry, now, end)?;
        let client = self.leases.get(&blocker.lease).map_or("-", Entry::client);
        let (begin, end) = (shown(blocker.begin), shown(blocker.end));
        candidate.reason = format!("reserved for {client} from {begin} to {end}");
        candidate.client = Some(client.to_owned());
        candidate.lease = Some(blocker.lease);
        candidate.until = Some(blocker.end);
        Some((Obstacle::Busy, candidate))
    }

    /// Reason and message of the `Pending` condition.
    pub(super) fn why_waiting(&self, entry: &Entry, now: Timestamp) -> (&'static str, String) {
        let mut worst = Obstacle::Offline;
        let mut count = 0_usize;
        let mut nearest: Option<Candidate> = None;
        for station in self.possible(entry) {
            count += 1;
            let Some((obstacle, candidate)) = self.obstacle(station, entry, now) else {
                continue;
            };
            worst = worst.max(obstacle);
            let sooner = match (&nearest, candidate.until) {
                (None, _) => true,
                (Some(before), Some(until)) => before.until.is_none_or(|best| until < best),
                (Some(_), None) => false,
            };
            if sooner {
                nearest = Some(candidate);
            }
        }
        let (reason, what) = match worst {
            Obstacle::Offline => ("Offline", "offline"),
            Obstacle::Busy => ("NotAvailable", "in use or reserved"),
            Obstacle::NotReady => ("NotReady", "being prepared, or in use"),
        };
        let detail = nearest.map_or_else(String::new, |candidate| {
            format!(": {} is {}", candidate.exporter, candidate.reason)
        });
        let message = match count {
            1 => format!("waiting for the one exporter that fits{detail}"),
            _ => format!("all {count} exporters that fit are {what}{detail}"),
        };
        (reason, message)
    }

    pub(super) fn present(&self, name: &str, settings: &Settings, now: Now) -> Option<Lease> {
        let entry = self.leases.get(name)?;
        let mut lease = entry.lease.clone();
        if entry.phase != Phase::Waiting {
            return Some(lease);
        }
        let (reason, mut message) = self.why_waiting(entry, now.wall);
        let waiting = self
            .waiting
            .values()
            .map(|queue| queue.len())
            .sum::<usize>();
        if waiting <= COMPARED
            && let Some(queue) = self.queue(name, settings, now)
        {
            message = format!("{message}; place {} of {}", queue.position, queue.length);
        }
        let said = Said {
            kind: PENDING,
            status: true,
            reason,
            message,
        };
        condition::set_on_lease(&mut lease, said, now.wall);
        Some(lease)
    }

    pub(super) fn queue(&self, name: &str, settings: &Settings, now: Now) -> Option<Queue> {
        let entry = self.leases.get(name)?;
        if entry.phase != Phase::Waiting {
            return None;
        }
        let stations: Vec<&Station> = self.possible(entry).take(MAX_CANDIDATES).collect();
        let (mut ahead, mut length) = (Vec::new(), 1);
        for (_, other) in self.waiting.values().flatten() {
            let Some(other) = self.leases.get(other).filter(|one| one.name() != name) else {
                continue;
            };
            let mut shared = stations.iter().filter_map(|station| {
                let theirs = self.standing(other, station)?;
                Some(theirs < self.standing(entry, station)?)
            });
            let Some(first) = shared.next() else { continue };
            length += 1;
            if first || shared.any(|before| before) {
                ahead.push(other);
            }
        }
        let candidates: Vec<Candidate> = stations
            .iter()
            .filter_map(|station| {
                let (obstacle, mut candidate) = self.obstacle(station, entry, now.wall)?;
                if obstacle == Obstacle::NotReady {
                    let ready = station.overdue(settings).map(|(at, _)| at - now.monotonic);
                    candidate.until = ready.map(|left| time::after(now.wall, left));
                }
                Some(candidate)
            })
            .collect();
        Some(Queue {
            position: ahead.len() + 1,
            length,
            estimate: estimate(&candidates, ahead),
            candidates,
        })
    }

    /// The order of two leases on one exporter, as [`super::schedule`] has it; `None` if the lease may
    /// not have it.
    fn standing<'a>(
        &self,
        entry: &'a Entry,
        station: &Station,
    ) -> Option<(bool, std::cmp::Reverse<i64>, Timestamp, &'a str)> {
        if !entry.wants(station) {
            return None;
        }
        let wanted = time::requested(&entry.lease);
        match self.access(station, entry.client(), wanted) {
            Access::Granted(grant) => Some((
                grant.spot,
                std::cmp::Reverse(grant.priority),
                entry.age(),
                entry.name(),
            )),
            _ => None,
        }
    }

    pub(super) fn exporter_waits(
        &self,
        name: &str,
        settings: &Settings,
        now: Now,
    ) -> Option<Waiting> {
        let station = self.stations.get(name)?;
        let elapsed = |since| now.monotonic - since;
        let at_most = station
            .overdue(settings)
            .map(|(at, overdue)| (at - now.monotonic, overdue));
        let limit = at_most.map(|(span, _)| span);
        let for_ever = |what: String, since| {
            Some(Waiting {
                what,
                since: elapsed(since),
                at_most: None,
            })
        };
        if let Some(lease) = station.holder().and_then(|name| self.leases.get(name)) {
            return held(station, lease, limit, now);
        }
        let idle = station.idle()?;
        if !station.is_registered() {
            return for_ever(
                "it is not registered: start the exporter".into(),
                idle.since,
            );
        }
        if station.connection.is_none() {
            let what = "its Status stream is not open".to_owned();
            return Some(Waiting {
                what,
                since: elapsed(station.silent_since),
                at_most: limit,
            });
        }
        if let Some(flagged) = &idle.flagged {
            return for_ever(flagged.clone(), idle.since);
        }
        let word = station.word.map_or("nothing", ExporterStatus::name);
        let said = &station.object.status.status_message;
        let what = match at_most.map(|(_, overdue)| overdue) {
            None if station.word == Some(ExporterStatus::Offline) => {
                return for_ever(format!("it reports OFFLINE: {said}"), station.word_since);
            }
            None if !station.object.is_enabled() => {
                return for_ever("it is disabled".to_owned(), idle.since);
            }
            None => return None,
            Some(Overdue::NotTold) => "it has to be told that it is not leased".to_owned(),
            Some(Overdue::Settled) => {
                let after = idle.after.as_deref().unwrap_or("the use before");
                format!("it has to be AVAILABLE again after {after}")
            }
            Some(_) => format!("it reports {word}: {said}"),
        };
        Some(Waiting {
            what,
            since: elapsed(idle.since.max(station.word_since)),
            at_most: limit,
        })
    }

    pub(super) fn dial_gate(&self, name: &str, client: &Key) -> Result<Key, DialRefusal> {
        let Some(entry) = self.leases.get(name) else {
            let text = format!("lease {name} is not active: it has ended, or never was");
            return Err(DialRefusal::NoLease(text));
        };
        if client.namespace != self.name || entry.client() != client.name {
            return Err(DialRefusal::NotHolder("permission denied".to_owned()));
        }
        let station = entry.exporter().and_then(|name| self.stations.get(name));
        let Some(station) = station else {
            return Err(DialRefusal::NotActive(
                "lease not active: it has no exporter yet".to_owned(),
            ));
        };
        let said = &station.object.status.status_message;
        match station.word {
            None
            | Some(
                ExporterStatus::Unspecified
                | ExporterStatus::LeaseReady
                | ExporterStatus::BeforeLeaseHook
                | ExporterStatus::AfterLeaseHook,
            ) => Ok(self.key(station.name())),
            Some(ExporterStatus::Available) => Err(DialRefusal::NotReady(
                "exporter is not ready (status: Available)".to_owned(),
            )),
            Some(ExporterStatus::Offline) => Err(DialRefusal::Unusable(format!(
                "exporter is offline: {said}"
            ))),
            Some(
                failed @ (ExporterStatus::BeforeLeaseHookFailed
                | ExporterStatus::AfterLeaseHookFailed),
            ) => Err(DialRefusal::Unusable(format!(
                "exporter cannot be used (status: {}): {said}",
                failed.stored_name()
            ))),
        }
    }
}

/// When an exporter is free at the latest, if those who are `ahead` take them in their order and use all
/// of their time. Of an exporter that only a person can bring back nothing is known.
fn estimate(candidates: &[Candidate], mut ahead: Vec<&Entry>) -> Option<Timestamp> {
    use std::cmp::Reverse;
    let free = candidates.iter().filter_map(|one| one.until);
    let mut free: std::collections::BinaryHeap<_> = free.map(Reverse).collect();
    ahead.sort_by_key(|lease| (lease.age(), lease.name()));
    for lease in ahead {
        let Reverse(begin) = free.pop()?;
        free.push(Reverse(time::end_from(&lease.lease.spec, begin).max(begin)));
    }
    free.peek().map(|first| first.0)
}

/// What is still missing while a lease has the exporter.
fn held(station: &Station, holder: &Entry, limit: Option<Duration>, now: Now) -> Option<Waiting> {
    let until = time::between(now.wall, time::expiry(&holder.lease, now.wall));
    let what = match station.word {
        _ if station.connection.is_none() => "its Status stream is not open".to_owned(),
        Some(ExporterStatus::BeforeLeaseHookFailed | ExporterStatus::AfterLeaseHookFailed) => {
            "it has to release the lease whose hook failed".to_owned()
        }
        Some(ExporterStatus::BeforeLeaseHook) => "its beforeLease hook runs".to_owned(),
        Some(ExporterStatus::AfterLeaseHook) => "its afterLease hook runs".to_owned(),
        Some(ExporterStatus::Available) => {
            format!(
                "it has not taken lease {}, or is done with it",
                holder.name()
            )
        }
        _ => format!("leased by {} as {}", holder.client(), holder.name()),
    };
    Some(Waiting {
        what,
        since: now.monotonic - station.word_since,
        at_most: Some(limit.map_or(until, |limit| limit.min(until))),
    })
}
