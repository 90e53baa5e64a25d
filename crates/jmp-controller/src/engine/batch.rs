//! One batch: through the pool, onto the disk, and only then out.

use std::collections::HashMap;
use std::sync::Arc;

use jmp_lease::pool::{Command, Effect, Event};
use jmp_store::{EventRecord, StoreError, Write};
use jmp_types::resource::{Exporter, Key, Lease};
use tokio::sync::oneshot;
use tonic::Status;

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

enum Answer {
    Lease(Box<Lease>, oneshot::Sender<Result<Arc<Lease>, Status>>),
    Done(oneshot::Sender<Result<(), Status>>),
}

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
                Message::Event(event, answer) => {
                    self.take_event(*event, &mut batch);
                    batch.answers.extend(answer.map(Answer::Done));
                }
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

    fn take_event(&mut self, event: Event, batch: &mut Batch) {
        self.follow(&event);
        if let Event::Connected { exporter, .. } = &event {
            batch.opened.push(exporter.clone());
        }
        batch.effects.extend(self.pool.step(event, self.now()));
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
                batch.effects.extend(effects);
                batch.answers.push(Answer::Lease(Box::new(lease), answer));
            }
            Err(refused) => {
                let tick = self.pool.step(Event::Tick, self.now());
                batch.effects.extend(tick);
                // Nobody may be waiting any more; so below.
                let _ = answer.send(Err(refusal(&refused)));
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
        let failed = match self.save(&batch.effects).await {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(%error, "changes were not stored; reading the store again");
                let status = store_failure(&error);
                self.recover().await;
                Some(status)
            }
        };
        if failed.is_none() {
            self.carry_out(batch.effects);
            for exporter in &batch.opened {
                let notice = self.pool.notice(exporter);
                self.parts.sessions.notify(exporter, notice);
            }
        }
        for answer in batch.answers {
            match (answer, failed.clone()) {
                (Answer::Lease(lease, answer), None) => {
                    let lease = self
                        .parts
                        .view
                        .get::<Lease>(&lease.key())
                        .unwrap_or_else(|| Arc::from(lease));
                    let _ = answer.send(Ok(lease));
                }
                (Answer::Done(answer), None) => {
                    let _ = answer.send(Ok(()));
                }
                (Answer::Lease(_, answer), Some(status)) => {
                    let _ = answer.send(Err(status));
                }
                (Answer::Done(answer), Some(status)) => {
                    let _ = answer.send(Err(status));
                }
            }
        }
        for question in batch.questions {
            self.answer(question);
        }
    }

    /// Writes the last state of every object in one go, and shows it once it is on disk.
    async fn save(&mut self, effects: &[Effect]) -> Result<(), StoreError> {
        let mut leases: HashMap<Key, Lease> = HashMap::new();
        let mut exporters: HashMap<Key, Exporter> = HashMap::new();
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
        let leases = self.prepare(leases, &mut writes, true)?;
        let exporters = self.prepare(exporters, &mut writes, false)?;
        if writes.is_empty() {
            return Ok(());
        }
        let mut results = self.parts.store.apply(writes).await.into_iter();
        let mut failed = None;
        self.show(leases, &mut results, &mut failed);
        self.show(exporters, &mut results, &mut failed);
        failed.map_or(Ok(()), Err)
    }

    /// Makes the writes for those that differ from what is committed.
    fn prepare<T: Viewed + PartialEq>(
        &self,
        objects: HashMap<Key, T>,
        writes: &mut Vec<Write>,
        create: bool,
    ) -> Result<Vec<T>, StoreError> {
        let mut changed = Vec::new();
        for (key, mut object) in objects {
            match self.parts.view.get::<T>(&key) {
                Some(present) => {
                    let metadata = object.metadata_mut();
                    metadata
                        .resource_version
                        .clone_from(&present.metadata().resource_version);
                    if *present == object {
                        continue;
                    }
                    writes.push(Write::update(&object)?);
                }
                None if create => writes.push(Write::create(&object)?),
                None => continue,
            }
            changed.push(object);
        }
        Ok(changed)
    }

    fn show<T: Viewed>(
        &self,
        objects: Vec<T>,
        results: &mut impl Iterator<Item = Result<jmp_store::Object, StoreError>>,
        failed: &mut Option<StoreError>,
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
                Err(error) => *failed = Some(error),
            }
        }
    }

    /// Everything but the saves.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut history = Vec::new();
        for effect in effects {
            match effect {
                Effect::SaveLease(lease) => {
                    if lease.status.ended {
                        self.parts.metrics.ended(&lease);
                    }
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
                    self.parts.metrics.acquired(waited);
                }
                Effect::Failed { lease, reason } => {
                    tracing::info!(lease = %lease, reason, "lease cannot be satisfied");
                    self.parts.metrics.failed();
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
        self.save(&effects).await?;
        self.carry_out(effects);
        Ok(())
    }
}
