//! Where values come from, and how a configuration is shown with it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jmp_types::{REDACTED, Secret};
use serde_json::{Value, json};

use crate::effective::{EffectiveClient, EffectiveExporter};
use crate::kinds::client::seconds_json;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command-line option, such as `--endpoint`.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// A file of the user.
    UserFile {
        /// The file.
        path: PathBuf,
        /// The line, when the key is written in the file.
        line: Option<u32>,
    },
    /// A file of the machine.
    SystemFile {
        /// The file.
        path: PathBuf,
        /// The line, when the key is written in the file.
        line: Option<u32>,
    },
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(formatter, "option {name}"),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::UserFile { path, line } | Self::SystemFile { path, line } => {
                write!(formatter, "{}", path.display())?;
                line.map_or(Ok(()), |line| write!(formatter, ":{line}"))
            }
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

/// One line of `jmp config show`; secrets are already replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownValue {
    /// Dotted key, as in the file.
    pub key: &'static str,
    /// The value; null when nothing is set.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

// === showing ===

fn shown<T>(
    key: &'static str,
    sourced: &Sourced<T>,
    value: impl FnOnce(&T) -> Value,
) -> ShownValue {
    ShownValue {
        key,
        value: value(&sourced.value),
        origin: sourced.origin.clone(),
    }
}

fn shown_secret(key: &'static str, sourced: &Sourced<Option<Secret>>) -> ShownValue {
    shown(key, sourced, |secret| match secret {
        Some(_) => REDACTED.into(),
        None => Value::Null,
    })
}

fn shown_seconds(key: &'static str, sourced: &Sourced<Duration>) -> ShownValue {
    shown(key, sourced, |duration| json!(seconds_json(*duration)))
}

impl EffectiveClient {
    /// Every value with its origin, in the order of the file.
    #[must_use]
    pub fn rows(&self) -> Vec<ShownValue> {
        vec![
            shown("metadata.name", &self.name, |value| json!(value)),
            shown("metadata.namespace", &self.namespace, |value| json!(value)),
            shown("endpoint", &self.endpoint, |value| json!(value)),
            shown("tls.ca", &self.tls_ca, |value| json!(value)),
            shown("tls.insecure", &self.tls_insecure, |value| json!(value)),
            shown_secret("token", &self.token),
            shown_secret("refresh_token", &self.refresh_token),
            shown("grpcOptions", &self.grpc_options, |value| json!(value)),
            shown("drivers.allow", &self.drivers_allow, |value| json!(value)),
            shown("drivers.unsafe", &self.drivers_unsafe, |value| json!(value)),
            shown("shell.use_profiles", &self.use_profiles, |value| {
                json!(value)
            }),
            shown_seconds("leases.acquisition_timeout", &self.acquisition_timeout),
            shown_seconds("leases.retry_timeout", &self.retry_timeout),
            shown_seconds("leases.dial_timeout", &self.dial_timeout),
            shown("lease", &self.lease, |value| json!(value)),
        ]
    }
}

impl EffectiveExporter {
    /// Every value that can be overridden, with its origin.
    #[must_use]
    pub fn rows(&self) -> Vec<ShownValue> {
        vec![
            shown("metadata.name", &self.name, |value| json!(value)),
            shown("metadata.namespace", &self.namespace, |value| json!(value)),
            shown("endpoint", &self.endpoint, |value| json!(value)),
            shown_secret("token", &self.token),
            shown("tls.ca", &self.tls_ca, |value| json!(value)),
            shown("tls.insecure", &self.tls_insecure, |value| json!(value)),
            shown("grpcOptions", &self.grpc_options, |value| json!(value)),
        ]
    }
}
