//! One batch: through the pool, onto the disk, and only then out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jmp_lease::pool::{Command, Effect, Event};
use jmp_store::{EventRecord, StoreError, Write};
use jmp_types::resource::{Exporter, Key, Kind, Lease};
use tokio::sync::oneshot;
use tonic::{Code, Status};

use super::handle::{refusal, store_failure};
use super::{Engine, Message, Question};
use crate::view::Viewed;

/// What waits for the disk.
#[derive(Default)]
pub(super) struct Batch {
    effects: Vec<Effect>,
    answers: Vec<Answer>,
    /// Exporters whose Status streams were opened: their first message is due.
    opened: Vec<Key>,
    questions: Vec<Question>,
}

/// An answer that waits until these objects are on disk.
struct Answer {
    objects: Vec<Object>,
    to: Asked,
}

enum Asked {
    Lease(Box<Lease>, oneshot::Sender<Result<Arc<Lease>, Status>>),
    /// Refused because of how things stand, some of which may not be on disk yet.
    Refused(Status, oneshot::Sender<Result<Arc<Lease>, Status>>),
    Done(oneshot::Sender<Result<(), Status>>),
}

type Object = (Kind, Key);
/// Why which object was not written.
type Failures = HashMap<Object, StoreError>;

// === impl Batch ===

impl Batch {
    /// What nobody waits for.
    pub fn of(effects: Vec<Effect>) -> Self {
        Self {
            effects,
            ..Self::default()
        }
    }
}

// === impl Answer ===

impl Answer {
    fn new(effects: &[Effect], to: Asked) -> Self {
        let objects = effects.iter().filter_map(saved).collect();
        Self { objects, to }
    }

    /// Whoever waits for what is on disk hears so, whatever became of the others of the batch.
    fn give(self, failures: &Failures, view: &crate::view::View) {
        let failure = self
            .objects
            .iter()
            .find_map(|object| failures.get(object))
            .map(store_failure);
        // Nobody may be waiting any more.
        match (self.to, failure) {
            (Asked::Lease(lease, to), None) => {
                let found = view.get::<Lease>(&lease.key());
                let _ = to.send(Ok(found.unwrap_or_else(|| Arc::from(lease))));
            }
            (Asked::Lease(_, to), Some(status)) => {
                let _ = to.send(Err(status));
            }
            (Asked::Refused(refused, to), _) => {
                let failed = failures.values().next().map(store_failure);
                let _ = to.send(Err(failed.unwrap_or(refused)));
            }
            (Asked::Done(to), failure) => {
                let _ = to.send(failure.map_or(Ok(()), |status| Err(to_be_repeated(status))));
            }
        }
    }
}

/// Who holds a lease that was just saved.
fn client_of<'a>(saved: &'a HashMap<Key, Box<Lease>>, lease: &Key) -> &'a str {
    saved
        .get(lease)
        .map_or("", |lease| lease.spec.client_ref.name.as_str())
}

/// The object that an effect writes.
fn saved(effect: &Effect) -> Option<Object> {
    match effect {
        Effect::SaveLease(lease) => Some((Kind::Lease, lease.key())),
        Effect::SaveExporter(exporter) => Some((Kind::Exporter, exporter.key())),
        _ => None,
    }
}

/// Whether an effect holds though some writes failed. What Status streams say is told again anyway.
fn holds(effect: &Effect, failures: &Failures) -> bool {
    let object = match effect {
        Effect::Notify { .. } => return false,
        Effect::SaveLease(_) | Effect::SaveExporter(_) => saved(effect),
        Effect::CloseTunnels { lease, .. }
        | Effect::Acquired { lease, .. }
        | Effect::Failed { lease, .. }
        | Effect::Ended { lease, .. } => Some((Kind::Lease, lease.clone())),
        Effect::Record(record) => Some((record.kind, record.key.clone())),
    };
    object.is_none_or(|object| !failures.contains_key(&object))
}

/// What happened to an exporter is reported again by it, but only after UNAVAILABLE (facts: protocol
/// 7.3): a full disk must not cost a report.
fn to_be_repeated(status: Status) -> Status {
    if status.code() == Code::ResourceExhausted {
        return Status::unavailable(status.message());
    }
    status
}

// === impl Engine ===

impl Engine {
    pub(super) async fn batch(&mut self, messages: Vec<Message>) {
        if !*self.healthy.borrow() && !self.recover().await {
            for message in messages {
                self.refuse(message);
            }
            return;
        }
        let mut batch = Batch::default();
        let tick = self.pool.step(Event::Tick, self.now());
        batch.effects.extend(tick);
        for message in messages {
            match message {
                Message::Event(event, answer) => self.take_event(*event, answer, &mut batch),
                Message::Command(command, answer) => {
                    self.take_command(*command, answer, &mut batch);
                }
                Message::Question(question) => batch.questions.push(question),
                Message::Change(kind, key, change, answer) => {
                    // Changes see what is committed, so what came before is, first.
                    self.commit(std::mem::take(&mut batch)).await;
                    self.change(kind, key, change, answer).await;
                }
            }
        }
        self.commit(batch).await;
    }

    fn take_event(
        &mut self,
        event: Event,
        answer: Option<oneshot::Sender<Result<(), Status>>>,
        batch: &mut Batch,
    ) {
        self.follow(&event);
        if let Event::Connected { exporter, .. } = &event {
            batch.opened.push(exporter.clone());
        }
        let effects = self.pool.step(event, self.now());
        if let Some(answer) = answer {
            let answer = Answer::new(&effects, Asked::Done(answer));
            batch.answers.push(answer);
        }
        batch.effects.extend(effects);
    }

    /// Keeps track of the open streams, which no store knows.
    fn follow(&mut self, event: &Event) {
        match event {
            Event::Connected {
                exporter,
                connection,
            } => {
                self.connected.insert(exporter.clone(), *connection);
            }
            Event::Disconnected {
                exporter,
                connection,
            } if self.connected.get(exporter) == Some(connection) => {
                self.connected.remove(exporter);
            }
            _ => {}
        }
    }

    fn take_command(
        &mut self,
        command: Command,
        answer: oneshot::Sender<Result<Arc<Lease>, Status>>,
        batch: &mut Batch,
    ) {
        match self.pool.command(command, self.now()) {
            Ok((lease, effects)) => {
                let key = lease.key();
                let asked = Asked::Lease(Box::new(lease), answer);
                let mut answer = Answer::new(&effects, asked);
                // Even if this command changed nothing: the one that did may be in this batch.
                answer.objects.push((Kind::Lease, key));
                batch.answers.push(answer);
                batch.effects.extend(effects);
            }
            Err(refused) => {
                let tick = self.pool.step(Event::Tick, self.now());
                batch.effects.extend(tick);
                let asked = Asked::Refused(refusal(&refused), answer);
                batch.answers.push(Answer::new(&[], asked));
            }
        }
    }

    /// Answers what cannot be done while the store is away.
    fn refuse(&mut self, message: Message) {
        let unavailable = || {
            Status::unavailable("the controller's store is not available; try again in a moment")
        };
        match message {
            Message::Event(event, answer) => {
                self.follow(&event);
                if let Some(answer) = answer {
                    let _ = answer.send(Err(unavailable()));
                }
            }
            Message::Command(_, answer) => {
                let _ = answer.send(Err(unavailable()));
            }
            Message::Change(_, _, _, answer) => {
                let _ = answer.send(Err(unavailable()));
            }
            Message::Question(question) => self.answer(question),
        }
    }

    /// Writes what is to be written, then does the rest.
    pub(super) async fn commit(&mut self, batch: Batch) {
        #[cfg(feature = "planted-bugs")]
        let batch = self.answered_too_early(batch);
        let failures = self.save(&batch.effects).await;
        if failures.is_empty() {
            self.carry_out(batch.effects);
            for exporter in &batch.opened {
                let notice = self.pool.notice(exporter);
                self.parts.sessions.notify(exporter, notice);
            }
        } else {
            for error in failures.values() {
                tracing::error!(%error, "a change was not stored; reading the store again");
            }
            let mut effects = batch.effects;
            effects.retain(|effect| holds(effect, &failures));
            self.carry_out(effects);
            self.recover().await;
        }
        for answer in batch.answers {
            answer.give(&failures, &self.parts.view);
        }
        for question in batch.questions {
            self.answer(question);
        }
    }

    /// The bug that is planted where the settings say so.
    #[cfg(feature = "planted-bugs")]
    fn answered_too_early(&self, mut batch: Batch) -> Batch {
        if self.parts.settings.answer_before_save {
            for answer in std::mem::take(&mut batch.answers) {
                answer.give(&Failures::new(), &self.parts.view);
            }
        }
        batch
    }

    /// Writes the last state of every object in one go, and shows it once it is on disk. Returns what
    /// was not written.
    async fn save(&mut self, effects: &[Effect]) -> Failures {
        // In an order that can be repeated.
        let mut leases: BTreeMap<Key, Lease> = BTreeMap::new();
        let mut exporters: BTreeMap<Key, Exporter> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::SaveLease(lease) => {
                    leases.insert(lease.key(), (**lease).clone());
                }
                Effect::SaveExporter(exporter) => {
                    exporters.insert(exporter.key(), (**exporter).clone());
                }
                _ => {}
            }
        }
        let mut writes = Vec::new();
        let mut failures = Failures::new();
        let leases = self.prepare(leases, &mut writes, true, &mut failures);
        let exporters = self.prepare(exporters, &mut writes, false, &mut failures);
        if writes.is_empty() {
            return failures;
        }
        let mut results = self.parts.store.apply(writes).await.into_iter();
        self.show(leases, &mut results, &mut failures);
        self.show(exporters, &mut results, &mut failures);
        failures
    }

    /// Makes the writes for those that differ from what is committed.
    fn prepare<T: Viewed + PartialEq>(
        &self,
        objects: BTreeMap<Key, T>,
        writes: &mut Vec<Write>,
        create: bool,
        failures: &mut Failures,
    ) -> Vec<T> {
        let mut changed = Vec::new();
        for (key, mut object) in objects {
            let write = match self.parts.view.get::<T>(&key) {
                Some(present) => {
                    let metadata = object.metadata_mut();
                    metadata
                        .resource_version
                        .clone_from(&present.metadata().resource_version);
                    if *present == object {
                        continue;
                    }
                    Write::update(&object)
                }
                None if create => Write::create(&object),
                None => continue,
            };
            match write {
                Ok(write) => {
                    writes.push(write);
                    changed.push(object);
                }
                Err(error) => {
                    failures.insert((T::KIND, key), error);
                }
            }
        }
        changed
    }

    fn show<T: Viewed>(
        &self,
        objects: Vec<T>,
        results: &mut impl Iterator<Item = Result<jmp_store::Object, StoreError>>,
        failures: &mut Failures,
    ) {
        for mut object in objects {
            match results.next().unwrap_or(Err(StoreError::Closed)) {
                Ok(stored) => {
                    stored
                        .revision
                        .as_str()
                        .clone_into(&mut object.metadata_mut().resource_version);
                    self.parts.view.put(object);
                }
                Err(error) => {
                    failures.insert((T::KIND, object.metadata().key()), error);
                }
            }
        }
    }

    /// Everything but the saves.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut history = Vec::new();
        let mut saved: HashMap<Key, Box<Lease>> = HashMap::new();
        for effect in effects {
            match effect {
                Effect::SaveLease(lease) => {
                    saved.insert(lease.key(), lease);
                }
                Effect::SaveExporter(_) => {}
                Effect::Notify { exporter, notice } => {
                    self.parts.sessions.notify(&exporter, notice);
                }
                Effect::CloseTunnels { lease, reason } => self.close_tunnels(&lease, &reason),
                Effect::Record(record) => history.push(EventRecord {
                    time: self.parts.time.wall(),
                    kind: record.kind,
                    key: record.key,
                    uid: String::new(),
                    reason: record.reason.to_owned(),
                    message: record.message,
                    warning: record.warning,
                }),
                Effect::Acquired { lease, waited } => {
                    tracing::info!(lease = %lease, ?waited, "lease got its exporter");
                    let client = client_of(&saved, &lease);
                    self.parts.metrics.acquired(client, &lease.name, waited);
                }
                Effect::Failed { lease, reason } => {
                    tracing::info!(lease = %lease, reason, "lease cannot be satisfied");
                    let client = client_of(&saved, &lease);
                    self.parts.metrics.failed(client, &lease.name);
                }
                Effect::Ended {
                    lease,
                    exporter,
                    held,
                } => {
                    tracing::info!(lease = %lease, exporter = %exporter, ?held, "lease ended");
                }
            }
        }
        for lease in saved.values().filter(|lease| lease.status.ended) {
            self.parts.metrics.ended(lease);
        }
        if !history.is_empty() && self.history.try_send(history).is_err() {
            tracing::warn!("events of objects were not kept: the store is too slow");
        }
    }

    /// Those of a lease that is over end with it; those of one that lives on, with another holder,
    /// one by one, so that the new holder's are let through.
    fn close_tunnels(&self, lease: &Key, reason: &str) {
        if self.parts.view.get::<Lease>(lease).is_some() {
            self.parts.routers.close_streams(lease, reason);
        } else {
            self.parts.routers.close_lease(lease, reason);
        }
    }

    fn answer(&self, question: Question) {
        let now = self.now();
        // Who asked may have gone.
        match question {
            Question::Present(lease, answer) => {
                let _ = answer.send(self.pool.present(&lease, now));
            }
            Question::Queue(lease, answer) => {
                let _ = answer.send(self.pool.queue(&lease, now));
            }
            Question::Waiting(exporter, answer) => {
                let _ = answer.send(self.pool.waiting(&exporter, now));
            }
            Question::Dial {
                lease,
                client,
                answer,
            } => {
                let _ = answer.send(self.pool.dial_gate(&lease, &client));
            }
            Question::Counts(answer) => {
                let _ = answer.send(self.pool.counts());
            }
        }
    }

    /// Carries out what a new pool wants.
    pub(super) async fn try_effects(&mut self, effects: Vec<Effect>) -> Result<(), StoreError> {
        if let Some(error) = self.save(&effects).await.into_values().next() {
            return Err(error);
        }
        self.carry_out(effects);
        Ok(())
    }
}
