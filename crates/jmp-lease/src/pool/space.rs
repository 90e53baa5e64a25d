//! One namespace: everything in it, and the indices that keep the cost of an event small.

use std::collections::{BTreeMap, BTreeSet};

use jmp_types::Timestamp;
use jmp_types::resource::{AccessPolicy, Client, Exporter, Key, Lease};

use super::api::Deadline;
use super::outbox::Context;
use super::station::Station;
use super::time;
use crate::time::Moment;

/// A namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Space {
    pub(super) name: String,
    pub(super) stations: BTreeMap<String, Station>,
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) policies: BTreeMap<String, AccessPolicy>,
    pub(super) leases: BTreeMap<String, Entry>,
    pub(super) of_client: BTreeMap<String, BTreeSet<String>>,
    /// Exporters by each of their labels.
    pub(super) labelled: BTreeMap<(String, String), BTreeSet<String>>,
    /// Exporters that are ready and in service, by the policies about them: within such a group a
    /// client has one priority.
    pub(super) ready: BTreeMap<Vec<String>, BTreeSet<String>>,
    /// Waiting leases by one thing that their exporter must have, oldest first.
    pub(super) waiting: BTreeMap<Anchor, BTreeSet<(Timestamp, String)>>,
    /// Leases to look at, because what they may have has changed.
    pub(super) dirty_leases: BTreeSet<String>,
    /// Exporters to look at, because they can be had.
    pub(super) dirty_stations: BTreeSet<String>,
    wall: BTreeSet<(Timestamp, String)>,
    monotonic: BTreeSet<(Moment, Owner)>,
    last_wall: Option<Timestamp>,
}

/// Whose timer it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Lease(String),
    Station(String),
}

/// One thing that the exporter of a lease must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Anchor {
    /// This name.
    Pin(String),
    /// This label.
    Label(String, String),
    /// Nothing that could be looked up.
    Any,
}

/// A lease that has not ended.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) lease: Lease,
    pub(super) phase: Phase,
    /// When it stops waiting.
    pub(super) give_up: Option<Moment>,
    wall_timer: Option<Timestamp>,
    timer: Option<Moment>,
}

/// How far a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Begins later.
    Scheduled,
    /// Waits for an exporter.
    Waiting,
    /// Has one.
    Held,
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(lease: Lease, now: Timestamp) -> Self {
        let phase = if lease.status.exporter_ref.is_some() {
            Phase::Held
        } else if lease.spec.begin_time.is_some_and(|begin| begin > now) {
            Phase::Scheduled
        } else {
            Phase::Waiting
        };
        Self {
            lease,
            phase,
            give_up: None,
            wall_timer: None,
            timer: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.lease.metadata.name
    }

    pub(super) fn client(&self) -> &str {
        &self.lease.spec.client_ref.name
    }

    pub(super) fn age(&self) -> Timestamp {
        self.lease
            .metadata
            .creation_timestamp
            .unwrap_or(Timestamp::MIN)
    }

    pub(super) fn pin(&self) -> Option<&str> {
        let reference = self.lease.spec.exporter_ref.as_ref()?;
        Some(reference.name.as_str()).filter(|name| !name.is_empty())
    }

    pub(super) fn exporter(&self) -> Option<&str> {
        let reference = self.lease.status.exporter_ref.as_ref()?;
        Some(&reference.name)
    }

    pub(super) fn reserved(&self) -> Option<&str> {
        let reference = self.lease.status.reserved_exporter_ref.as_ref()?;
        Some(&reference.name)
    }

    pub(super) fn anchor(&self) -> Anchor {
        if let Some(pin) = self.pin() {
            return Anchor::Pin(pin.to_owned());
        }
        match self.lease.spec.selector.match_labels.iter().next() {
            Some((key, value)) => Anchor::Label(key.clone(), value.clone()),
            None => Anchor::Any,
        }
    }

    /// Whether the exporter is one that was asked for, whoever asks.
    pub(super) fn wants(&self, station: &Station) -> bool {
        let pinned = self.pin().is_none_or(|pin| pin == station.name());
        let disabled = !station.object.is_enabled();
        pinned
            && (!disabled || (self.lease.spec.allow_disabled && self.pin().is_some()))
            && self
                .lease
                .spec
                .selector
                .matches(&station.object.metadata.labels)
    }

    fn wall_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let spec = &self.lease.spec;
        match self.phase {
            Phase::Held => Some(time::expiry(&self.lease, now)),
            Phase::Scheduled => [spec.begin_time, time::fixed_end(spec)]
                .into_iter()
                .flatten()
                .min(),
            Phase::Waiting => time::fixed_end(spec),
        }
    }
}

// === impl Space ===

impl Space {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn key(&self, name: &str) -> Key {
        Key::new(self.name.clone(), name)
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline {
            wall: self.wall.first().map(|(time, _)| *time),
            monotonic: self.monotonic.first().map(|(time, _)| *time),
        }
    }

    /// Lets time take effect, and then every assignment that it made possible.
    pub(super) fn advance(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        if self.last_wall.is_some_and(|last| now.wall < last) {
            self.went_back(context);
        }
        self.last_wall = Some(now.wall);
        while let Some((at, name)) = self.wall.first().cloned() {
            if at > now.wall {
                break;
            }
            self.lease_time_came(&name, context);
        }
        while let Some((at, owner)) = self.monotonic.first().cloned() {
            if at > now.monotonic {
                break;
            }
            match owner {
                Owner::Lease(name) => self.lease_waited_too_long(&name, context),
                Owner::Station(name) => self.station_overdue(&name, context),
            }
        }
        self.schedule(context);
    }

    /// The wall clock went back: what had begun may begin later again, and what was too late to end
    /// before a reservation may be in time.
    fn went_back(&mut self, context: &Context<'_>) {
        let early = self.waiting.values().flatten().filter(|(_, name)| {
            let begin = self
                .leases
                .get(name)
                .and_then(|one| one.lease.spec.begin_time);
            begin.is_some_and(|begin| begin > context.now.wall)
        });
        let early: Vec<String> = early.map(|(_, name)| name.clone()).collect();
        for name in early {
            self.rephase(&name, Phase::Scheduled, context);
            if let Some(entry) = self.leases.get_mut(&name) {
                entry.give_up = None;
            }
        }
        self.dirty_waiting();
    }

    pub(super) fn dirty_waiting(&mut self) {
        for lease in self.waiting.values().flatten() {
            self.dirty_leases.insert(lease.1.clone());
        }
    }

    /// The waiting leases that an exporter with that name and these labels may be asked for by.
    pub(super) fn suitors<'a>(
        &'a self,
        exporter: &'a Exporter,
    ) -> impl Iterator<Item = &'a BTreeSet<(Timestamp, String)>> {
        let metadata = &exporter.metadata;
        let labels = metadata.labels.iter();
        std::iter::once(Anchor::Any)
            .chain(std::iter::once(Anchor::Pin(metadata.name.clone())))
            .chain(labels.map(|(key, value)| Anchor::Label(key.clone(), value.clone())))
            .filter_map(|anchor| self.waiting.get(&anchor))
    }

    /// The exporters that a lease may be looking for, by name; a superset.
    pub(super) fn candidates<'a>(
        &'a self,
        entry: &'a Entry,
    ) -> Box<dyn Iterator<Item = &'a Station> + 'a> {
        match entry.anchor() {
            Anchor::Pin(name) => Box::new(self.stations.get(&name).into_iter()),
            Anchor::Label(key, value) => Box::new(
                self.labelled
                    .get(&(key, value))
                    .into_iter()
                    .flatten()
                    .filter_map(|name| self.stations.get(name)),
            ),
            Anchor::Any => Box::new(self.stations.values()),
        }
    }

    /// Brings indices and the timer of an exporter up to date. Call after every change of it.
    pub(super) fn touch_station(&mut self, name: &str, context: &Context<'_>) {
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        let ready = station.is_ready();
        let indexed = ready && station.object.is_enabled();
        if indexed != station.indexed {
            station.indexed = indexed;
            let group = self.ready.entry(station.policies.clone()).or_default();
            if indexed {
                group.insert(name.to_owned());
            } else {
                group.remove(name);
                if group.is_empty() {
                    self.ready.remove(&station.policies);
                }
            }
        }
        if ready {
            self.dirty_stations.insert(name.to_owned());
        }
        let timer = station.overdue(context.settings).map(|(at, _)| at);
        let before = std::mem::replace(&mut station.timer, timer);
        self.set_timer(before, timer, Owner::Station(name.to_owned()));
    }

    /// The same for a lease.
    pub(super) fn touch_lease(&mut self, name: &str, context: &Context<'_>) {
        let Some(entry) = self.leases.get_mut(name) else {
            return;
        };
        let mut wall = entry.wall_deadline(context.now.wall);
        if planted!(context.settings, ForgetExpiry) && entry.phase == Phase::Held {
            wall = None;
        }
        let timer = entry.give_up.filter(|_| entry.phase == Phase::Waiting);
        let wall_before = std::mem::replace(&mut entry.wall_timer, wall);
        let before = std::mem::replace(&mut entry.timer, timer);
        if let Some(at) = wall_before {
            self.wall.remove(&(at, name.to_owned()));
        }
        if let Some(at) = wall {
            self.wall.insert((at, name.to_owned()));
        }
        self.set_timer(before, timer, Owner::Lease(name.to_owned()));
    }

    pub(super) fn set_timer(&mut self, before: Option<Moment>, at: Option<Moment>, owner: Owner) {
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.monotonic.remove(&(before, owner.clone()));
        }
        if let Some(at) = at {
            self.monotonic.insert((at, owner));
        }
    }

    /// Puts a lease in, with its indices but for those of its exporter.
    pub(super) fn insert_lease(&mut self, mut entry: Entry, context: &Context<'_>) {
        // Those of the entry that this one may be a copy of.
        entry.timer = None;
        entry.wall_timer = None;
        let name = entry.name().to_owned();
        let of_client = self.of_client.entry(entry.client().to_owned());
        of_client.or_default().insert(name.clone());
        self.leases.insert(name.clone(), entry);
        self.index_lease(&name, context);
    }

    /// Puts a lease into the indices that its phase asks for.
    pub(super) fn index_lease(&mut self, name: &str, context: &Context<'_>) {
        let Some(entry) = self.leases.get_mut(name) else {
            return;
        };
        if entry.phase == Phase::Waiting {
            if entry.give_up.is_none() {
                entry.give_up = super::leases::give_up(&entry.lease, context);
            }
            let place = (entry.age(), name.to_owned());
            let anchor = entry.anchor();
            self.waiting.entry(anchor).or_default().insert(place);
        }
        if entry.phase != Phase::Held {
            self.dirty_leases.insert(name.to_owned());
        }
        self.book(name);
        self.touch_lease(name, context);
    }

    /// Takes a lease out of all indices; its entry, if it stays, goes back by
    /// [`Space::index_lease`].
    pub(super) fn unindex_lease(&mut self, name: &str) {
        self.dirty_leases.remove(name);
        self.unbook(name);
        let Some(entry) = self.leases.get_mut(name) else {
            return;
        };
        let anchor = entry.anchor();
        if let Some(queue) = self.waiting.get_mut(&anchor) {
            queue.remove(&(entry.age(), name.to_owned()));
            if queue.is_empty() {
                self.waiting.remove(&anchor);
            }
        }
        let before = entry.timer.take();
        if let Some(at) = entry.wall_timer.take() {
            self.wall.remove(&(at, name.to_owned()));
        }
        self.set_timer(before, None, Owner::Lease(name.to_owned()));
    }

    /// Forgets a lease.
    pub(super) fn remove_lease(&mut self, name: &str) -> Option<Entry> {
        self.unindex_lease(name);
        let entry = self.leases.remove(name)?;
        if let Some(names) = self.of_client.get_mut(entry.client()) {
            names.remove(name);
            if names.is_empty() {
                self.of_client.remove(entry.client());
            }
        }
        Some(entry)
    }

    /// Enters the reservation of a lease in the calendar of its exporter.
    fn book(&mut self, name: &str) {
        let Some(entry) = self.leases.get(name) else {
            return;
        };
        let Some(slot) = slot(entry) else { return };
        let reserved = entry.reserved().unwrap_or_default();
        if let Some(station) = self.stations.get_mut(reserved) {
            station.calendar.insert(slot);
        }
    }

    /// Deletes it there; others may have the exporter then.
    fn unbook(&mut self, name: &str) {
        let Some(entry) = self.leases.get(name) else {
            return;
        };
        let Some(reserved) = entry.reserved().map(ToOwned::to_owned) else {
            return;
        };
        if let Some(station) = self.stations.get_mut(&reserved) {
            station.calendar.retain(|slot| slot.2 != name);
            if station.is_ready() {
                self.dirty_stations.insert(reserved);
            }
        }
    }
}

/// The window that a lease reserves.
fn slot(entry: &Entry) -> Option<(Timestamp, Timestamp, String)> {
    if entry.phase == Phase::Held {
        return None;
    }
    entry.reserved()?;
    let begin = entry.lease.spec.begin_time?;
    let end = time::fixed_end(&entry.lease.spec)?;
    Some((begin, end, entry.name().to_owned()))
}
