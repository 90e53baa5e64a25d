//! Who gets which exporter.
//!
//! Of all pairs of a waiting lease and an exporter that it may have now, the first in the order of
//! [`Rank`] is assigned, until there is none. After a step there is none, so the next one need look
//! only at the pairs of leases and exporters for which something has changed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jmp_types::Timestamp;

use super::access::{Access, Grant};
use super::condition::{self, PENDING, Said};
use super::outbox::Context;
use super::space::{Anchor, Entry, Phase, Space};
use super::station::Station;
use super::time;

/// The order of pairs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    spot: bool,
    priority: Reverse<i64>,
    age: Timestamp,
    lease: String,
    exporter: String,
}

/// A pair, and who has it as its best.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Proposal {
    rank: Rank,
    of_lease: bool,
}

// === impl Space ===

impl Space {
    /// Assigns until no pair is left.
    pub(super) fn schedule(&mut self, context: &mut Context<'_>) {
        let mut looked_at: BTreeSet<String> = BTreeSet::new();
        let mut proposals: BTreeSet<Proposal> = BTreeSet::new();
        loop {
            while let Some(name) = self.dirty_leases.pop_first() {
                if self.examine(&name, context) {
                    proposals.extend(self.best_of_lease(&name, context));
                    looked_at.insert(name);
                }
            }
            while let Some(name) = self.dirty_stations.pop_first() {
                proposals.extend(self.best_of_station(&name, context));
            }
            let Some(proposal) = proposals.pop_first() else {
                break;
            };
            let Rank {
                lease, exporter, ..
            } = proposal.rank.clone();
            let pair = self.pair(&lease, &exporter, context);
            if let Some((rank, grant)) = pair
                && rank == proposal.rank
            {
                self.assign(&lease, &exporter, grant, context);
            } else if planted!(context.settings, DoubleAssign)
                && self
                    .leases
                    .get(&lease)
                    .is_some_and(|one| one.phase == Phase::Waiting)
            {
                let grant = Grant {
                    spot: false,
                    priority: 0,
                };
                self.assign(&lease, &exporter, grant, context);
            }
            let next = match proposal.of_lease {
                true => self.best_of_lease(&lease, context),
                false => self.best_of_station(&exporter, context),
            };
            proposals.extend(next);
        }
        for name in looked_at {
            self.tell_waiting(&name, context);
        }
    }

    /// Ends a lease that nothing will do for, looks after its reservation; whether it waits.
    fn examine(&mut self, name: &str, context: &mut Context<'_>) -> bool {
        let Some(entry) = self.leases.get(name) else {
            return false;
        };
        if entry.phase == Phase::Held {
            return false;
        }
        let ending = if !self.clients.contains_key(entry.client()) {
            let message = format!("client {} was deleted", entry.client());
            Some(super::leases::Ending::Released(message))
        } else if entry.lease.spec.release {
            let message = "released".to_owned();
            Some(super::leases::Ending::Released(message))
        } else {
            self.verdict(entry)
        };
        if let Some(ending) = ending {
            self.end_lease(name, ending, context);
            return false;
        }
        self.keep_reservation(name, context);
        let entry = self.leases.get(name);
        entry.is_some_and(|entry| entry.phase == Phase::Waiting)
    }

    /// The rank of a pair, if the lease may have the exporter now.
    pub(super) fn pair(
        &self,
        lease: &str,
        exporter: &str,
        context: &Context<'_>,
    ) -> Option<(Rank, Grant)> {
        let entry = self.leases.get(lease)?;
        let station = self.stations.get(exporter)?;
        if entry.phase != Phase::Waiting {
            return None;
        }
        if let Some(own) = entry.reserved()
            && own != exporter
            && self.may_have(entry, own, context).is_some()
        {
            // What is kept for it is what it takes.
            return None;
        }
        let grant = self.may_have(entry, exporter, context)?;
        Some((rank(entry, station, grant, context), grant))
    }

    /// Whether the exporter is there to be had by that lease.
    fn may_have(&self, entry: &Entry, exporter: &str, context: &Context<'_>) -> Option<Grant> {
        let station = self.stations.get(exporter)?;
        if !station.is_ready() || !entry.wants(station) {
            return None;
        }
        let wanted = time::requested(&entry.lease);
        let Access::Granted(grant) = self.access(station, entry.client(), wanted) else {
            return None;
        };
        let now = context.now.wall;
        let end = time::end_from(&entry.lease.spec, now);
        let free = end > now && self.blocker(station, entry, now, end).is_none();
        (free || planted!(context.settings, IgnoreReservation)).then_some(grant)
    }

    /// The best pair of a lease.
    fn best_of_lease(&self, name: &str, context: &Context<'_>) -> Option<Proposal> {
        let entry = self.leases.get(name)?;
        let proposal = |rank| Proposal {
            rank,
            of_lease: true,
        };
        let exact = entry.pin().or(entry.reserved());
        if let Some(exporter) = exact
            && let Some((rank, _)) = self.pair(name, exporter, context)
        {
            return Some(proposal(rank));
        }
        if entry.pin().is_some() {
            return None;
        }
        // Within a group the client has one priority, so the first name that fits is its best.
        let wanted = time::requested(&entry.lease);
        let mut groups: BTreeMap<(bool, Reverse<i64>), Vec<&BTreeSet<String>>> = BTreeMap::new();
        for members in self.ready.values() {
            let station = members.first().and_then(|name| self.stations.get(name));
            let Some(station) = station else { continue };
            if let Access::Granted(grant) = self.access(station, entry.client(), wanted) {
                let key = priority(grant, context);
                groups.entry(key).or_default().push(members);
            }
        }
        let anchored = match entry.anchor() {
            Anchor::Label(key, value) => Some(self.labelled.get(&(key, value))?),
            Anchor::Pin(_) | Anchor::Any => None,
        };
        for members in groups.into_values() {
            let firsts = members.into_iter().filter_map(|members| {
                let (fewer, more) = match anchored {
                    Some(names) if names.len() < members.len() => (names, members),
                    Some(names) => (members, names),
                    None => (members, members),
                };
                fewer
                    .iter()
                    .filter(|name| more.contains(*name))
                    .find_map(|exporter| self.pair(name, exporter, context))
            });
            if let Some((rank, _)) = firsts.min_by(|one, other| one.0.cmp(&other.0)) {
                return Some(proposal(rank));
            }
        }
        None
    }

    /// The best pair of an exporter.
    fn best_of_station(&self, name: &str, context: &Context<'_>) -> Option<Proposal> {
        let station = self.stations.get(name)?;
        if !station.is_ready() {
            return None;
        }
        let alike = self.policies.is_empty() && !planted!(context.settings, NameBeforeAge);
        let mut best: Option<Rank> = None;
        for queue in self.suitors(&station.object) {
            for (_, lease) in queue {
                let Some((rank, _)) = self.pair(lease, name, context) else {
                    continue;
                };
                if best.as_ref().is_none_or(|best| rank < *best) {
                    best = Some(rank);
                }
                if alike {
                    break;
                }
            }
        }
        best.map(|rank| Proposal {
            rank,
            of_lease: false,
        })
    }

    /// Writes into a lease why it waits, if that is another reason than before.
    fn tell_waiting(&mut self, name: &str, context: &mut Context<'_>) {
        let Some(entry) = self.leases.get(name) else {
            return;
        };
        if entry.phase != Phase::Waiting {
            return;
        }
        let (reason, message) = self.why_waiting(entry, context.now.wall);
        let before = entry.lease.condition(PENDING);
        if before.is_some_and(|one| one.is_true() && one.reason == reason) {
            return;
        }
        let Some(entry) = self.leases.get_mut(name) else {
            return;
        };
        let said = Said {
            kind: PENDING,
            status: true,
            reason,
            message: message.clone(),
        };
        condition::set_on_lease(&mut entry.lease, said, context.now.wall);
        context.out.save_lease(&entry.lease);
        let key = (jmp_types::resource::Kind::Lease, entry.lease.key());
        context.out.record(key, "Pending", message, false);
    }
}

fn priority(grant: Grant, context: &Context<'_>) -> (bool, Reverse<i64>) {
    if planted!(context.settings, IgnorePriority) {
        return (false, Reverse(0));
    }
    (grant.spot, Reverse(grant.priority))
}

fn rank(entry: &Entry, station: &Station, grant: Grant, context: &Context<'_>) -> Rank {
    let (spot, priority) = priority(grant, context);
    let age = if planted!(context.settings, NameBeforeAge) {
        Timestamp::MIN
    } else {
        entry.age()
    };
    Rank {
        spot,
        priority,
        age,
        lease: entry.name().to_owned(),
        exporter: station.name().to_owned(),
    }
}
