//! Texts that are sent and saved but never shown.

use std::fmt;

use serde::{Serialize, Serializer};

/// What is shown in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// A token, passphrase or private key. `Debug`, `Display` and `Serialize` all show [`REDACTED`], or nothing
/// for the empty text; only [`Secret::expose`] gives the text.
///
/// Comparing two of them takes a time that depends on where they differ: verify tokens by their
/// signature, never by comparison.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

// === impl Secret ===

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for sending or saving it. Never format it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is the empty text, which local-only exporters carry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "" } else { REDACTED })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::new("eyJhbGciOi");
        let struct_with_it = Some(&secret);
        for shown in [
            format!("{secret}"),
            format!("{secret:?}"),
            format!("{struct_with_it:#?}"),
        ] {
            assert!(!shown.contains("eyJ"), "{shown}");
            assert!(shown.contains("[redacted]"), "{shown}");
        }
        assert_eq!(secret.expose(), "eyJhbGciOi");
        assert_eq!(Secret::default().to_string(), "");
    }
}
