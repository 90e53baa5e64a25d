//! A store that forgets: for tests and simulation. Deterministic, answers at once, and fails on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jmp_types::Timestamp;
use jmp_types::resource::{Key, Kind};

use crate::audit::{AuditPage, AuditQuery, AuditRecord, AuditSink, whole};
use crate::event::{EventRecord, EventSink};
use crate::object::{LeaseFacets, Object, Revision};
use crate::query::{Page, Query};
use crate::store::{Store, Write};
use crate::watch::{Change, Hub, Watch};
use crate::{Options, StoreError};

/// Keeps everything in memory. Clones are the same store.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    hub: Arc<Hub>,
    state: Arc<Mutex<State>>,
    options: Options,
}

/// What becomes of the write that a crash leaves unanswered. Real ones know both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// It never happened.
    Lost,
    /// It happened, but nobody was told.
    Kept,
}

#[derive(Debug, Default)]
struct State {
    data: Data,
    faults: Faults,
}

#[derive(Clone, Debug, Default)]
struct Data {
    revision: u64,
    objects: BTreeMap<(Kind, Key), Stored>,
    audit: BTreeMap<u64, AuditRecord>,
    audit_number: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    object: Object,
    uid: String,
    lease: Option<LeaseFacets>,
    events: VecDeque<EventRecord>,
}

#[derive(Debug, Default)]
struct Faults {
    failing_writes: Option<(u64, StoreError)>,
    failing_reads: Option<(u64, StoreError)>,
    crash: Option<(u64, Unanswered)>,
    crashed: bool,
}

/// Whether a write goes ahead.
enum Verdict {
    Go,
    /// It happens, but the answer is this.
    Silent(StoreError),
    Refused(StoreError),
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(Options::default())
    }

    /// An empty store of these sizes.
    #[must_use]
    pub fn with_options(options: Options) -> Self {
        Self::of(Data::default(), options)
    }

    fn of(data: Data, options: Options) -> Self {
        Self {
            hub: Hub::new(options.history, data.revision),
            state: Arc::new(Mutex::new(State {
                data,
                faults: Faults::default(),
            })),
            options,
        }
    }

    /// The next `count` writes fail with this; nothing of them is kept.
    pub fn fail_writes(&self, count: u64, error: StoreError) {
        self.lock().faults.failing_writes = (count > 0).then_some((count, error));
    }

    /// The next `count` reads fail with this.
    pub fn fail_reads(&self, count: u64, error: StoreError) {
        self.lock().faults.failing_reads = (count > 0).then_some((count, error));
    }

    /// After `writes` more writes, each object, audit batch and event batch being one, the store ends: the
    /// write that comes then is left unanswered, and everything later fails with [`StoreError::Closed`].
    pub fn crash_after(&self, writes: u64, unanswered: Unanswered) {
        self.lock().faults.crash = Some((writes, unanswered));
    }

    /// Whether the crash that was asked for has come.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.lock().faults.crashed
    }

    /// What a program finds that opens the store again after a crash: whatever was answered, with
    /// [`Unanswered::Kept`] one write more. A store of its own.
    #[must_use]
    pub fn reopen(&self) -> Self {
        Self::of(self.lock().data.clone(), self.options.clone())
    }

    /// Ends all watches and fails everything from now on.
    pub fn close(&self) {
        self.lock().faults.crashed = true;
        self.hub.close();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, read: impl FnOnce(&Data) -> T) -> Result<T, StoreError> {
        let mut state = self.lock();
        if state.faults.crashed {
            return Err(StoreError::Closed);
        }
        match take_one(&mut state.faults.failing_reads) {
            Some(error) => Err(error),
            None => Ok(read(&state.data)),
        }
    }

    /// One write, if no fault is due. The changes are published before the next write can begin.
    fn write<T>(
        &self,
        write: impl FnOnce(&mut Data) -> Result<(T, Vec<Change>), StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.lock();
        let verdict = state.faults.verdict();
        let silent = match verdict {
            Verdict::Refused(error) => {
                if state.faults.crashed {
                    self.hub.close();
                }
                return Err(error);
            }
            Verdict::Silent(error) => Some(error),
            Verdict::Go => None,
        };
        let answer = write(&mut state.data);
        if let Some(error) = silent {
            self.hub.close();
            return Err(error);
        }
        let (answer, changes) = answer?;
        self.hub.publish(changes);
        Ok(answer)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get_object(&self, kind: Kind, key: &Key) -> Result<Option<Object>, StoreError> {
        self.read(|data| {
            let found = data.objects.get(&(kind, key.clone()))?;
            Some(found.object.clone())
        })
    }

    async fn list_objects(&self, query: Query) -> Result<Page, StoreError> {
        let after = query.after()?;
        self.read(|data| {
            let objects = data
                .objects
                .values()
                .filter(|stored| {
                    let object = &stored.object;
                    object.kind == query.kind
                        && query
                            .namespace
                            .as_ref()
                            .is_none_or(|wanted| *wanted == object.key.namespace)
                        && after.as_ref().is_none_or(|after| object.key > *after)
                        && query.leases.matches(stored.lease.as_ref())
                        && query.labels_match(&object.json)
                })
                .take(query.wanted())
                .map(|stored| stored.object.clone())
                .collect();
            query.finish(objects, data.revision)
        })
    }

    async fn apply(&self, writes: Vec<Write>) -> Vec<Result<Object, StoreError>> {
        writes
            .into_iter()
            .map(|write| {
                self.write(|data| {
                    let change = data.apply(write)?;
                    Ok((change.object.clone(), vec![change]))
                })
            })
            .collect()
    }

    fn watch(&self, kind: Kind, since: &Revision) -> Watch {
        self.hub.watch(kind, since)
    }

    async fn prune_leases(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let before = before.as_microsecond();
        self.write(|data| {
            let mut due: Vec<(i64, Key)> = data
                .objects
                .iter()
                .filter_map(|((_, key), stored)| Some((stored.lease.as_ref()?.ended?, key.clone())))
                .filter(|(ended, _)| *ended < before)
                .collect();
            due.sort();
            due.truncate(limit);
            let changes: Vec<Change> = due
                .into_iter()
                .filter_map(|(_, key)| data.remove(Kind::Lease, key))
                .collect();
            Ok((changes.len(), changes))
        })
    }
}

#[async_trait]
impl AuditSink for MemoryStore {
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<Vec<u64>, StoreError> {
        self.write(|data| {
            let numbers = records
                .into_iter()
                .map(|record| data.audit(record))
                .collect();
            Ok((numbers, Vec::new()))
        })
    }

    async fn list_audit(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        let below = query.below()?;
        self.read(|data| {
            let records = data
                .audit
                .range(..below)
                .rev()
                .map(|(_, record)| record)
                .filter(|record| query.matches(record))
                .take(query.limit.saturating_add(1))
                .cloned()
                .collect();
            query.finish(records)
        })
    }

    async fn prune_audit(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.write(|data| {
            let mut due: Vec<(Timestamp, u64)> = data
                .audit
                .values()
                .filter(|record| record.time < whole(before))
                .map(|record| (record.time, record.number))
                .collect();
            due.sort_unstable();
            due.truncate(limit);
            for (_, number) in &due {
                data.audit.remove(number);
            }
            Ok((due.len(), Vec::new()))
        })
    }
}

#[async_trait]
impl EventSink for MemoryStore {
    async fn append_events(&self, events: Vec<EventRecord>) -> Result<(), StoreError> {
        let kept = self.options.events_per_object;
        self.write(|data| {
            for event in events {
                data.event(event, kept);
            }
            Ok(((), Vec::new()))
        })
    }

    async fn list_events(&self, kind: Kind, key: &Key) -> Result<Vec<EventRecord>, StoreError> {
        self.read(|data| {
            let found = data.objects.get(&(kind, key.clone()));
            found.map_or_else(Vec::new, |stored| stored.events.iter().cloned().collect())
        })
    }
}

// === impl Data ===

impl Data {
    fn apply(&mut self, write: Write) -> Result<Change, StoreError> {
        let (kind, key) = write.target();
        let place = (kind, key.clone());
        let present = self.objects.get(&place);
        let (kind, key) = place.clone();
        let (draft, expected) = match write {
            Write::Create(_) if present.is_some() => {
                return Err(StoreError::AlreadyExists { kind, key });
            }
            Write::Create(draft) => (Some(draft), None),
            Write::Update { draft, expected } => (Some(draft), Some(expected)),
            Write::Delete { expected, .. } => (None, expected),
        };
        if let Some(expected) = expected {
            let Some(present) = present else {
                return Err(StoreError::NotFound { kind, key });
            };
            if present.object.revision != expected {
                return Err(StoreError::Conflict { kind, key });
            }
        }
        let Some(draft) = draft else {
            let gone = self.remove(kind, key.clone());
            return gone.ok_or(StoreError::NotFound { kind, key });
        };
        self.revision += 1;
        let object = draft.stored(self.revision);
        let events = self.objects.remove(&place).map(|stored| stored.events);
        let stored = Stored {
            object: object.clone(),
            uid: draft.uid,
            lease: draft.lease,
            events: events.unwrap_or_default(),
        };
        self.objects.insert(place, stored);
        Ok(Change {
            revision: self.revision,
            deleted: false,
            object,
        })
    }

    fn remove(&mut self, kind: Kind, key: Key) -> Option<Change> {
        let mut object = self.objects.remove(&(kind, key))?.object;
        self.revision += 1;
        object.revision = Revision::of(self.revision);
        Some(Change {
            revision: self.revision,
            deleted: true,
            object,
        })
    }

    fn audit(&mut self, mut record: AuditRecord) -> u64 {
        self.audit_number += 1;
        record.number = self.audit_number;
        record.time = whole(record.time);
        self.audit.insert(record.number, record);
        self.audit_number
    }

    fn event(&mut self, mut event: EventRecord, kept: usize) {
        let Some(stored) = self.objects.get_mut(&(event.kind, event.key.clone())) else {
            return;
        };
        if !event.uid.is_empty() && event.uid != stored.uid {
            return;
        }
        event.uid.clone_from(&stored.uid);
        event.time = whole(event.time);
        stored.events.push_back(event);
        while stored.events.len() > kept {
            stored.events.pop_front();
        }
    }
}

// === impl Faults ===

impl Faults {
    fn verdict(&mut self) -> Verdict {
        if self.crashed {
            return Verdict::Refused(StoreError::Closed);
        }
        if let Some((left, unanswered)) = &mut self.crash {
            if *left == 0 {
                self.crashed = true;
                return match unanswered {
                    Unanswered::Lost => Verdict::Refused(StoreError::Closed),
                    Unanswered::Kept => Verdict::Silent(StoreError::Closed),
                };
            }
            *left -= 1;
        }
        take_one(&mut self.failing_writes).map_or(Verdict::Go, Verdict::Refused)
    }
}

/// The error, as long as there is one to hand out.
fn take_one(fault: &mut Option<(u64, StoreError)>) -> Option<StoreError> {
    let (left, error) = fault.as_mut()?;
    let error = error.clone();
    *left = left.saturating_sub(1);
    if *left == 0 {
        *fault = None;
    }
    Some(error)
}
