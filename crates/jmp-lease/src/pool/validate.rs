//! What a lease may ask for.

use std::collections::BTreeMap;

use jmp_types::resource::{
    Key, LEASE_ENDED_LABEL, LabelSelector, Lease, Metadata, Reference, TAG_PREFIX,
};
use jmp_types::{Selector, SelectorTerm};

use super::api::{NewLease, Now, Refusal, RefusalKind, Settings};
use super::time::{self, Times};

/// Most entries of a context, and the most characters of a key and of a value (facts: controller 1.1).
const CONTEXT_ENTRIES: usize = 8;
const CONTEXT_KEY: usize = 32;
const CONTEXT_VALUE: usize = 64;
/// Longest name, as Kubernetes has it.
const NAME: usize = 253;
/// Longest part of a label.
const LABEL: usize = 63;
/// Longest selector: more is a mistake or an attack.
const SELECTOR: usize = 4096;

/// Prefixes that tags must not imitate.
const RESERVED: [&str; 3] = ["jumpstarter.dev", "kubernetes.io", "k8s.io"];

fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::InvalidArgument, text)
}

/// The lease that is asked for, complete except for what becomes of it.
pub(super) fn new_lease(
    wanted: &NewLease,
    settings: &Settings,
    now: Now,
) -> Result<(Lease, Key), Refusal> {
    let client = wanted
        .client
        .clone()
        .ok_or_else(|| invalid("a lease needs a client"))?;
    let pin = wanted.exporter_name.clone().filter(|name| !name.is_empty());
    if wanted.selector.trim().is_empty() && pin.is_none() {
        return Err(invalid(
            "one of selector and exporter_name is required: say which exporter you want",
        ));
    }
    let selector = selector(&wanted.selector)?;
    name("lease_id", &wanted.name)?;
    if let Some(pin) = &pin {
        name("exporter_name", pin)?;
    }
    if wanted.allow_disabled && pin.is_none() {
        return Err(invalid("allow_disabled goes only with exporter_name"));
    }
    tags(&wanted.tags, settings.max_tags)?;
    context(&wanted.context)?;
    let duration = wanted
        .duration
        .map(|given| time::read(given, settings.max_duration))
        .transpose()?;
    let times = Times {
        begin: wanted.begin_time,
        end: wanted.end_time,
        duration,
    };
    let times = times.completed(now.wall, settings.max_duration)?;
    let mut lease = Lease {
        metadata: Metadata {
            name: wanted.name.clone(),
            namespace: client.namespace.clone(),
            uid: wanted.uid.clone(),
            creation_timestamp: Some(now.wall),
            generation: 1,
            labels: labels(&selector, &wanted.tags),
            ..Metadata::default()
        },
        ..Lease::default()
    };
    lease.spec.client_ref = Reference::new(client.name.clone());
    lease.spec.selector = selector;
    lease.spec.exporter_ref = pin.map(Reference::new);
    lease.spec.allow_disabled = wanted.allow_disabled;
    lease.spec.tags = wanted.tags.clone();
    lease.spec.context = wanted.context.clone();
    times.write(&mut lease.spec);
    Ok((lease, client))
}

/// Labels for filters: the equalities of the selector, and the tags. What the controller itself says
/// with labels cannot be said by a selector (facts: controller 12, 4).
pub(super) fn labels(
    selector: &LabelSelector,
    tags: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let own = |key: &str| key == LEASE_ENDED_LABEL || key.starts_with(TAG_PREFIX);
    let equalities = selector.match_labels.iter();
    let mut labels: BTreeMap<_, _> = equalities
        .filter(|(key, _)| !own(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    labels.extend(
        tags.iter()
            .map(|(key, value)| (format!("{TAG_PREFIX}{key}"), value.clone())),
    );
    labels
}

/// A selector in the controller's grammar (facts: controller 3.6).
pub(super) fn selector(text: &str) -> Result<LabelSelector, Refusal> {
    if text.len() > SELECTOR {
        return Err(invalid(format!(
            "the selector is longer than {SELECTOR} bytes"
        )));
    }
    for operator in ["==", ">", "<"] {
        if text.contains(operator) {
            return Err(invalid(format!(
                "the selector `{text}` has the unsupported operator `{operator}`: use =, !=, in, notin, KEY or !KEY"
            )));
        }
    }
    let parsed: Selector = text
        .parse()
        .map_err(|error| invalid(format!("invalid selector: {error}")))?;
    let mut equalities: BTreeMap<&str, &str> = BTreeMap::new();
    for term in parsed.terms() {
        let (key, values): (&str, Vec<&str>) = match term {
            SelectorTerm::Equals(key, value) => {
                let before = equalities.insert(key, value);
                if before.is_some_and(|before| before != value) {
                    return Err(invalid(format!(
                        "the selector `{text}` asks for two different values of `{key}`"
                    )));
                }
                (key, vec![value])
            }
            SelectorTerm::NotEquals(key, value) => (key, vec![value]),
            SelectorTerm::In(key, values) | SelectorTerm::NotIn(key, values) => {
                (key, values.iter().map(String::as_str).collect())
            }
            SelectorTerm::Exists(key) | SelectorTerm::Absent(key) => (key, Vec::new()),
        };
        label_key(key).map_err(|why| invalid(format!("invalid selector: `{key}`: {why}")))?;
        for value in values {
            label_value(value)
                .map_err(|why| invalid(format!("invalid selector: `{key}={value}`: {why}")))?;
        }
    }
    Ok(LabelSelector::from(&parsed))
}

/// A name of an object: a DNS subdomain.
pub(super) fn name(field: &str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > NAME || !name.split('.').all(is_dns_label) {
        return Err(invalid(format!(
            "{field} `{}` is no valid name: at most {NAME} characters, lower-case letters, digits, `-` and `.`, each part beginning and ending with a letter or digit",
            cut(name, NAME)
        )));
    }
    Ok(())
}

fn is_dns_label(part: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.first().copied().is_some_and(edge)
        && bytes.last().copied().is_some_and(edge)
        && bytes.iter().all(|&byte| edge(byte) || byte == b'-')
}

/// The tags of a lease (facts: controller 3.6).
pub(super) fn tags(tags: &BTreeMap<String, String>, most: usize) -> Result<(), Refusal> {
    if tags.len() > most {
        return Err(invalid(format!(
            "too many tags: {} given, at most {most} allowed",
            tags.len()
        )));
    }
    for (key, value) in tags {
        let refuse = |why: &str| invalid(format!("invalid tag `{}`: {why}", cut(key, LABEL)));
        if key.contains('/') {
            return Err(refuse("the key must not contain `/`"));
        }
        let imitates = |prefix: &&str| {
            key == *prefix
                || key.ends_with(&format!(".{prefix}"))
                || key.starts_with(&format!("{prefix}."))
        };
        if RESERVED.iter().any(imitates) {
            return Err(refuse("the key uses a reserved prefix"));
        }
        label_key(&format!("{TAG_PREFIX}{key}")).map_err(|why| refuse(&why))?;
        label_value(value).map_err(|why| refuse(&format!("value: {why}")))?;
    }
    Ok(())
}

/// The context of a lease (facts: controller 1.1).
pub(super) fn context(context: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if context.len() > CONTEXT_ENTRIES {
        return Err(invalid(format!(
            "too much context: {} entries given, at most {CONTEXT_ENTRIES} allowed",
            context.len()
        )));
    }
    for (key, value) in context {
        if key.is_empty() || key.chars().count() > CONTEXT_KEY {
            return Err(invalid(format!(
                "invalid context key `{}`: 1 to {CONTEXT_KEY} characters",
                cut(key, CONTEXT_KEY)
            )));
        }
        if value.chars().count() > CONTEXT_VALUE {
            return Err(invalid(format!(
                "the context value of `{key}` is longer than {CONTEXT_VALUE} characters"
            )));
        }
    }
    Ok(())
}

/// A label key: an optional DNS subdomain and `/`, then a name.
fn label_key(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            if prefix.len() > NAME || !prefix.split('.').all(is_dns_label) {
                return Err("the part before `/` must be a domain name".to_owned());
            }
            name
        }
        None => key,
    };
    if name.is_empty() {
        return Err("the key is empty".to_owned());
    }
    label_text(name)
}

fn label_value(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Ok(());
    }
    label_text(value)
}

fn label_text(text: &str) -> Result<(), String> {
    let edge = |byte: u8| byte.is_ascii_alphanumeric();
    let inner = |byte: u8| edge(byte) || matches!(byte, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    if bytes.len() > LABEL {
        return Err(format!("longer than {LABEL} characters"));
    }
    let ends = [bytes.first(), bytes.last()];
    let good = ends.iter().all(|end| end.copied().is_some_and(edge))
        && bytes.iter().all(|&byte| inner(byte));
    good.then_some(()).ok_or_else(|| {
        "only letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit"
            .to_owned()
    })
}

/// At most that many bytes of a text, on a character boundary.
pub(super) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
