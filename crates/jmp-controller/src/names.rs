//! Resource names as they stand in requests and answers: `namespaces/NS/leases/NAME`.
//!
//! A name of the wrong shape is INVALID_ARGUMENT, which shipped clients expect (facts: controller
//! 4.2). What namespaces and objects may be called is decided here, too.

use jmp_types::resource::Key;
use tonic::Status;

/// The namespace of those who name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The longest name of an object, a DNS subdomain.
const NAME_LIMIT: usize = 253;
/// The longest name of a namespace, a DNS label.
const LABEL_LIMIT: usize = 63;

/// What a resource name speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// `exporters`
    Exporters,
    /// `leases`
    Leases,
    /// `clients`
    Clients,
}

// === impl Collection ===

impl Collection {
    /// The word in the path.
    #[must_use]
    pub const fn segment(self) -> &'static str {
        match self {
            Self::Exporters => "exporters",
            Self::Leases => "leases",
            Self::Clients => "clients",
        }
    }

    /// The full name of the object with that key.
    #[must_use]
    pub fn name(self, key: &Key) -> String {
        format!(
            "namespaces/{}/{}/{}",
            key.namespace,
            self.segment(),
            key.name
        )
    }

    /// Reads a full name.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when the text has another shape.
    pub fn parse(self, text: &str) -> Result<Key, Status> {
        let mut segments = text.split('/');
        let parts = (
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
        );
        match parts {
            (Some("namespaces"), Some(namespace), Some(collection), Some(name), None)
                if collection == self.segment() && !namespace.is_empty() && !name.is_empty() =>
            {
                check_length(name)?;
                Ok(Key::new(namespace, name))
            }
            _ => Err(Status::invalid_argument(format!(
                "invalid resource name {}: write namespaces/NAMESPACE/{}/NAME",
                shown(text),
                self.segment()
            ))),
        }
    }
}

/// Reads `namespaces/NS`.
///
/// # Errors
/// INVALID_ARGUMENT when the text has another shape.
pub fn parse_namespace(text: &str) -> Result<String, Status> {
    match text.split_once('/') {
        Some(("namespaces", namespace)) if !namespace.is_empty() && !namespace.contains('/') => {
            Ok(namespace.to_owned())
        }
        _ => Err(Status::invalid_argument(format!(
            "invalid resource name {}: write namespaces/NAMESPACE",
            shown(text)
        ))),
    }
}

/// Whether something may be called that at all: what does not exist is named in errors.
///
/// # Errors
/// INVALID_ARGUMENT when it is too long.
pub fn check_length(name: &str) -> Result<(), Status> {
    if name.len() <= NAME_LIMIT {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "the name {} is longer than {NAME_LIMIT} bytes",
        shown(name)
    )))
}

/// Whether a namespace may be called that: a DNS label.
///
/// # Errors
/// INVALID_ARGUMENT with the rule.
pub fn check_namespace(text: &str) -> Result<(), Status> {
    if text.len() <= LABEL_LIMIT && is_dns_label(text) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "invalid namespace {}: use at most {LABEL_LIMIT} lower-case letters, digits and hyphens, \
         with a letter or digit at both ends",
        shown(text)
    )))
}

/// Whether an object may be called that: a DNS subdomain.
///
/// # Errors
/// INVALID_ARGUMENT with the rule.
pub fn check_name(text: &str) -> Result<(), Status> {
    if text.len() <= NAME_LIMIT && text.split('.').all(is_dns_label) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "invalid name {}: use at most {NAME_LIMIT} lower-case letters, digits, hyphens and dots, \
         with a letter or digit at both ends and around every dot",
        shown(text)
    )))
}

fn is_dns_label(text: &str) -> bool {
    let edge = |character: Option<char>| {
        character.is_some_and(|found| found.is_ascii_lowercase() || found.is_ascii_digit())
    };
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .chars()
            .all(|found| found.is_ascii_lowercase() || found.is_ascii_digit() || found == '-')
}

/// A caller's text, quoted and cut, fit for an error or a log.
#[must_use]
pub fn shown(text: &str) -> String {
    const LIMIT: usize = 128;
    let mut short: String = text.chars().take(LIMIT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let key = Key::new("lab", "bench-1");
        for collection in [
            Collection::Exporters,
            Collection::Leases,
            Collection::Clients,
        ] {
            assert_eq!(collection.parse(&collection.name(&key)).unwrap(), key);
        }
        assert_eq!(parse_namespace("namespaces/lab").unwrap(), "lab");
    }

    #[test]
    fn another_shape_is_an_invalid_argument() {
        for text in [
            "",
            "bench-1",
            "namespaces/lab",
            "namespaces/lab/leases",
            "namespaces/lab/leases/",
            "namespaces//leases/a",
            "namespaces/lab/leases/a/b",
            "namespaces/lab/exporters/a",
            "Namespaces/lab/leases/a",
            "/namespaces/lab/leases/a",
        ] {
            let refused = Collection::Leases.parse(text).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{text}");
            assert!(
                refused
                    .message()
                    .contains("namespaces/NAMESPACE/leases/NAME")
            );
        }
        for text in ["", "namespaces", "namespaces/", "namespaces/a/b", "ns/a"] {
            assert_eq!(
                parse_namespace(text).unwrap_err().code(),
                Code::InvalidArgument,
                "{text}"
            );
        }
    }

    #[test]
    fn objects_are_called_as_hosts_are() {
        for name in ["a", "a1", "a-b", "a.b", "0"] {
            check_name(name).unwrap();
        }
        for name in [
            "",
            "A",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a_b",
            "ä",
            &"a".repeat(254),
        ] {
            check_name(name).unwrap_err();
        }
        check_namespace("lab-2").unwrap();
        check_namespace("a.b").unwrap_err();
        check_namespace(&"a".repeat(64)).unwrap_err();
    }

    #[test]
    fn errors_are_short_whatever_came() {
        let long = format!("namespaces/lab/leases/{}", "x".repeat(1 << 20));
        let refused = Collection::Leases.parse(&long).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().len() < 400);
        let refused = Collection::Leases
            .parse(&"x\n".repeat(100_000))
            .unwrap_err();
        assert!(refused.message().len() < 400);
        assert!(!refused.message().contains('\n'));
    }
}
