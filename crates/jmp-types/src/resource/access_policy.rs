//! Who may lease what.

use serde::{Deserialize, Serialize};

use super::{GoDuration, Key, LabelSelector, Metadata};

/// Who may lease the exporters that a selector finds. As long as a namespace has none of these,
/// everybody may lease everything there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccessPolicy {
    /// Identity.
    pub metadata: Metadata,
    /// The rules.
    pub spec: AccessPolicySpec,
}

/// The rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessPolicySpec {
    /// The exporters that this is about; empty means all.
    pub exporter_selector: LabelSelector,
    /// Any of these lets a client through.
    pub policies: Vec<PolicyRule>,
}

/// One way to be let through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// Shown to those whom it does not let through.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Higher comes first.
    pub priority: i64,
    /// The clients; none at all when there is no entry.
    pub from: Vec<ClientMatch>,
    /// The longest lease that may be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_duration: Option<GoDuration>,
    /// Only for time that nobody else wants.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spot_access: bool,
}

/// Clients by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientMatch {
    /// Empty means every client.
    pub client_selector: LabelSelector,
}

// === impl AccessPolicy ===

impl AccessPolicy {
    /// What the policy is addressed by.
    #[must_use]
    pub fn key(&self) -> Key {
        self.metadata.key()
    }
}
