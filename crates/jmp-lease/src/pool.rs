//! The controller's decisions: who gets which exporter when, and what becomes of both.
//!
//! A [`Pool`] holds everything that is live: exporters, clients, policies, and the leases that have
//! not ended. It reads no clock and does no IO. The engine around it feeds [`Event`]s and
//! [`Command`]s with the time, carries out the [`Effect`]s in their order, and comes back no later
//! than [`Pool::deadline`]. Start reading at [`Pool`]; the decisions are argued in
//! `docs/design/0007-pool.md`.
//!
//! # The states of a lease
//!
//! | phase | shown as | leaves on | deadline |
//! |---|---|---|---|
//! | scheduled | no condition, `reservedExporterRef` | its begin: *waiting*; release; its end | its begin |
//! | waiting | `Pending` = True | an exporter: *held*; release; nothing will ever do; its end | [`Settings::pending_limit`], or the end of its window |
//! | held | `Ready` = True | release by client, exporter or administrator; its end; deletion of client or exporter | its end |
//! | ended | `Ready` = False, `Unsatisfiable` or `Invalid` | never | none: it has left the pool |
//!
//! # The states of an exporter, as the controller sees it
//!
//! Several can hold at once; the first of the table that does is what [`Pool::waiting`] says.
//!
//! | state | leaves on | deadline |
//! |---|---|---|
//! | held | end of its lease: *not told* | end of the lease |
//! | held, a hook failed | a status that says otherwise; release | [`Settings::failed_lease_limit`], then the lease is ended with the cause |
//! | not registered | Register | none: offline, a person has to start it |
//! | no stream | Status stream: *not told* | [`Settings::offline_after`], then *offline* |
//! | offline | Status stream, Register, a report | none: flagged with its words |
//! | not told | delivery of `leased=false` on the present stream | [`Settings::cleaning_limit`], then *flagged* |
//! | not settled | AVAILABLE reported after that; Register | [`Settings::settle_reporting`], [`Settings::settle_silent`], then *ready* |
//! | LEASE_READY without a lease | a report | [`Settings::cleaning_limit`], then presumed AVAILABLE |
//! | a hook runs without a lease | a report | [`Settings::hook_limit`], then *flagged* |
//! | a hook failed without a lease | a report | [`Settings::failed_hook_delay`], then presumed AVAILABLE |
//! | flagged | another status, Register, a new stream | none: the reason is shown |
//! | ready | a lease | none: nothing is pending |

/// Whether a bug is planted; never, outside of tests.
macro_rules! planted {
    ($settings:expr, $fault:ident) => {{
        #[cfg(any(test, feature = "planted-bugs"))]
        {
            $settings.fault == Some($crate::pool::fault::Fault::$fault)
        }
        #[cfg(not(any(test, feature = "planted-bugs")))]
        {
            let _ = &$settings;
            false
        }
    }};
}

mod access;
mod api;
mod calendar;
mod commands;
mod condition;
mod exporters;
#[cfg(any(test, feature = "planted-bugs"))]
mod fault;
mod leases;
mod outbox;
mod schedule;
#[cfg(test)]
mod simulation;
mod space;
mod station;
#[cfg(test)]
mod tests;
mod time;
mod validate;
mod view;

use std::collections::BTreeMap;

use jmp_types::resource::{AccessPolicy, Client, Exporter, Key, Lease};

pub use api::{
    Actor, Candidate, Command, Counts, Deadline, DialRefusal, Effect, Event, GivenDuration,
    LeaseUpdate, NewLease, Notice, Now, Queue, Record, Refusal, RefusalKind, Settings, Waiting,
};
#[cfg(any(test, feature = "planted-bugs"))]
pub use fault::Fault;

use leases::Ending;
use outbox::{Context, Outbox};
use space::{Entry, Phase, Space};

/// Most candidates in the answer of [`Pool::queue`].
pub const MAX_CANDIDATES: usize = 32;

/// Everything live of one controller.
#[derive(Clone, Debug)]
pub struct Pool {
    settings: Settings,
    spaces: BTreeMap<String, Space>,
    out: Outbox,
    sequence: u64,
}

// === impl Pool ===

impl Pool {
    /// Rebuilds everything from what the store has. Ended leases are ignored; leases whose client or
    /// exporter is gone, or whose time has passed, end. No stream is open then: tell
    /// [`Event::Connected`] for each one that is.
    #[must_use]
    pub fn restore(
        settings: Settings,
        exporters: Vec<Exporter>,
        clients: Vec<Client>,
        policies: Vec<AccessPolicy>,
        leases: Vec<Lease>,
        now: Now,
    ) -> (Self, Vec<Effect>) {
        // Notices of a pool before this one, in the same process, may still be confirmed.
        let elapsed = now.monotonic.elapsed().as_micros();
        let mut pool = Self {
            settings,
            spaces: BTreeMap::new(),
            out: Outbox::default(),
            sequence: u64::try_from(elapsed).unwrap_or_default(),
        };
        for policy in policies {
            let space = pool.space(&policy.metadata.namespace);
            space.policies.insert(policy.metadata.name.clone(), policy);
        }
        for client in clients {
            let space = pool.space(&client.metadata.namespace);
            space.clients.insert(client.metadata.name.clone(), client);
        }
        for mut exporter in exporters {
            exporter.status.lease_ref = None;
            let namespace = exporter.metadata.namespace.clone();
            let sequence = pool.sequence;
            pool.within(&namespace, now, |space, context| {
                space.put_exporter(exporter, sequence, context);
            });
        }
        let mut live: Vec<Lease> = leases;
        live.retain(|lease| !lease.status.ended);
        live.sort_by(|one, other| {
            let order = |lease: &Lease| (lease.status.begin_time, lease.key());
            order(one).cmp(&order(other))
        });
        if planted!(pool.settings, LoseOnRestore) && !live.is_empty() {
            live.remove(0);
        }
        for lease in live {
            let namespace = lease.metadata.namespace.clone();
            pool.within(&namespace, now, |space, context| {
                space.restore_lease(lease, context);
            });
        }
        pool.advance(now);
        let effects = pool.out.take();
        (pool, effects)
    }

    /// Takes note of an event. Overdue deadlines take effect first, so it does not matter which
    /// event brings the time along.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Effect> {
        self.advance(now);
        let sequence = self.sequence;
        if let Some(namespace) = event.namespace() {
            let namespace = namespace.to_owned();
            self.within(&namespace, now, |space, context| {
                space.take_note(event, sequence, context);
                space.schedule(context);
            });
        }
        self.out.take()
    }

    /// Carries out a command, or refuses it and changes nothing. The lease is as it is after the
    /// command; effects as for [`Pool::step`].
    ///
    /// # Errors
    /// [`Refusal`] with the kind and text that the caller should get. Overdue deadlines took effect
    /// all the same: call [`Pool::step`] with [`Event::Tick`] for their effects.
    pub fn command(&mut self, command: Command, now: Now) -> Result<(Lease, Vec<Effect>), Refusal> {
        self.advance(now);
        let namespace = match &command {
            Command::Create(wanted) => wanted.client.as_ref().map(|client| &client.namespace),
            Command::Update(update) => Some(&update.lease.namespace),
            Command::Release { lease, .. } => Some(&lease.namespace),
        };
        let namespace = namespace.cloned().unwrap_or_default();
        let lease = self.within(&namespace, now, |space, context| match &command {
            Command::Create(wanted) => space.create(wanted, context),
            Command::Update(update) => space.update(update, context),
            Command::Release {
                actor,
                lease,
                method,
            } => space.release(actor, &lease.name, method, context),
        })?;
        Ok((lease, self.out.take()))
    }

    /// When [`Pool::step`] has something to do at the latest.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        let all = self.spaces.values().map(Space::deadline);
        let none = Deadline {
            wall: None,
            monotonic: (!self.out.is_empty()).then(crate::time::Moment::default),
        };
        all.fold(none, |sum, one| Deadline {
            wall: sum.wall.into_iter().chain(one.wall).min(),
            monotonic: sum.monotonic.into_iter().chain(one.monotonic).min(),
        })
    }

    /// A lease that has not ended, as it is stored.
    #[must_use]
    pub fn lease(&self, key: &Key) -> Option<&Lease> {
        let entry = self.spaces.get(&key.namespace)?.leases.get(&key.name)?;
        Some(&entry.lease)
    }

    /// A lease that has not ended, as people should see it: while it waits, the reason and message
    /// of its `Pending` condition say how things stand now. (Stored is what held when it began to
    /// wait: the standing of a lease changes with every other one, and is not worth a write.)
    #[must_use]
    pub fn present(&self, key: &Key, now: Now) -> Option<Lease> {
        let space = self.spaces.get(&key.namespace)?;
        space.present(&key.name, &self.settings, now)
    }

    /// All leases that have not ended, by key.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        let spaces = self.spaces.values();
        spaces.flat_map(|space| space.leases.values().map(|entry| &entry.lease))
    }

    /// The leases of a client that have not ended, by name.
    pub fn leases_of(&self, client: &Key) -> impl Iterator<Item = &Lease> {
        let space = self.spaces.get(&client.namespace);
        let names = space.and_then(|space| space.of_client.get(&client.name));
        names
            .into_iter()
            .flatten()
            .filter_map(move |name| Some(&space?.leases.get(name)?.lease))
    }

    /// An exporter with its current status, labels and `leaseRef`.
    #[must_use]
    pub fn exporter(&self, key: &Key) -> Option<&Exporter> {
        Some(&self.station(key)?.object)
    }

    /// All exporters, by key.
    pub fn exporters(&self) -> impl Iterator<Item = &Exporter> {
        let spaces = self.spaces.values();
        spaces.flat_map(|space| space.stations.values().map(|station| &station.object))
    }

    /// A client.
    #[must_use]
    pub fn client(&self, key: &Key) -> Option<&Client> {
        self.spaces.get(&key.namespace)?.clients.get(&key.name)
    }

    /// Where a waiting lease stands; `None` if it does not wait.
    #[must_use]
    pub fn queue(&self, lease: &Key, now: Now) -> Option<Queue> {
        let space = self.spaces.get(&lease.namespace)?;
        space.queue(&lease.name, &self.settings, now)
    }

    /// What keeps an exporter from being leased, since when, and until when at most; `None` if
    /// nothing does, or there is no such exporter.
    #[must_use]
    pub fn waiting(&self, exporter: &Key, now: Now) -> Option<Waiting> {
        let space = self.spaces.get(&exporter.namespace)?;
        space.exporter_waits(&exporter.name, &self.settings, now)
    }

    /// What the Status stream of an exporter should say now. [`Event::Connected`] is always answered
    /// with [`Effect::Notify`] of it. Unleased, without a name, for an exporter that does not exist.
    #[must_use]
    pub fn notice(&self, exporter: &Key) -> Notice {
        let station = self.station(exporter);
        station.map_or_else(Notice::default, |station| station.notice.clone())
    }

    /// The Status stream of an exporter that counts.
    #[must_use]
    pub fn connection(&self, exporter: &Key) -> Option<u64> {
        self.station(exporter)?.connection
    }

    /// Whether an exporter counts as online: connected, or not long gone, and not OFFLINE by its own
    /// words.
    #[must_use]
    pub fn is_online(&self, exporter: &Key) -> bool {
        self.station(exporter).is_some_and(|station| station.online)
    }

    /// Whether an exporter could be leased now, by somebody whom the policies allow it.
    #[must_use]
    pub fn is_available(&self, exporter: &Key) -> bool {
        self.station(exporter)
            .is_some_and(|station| station.indexed)
    }

    /// Whether `client` may open a tunnel for `lease` now, and to which exporter.
    ///
    /// # Errors
    /// [`DialRefusal`].
    pub fn dial_gate(&self, lease: &Key, client: &Key) -> Result<Key, DialRefusal> {
        let Some(space) = self.spaces.get(&lease.namespace) else {
            let text = format!("lease {} is not active: it never was", lease.name);
            return Err(DialRefusal::NoLease(text));
        };
        space.dial_gate(&lease.name, client)
    }

    /// How many there are of what.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for space in self.spaces.values() {
            for entry in space.leases.values() {
                match entry.phase {
                    Phase::Scheduled => counts.scheduled += 1,
                    Phase::Waiting => counts.waiting += 1,
                    Phase::Held => counts.active += 1,
                }
            }
            counts.exporters += space.stations.len();
            let stations = space.stations.values();
            counts.online += stations.filter(|station| station.online).count();
            counts.available += space.ready.values().map(|group| group.len()).sum::<usize>();
        }
        counts
    }

    fn station(&self, key: &Key) -> Option<&station::Station> {
        self.spaces.get(&key.namespace)?.stations.get(&key.name)
    }

    fn space(&mut self, namespace: &str) -> &mut Space {
        let space = self.spaces.entry(namespace.to_owned());
        space.or_insert_with(|| Space::new(namespace))
    }

    fn within<T>(
        &mut self,
        namespace: &str,
        now: Now,
        work: impl FnOnce(&mut Space, &mut Context<'_>) -> T,
    ) -> T {
        let space = self.spaces.entry(namespace.to_owned());
        let space = space.or_insert_with(|| Space::new(namespace));
        let mut context = Context {
            settings: &self.settings,
            now,
            out: &mut self.out,
        };
        work(space, &mut context)
    }

    fn advance(&mut self, now: Now) {
        let mut context = Context {
            settings: &self.settings,
            now,
            out: &mut self.out,
        };
        for space in self.spaces.values_mut() {
            space.advance(&mut context);
        }
    }
}

// === impl Event ===

impl Event {
    fn namespace(&self) -> Option<&str> {
        match self {
            Self::ExporterPut(exporter) => Some(&exporter.metadata.namespace),
            Self::ClientPut(client) => Some(&client.metadata.namespace),
            Self::PolicyPut(policy) => Some(&policy.metadata.namespace),
            Self::ExporterDeleted(key) | Self::ClientDeleted(key) | Self::PolicyDeleted(key) => {
                Some(&key.namespace)
            }
            Self::Registered { exporter, .. }
            | Self::Unregistered { exporter, .. }
            | Self::StatusReported { exporter, .. }
            | Self::Connected { exporter, .. }
            | Self::Disconnected { exporter, .. }
            | Self::NoticeDelivered { exporter, .. } => Some(&exporter.namespace),
            Self::Tick => None,
        }
    }
}

// === impl Space ===

impl Space {
    fn take_note(&mut self, event: Event, sequence: u64, context: &mut Context<'_>) {
        match event {
            Event::ExporterPut(exporter) => self.put_exporter(*exporter, sequence, context),
            Event::ExporterDeleted(key) => self.delete_exporter(&key.name, context),
            Event::ClientPut(client) => self.put_client(*client),
            Event::ClientDeleted(key) => self.delete_client(&key.name, context),
            Event::PolicyPut(policy) => {
                let name = policy.metadata.name.clone();
                self.policies.insert(name, *policy);
                self.policies_changed(context);
            }
            Event::PolicyDeleted(key) => {
                self.policies.remove(&key.name);
                self.policies_changed(context);
            }
            Event::Registered {
                exporter,
                labels,
                devices,
            } => self.registered(&exporter.name, &labels, devices, context),
            Event::Unregistered { exporter, reason } => {
                self.unregistered(&exporter.name, &reason, context);
            }
            Event::StatusReported {
                exporter,
                status,
                message,
            } => self.reported(&exporter.name, status, &message, context),
            Event::Connected {
                exporter,
                connection,
            } => self.connected(&exporter.name, connection, context),
            Event::Disconnected {
                exporter,
                connection,
            } => self.disconnected(&exporter.name, connection, context),
            Event::NoticeDelivered {
                exporter,
                connection,
                notice,
            } => self.delivered(&exporter.name, connection, &notice, context),
            Event::Tick => {}
        }
    }

    fn put_client(&mut self, client: Client) {
        let name = client.metadata.name.clone();
        let leases = self.of_client.get(&name).into_iter().flatten().cloned();
        let leases: Vec<String> = leases.collect();
        let before = self.clients.insert(name, client.clone());
        if before.is_some_and(|before| before.metadata.labels != client.metadata.labels) {
            self.dirty_leases.extend(leases);
        }
    }

    fn delete_client(&mut self, name: &str, context: &mut Context<'_>) {
        self.clients.remove(name);
        for lease in self.of_client.get(name).cloned().unwrap_or_default() {
            let message = format!("client {name} was deleted");
            self.end_lease(&lease, Ending::Released(message), context);
        }
    }

    fn policies_changed(&mut self, context: &mut Context<'_>) {
        let names: Vec<String> = self.stations.keys().cloned().collect();
        for name in names {
            self.relabel(&name, &BTreeMap::new(), context);
        }
        let waiting = self.leases.values();
        let waiting = waiting.filter(|entry| entry.phase != Phase::Held);
        let names: Vec<String> = waiting.map(|entry| entry.name().to_owned()).collect();
        self.dirty_leases.extend(names);
        if planted!(context.settings, ForgetPolicyChange) {
            self.dirty_leases.clear();
            self.dirty_stations.clear();
        }
    }

    fn restore_lease(&mut self, lease: Lease, context: &mut Context<'_>) {
        let entry = Entry::new(lease, context.now.wall);
        let name = entry.name().to_owned();
        let client = entry.client().to_owned();
        let exporter = entry.exporter().map(ToOwned::to_owned);
        self.insert_lease(entry, context);
        let mut end = |space: &mut Self, message: String| {
            space.end_lease(&name, Ending::Released(message), context);
        };
        if !self.clients.contains_key(&client) {
            return end(self, format!("client {client} was deleted"));
        }
        let Some(exporter) = exporter else { return };
        let Some(station) = self.stations.get(&exporter) else {
            return end(self, format!("exporter {exporter} was deleted"));
        };
        if let Some(holder) = station.holder() {
            return end(
                self,
                format!("exporter {exporter} is held by lease {holder}"),
            );
        }
        self.set_turn(&exporter, Some(&name), context);
    }
}
