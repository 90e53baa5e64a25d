//! Label maps: `key=value` pairs, sorted by key.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// There is no `=`.
    #[error("`{text}` is not a label: write KEY=VALUE")]
    NoEquals {
        /// The text as given.
        text: String,
    },
    /// There is nothing before the `=`.
    #[error("`{text}` has an empty key: write KEY=VALUE")]
    EmptyKey {
        /// The text as given.
        text: String,
    },
}

/// Labels of an exporter, or tags and context of a lease.
///
/// Displays as sorted `key=value` pairs joined by commas, the form of the `LABELS` column and of
/// `JMP_EXPORTER_LABELS`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// No labels.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Reads `KEY=VALUE` texts, each split at its first `=`; of two equal keys the later one wins.
    ///
    /// # Errors
    /// [`LabelError`] on the first text without `=` or without a key.
    pub fn parse_pairs<I, T>(texts: I) -> Result<Self, LabelError>
    where
        I: IntoIterator<Item = T>,
        T: AsRef<str>,
    {
        let mut labels = BTreeMap::new();
        for text in texts {
            let text = text.as_ref();
            let (key, value) = text.split_once('=').ok_or_else(|| LabelError::NoEquals {
                text: text.to_owned(),
            })?;
            if key.is_empty() {
                return Err(LabelError::EmptyKey {
                    text: text.to_owned(),
                });
            }
            labels.insert(key.to_owned(), value.to_owned());
        }
        Ok(Self(labels))
    }

    /// The value of `key`, if there is such a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Sets `key`, returning what it was.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) -> Option<String> {
        self.0.insert(key.into(), value.into())
    }

    /// All labels, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The map itself.
    #[must_use]
    pub fn into_inner(self) -> BTreeMap<String, String> {
        self.0
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            write!(formatter, "{key}={value}")?;
        }
        Ok(())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_split_at_the_first_equals_and_the_later_wins() {
        let labels = Labels::parse_pairs(["b=1", "a=x=y", "b=2", "empty="]).unwrap();
        assert_eq!(labels.to_string(), "a=x=y,b=2,empty=");
        assert!(Labels::parse_pairs(["novalue"]).is_err());
        assert!(Labels::parse_pairs(["=x"]).is_err());
    }
}
