//! Label selectors in the shape that objects carry.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Selector, SelectorTerm};

/// Conditions on labels, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels with exactly these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Everything else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// One condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// For `In` and `NotIn`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

// === impl LabelSelector ===

impl LabelSelector {
    /// Whether there is no condition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether `labels` satisfy every condition. An unknown operator is satisfied by nothing.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.matches(labels))
    }
}

impl From<&Selector> for LabelSelector {
    /// Several `!=` on one label become one `NotIn`, as the released controller has it. Of two
    /// different values asked of one label the second becomes an expression, which nothing satisfies.
    fn from(selector: &Selector) -> Self {
        let mut found = Self::default();
        let mut unequal: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for term in selector.terms() {
            let (key, operator, values) = match term {
                SelectorTerm::Equals(key, value) => match found.match_labels.get(key) {
                    Some(present) if present != value => (key, "In", vec![value.clone()]),
                    _ => {
                        found.match_labels.insert(key.clone(), value.clone());
                        continue;
                    }
                },
                SelectorTerm::NotEquals(key, value) => {
                    unequal.entry(key.clone()).or_default().push(value.clone());
                    continue;
                }
                SelectorTerm::In(key, values) => (key, "In", values.clone()),
                SelectorTerm::NotIn(key, values) => (key, "NotIn", values.clone()),
                SelectorTerm::Exists(key) => (key, "Exists", Vec::new()),
                SelectorTerm::Absent(key) => (key, "DoesNotExist", Vec::new()),
            };
            found.match_expressions.push(Requirement {
                key: key.clone(),
                operator: operator.into(),
                values,
            });
        }
        found
            .match_expressions
            .extend(unequal.into_iter().map(|(key, values)| Requirement {
                key,
                operator: "NotIn".into(),
                values,
            }));
        for requirement in &mut found.match_expressions {
            requirement.values.sort();
            requirement.values.dedup();
        }
        found
    }
}

impl fmt::Display for LabelSelector {
    /// The canonical text of Kubernetes, sorted by label; nothing at all for the empty selector.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<(&str, String)> = self
            .match_labels
            .iter()
            .map(|(key, value)| (key.as_str(), format!("{key}={value}")))
            .collect();
        parts.extend(
            self.match_expressions
                .iter()
                .map(|requirement| (requirement.key.as_str(), requirement.to_string())),
        );
        parts.sort();
        let texts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
        formatter.write_str(&texts.join(","))
    }
}

// === impl Requirement ===

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => found.is_some_and(|found| self.values.contains(found)),
            "NotIn" => !found.is_some_and(|found| self.values.contains(found)),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.clone();
        values.sort();
        let values = values.join(",");
        match self.operator.as_str() {
            "In" => write!(formatter, "{} in ({values})", self.key),
            "NotIn" => write!(formatter, "{} notin ({values})", self.key),
            "Exists" => formatter.write_str(&self.key),
            "DoesNotExist" => write!(formatter, "!{}", self.key),
            other => write!(formatter, "{} {other} ({values})", self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> LabelSelector {
        LabelSelector::from(&text.parse::<Selector>().expect("a selector"))
    }

    #[test]
    fn texts_become_canonical() {
        for (given, canonical) in [
            ("b=2,a=1", "a=1,b=2"),
            ("z in (b,a),a=1", "a=1,z in (a,b)"),
            ("a!=2,a!=1", "a notin (1,2)"),
            ("!k,e", "e,!k"),
            ("", ""),
        ] {
            assert_eq!(selector(given).to_string(), canonical, "{given}");
        }
    }

    #[test]
    fn two_values_of_one_label_match_nothing() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        assert!(selector("a=1").matches(&labels));
        assert!(selector("a=1,a=1").matches(&labels));
        assert!(!selector("a=1,a=2").matches(&labels));
    }

    #[test]
    fn the_shape_is_that_of_custom_resources() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        assert!(selector("b!=1,!c").matches(&labels));
        assert!(!selector("a notin (1)").matches(&labels));
        let unknown = Requirement {
            key: "a".into(),
            operator: "Gt".into(),
            values: vec![],
        };
        assert!(!unknown.matches(&labels));
    }
}
