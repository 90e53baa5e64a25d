//! Exporters.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Condition, CredentialRecord, Key, Metadata, Reference};

/// A process beside devices that can be leased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exporter {
    /// Identity and labels.
    pub metadata: Metadata,
    /// What administrators decide.
    pub spec: ExporterSpec,
    /// What is known about the process.
    pub status: ExporterStatusRecord,
}

/// What administrators decide.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExporterSpec {
    /// An identity of another issuer that may act as this exporter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// `false` takes it out of service for new leases. Absent means enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// What is known about the process and worth keeping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExporterStatusRecord {
    /// Its token.
    pub credential: CredentialRecord,
    /// Public address of the controller.
    pub endpoint: String,
    /// The device tree as registered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// The lease that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ref: Option<Reference>,
    /// When it was heard of last, as far as that was worth writing down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// The word that it reported last, in Pascal case (`LeaseReady`); empty when it never did.
    pub exporter_status: String,
    /// What it said about that.
    pub status_message: String,
    /// `Registered` and `Online`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One entry of the device tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Identity, fresh in every session of the exporter.
    pub uuid: String,
    /// Identity of the parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_uuid: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

// === impl Exporter ===

impl Exporter {
    /// What the exporter is addressed by.
    #[must_use]
    pub fn key(&self) -> Key {
        self.metadata.key()
    }

    /// Whether it is in service for new leases.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.spec.enabled.unwrap_or(true)
    }
}
