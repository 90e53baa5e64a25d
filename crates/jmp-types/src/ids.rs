//! Newtypes for identifiers, so that a lease name cannot be passed where an exporter name belongs.
//!
//! Names are whatever the controller gave out: only emptiness and control characters are refused.
//! [`Alias`] is stricter because it becomes a file name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text was empty.
    #[error("a {kind} may not be empty")]
    Empty {
        /// What was being read, such as `lease name`.
        kind: &'static str,
    },
    /// The text holds a character that can be no part of it.
    #[error("the {kind} {text:?} may not contain {character:?}")]
    Character {
        /// What was being read.
        kind: &'static str,
        /// The text as given.
        text: String,
        /// The first offending character.
        character: char,
    },
    /// The text is a directory reference (`.` or `..`).
    #[error("{text:?} cannot be a {kind}: it names a directory")]
    Directory {
        /// What was being read.
        kind: &'static str,
        /// The text as given.
        text: String,
    },
    /// The text is not a UUID.
    #[error("{text:?} is not a UUID")]
    Uuid {
        /// The text as given.
        text: String,
    },
}

fn check_name(kind: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    match text.chars().find(|character| character.is_control()) {
        Some(character) => Err(IdError::Character {
            kind,
            text: text.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}

fn check_alias(kind: &'static str, text: &str) -> Result<(), IdError> {
    check_name(kind, text)?;
    if text == "." || text == ".." {
        return Err(IdError::Directory {
            kind,
            text: text.to_owned(),
        });
    }
    match text
        .chars()
        .find(|character| matches!(character, '/' | '\\'))
    {
        Some(character) => Err(IdError::Character {
            kind,
            text: text.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and wraps it.
            ///
            /// # Errors
            /// [`IdError`] when the text is empty or holds a character that cannot be part of it.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                $check($kind, &text)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// Name of a lease, unique within its namespace.
    LeaseName,
    "lease name",
    check_name
);
name_type!(
    /// Name of an exporter as the controller knows it.
    ExporterName,
    "exporter name",
    check_name
);
name_type!(
    /// Name of a client as the controller knows it.
    ClientName,
    "client name",
    check_name
);
name_type!(
    /// Namespace in the controller.
    Namespace,
    "namespace",
    check_name
);
name_type!(
    /// Name of a configuration file on this machine, without `.yaml`. Never a path.
    Alias,
    "alias",
    check_alias
);

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random identifier (version 4).
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// Wraps an existing UUID.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), formatter)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|_| IdError::Uuid { text: text.to_owned() })
            }
        }
    };
}

uuid_type!(
    /// Identity of one driver instance in one session; what calls are addressed to.
    DriverUuid
);
uuid_type!(
    /// Identity of one session of an exporter.
    SessionId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_file_names() {
        assert!(Alias::new("lab-1.east").is_ok());
        for bad in ["", ".", "..", "a/b", "a\\b", "a\nb"] {
            assert!(Alias::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn uuids_print_as_they_are_read() {
        let text = "6c3f6e4e-1f2a-4b9c-8f2e-0a4d5c6b7a89";
        assert_eq!(text.parse::<DriverUuid>().unwrap().to_string(), text);
        assert!("6c3f".parse::<DriverUuid>().is_err());
        assert_ne!(DriverUuid::random(), DriverUuid::random());
    }
}
