//! What labels may be called and say, as in Kubernetes.

use std::collections::BTreeMap;

use tonic::Status;

use crate::names::{check_name, shown};

/// The longest name of a label and the longest value.
const LIMIT: usize = 63;
/// How many labels an object may have.
const COUNT_LIMIT: usize = 128;

/// Every label of an object.
///
/// # Errors
/// INVALID_ARGUMENT with the path of the offending one.
pub fn check(labels: &BTreeMap<String, String>) -> Result<(), Status> {
    if labels.len() > COUNT_LIMIT {
        return Err(Status::invalid_argument(format!(
            "metadata.labels: {} labels, more than {COUNT_LIMIT}",
            labels.len()
        )));
    }
    labels.iter().try_for_each(|(key, value)| {
        check_key(key)?;
        check_value(key, value)
    })
}

/// The key of a label: `[PREFIX/]NAME`.
///
/// # Errors
/// INVALID_ARGUMENT with the rule.
pub fn check_key(key: &str) -> Result<(), Status> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_none_or(|prefix| check_name(prefix).is_ok()) && !name.is_empty() && is_word(name) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "metadata.labels: invalid key {}: use at most {LIMIT} letters, digits, `-`, `_` and `.` \
         with a letter or digit at both ends, optionally after a DNS name and a slash",
        shown(key)
    )))
}

/// The value of a label, which may be empty.
///
/// # Errors
/// INVALID_ARGUMENT with the rule.
pub fn check_value(key: &str, value: &str) -> Result<(), Status> {
    if is_word(value) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "metadata.labels: invalid value {} of {}: use at most {LIMIT} letters, digits, `-`, `_` \
         and `.` with a letter or digit at both ends",
        shown(value),
        shown(key)
    )))
}

fn is_word(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= LIMIT
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
