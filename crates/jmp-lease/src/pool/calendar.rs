//! Reservations: exporters that are kept for leases which begin later.

use std::cmp::Reverse;

use jmp_types::Timestamp;
use jmp_types::resource::{Kind, Reference};

use super::access::Access;
use super::api::{Refusal, RefusalKind};
use super::outbox::Context;
use super::space::{Entry, Phase, Space};
use super::station::Station;
use super::time::{self, shown};

/// Who has an exporter in a window that somebody else wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocker {
    pub(super) lease: String,
    pub(super) begin: Timestamp,
    pub(super) end: Timestamp,
}

// === impl Space ===

impl Space {
    /// The reservation of another lease that would be in the way of using `station` from `begin` to
    /// `end`. Of two reservations that overlap, which only a damaged store can hold, the earlier
    /// counts, so that they do not block each other.
    pub(super) fn blocker(
        &self,
        station: &Station,
        entry: &Entry,
        begin: Timestamp,
        end: Timestamp,
    ) -> Option<Blocker> {
        let own = station.calendar.iter().find(|slot| slot.2 == entry.name());
        let mut slots = station.calendar.iter();
        let (begin, end, lease) = slots.find(|slot| {
            let other = slot.2 != entry.name();
            other && slot.0 < end && slot.1 > begin && own.is_none_or(|own| *slot < own)
        })?;
        Some(Blocker {
            lease: lease.clone(),
            begin: *begin,
            end: *end,
        })
    }

    /// The same for a window that is yet to come, which a running lease can be in the way of, too.
    fn occupied(
        &self,
        station: &Station,
        entry: &Entry,
        (begin, end): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Option<Blocker> {
        let mut slots = station.calendar.iter();
        let taken = slots.find(|slot| slot.2 != entry.name() && slot.0 < end && slot.1 > begin);
        if let Some((begin, end, lease)) = taken {
            return Some(Blocker {
                lease: lease.clone(),
                begin: *begin,
                end: *end,
            });
        }
        let holder = self.leases.get(station.holder()?)?;
        let until = time::expiry(&holder.lease, now);
        (until > begin && holder.name() != entry.name()).then(|| Blocker {
            lease: holder.name().to_owned(),
            begin: holder.lease.status.begin_time.unwrap_or(now),
            end: until,
        })
    }

    /// Chooses the exporter that is kept for a scheduled lease: ordinary access before spot, one that
    /// is there before one that is offline, then priority and name. `None` if no exporter is
    /// possible at all, which [`Space::verdict`] explains.
    pub(super) fn choose(&self, entry: &Entry, now: Timestamp) -> Result<Option<String>, Refusal> {
        let spec = &entry.lease.spec;
        let (Some(begin), Some(end)) = (spec.begin_time, time::fixed_end(spec)) else {
            return Ok(None);
        };
        let wanted = time::requested(&entry.lease);
        let mut best: Option<(_, &Station)> = None;
        let mut conflict: Option<(&Station, Blocker)> = None;
        for station in self.candidates(entry) {
            if !entry.wants(station) {
                continue;
            }
            let Access::Granted(grant) = self.access(station, entry.client(), wanted) else {
                continue;
            };
            match self.occupied(station, entry, (begin, end), now) {
                Some(blocker) => {
                    conflict.get_or_insert((station, blocker));
                }
                None => {
                    let key = (grant.spot, !station.online, Reverse(grant.priority));
                    if best.as_ref().is_none_or(|(best, _)| key < *best) {
                        best = Some((key, station));
                    }
                }
            }
        }
        if let Some((_, station)) = best {
            return Ok(Some(station.name().to_owned()));
        }
        let Some((station, blocker)) = conflict else {
            return Ok(None);
        };
        let client = self.leases.get(&blocker.lease).map_or("-", Entry::client);
        Err(Refusal::new(
            RefusalKind::FailedPrecondition,
            format!(
                "cannot reserve from {} to {}: exporter {} is taken by client {client} (lease {}) from {} to {}; choose another time or another exporter",
                shown(begin),
                shown(end),
                station.name(),
                blocker.lease,
                shown(blocker.begin),
                shown(blocker.end)
            ),
        ))
    }

    /// Whether the exporter that is kept for a scheduled lease is still one that it may have; if not,
    /// another is chosen, and if there is none, that is said.
    pub(super) fn keep_reservation(&mut self, name: &str, context: &mut Context<'_>) {
        let Some(entry) = self.leases.get(name) else {
            return;
        };
        let Some(reserved) = entry.reserved() else {
            return;
        };
        let wanted = time::requested(&entry.lease);
        let still = self.stations.get(reserved).is_some_and(|station| {
            let access = self.access(station, entry.client(), wanted);
            entry.wants(station) && matches!(access, Access::Granted(_))
        });
        if still {
            return;
        }
        let lost = reserved.to_owned();
        let scheduled = entry.phase == Phase::Scheduled;
        let chosen = match scheduled {
            true => self.choose(entry, context.now.wall).ok().flatten(),
            false => None,
        };
        let message = match &chosen {
            Some(other) => {
                format!("exporter {lost} is no longer possible; {other} is kept instead")
            }
            None => format!("exporter {lost} is no longer possible, and no other can be kept"),
        };
        let warning = chosen.is_none();
        self.unindex_lease(name);
        if let Some(entry) = self.leases.get_mut(name) {
            entry.lease.status.reserved_exporter_ref = chosen.map(Reference::new);
            context.out.save_lease(&entry.lease);
        }
        self.index_lease(name, context);
        self.dirty_leases.remove(name);
        let key = (Kind::Lease, self.key(name));
        context
            .out
            .record(key, "ReservationChanged", message, warning);
    }
}
