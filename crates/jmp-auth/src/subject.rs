//! Who a token speaks for.

use std::fmt;
use std::str::FromStr;

/// Kinds of identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityKind {
    /// Somebody who leases.
    Client,
    /// A process beside devices.
    Exporter,
    /// Somebody who may do everything. Our own addition.
    Administrator,
    /// A router that joins a controller. Our own addition.
    Router,
}

/// Who a token speaks for: the claim `sub` (facts: controller 5.4).
///
/// `client:NAMESPACE:NAME:UID`, `exporter:NAMESPACE:NAME:UID`, and ours `admin:NAME:UID`, `router:NAME:UID`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// What it is.
    pub kind: IdentityKind,
    /// Namespace; empty for administrators and routers, which belong to none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Identifier of the object; another object with the same name has another one.
    pub uid: String,
}

/// The text is not the subject of a token that this controller issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the subject is not client:NAMESPACE:NAME:UID or its like")]
pub struct SubjectError;

// === impl IdentityKind ===

impl IdentityKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::Client,
        Self::Exporter,
        Self::Administrator,
        Self::Router,
    ];

    /// The value of the metadata `jumpstarter-kind`.
    #[must_use]
    pub fn metadata_value(self) -> &'static str {
        match self {
            Self::Client => "Client",
            Self::Exporter => "Exporter",
            Self::Administrator => "Admin",
            Self::Router => "Router",
        }
    }

    /// The kind of a value of the metadata `jumpstarter-kind`, case-sensitively.
    #[must_use]
    pub fn from_metadata_value(value: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.metadata_value() == value)
    }

    /// How subjects of the kind begin; also the word for it in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Exporter => "exporter",
            Self::Administrator => "admin",
            Self::Router => "router",
        }
    }

    /// Whether identities of the kind live in a namespace.
    #[must_use]
    pub fn is_namespaced(self) -> bool {
        matches!(self, Self::Client | Self::Exporter)
    }
}

// === impl Subject ===

impl Subject {
    /// A client.
    #[must_use]
    pub fn client(namespace: &str, name: &str, uid: &str) -> Self {
        Self::of(IdentityKind::Client, namespace, name, uid)
    }

    /// An exporter.
    #[must_use]
    pub fn exporter(namespace: &str, name: &str, uid: &str) -> Self {
        Self::of(IdentityKind::Exporter, namespace, name, uid)
    }

    /// An administrator.
    #[must_use]
    pub fn administrator(name: &str, uid: &str) -> Self {
        Self::of(IdentityKind::Administrator, "", name, uid)
    }

    /// A router.
    #[must_use]
    pub fn router(name: &str, uid: &str) -> Self {
        Self::of(IdentityKind::Router, "", name, uid)
    }

    fn of(kind: IdentityKind, namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
        }
    }

    /// Without the identifier, as the audit and limits per identity name it: `client:default:hello`, `admin:root`.
    #[must_use]
    pub fn identity(&self) -> String {
        let word = self.kind.word();
        if self.kind.is_namespaced() {
            format!("{word}:{}:{}", self.namespace, self.name)
        } else {
            format!("{word}:{}", self.name)
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.identity(), self.uid)
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let mut parts = text.split(':');
        let word = parts.next().unwrap_or_default();
        let kind = IdentityKind::ALL
            .into_iter()
            .find(|kind| kind.word() == word)
            .ok_or(SubjectError)?;
        let mut part = || match parts.next() {
            Some(part) if !part.is_empty() && !part.chars().any(char::is_control) => {
                Ok(part.to_owned())
            }
            _ => Err(SubjectError),
        };
        let namespace = if kind.is_namespaced() {
            part()?
        } else {
            String::new()
        };
        let (name, uid) = (part()?, part()?);
        if parts.next().is_some() {
            return Err(SubjectError);
        }
        Ok(Self {
            kind,
            namespace,
            name,
            uid,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{IdentityKind, Subject};

    #[test]
    fn subjects_are_printed_and_read_back() {
        for (subject, text, identity) in [
            (
                Subject::client("lab", "hello", "u1"),
                "client:lab:hello:u1",
                "client:lab:hello",
            ),
            (
                Subject::exporter("lab", "bench", "u2"),
                "exporter:lab:bench:u2",
                "exporter:lab:bench",
            ),
            (
                Subject::administrator("root", "u3"),
                "admin:root:u3",
                "admin:root",
            ),
            (Subject::router("r1", "u4"), "router:r1:u4", "router:r1"),
        ] {
            assert_eq!(subject.to_string(), text);
            assert_eq!(subject.identity(), identity);
            assert_eq!(text.parse(), Ok(subject));
        }
    }

    #[test]
    fn other_texts_are_no_subjects() {
        for text in [
            "",
            "client",
            "client:a:b",
            "client:a:b:c:d",
            "client::b:c",
            "client:a:b:",
            "Client:a:b:c",
            "admin:a",
            "admin:a:b:c",
            "exporter:a:b\n:c",
            "me@example.com",
            "lease:a:b:c",
        ] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }

    #[test]
    fn kinds_of_the_metadata_are_case_sensitive() {
        for kind in IdentityKind::ALL {
            assert_eq!(
                IdentityKind::from_metadata_value(kind.metadata_value()),
                Some(kind)
            );
        }
        assert_eq!(IdentityKind::from_metadata_value("client"), None);
    }
}
