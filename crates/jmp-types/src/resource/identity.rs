//! Those who hold credentials.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Condition, Key, Metadata};

/// Somebody who leases exporters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Client {
    /// Identity and labels.
    pub metadata: Metadata,
    /// What administrators decide.
    pub spec: ClientSpec,
    /// What is known.
    pub status: ClientStatus,
}

/// What administrators decide.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientSpec {
    /// An identity of another issuer that may act as this client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// What is known about a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientStatus {
    /// Its token.
    pub credential: CredentialRecord,
    /// Public address of the controller.
    pub endpoint: String,
    /// When the token ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_expires_at: Option<Timestamp>,
    /// `TokenExpiring`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Which tokens of an identity are good. Tokens themselves are never stored: they can be issued
/// again, and those issued before cannot be told from their absence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CredentialRecord {
    /// `NAME-client` or `NAME-exporter`, as a cluster would name the secret.
    pub name: String,
    /// Tokens of an earlier generation are revoked. Counts rotations and revocations.
    pub generation: u64,
    /// Identifier of the last token issued.
    pub token_id: String,
    /// All tokens are revoked, until the next rotation.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    /// Until then tokens of the generation before this one are good, too: whoever rotates its own
    /// token has calls under way with the old one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_until: Option<Timestamp>,
}

/// Somebody who may do everything. Lives in the namespace of its name's controller, `default`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Administrator {
    /// Identity.
    pub metadata: Metadata,
    /// Its token.
    pub status: ClientStatus,
}

/// A relay between clients and exporters, known by its credential. Where it can be reached it
/// says itself whenever it connects. Lives in the namespace `default`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Router {
    /// Identity.
    pub metadata: Metadata,
    /// Its token.
    pub status: ClientStatus,
}

// === impl CredentialRecord ===

impl CredentialRecord {
    /// Whether a token of that generation is good at `now`.
    #[must_use]
    pub fn accepts(&self, generation: u64, now: Timestamp) -> bool {
        let overlapping = generation.checked_add(1) == Some(self.generation)
            && self.previous_until.is_some_and(|until| now < until);
        !self.revoked && (generation >= self.generation || overlapping)
    }
}

// === impl Client ===

impl Client {
    /// What the client is addressed by.
    #[must_use]
    pub fn key(&self) -> Key {
        self.metadata.key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_with_their_generation() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let mut record = CredentialRecord {
            generation: 3,
            ..CredentialRecord::default()
        };
        assert!(record.accepts(3, at(0)));
        assert!(!record.accepts(2, at(0)));
        record.previous_until = Some(at(60));
        assert!(record.accepts(2, at(59)));
        assert!(!record.accepts(2, at(60)));
        assert!(!record.accepts(1, at(0)));
        record.revoked = true;
        assert!(!record.accepts(3, at(0)) && !record.accepts(2, at(0)));
    }
}
