//! What all objects have in common.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Somebody who leases.
    Client,
    /// A process beside devices.
    Exporter,
    /// A client's claim on an exporter.
    Lease,
    /// Who may lease what, for how long, with which priority.
    ExporterAccessPolicy,
    /// Somebody who may do everything.
    Administrator,
    /// A relay between clients and exporters.
    Router,
}

/// What an object is addressed by, within its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name, unique among the objects of that kind in the namespace.
    pub name: String,
}

/// Identity and bookkeeping of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name, unique among the objects of that kind in the namespace.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Differs for every object that ever was; part of tokens, so that these end with the object.
    pub uid: String,
    /// When the object was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
    /// Counts the changes of `spec`.
    pub generation: u64,
    /// Opaque; what a change must know to be accepted. The store sets it.
    pub resource_version: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A name of another object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
}

/// One entry of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is spoken about, one word.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, one word that programs match on.
    pub reason: String,
    /// Why, for people.
    #[serde(default)]
    pub message: String,
    /// When `status` changed last.
    pub last_transition_time: Timestamp,
    /// The generation of the object that this was said about.
    #[serde(default)]
    pub observed_generation: u64,
}

// === impl Kind ===

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Client,
        Self::Exporter,
        Self::Lease,
        Self::ExporterAccessPolicy,
        Self::Administrator,
        Self::Router,
    ];

    /// The word in `kind:` of a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "Client",
            Self::Exporter => "Exporter",
            Self::Lease => "Lease",
            Self::ExporterAccessPolicy => "ExporterAccessPolicy",
            Self::Administrator => "Administrator",
            Self::Router => "Router",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

// === impl Key ===

impl Key {
    /// A key of these two.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

// === impl Metadata ===

impl Metadata {
    /// What the object is addressed by.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(self.namespace.clone(), self.name.clone())
    }
}

// === impl Reference ===

impl Reference {
    /// A reference to the object of that name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

// === impl Condition ===

impl Condition {
    /// Whether `status` is `True`.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}
