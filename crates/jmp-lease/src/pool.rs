//! The controller's decisions: who gets which exporter when, and what becomes of both.
//!
//! A [`Pool`] holds everything that is live: exporters, clients, policies, and the leases that have
//! not ended. It reads no clock and does no IO. The engine around it feeds [`Event`]s and
//! [`Command`]s with the time, carries out the [`Effect`]s in their order, and comes back no later
//! than [`Pool::deadline`]. Start reading at [`Pool`]; the decisions are argued in
//! `docs/design/0007-pool.md`.

mod api;
#[cfg(any(test, feature = "planted-bugs"))]
mod fault;

use std::collections::BTreeMap;

use jmp_types::resource::{AccessPolicy, Client, Exporter, Key, Lease};

pub use api::{
    Actor, Candidate, Command, Counts, Deadline, DialRefusal, Effect, Event, GivenDuration,
    LeaseUpdate, NewLease, Notice, Now, Queue, Record, Refusal, RefusalKind, Settings, Waiting,
};
#[cfg(any(test, feature = "planted-bugs"))]
pub use fault::Fault;

/// Most candidates in the answer of [`Pool::queue`].
pub const MAX_CANDIDATES: usize = 32;

/// Everything live of one controller.
#[derive(Clone, Debug)]
pub struct Pool {
    settings: Settings,
    exporters: BTreeMap<Key, Exporter>,
    clients: BTreeMap<Key, Client>,
    leases: BTreeMap<Key, Lease>,
}

// === impl Pool ===

impl Pool {
    /// Rebuilds everything from what the store has. Ended leases are ignored. No stream is open
    /// then: tell [`Event::Connected`] for each one that is.
    #[must_use]
    pub fn restore(
        settings: Settings,
        exporters: Vec<Exporter>,
        clients: Vec<Client>,
        policies: Vec<AccessPolicy>,
        leases: Vec<Lease>,
        now: Now,
    ) -> (Self, Vec<Effect>) {
        let _ = (policies, now);
        let pool = Self {
            settings,
            exporters: exporters.into_iter().map(|e| (e.key(), e)).collect(),
            clients: clients.into_iter().map(|c| (c.key(), c)).collect(),
            leases: leases.into_iter().map(|l| (l.key(), l)).collect(),
        };
        (pool, Vec::new())
    }

    /// Takes note of an event. Overdue deadlines take effect first, so it does not matter which
    /// event brings the time along.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let _ = (event, now, &self.settings);
        Vec::new()
    }

    /// Carries out a command, or refuses it and changes nothing. The lease is as it is after the
    /// command; effects as for [`Pool::step`].
    ///
    /// # Errors
    /// [`Refusal`] with the kind and text that the caller should get. Overdue deadlines took effect
    /// all the same: call [`Pool::step`] with [`Event::Tick`] for their effects.
    pub fn command(&mut self, command: Command, now: Now) -> Result<(Lease, Vec<Effect>), Refusal> {
        let _ = (command, now);
        Err(Refusal::new(
            RefusalKind::FailedPrecondition,
            "the scheduler does not take commands yet",
        ))
    }

    /// When [`Pool::step`] has something to do at the latest.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        Deadline {
            wall: None,
            monotonic: None,
        }
    }

    /// A lease that has not ended, as it is stored.
    #[must_use]
    pub fn lease(&self, key: &Key) -> Option<&Lease> {
        self.leases.get(key)
    }

    /// A lease that has not ended, as people should see it: while it waits, the reason and message
    /// of its `Pending` condition say how things stand now. (Stored is what held when it began to
    /// wait: the standing of a lease changes with every other one, and is not worth a write.)
    #[must_use]
    pub fn present(&self, key: &Key, now: Now) -> Option<Lease> {
        let _ = now;
        self.leases.get(key).cloned()
    }

    /// All leases that have not ended, by key.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// The leases of a client that have not ended, by name.
    pub fn leases_of(&self, client: &Key) -> impl Iterator<Item = &Lease> {
        let client = client.clone();
        self.leases
            .values()
            .filter(move |lease| lease.client() == client)
    }

    /// An exporter with its current status, labels and `leaseRef`.
    #[must_use]
    pub fn exporter(&self, key: &Key) -> Option<&Exporter> {
        self.exporters.get(key)
    }

    /// All exporters, by key.
    pub fn exporters(&self) -> impl Iterator<Item = &Exporter> {
        self.exporters.values()
    }

    /// A client.
    #[must_use]
    pub fn client(&self, key: &Key) -> Option<&Client> {
        self.clients.get(key)
    }

    /// Where a waiting lease stands; `None` if it does not wait.
    #[must_use]
    pub fn queue(&self, lease: &Key, now: Now) -> Option<Queue> {
        let _ = (lease, now);
        None
    }

    /// What keeps an exporter from being leased, since when, and until when at most; `None` if
    /// nothing does, or there is no such exporter.
    #[must_use]
    pub fn waiting(&self, exporter: &Key, now: Now) -> Option<Waiting> {
        let _ = (exporter, now);
        None
    }

    /// What the Status stream of an exporter should say now; the first message of a new stream.
    /// Unleased, without a name, for an exporter that does not exist.
    #[must_use]
    pub fn notice(&self, exporter: &Key) -> Notice {
        let _ = exporter;
        Notice::default()
    }

    /// The Status stream of an exporter that counts.
    #[must_use]
    pub fn connection(&self, exporter: &Key) -> Option<u64> {
        let _ = exporter;
        None
    }

    /// Whether an exporter counts as online: connected, or not long gone, and not OFFLINE by its own
    /// words.
    #[must_use]
    pub fn is_online(&self, exporter: &Key) -> bool {
        let _ = exporter;
        false
    }

    /// Whether `client` may open a tunnel for `lease` now, and to which exporter.
    ///
    /// # Errors
    /// [`DialRefusal`].
    pub fn dial_gate(&self, lease: &Key, client: &Key) -> Result<Key, DialRefusal> {
        let _ = client;
        Err(DialRefusal::NoLease(format!("lease {lease} is not active")))
    }

    /// How many there are of what.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::default()
    }
}
