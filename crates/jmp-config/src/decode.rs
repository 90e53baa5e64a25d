//! Reading typed values out of the located tree, collecting every complaint instead of stopping at the
//! first.

use std::sync::Arc;
use std::time::Duration;

use jmp_types::TimeSpan;

use crate::diagnostic::{ConfigError, Diagnostic, Severity, join_path};
use crate::document::{Document, Source, Span};
use crate::nearest::nearest;
use crate::node::{Entry, Mapping, Node};
use crate::redact;

/// Messages of either kind that are kept: nobody reads more, and a hostile file could ask for millions.
const MOST_MESSAGES: usize = 20;
/// Words that are listed in a message.
const MOST_WORDS: usize = 20;

/// What happens to a key nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownKeys {
    /// An error, as upstream's client file has it.
    Reject,
    /// An error when it looks like a misspelt valid key, else a warning.
    RejectNear,
    /// A warning.
    Warn,
}

/// A node and the keys that lead to it.
#[derive(Clone)]
pub(crate) struct At<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: Vec<String>,
}

// === impl At ===

impl<'a> At<'a> {
    pub(crate) fn root(document: &'a Document) -> Self {
        Self {
            node: document.root(),
            path: Vec::new(),
        }
    }

    pub(crate) fn child(&self, entry: &'a Entry) -> Self {
        let mut path = self.path.clone();
        path.push(entry.key.text.clone());
        Self {
            node: &entry.value,
            path,
        }
    }

    /// The value of `key` unless it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        let entry = self.node.as_mapping()?.entry(key)?;
        (!entry.value.is_null()).then(|| self.child(entry))
    }

    fn is_secret(&self) -> bool {
        self.path.iter().any(|step| redact::is_secret_key(step))
    }

    fn name(&self) -> String {
        if self.path.is_empty() {
            "the file".to_owned()
        } else {
            format!("`{}`", join_path(&self.path))
        }
    }
}

/// Collects messages while a document is turned into a configuration.
pub(crate) struct Decoder {
    source: Arc<Source>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

// === impl Decoder ===

impl Decoder {
    pub(crate) fn new(document: &Document) -> Self {
        Self {
            source: Arc::clone(document.source()),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The value and its warnings, or all errors.
    pub(crate) fn finish<T>(self, value: T) -> Result<(T, Vec<Diagnostic>), ConfigError> {
        match ConfigError::from_diagnostics(self.errors) {
            Some(error) => Err(error),
            None => Ok((value, self.warnings)),
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let list = match diagnostic.severity() {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        if list.len() < MOST_MESSAGES {
            list.push(diagnostic);
        }
    }

    /// Whether further messages would be dropped.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len().max(self.warnings.len()) >= MOST_MESSAGES
    }

    pub(crate) fn at(&self, at: &At<'_>, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(&self.source, Some(span), message).with_path(&at.path)
    }

    /// Complains that `at` holds something other than `expected`.
    pub(crate) fn mismatch(&mut self, at: &At<'_>, expected: &str) -> Diagnostic {
        let found = at.node.describe(at.is_secret());
        let message = format!("{} should be {expected}, but is {found}", at.name());
        self.at(at, at.node.span, message)
    }

    pub(crate) fn mapping<'a>(&mut self, at: &At<'a>, expected: &str) -> Option<&'a Mapping> {
        if at.node.is_null() {
            return None;
        }
        let mapping = at.node.as_mapping();
        if mapping.is_none() {
            let diagnostic = self.mismatch(at, expected);
            self.push(diagnostic);
        }
        mapping
    }

    pub(crate) fn string(&mut self, parent: &At<'_>, key: &str) -> Option<String> {
        self.text(&parent.get(key)?)
    }

    /// The text at `at`, which is known to be there.
    pub(crate) fn text(&mut self, at: &At<'_>) -> Option<String> {
        match at.node.as_scalar() {
            Some(scalar) => Some(scalar.text.clone()),
            None => {
                let diagnostic = self.mismatch(at, "text");
                self.push(diagnostic);
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, parent: &At<'_>, key: &str) -> Option<bool> {
        let at = parent.get(key)?;
        let found = at.node.as_scalar().and_then(crate::node::Scalar::as_bool);
        if found.is_none() {
            let diagnostic = self.mismatch(&at, "true or false");
            self.push(diagnostic);
        }
        found
    }

    pub(crate) fn integer(&mut self, parent: &At<'_>, key: &str) -> Option<u32> {
        let at = parent.get(key)?;
        let found = at
            .node
            .as_scalar()
            .and_then(|scalar| scalar.text.trim().parse::<u32>().ok());
        if found.is_none() {
            let diagnostic = self.mismatch(&at, "a whole number, zero or more");
            self.push(diagnostic);
        }
        found
    }

    /// A length of time: a number of seconds, or a duration such as `2h`.
    pub(crate) fn duration(
        &mut self,
        parent: &At<'_>,
        key: &str,
        minimum: Duration,
    ) -> Option<Duration> {
        let at = parent.get(key)?;
        let found = at.node.as_scalar().and_then(|scalar| seconds(&scalar.text));
        match found {
            Some(duration) if duration >= minimum => Some(duration),
            Some(_) => {
                let message = format!(
                    "{} should be at least {} s, but is {}",
                    at.name(),
                    minimum.as_secs_f64(),
                    at.node.describe(false)
                );
                let diagnostic = self.at(&at, at.node.span, message);
                self.push(diagnostic);
                None
            }
            None => {
                let diagnostic = self
                    .mismatch(&at, "a number of seconds")
                    .with_help("write for example 300, or a duration such as 5m");
                self.push(diagnostic);
                None
            }
        }
    }

    /// A list of texts; one text with commas counts as a list, as in `JMP_DRIVERS_ALLOW`.
    pub(crate) fn list(&mut self, parent: &At<'_>, key: &str) -> Option<Vec<String>> {
        let at = parent.get(key)?;
        if let Some(scalar) = at.node.as_scalar() {
            return Some(comma_list(&scalar.text));
        }
        let items = at.node.as_sequence().map(|items| {
            items
                .iter()
                .map(|item| item.as_scalar().map(|scalar| scalar.text.clone()))
                .collect::<Option<Vec<String>>>()
        });
        if let Some(Some(texts)) = items {
            return Some(texts.into_iter().filter(|text| !text.is_empty()).collect());
        }
        let diagnostic = self.mismatch(&at, "a list of texts");
        self.push(diagnostic);
        None
    }

    /// Looks for keys outside `known` in the mapping at `at`.
    pub(crate) fn unknown_keys(
        &mut self,
        at: &At<'_>,
        known: &[&str],
        policy: UnknownKeys,
        place: &str,
    ) {
        let Some(mapping) = at.node.as_mapping() else {
            return;
        };
        let free: Vec<&str> = known
            .iter()
            .copied()
            .filter(|candidate| mapping.get(candidate).is_none())
            .collect();
        for entry in &mapping.entries {
            let key = entry.key.text.as_str();
            if known.contains(&key) {
                continue;
            }
            if self.is_full() && self.has_errors() {
                return;
            }
            let near = nearest(key, free.iter().copied());
            let message = format!("unknown key `{key}` in {place}");
            let mut diagnostic = self
                .at(&at.child(entry), entry.key.span, message)
                .with_nearest(near);
            if near.is_none() {
                diagnostic =
                    diagnostic.with_help(format!("the keys here are {}", preferred(known)));
            }
            let fatal = match policy {
                UnknownKeys::Reject => true,
                UnknownKeys::RejectNear => near.is_some(),
                UnknownKeys::Warn => false,
            };
            self.push(if fatal {
                diagnostic
            } else {
                diagnostic.as_warning()
            });
        }
    }
}

/// The keys as they are written, without their second spellings.
fn preferred(known: &[&str]) -> String {
    let second = [
        "grpcConfig",
        "failure_detection",
        "exit_on_lease_end",
        "before_lease",
        "after_lease",
        "on_failure",
        "max_rapid_failures",
        "rapid_failure_window",
    ];
    let words: Vec<&str> = known
        .iter()
        .copied()
        .filter(|word| !second.contains(word))
        .collect();
    sentence_list(&words)
}

/// `a,b` without blanks and empty members.
pub(crate) fn comma_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Seconds as a number, or any form of [`TimeSpan`].
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(number).ok();
    }
    TimeSpan::parse(text).ok()?.to_duration().ok()
}

/// `a`, `b` and `c`, in backticks.
pub(crate) fn sentence_list<T: AsRef<str>>(words: &[T]) -> String {
    let more = words.len().saturating_sub(MOST_WORDS);
    let mut quoted: Vec<String> = words
        .iter()
        .take(MOST_WORDS)
        .map(|word| format!("`{}`", word.as_ref()))
        .collect();
    if more > 0 {
        quoted.push(format!("{more} more"));
    }
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}
