//! Label selectors, the argument of `-l`.
//!
//! The text is kept as given, because listing exporters and creating leases pass it to the controller
//! unchanged; the terms serve matching on this side. Unlike 0.9.0, which ignores a part it cannot
//! read, an unreadable part is an error: a selector that silently matches more devices is worse than
//! none.

use std::fmt;
use std::str::FromStr;

use crate::Labels;

/// Why a text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// One part is none of the known forms.
    #[error(
        "cannot read `{part}` in the selector `{text}`: write k=v, k!=v, k in (a,b), k notin (a,b), k or !k, separated by commas"
    )]
    Part {
        /// The part that could not be read.
        part: String,
        /// The whole selector.
        text: String,
    },
    /// A parenthesis has no partner.
    #[error("the selector `{text}` has an unbalanced parenthesis")]
    Parenthesis {
        /// The whole selector.
        text: String,
    },
}

/// One condition of a [`Selector`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectorTerm {
    /// `k=v` or `k==v`.
    Equals(String, String),
    /// `k!=v`; also true when there is no such label, as in Kubernetes.
    NotEquals(String, String),
    /// `k in (a,b)`.
    In(String, Vec<String>),
    /// `k notin (a,b)`; also true when there is no such label.
    NotIn(String, Vec<String>),
    /// `k`: the label exists.
    Exists(String),
    /// `!k`: there is no such label.
    Absent(String),
}

/// A conjunction of conditions on labels, with the text it was read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    text: String,
    terms: Vec<SelectorTerm>,
}

// === impl Selector ===

impl Selector {
    /// Joins several `-l` values with commas (all of them must hold) and reads the result.
    ///
    /// # Errors
    /// [`SelectorError`] naming the part that cannot be read.
    pub fn join<I, T>(texts: I) -> Result<Self, SelectorError>
    where
        I: IntoIterator<Item = T>,
        T: AsRef<str>,
    {
        let parts: Vec<String> = texts
            .into_iter()
            .map(|text| text.as_ref().trim().to_owned())
            .filter(|text| !text.is_empty())
            .collect();
        parts.join(",").parse()
    }

    /// The text as given, which is what the controller receives.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The conditions, in the order given.
    #[must_use]
    pub fn terms(&self) -> &[SelectorTerm] {
        &self.terms
    }

    /// Whether there is no condition, so that everything matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether `labels` satisfy every condition.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.terms.iter().all(|term| term.matches(labels))
    }

    /// The labels asked for by equality, the part of a selector that filters leases on the server.
    #[must_use]
    pub fn equalities(&self) -> Labels {
        self.terms
            .iter()
            .filter_map(|term| match term {
                SelectorTerm::Equals(key, value) => Some((key.clone(), value.clone())),
                _ => None,
            })
            .collect()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in split_outside_parentheses(text)? {
            let part = part.trim();
            // A trailing comma is harmless and comes out of shell loops.
            if !part.is_empty() {
                terms.push(parse_term(part).ok_or_else(|| SelectorError::Part {
                    part: part.to_owned(),
                    text: text.to_owned(),
                })?);
            }
        }
        Ok(Self {
            text: text.to_owned(),
            terms,
        })
    }
}

/// Reads bytes as a selector and checks that its canonical text means the same: what a fuzzer and a property
/// test call.
///
/// # Panics
///
/// When it does not, which is a bug.
pub fn fuzz_selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(selector) = text.parse::<Selector>() else {
        return;
    };
    let canonical = crate::resource::LabelSelector::from(&selector);
    let labels = selector.equalities();
    let plain: std::collections::BTreeMap<String, String> = labels
        .iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(
        selector.matches(&labels),
        canonical.matches(&plain),
        "`{text}` and `{canonical}`"
    );
    if let Ok(again) = canonical.to_string().parse::<Selector>() {
        let again = crate::resource::LabelSelector::from(&again);
        assert_eq!(again.to_string(), canonical.to_string(), "`{text}`");
    }
}

// === impl SelectorTerm ===

impl SelectorTerm {
    /// Whether `labels` satisfy this condition.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Equals(key, value) => labels.get(key) == Some(value),
            Self::NotEquals(key, value) => labels.get(key) != Some(value),
            Self::In(key, values) => labels
                .get(key)
                .is_some_and(|found| values.iter().any(|value| value == found)),
            Self::NotIn(key, values) => !labels
                .get(key)
                .is_some_and(|found| values.iter().any(|value| value == found)),
            Self::Exists(key) => labels.get(key).is_some(),
            Self::Absent(key) => labels.get(key).is_none(),
        }
    }
}

fn split_outside_parentheses(text: &str) -> Result<Vec<&str>, SelectorError> {
    let unbalanced = || SelectorError::Parenthesis {
        text: text.to_owned(),
    };
    let mut parts = Vec::new();
    let mut start = 0;
    let mut inside = false;
    for (index, character) in text.char_indices() {
        match character {
            '(' if inside => return Err(unbalanced()),
            '(' => inside = true,
            ')' if !inside => return Err(unbalanced()),
            ')' => inside = false,
            ',' if !inside => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(unbalanced());
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn parse_term(part: &str) -> Option<SelectorTerm> {
    if let Some(open) = part.find('(') {
        let values = part[open + 1..].strip_suffix(')')?;
        let mut words = part[..open].split_whitespace();
        let key = valid_key(words.next()?)?;
        let operator = words.next()?;
        let values = values
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        return match (operator, words.next()) {
            ("in", None) => Some(SelectorTerm::In(key, values)),
            ("notin", None) => Some(SelectorTerm::NotIn(key, values)),
            _ => None,
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Some(SelectorTerm::NotEquals(
            valid_key(key.trim())?,
            valid_value(value)?,
        ));
    }
    if let Some((key, value)) = part.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value);
        return Some(SelectorTerm::Equals(
            valid_key(key.trim())?,
            valid_value(value)?,
        ));
    }
    match part.strip_prefix('!') {
        Some(key) => Some(SelectorTerm::Absent(valid_key(key.trim())?)),
        None => Some(SelectorTerm::Exists(valid_key(part)?)),
    }
}

fn valid_key(key: &str) -> Option<String> {
    let allowed = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '/' | '-')
    };
    (!key.is_empty() && key.chars().all(allowed)).then(|| key.to_owned())
}

fn valid_value(value: &str) -> Option<String> {
    let value = value.trim();
    (!value.contains(['=', '!'])).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    #[test]
    fn every_form_is_read_and_matched() {
        let board = labels(&[("board", "rpi4"), ("lab.example/site", "east")]);
        for (text, expected) in [
            ("board=rpi4", true),
            ("board==rpi4", true),
            ("board = rpi4 , lab.example/site=east", true),
            ("board!=rpi4", false),
            ("color!=red", true),
            ("board in (rpi3, rpi4)", true),
            ("board notin (rpi3,rpi4)", false),
            ("color notin (red)", true),
            ("board", true),
            ("!board", false),
            ("!color", true),
            ("", true),
            ("board=rpi4,", true),
        ] {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.matches(&board), expected, "{text}");
            assert_eq!(selector.as_str(), text);
        }
    }

    #[test]
    fn unreadable_parts_are_errors() {
        for text in [
            "a=b,c d",
            "k in a",
            "k in (a",
            "k)",
            "=v",
            "k=a=b",
            "k like (a)",
            "ключ=1",
        ] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }

    #[test]
    fn repeated_options_are_joined() {
        let selector = Selector::join(["a=b", " ", "c in (d,e)"]).unwrap();
        assert_eq!(selector.as_str(), "a=b,c in (d,e)");
        assert_eq!(selector.terms().len(), 2);
        assert_eq!(selector.equalities().to_string(), "a=b");
    }
}
