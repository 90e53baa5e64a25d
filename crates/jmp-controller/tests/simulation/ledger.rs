//! What was promised to whom, and a store that is looked at after every write.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use jmp_controller::admin_service::BackupSource;
use jmp_store::{
    AuditPage, AuditQuery, AuditRecord, AuditSink, EventRecord, EventSink, MemoryStore, Object,
    Page, Query, Revision, Store, StoreError, StoreExt, Watch, Write,
};
use jmp_types::Timestamp;
use jmp_types::resource::{Key, Kind, Lease};
use tokio::time::Instant;

/// What was acknowledged, what went wrong, what happened.
pub struct Ledger {
    start: Instant,
    state: Mutex<State>,
    print: bool,
}

#[derive(Default)]
struct State {
    problems: Vec<String>,
    leases: BTreeMap<String, Promised>,
    counts: Counts,
    trace: u64,
    story: Vec<String>,
}

/// What was promised about a lease.
#[derive(Clone, Debug, Default)]
pub struct Promised {
    /// It exists.
    pub created: bool,
    /// It was released.
    pub released: bool,
    /// Seconds that it lasts: the last ones that were acknowledged, and those asked for since.
    pub durations: Vec<u64>,
    /// Those who may hold it, likewise.
    pub holders: Vec<String>,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leases that got an exporter.
    pub acquired: u64,
    /// Tunnels that were used.
    pub tunnels: u64,
    /// Lines that went there and back.
    pub lines: u64,
    /// Kills of the controller, of the router and of exporters.
    pub kills: u64,
    /// Calls that were acknowledged.
    pub acknowledged: u64,
    /// Tunnels that broke with a cause.
    pub broken: u64,
    /// Writes that the store failed, by crash or on its own.
    pub failed_writes: u64,
}

// === impl Ledger ===

impl Ledger {
    pub fn new(print: bool) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            state: Mutex::default(),
            print,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A promise was broken.
    pub fn problem(&self, text: impl Into<String>) {
        let text = text.into();
        self.note(|| format!("PROBLEM {text}"));
        let text = format!("at {:.3} s: {text}", self.start.elapsed().as_secs_f64());
        self.lock().problems.push(text);
    }

    /// The first broken promise.
    pub fn verdict(&self) -> Result<(), String> {
        match self.lock().problems.first() {
            Some(problem) => Err(problem.clone()),
            None => Ok(()),
        }
    }

    /// For people who have to find out why.
    pub fn note(&self, text: impl FnOnce() -> String) {
        let line = format!("{:9.3} {}", self.start.elapsed().as_secs_f64(), text());
        if self.print {
            println!("{line}");
        }
        self.lock().story.push(line);
    }

    /// What happened, line by line.
    pub fn story(&self) -> String {
        self.lock().story.join("\n")
    }

    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock().counts);
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub fn trace(&self) -> u64 {
        self.lock().trace
    }

    pub fn promise(&self, lease: &str, change: impl FnOnce(&mut Promised)) {
        change(self.lock().leases.entry(lease.to_owned()).or_default());
    }

    /// A call was acknowledged.
    pub fn acknowledged(&self, lease: &str, change: impl FnOnce(&mut Promised)) {
        self.count(|counts| counts.acknowledged += 1);
        self.promise(lease, change);
    }

    /// Everything that was acknowledged is in the store.
    pub async fn audit(&self, store: &MemoryStore, when: &str) {
        let promised = self.lock().leases.clone();
        for (name, promised) in promised {
            if !promised.created {
                continue;
            }
            let found: Option<Lease> = match store.get(&Key::new("default", &*name)).await {
                Ok(found) => found,
                Err(error) => return self.problem(format!("{when}: the store fails: {error}")),
            };
            let Some(lease) = found else {
                self.problem(format!(
                    "{when}: acknowledged lease {name} is not in the store"
                ));
                continue;
            };
            if promised.released && !lease.spec.release && !lease.status.ended {
                self.problem(format!(
                    "{when}: the release of {name} was acknowledged, but is lost"
                ));
            }
            let seconds = lease.spec.duration.map(|length| length.0.as_secs());
            let known = seconds.is_none_or(|seconds| promised.durations.contains(&seconds));
            if !promised.durations.is_empty() && !known {
                self.problem(format!(
                    "{when}: {name} lasts {seconds:?} s, acknowledged: {:?}",
                    promised.durations
                ));
            }
            let holder = &lease.spec.client_ref.name;
            if !promised.holders.contains(holder) {
                self.problem(format!(
                    "{when}: {name} is held by {holder}, acknowledged: {:?}",
                    promised.holders
                ));
            }
        }
    }

    fn digest(&self, text: &str) {
        let mut state = self.lock();
        for byte in text.bytes() {
            state.trace = (state.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The store, with somebody who looks over the controller's shoulder.
pub struct Judge {
    pub store: MemoryStore,
    ledger: Arc<Ledger>,
    leases: Mutex<BTreeMap<Key, Lease>>,
    /// A planted bug: now and then nothing is kept, but the answer is that it is.
    lies: bool,
    applied: Mutex<u64>,
}

// === impl Judge ===

impl Judge {
    pub async fn new(store: MemoryStore, ledger: Arc<Ledger>, lies: bool) -> Arc<Self> {
        let page = store.list::<Lease>(Query::new(Kind::Lease)).await.unwrap();
        let leases = page.items.into_iter().map(|lease| (lease.key(), lease));
        Arc::new(Self {
            leases: Mutex::new(leases.collect()),
            store,
            ledger,
            lies,
            applied: Mutex::new(0),
        })
    }

    /// A lease as it is stored.
    pub fn lease(&self, name: &str) -> Option<Lease> {
        let key = Key::new("default", name);
        self.leases.lock().unwrap().get(&key).cloned()
    }

    pub fn live(&self) -> Vec<Lease> {
        let leases = self.leases.lock().unwrap();
        leases
            .values()
            .filter(|lease| !lease.status.ended)
            .cloned()
            .collect()
    }

    fn stored(&self, lease: Lease) {
        let name = lease.metadata.name.clone();
        let line = || {
            let exporter = lease.exporter().map(|key| key.name).unwrap_or_default();
            let condition = lease.status.conditions.last();
            let condition =
                condition.map(|one| format!("{}={} {}", one.kind, one.status, one.reason));
            let client = &lease.spec.client_ref.name;
            let ended = lease.status.ended;
            format!("stored {name} of {client} on '{exporter}' ended={ended} {condition:?}")
        };
        self.ledger.note(line);
        self.ledger.digest(&line());
        let mut leases = self.leases.lock().unwrap();
        let old = leases.insert(lease.key(), lease.clone());
        if old.as_ref().is_some_and(|old| old.status.ended) && !lease.status.ended {
            self.ledger
                .problem(format!("ended lease {name} lives again"));
        }
        let before = old.and_then(|old| old.exporter());
        if before.is_some() && before != lease.exporter() {
            self.ledger.problem(format!(
                "{name} moved from {before:?} to {:?}",
                lease.exporter()
            ));
        }
        if before.is_none() && lease.exporter().is_some() && !lease.status.ended {
            self.ledger.count(|counts| counts.acquired += 1);
        }
    }

    fn lies_now(&self) -> bool {
        let mut applied = self.applied.lock().unwrap();
        *applied += 1;
        self.lies && (*applied).is_multiple_of(20)
    }

    fn no_double_lease(&self) {
        let mut held: BTreeMap<Key, String> = BTreeMap::new();
        for lease in self.live() {
            let Some(exporter) = lease.exporter() else {
                continue;
            };
            let name = lease.metadata.name;
            if let Some(other) = held.insert(exporter.clone(), name.clone()) {
                self.ledger
                    .problem(format!("{exporter} is leased to {other} and {name}"));
            }
        }
    }
}

#[async_trait]
impl Store for Judge {
    async fn get_object(&self, kind: Kind, key: &Key) -> Result<Option<Object>, StoreError> {
        self.store.get_object(kind, key).await
    }

    async fn list_objects(&self, query: Query) -> Result<Page, StoreError> {
        self.store.list_objects(query).await
    }

    async fn apply(&self, writes: Vec<Write>) -> Vec<Result<Object, StoreError>> {
        let results = if self.lies_now() {
            // A store that nobody opens again.
            self.store.reopen().apply(writes).await
        } else {
            self.store.apply(writes).await
        };
        for result in &results {
            match result {
                Ok(object) if object.kind == Kind::Lease => match object.decode() {
                    Ok(lease) => self.stored(lease),
                    Err(error) => self.ledger.problem(format!("unreadable lease: {error}")),
                },
                Ok(_) => {}
                Err(_) => self.ledger.count(|counts| counts.failed_writes += 1),
            }
        }
        self.no_double_lease();
        results
    }

    fn watch(&self, kind: Kind, since: &Revision) -> Watch {
        self.store.watch(kind, since)
    }

    async fn prune_leases(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.store.prune_leases(before, limit).await
    }
}

#[async_trait]
impl AuditSink for Judge {
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<Vec<u64>, StoreError> {
        self.store.append_audit(records).await
    }

    async fn list_audit(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        self.store.list_audit(query).await
    }

    async fn prune_audit(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.store.prune_audit(before, limit).await
    }
}

#[async_trait]
impl EventSink for Judge {
    async fn append_events(&self, events: Vec<EventRecord>) -> Result<(), StoreError> {
        self.store.append_events(events).await
    }

    async fn list_events(&self, kind: Kind, key: &Key) -> Result<Vec<EventRecord>, StoreError> {
        self.store.list_events(kind, key).await
    }
}

impl BackupSource for Judge {}

// === impl Counts ===

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.acquired += other.acquired;
        self.tunnels += other.tunnels;
        self.lines += other.lines;
        self.kills += other.kills;
        self.acknowledged += other.acknowledged;
        self.broken += other.broken;
        self.failed_writes += other.failed_writes;
    }
}
