//! Objects as the store sees them, and how they come from and become the typed ones.

use std::fmt;
use std::sync::Arc;

use jmp_types::Timestamp;
use jmp_types::resource::{
    AccessPolicy, Administrator, Client, Exporter, Key, Kind, Lease, Metadata, Router,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::StoreError;

/// The largest object, in bytes of JSON. Below what a cluster accepts (1.5 MiB per object).
pub const MAXIMUM_OBJECT_BYTES: usize = 1024 * 1024;

/// Names one state of an object or a list. Opaque: two of them can be equal or not, nothing else;
/// those of different stores have nothing to do with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Revision(String);

/// One stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its key.
    pub key: Key,
    /// Which state of it this is.
    pub revision: Revision,
    /// The object as JSON, but with an empty `metadata.resourceVersion`: `revision` has that.
    pub json: Arc<str>,
}

/// A struct that the store keeps.
pub trait Resource: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// Its kind.
    const KIND: Kind;

    /// Its identity.
    fn metadata(&self) -> &Metadata;

    /// Its identity, to be changed.
    fn metadata_mut(&mut self) -> &mut Metadata;

    /// The lease in it, if it is one: leases are found by what they say.
    fn as_lease(&self) -> Option<&Lease> {
        None
    }
}

/// An object that is fit to be stored.
#[derive(Clone, Debug)]
pub struct Draft {
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) json: Arc<str>,
    pub(crate) lease: Option<LeaseFacets>,
}

/// What leases are found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseFacets {
    pub(crate) client: String,
    /// The exporter that was assigned.
    pub(crate) exporter: Option<String>,
    /// When it ended, in microseconds since 1970; nothing while it lives.
    pub(crate) ended: Option<i64>,
}

// === impl Revision ===

impl Revision {
    /// The text of it, for `metadata.resourceVersion`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn of(number: u64) -> Self {
        Self(number.to_string())
    }

    pub(crate) fn number(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

impl From<String> for Revision {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Revision {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

// === impl Object ===

impl Object {
    /// The typed object, its revision in `metadata.resource_version`.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when it is of another kind, or not of that shape.
    pub fn decode<T: Resource>(&self) -> Result<T, StoreError> {
        if self.kind != T::KIND {
            return Err(self.invalid(format!("it is no {}", T::KIND)));
        }
        let mut typed: T = serde_json::from_str(&self.json)
            .map_err(|error| self.invalid(format!("its content is not of that shape: {error}")))?;
        self.revision
            .as_str()
            .clone_into(&mut typed.metadata_mut().resource_version);
        Ok(typed)
    }

    /// The object as JSON, its revision in `metadata.resourceVersion`.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when it is not JSON.
    pub fn value(&self) -> Result<Value, StoreError> {
        let mut value: Value = serde_json::from_str(&self.json)
            .map_err(|error| self.invalid(format!("its content is not JSON: {error}")))?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), self.revision.as_str().into());
        }
        Ok(value)
    }

    fn invalid(&self, reason: String) -> StoreError {
        StoreError::Invalid {
            kind: self.kind,
            key: self.key.clone(),
            reason,
        }
    }
}

// === impl Draft ===

impl Draft {
    /// The object in the form in which it is stored.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] without a name or namespace, or when it is too large.
    pub fn new<T: Resource>(object: &T) -> Result<Self, StoreError> {
        let key = object.metadata().key();
        let invalid = |reason: String| StoreError::Invalid {
            kind: T::KIND,
            key: object.metadata().key(),
            reason,
        };
        if key.name.is_empty() || key.namespace.is_empty() {
            return Err(invalid("it needs a name and a namespace".into()));
        }
        let mut stored = object.clone();
        stored.metadata_mut().resource_version.clear();
        let json = serde_json::to_string(&stored).map_err(|error| invalid(error.to_string()))?;
        if json.len() > MAXIMUM_OBJECT_BYTES {
            return Err(invalid(format!(
                "it has {} bytes, {MAXIMUM_OBJECT_BYTES} are allowed",
                json.len()
            )));
        }
        Ok(Self {
            kind: T::KIND,
            uid: object.metadata().uid.clone(),
            lease: object.as_lease().map(LeaseFacets::of),
            json: json.into(),
            key,
        })
    }

    /// Kind of the object.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Key of the object.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The object as it is once stored with that revision.
    pub(crate) fn stored(&self, revision: u64) -> Object {
        Object {
            kind: self.kind,
            key: self.key.clone(),
            revision: Revision::of(revision),
            json: Arc::clone(&self.json),
        }
    }
}

// === impl LeaseFacets ===

impl LeaseFacets {
    /// An ended lease that does not say when counts from its creation, or else as old as can be: it
    /// must not stay forever.
    fn of(lease: &Lease) -> Self {
        let ended = lease.status.ended.then(|| {
            lease
                .status
                .end_time
                .or(lease.metadata.creation_timestamp)
                .unwrap_or(Timestamp::UNIX_EPOCH)
                .as_microsecond()
        });
        Self {
            client: lease.spec.client_ref.name.clone(),
            exporter: lease
                .status
                .exporter_ref
                .as_ref()
                .map(|reference| reference.name.clone()),
            ended,
        }
    }
}

// === impl Resource ===

macro_rules! resource {
    ($kind:ident, $type:ty $(, $lease:item)?) => {
        impl Resource for $type {
            const KIND: Kind = Kind::$kind;

            fn metadata(&self) -> &Metadata {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut Metadata {
                &mut self.metadata
            }

            $($lease)?
        }
    };
}

resource!(Client, Client);
resource!(Exporter, Exporter);
resource!(
    Lease,
    Lease,
    fn as_lease(&self) -> Option<&Lease> {
        Some(self)
    }
);
resource!(ExporterAccessPolicy, AccessPolicy);
resource!(Administrator, Administrator);
resource!(Router, Router);
