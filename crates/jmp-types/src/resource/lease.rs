//! Leases.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Condition, GoDuration, Key, LabelSelector, Metadata, Reference};

/// A client's claim on one exporter for some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// Identity; `labels` carry the tags, the equalities of the selector and whether it has ended.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: LeaseSpec,
    /// What became of it.
    pub status: LeaseStatus,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// Who holds it.
    pub client_ref: Reference,
    /// Labels that the exporter must have.
    pub selector: LabelSelector,
    /// The one exporter that will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exporter_ref: Option<Reference>,
    /// How long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<GoDuration>,
    /// Not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin_time: Option<Timestamp>,
    /// Not after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// The holder wants it to end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub release: bool,
    /// An exporter out of service will do, if it is the one named in `exporter_ref`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_disabled: bool,
    /// The holder's words about it, for filters and accounts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The holder's words for the exporter and the logs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseStatus {
    /// It is over.
    pub ended: bool,
    /// When the exporter was assigned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin_time: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// The exporter that was assigned. Stays after the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exporter_ref: Option<Reference>,
    /// For a lease that begins later: the exporter that is kept for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_exporter_ref: Option<Reference>,
    /// Priority of the policy rule that let it through.
    pub priority: i64,
    /// It was let through by a rule for spare time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spot_access: bool,
    /// New types are appended, so that the last one is the news (facts: controller 3.2).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

// === impl Lease ===

impl Lease {
    /// What the lease is addressed by.
    #[must_use]
    pub fn key(&self) -> Key {
        self.metadata.key()
    }

    /// The client that holds it.
    #[must_use]
    pub fn client(&self) -> Key {
        Key::new(
            self.metadata.namespace.clone(),
            self.spec.client_ref.name.clone(),
        )
    }

    /// The exporter that was assigned.
    #[must_use]
    pub fn exporter(&self) -> Option<Key> {
        let reference = self.status.exporter_ref.as_ref()?;
        Some(Key::new(
            self.metadata.namespace.clone(),
            reference.name.clone(),
        ))
    }

    /// The condition of that type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status
            .conditions
            .iter()
            .find(|condition| condition.kind == kind)
    }
}
