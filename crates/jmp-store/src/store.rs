//! The promise.

use std::future::Future;

use async_trait::async_trait;
use jmp_types::Timestamp;
use jmp_types::resource::{Key, Kind};

use crate::StoreError;
use crate::object::{Draft, Object, Resource, Revision};
use crate::query::{Page, Query};
use crate::watch::Watch;

/// One change of one object.
#[derive(Clone, Debug)]
pub enum Write {
    /// Fails with [`StoreError::AlreadyExists`].
    Create(Draft),
    /// Fails with [`StoreError::NotFound`] and [`StoreError::Conflict`].
    Update {
        /// The new state.
        draft: Draft,
        /// The revision that it was made from.
        expected: Revision,
    },
    /// Fails with [`StoreError::NotFound`] and [`StoreError::Conflict`].
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its key.
        key: Key,
        /// The only revision that may be deleted; any without.
        expected: Option<Revision>,
    },
}

/// Keeps objects. What it promises, a cluster can keep too: compare-and-swap on one object, an opaque
/// revision, list then watch. There is no transaction over several objects.
///
/// A write that was asked for may happen even though nobody waits for its answer any more.
#[async_trait]
pub trait Store: Send + Sync {
    /// One object, if it is there.
    ///
    /// # Errors
    /// [`StoreError::Failed`], [`StoreError::Closed`].
    async fn get_object(&self, kind: Kind, key: &Key) -> Result<Option<Object>, StoreError>;

    /// The objects that the query finds, in the order of namespace and name, as of one moment.
    ///
    /// # Errors
    /// [`StoreError::PageToken`], [`StoreError::Failed`], [`StoreError::Closed`].
    async fn list_objects(&self, query: Query) -> Result<Page, StoreError>;

    /// Independent writes: each succeeds or fails by itself, the answers come in the order of the
    /// writes, and an `Ok` means on disk. They may be committed together. With several writes to one
    /// object, which of them comes first is up to the store.
    ///
    /// The answer to a create or an update is the object as stored, to a deletion the last state of it.
    /// A cluster sets `uid` and `creationTimestamp` itself: use those of the answer.
    async fn apply(&self, writes: Vec<Write>) -> Vec<Result<Object, StoreError>>;

    /// The changes of objects of that kind after the list that came with this revision.
    fn watch(&self, kind: Kind, since: &Revision) -> Watch;

    /// Deletes leases that ended before that time, the oldest first, at most `limit` of them; says how
    /// many.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Failed`], [`StoreError::Closed`].
    async fn prune_leases(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError>;
}

/// A page of typed objects.
#[derive(Clone, Debug)]
pub struct TypedPage<T> {
    /// The objects.
    pub items: Vec<T>,
    /// As in [`Page`].
    pub next: Option<String>,
    /// As in [`Page`].
    pub revision: Revision,
}

/// The typed calls, for every store.
pub trait StoreExt: Store {
    /// One object, if it is there.
    ///
    /// # Errors
    /// Those of [`Store::get_object`], and [`StoreError::Invalid`] when it has another shape.
    fn get<T: Resource>(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<T>, StoreError>> + Send {
        async move {
            let found = self.get_object(T::KIND, key).await?;
            found.map(|object| object.decode()).transpose()
        }
    }

    /// The objects that the query finds; its kind is set here.
    ///
    /// # Errors
    /// Those of [`Store::list_objects`], and [`StoreError::Invalid`] when one has another shape.
    fn list<T: Resource>(
        &self,
        mut query: Query,
    ) -> impl Future<Output = Result<TypedPage<T>, StoreError>> + Send {
        query.kind = T::KIND;
        async move {
            let page = self.list_objects(query).await?;
            let items: Result<Vec<T>, StoreError> =
                page.objects.iter().map(Object::decode).collect();
            Ok(TypedPage {
                items: items?,
                next: page.next,
                revision: page.revision,
            })
        }
    }

    /// Makes the object; returns it as stored.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::Invalid`], and those of every write.
    fn create<T: Resource>(
        &self,
        object: &T,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        let write = Write::create(object);
        async move { one(self, write?).await?.decode() }
    }

    /// Replaces the object, if it still has the revision in `metadata.resource_version`; returns it as
    /// stored, with the new one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], [`StoreError::Invalid`], and those of every write.
    fn update<T: Resource>(
        &self,
        object: &T,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        let write = Write::update(object);
        async move { one(self, write?).await?.decode() }
    }

    /// Deletes the object, if it still has that revision; returns its last state.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], and those of every write.
    fn delete<T: Resource>(
        &self,
        key: &Key,
        expected: Option<Revision>,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        let write = Write::Delete {
            kind: T::KIND,
            key: key.clone(),
            expected,
        };
        async move { one(self, write).await?.decode() }
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

async fn one<S: Store + ?Sized>(store: &S, write: Write) -> Result<Object, StoreError> {
    let mut answers = store.apply(vec![write]).await;
    answers.pop().unwrap_or(Err(StoreError::Closed))
}

// === impl Write ===

impl Write {
    /// Makes that object.
    ///
    /// # Errors
    /// Those of [`Draft::new`].
    pub fn create<T: Resource>(object: &T) -> Result<Self, StoreError> {
        Draft::new(object).map(Self::Create)
    }

    /// Replaces that object, if it still has the revision in `metadata.resource_version`.
    ///
    /// # Errors
    /// Those of [`Draft::new`], and [`StoreError::Invalid`] without a revision.
    pub fn update<T: Resource>(object: &T) -> Result<Self, StoreError> {
        let draft = Draft::new(object)?;
        let expected = object.metadata().resource_version.as_str();
        if expected.is_empty() {
            return Err(StoreError::Invalid {
                kind: draft.kind,
                key: draft.key,
                reason: "an update needs the resourceVersion that it was made from".into(),
            });
        }
        Ok(Self::Update {
            draft,
            expected: expected.into(),
        })
    }

    /// What it is about.
    #[must_use]
    pub fn target(&self) -> (Kind, &Key) {
        match self {
            Self::Create(draft) | Self::Update { draft, .. } => (draft.kind, &draft.key),
            Self::Delete { kind, key, .. } => (*kind, key),
        }
    }
}
