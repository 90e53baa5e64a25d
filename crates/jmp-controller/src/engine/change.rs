//! Changes of single objects by administrators and their like.

use std::sync::Arc;

use jmp_lease::pool::Event;
use jmp_store::{StoreError, Write};
use jmp_types::resource::{CredentialRecord, Key, Kind, Lease, Metadata};
use tokio::sync::oneshot;
use tonic::Status;
use uuid::Uuid;

use super::Engine;
use super::handle::{ErasedChange, Stored, store_failure};
use crate::routers::REVOKED;
use crate::view::{Item, View};

/// Does the same for whichever type the item has.
macro_rules! for_each {
    ($item:expr, $object:ident => $body:expr) => {
        match $item {
            Item::Lease($object) => $body,
            Item::Exporter($object) => $body,
            Item::Client($object) => $body,
            Item::AccessPolicy($object) => $body,
            Item::Administrator($object) => $body,
            Item::Router($object) => $body,
        }
    };
}

// === impl Engine ===

impl Engine {
    pub(super) async fn change(
        &mut self,
        kind: Kind,
        key: Key,
        change: ErasedChange,
        answer: oneshot::Sender<Result<Stored<Item>, Status>>,
    ) {
        let result = self.try_change(kind, &key, change).await;
        // Who asked may have gone.
        let _ = answer.send(result);
    }

    async fn try_change(
        &mut self,
        kind: Kind,
        key: &Key,
        change: ErasedChange,
    ) -> Result<Stored<Item>, Status> {
        if !*self.healthy.borrow() {
            return Err(Status::unavailable(
                "the controller's store is not available; try again in a moment",
            ));
        }
        let present = present(&self.parts.view, kind, key);
        let stored = match (present.clone(), change(present)?) {
            (None, None) => return Ok(Stored::Absent),
            (Some(old), None) => {
                let write = Write::Delete {
                    kind,
                    key: key.clone(),
                    expected: Some(metadata(&old).resource_version.as_str().into()),
                };
                self.write(write).await?;
                for_each!(&old, object => self.parts.view.remove((**object).clone()));
                Stored::Deleted(Arc::new(old))
            }
            (None, Some(mut new)) => {
                self.complete(&mut new, key, None)?;
                let write = for_each!(&new, object => Write::create(&**object));
                Stored::Created(Arc::new(self.put(new, write).await?))
            }
            (Some(old), Some(mut new)) => {
                self.complete(&mut new, key, Some(metadata(&old)))?;
                if same(&old, &new) {
                    return Ok(Stored::Unchanged(Arc::new(old)));
                }
                let write = for_each!(&new, object => Write::update(&**object));
                let new = self.put(new, write).await?;
                self.revoke_changed(&old, Some(&new));
                Stored::Updated(Arc::new(new))
            }
        };
        if let Stored::Deleted(old) = &stored {
            self.revoke_changed(old, None);
        }
        self.tell_pool(&stored).await;
        Ok(stored)
    }

    async fn put(&mut self, new: Item, write: Result<Write, StoreError>) -> Result<Item, Status> {
        let write = write.map_err(|error| store_failure(&error))?;
        let revision = self.write(write).await?.revision;
        let mut new = new;
        for_each!(&mut new, object => {
            let object = Arc::make_mut(object);
            revision.as_str().clone_into(&mut object.metadata.resource_version);
            self.parts.view.put(object.clone());
        });
        Ok(new)
    }

    async fn write(&mut self, write: Write) -> Result<jmp_store::Object, Status> {
        let result = self
            .parts
            .store
            .apply(vec![write])
            .await
            .pop()
            .unwrap_or(Err(StoreError::Closed));
        match result {
            Ok(object) => Ok(object),
            Err(error) => {
                let unsure = matches!(
                    error,
                    StoreError::Failed { .. } | StoreError::Closed | StoreError::Conflict { .. }
                );
                if unsure {
                    tracing::error!(%error, "a change was not stored; reading the store again");
                    self.recover().await;
                }
                Err(store_failure(&error))
            }
        }
    }

    /// Sets what callers of a change leave to the engine.
    fn complete(&self, item: &mut Item, key: &Key, old: Option<&Metadata>) -> Result<(), Status> {
        let now = self.parts.time.wall();
        for_each!(item, object => {
            let metadata = &mut Arc::make_mut(object).metadata;
            if metadata.key() != *key {
                return Err(Status::internal("a change would rename the object"));
            }
            match old {
                Some(old) => {
                    metadata.uid.clone_from(&old.uid);
                    metadata.creation_timestamp = old.creation_timestamp;
                    metadata.resource_version.clone_from(&old.resource_version);
                    metadata.generation = metadata.generation.max(old.generation);
                }
                None => {
                    if metadata.uid.is_empty() {
                        metadata.uid = Uuid::new_v4().to_string();
                    }
                    metadata.creation_timestamp = Some(now);
                    metadata.resource_version.clear();
                    metadata.generation = metadata.generation.max(1);
                }
            }
        });
        Ok(())
    }

    async fn tell_pool(&mut self, stored: &Stored<Item>) {
        let event = match stored {
            Stored::Created(item) | Stored::Updated(item) => match &**item {
                Item::Exporter(object) => Event::ExporterPut(Box::new((**object).clone())),
                Item::Client(object) => Event::ClientPut(Box::new((**object).clone())),
                Item::AccessPolicy(object) => Event::PolicyPut(Box::new((**object).clone())),
                _ => return,
            },
            Stored::Deleted(item) => match &**item {
                Item::Exporter(object) => Event::ExporterDeleted(object.metadata.key()),
                Item::Client(object) => Event::ClientDeleted(object.metadata.key()),
                Item::AccessPolicy(object) => Event::PolicyDeleted(object.metadata.key()),
                _ => return,
            },
            Stored::Unchanged(_) | Stored::Absent => return,
        };
        let effects = self.pool.step(event, self.now());
        self.commit(super::batch::Batch::of(effects)).await;
    }

    /// Ends streams and tunnels of those whose tokens ended with this change.
    fn revoke_changed(&self, old: &Item, new: Option<&Item>) {
        let (Some(before), after) = (credential(old), new.and_then(credential)) else {
            return;
        };
        let ended = after.is_none_or(|after| {
            // Whoever rotates its own token keeps what it has open.
            let rotated = after.generation > before.generation && after.previous_until.is_none();
            after.revoked && !before.revoked || rotated
        });
        if !ended {
            return;
        }
        let key = old.key();
        let uid = &metadata(old).uid;
        let good = after
            .filter(|after| !after.revoked)
            .map(|after| (uid.as_str(), after.generation));
        let holds: fn(&Lease, &Key) -> bool = match old {
            Item::Exporter(_) => {
                self.parts.sessions.revoke(&key, good);
                |lease, key| lease.exporter().as_ref() == Some(key)
            }
            Item::Client(_) => |lease, key| lease.client() == *key,
            Item::Router(_) => {
                self.parts.routers.revoke(&key, good);
                return;
            }
            _ => return,
        };
        for lease in self.parts.view.list::<Lease>(Some(&key.namespace)) {
            if holds(&lease, &key) {
                self.parts.routers.close_streams(&lease.key(), REVOKED);
            }
        }
    }
}

fn present(view: &View, kind: Kind, key: &Key) -> Option<Item> {
    match kind {
        Kind::Lease => view.get(key).map(Item::Lease),
        Kind::Exporter => view.get(key).map(Item::Exporter),
        Kind::Client => view.get(key).map(Item::Client),
        Kind::ExporterAccessPolicy => view.get(key).map(Item::AccessPolicy),
        Kind::Administrator => view.get(key).map(Item::Administrator),
        Kind::Router => view.get(key).map(Item::Router),
    }
}

fn metadata(item: &Item) -> &Metadata {
    for_each!(item, object => &object.metadata)
}

fn credential(item: &Item) -> Option<&CredentialRecord> {
    match item {
        Item::Exporter(object) => Some(&object.status.credential),
        Item::Client(object) => Some(&object.status.credential),
        Item::Administrator(object) => Some(&object.status.credential),
        Item::Router(object) => Some(&object.status.credential),
        Item::Lease(_) | Item::AccessPolicy(_) => None,
    }
}

fn same(old: &Item, new: &Item) -> bool {
    match (old, new) {
        (Item::Lease(old), Item::Lease(new)) => old == new,
        (Item::Exporter(old), Item::Exporter(new)) => old == new,
        (Item::Client(old), Item::Client(new)) => old == new,
        (Item::AccessPolicy(old), Item::AccessPolicy(new)) => old == new,
        (Item::Administrator(old), Item::Administrator(new)) => old == new,
        (Item::Router(old), Item::Router(new)) => old == new,
        _ => false,
    }
}
