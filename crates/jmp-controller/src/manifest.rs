//! Objects as JSON in the shape of their custom resources: what administrators write and read.
//!
//! Reading is strict where a slip would go unnoticed (an unknown field of `spec`, a wrong `kind`)
//! and lenient where tools put in their own words (`status`, bookkeeping in `metadata`), so that
//! what was read can be written back.

use jmp_types::resource::{
    API_VERSION, AccessPolicy, Administrator, Client, Exporter, Kind, Lease, Metadata, Router,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tonic::Status;

use crate::names::{DEFAULT_NAMESPACE, check_name, check_namespace, shown};

mod labels;
mod shape;

pub use labels::{check_key as check_label_key, check_value as check_label_value};

/// The longest manifest in bytes.
pub const SIZE_LIMIT: usize = 256 * 1024;

/// An object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// Somebody who leases.
    Client(Client),
    /// A process beside devices.
    Exporter(Exporter),
    /// A client's claim.
    Lease(Lease),
    /// Who may lease what.
    Policy(AccessPolicy),
    /// Somebody who may do everything.
    Administrator(Administrator),
    /// A relay.
    Router(Router),
}

// === impl Object ===

impl Object {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Client(_) => Kind::Client,
            Self::Exporter(_) => Kind::Exporter,
            Self::Lease(_) => Kind::Lease,
            Self::Policy(_) => Kind::ExporterAccessPolicy,
            Self::Administrator(_) => Kind::Administrator,
            Self::Router(_) => Kind::Router,
        }
    }

    /// Identity and bookkeeping.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Client(object) => &object.metadata,
            Self::Exporter(object) => &object.metadata,
            Self::Lease(object) => &object.metadata,
            Self::Policy(object) => &object.metadata,
            Self::Administrator(object) => &object.metadata,
            Self::Router(object) => &object.metadata,
        }
    }

    /// The JSON of the object, with `apiVersion` and `kind`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let fields = match self {
            Self::Client(object) => fields(object),
            Self::Exporter(object) => fields(object),
            Self::Lease(object) => fields(object),
            Self::Policy(object) => fields(object),
            Self::Administrator(object) => fields(object),
            Self::Router(object) => fields(object),
        };
        let mut manifest = Map::new();
        manifest.insert("apiVersion".into(), API_VERSION.into());
        manifest.insert("kind".into(), self.kind().name().into());
        manifest.extend(fields);
        Value::Object(manifest).to_string()
    }

    /// Reads a manifest. Of `metadata` only name, namespace, labels and annotations are kept;
    /// a missing namespace is `default`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT that says where in the manifest what is wrong.
    pub fn from_json(text: &str) -> Result<Self, Status> {
        if text.len() > SIZE_LIMIT {
            return Err(Status::invalid_argument(format!(
                "the manifest has {} bytes, more than {SIZE_LIMIT}",
                text.len()
            )));
        }
        let manifest: Value = serde_json::from_str(text).map_err(|error| {
            Status::invalid_argument(format!("the manifest is not JSON: {error}"))
        })?;
        let kind = kind_of(&manifest)?;
        shape::check(kind, &manifest)?;
        let metadata = metadata(kind, &manifest)?;
        Ok(match kind {
            Kind::Client => Self::Client(Client {
                metadata,
                spec: spec(&manifest)?,
                ..Client::default()
            }),
            Kind::Exporter => Self::Exporter(Exporter {
                metadata,
                spec: spec(&manifest)?,
                ..Exporter::default()
            }),
            Kind::ExporterAccessPolicy => Self::Policy(AccessPolicy {
                metadata,
                spec: spec(&manifest)?,
            }),
            Kind::Administrator => Self::Administrator(Administrator {
                metadata,
                ..Administrator::default()
            }),
            Kind::Router => Self::Router(Router {
                metadata,
                ..Router::default()
            }),
            Kind::Lease => return Err(Status::invalid_argument(NO_LEASES)),
        })
    }
}

const NO_LEASES: &str = "leases are made by clients, not by administrators: use `jmp create lease`";

/// The kind that a request names, in the words of the protocol (`client`, `exporter`, `lease`,
/// `exporteraccesspolicy`, `admin`, `router`) or those of a manifest.
///
/// # Errors
/// INVALID_ARGUMENT with the known words.
pub fn parse_kind(text: &str) -> Result<Kind, Status> {
    if text.eq_ignore_ascii_case("admin") {
        return Ok(Kind::Administrator);
    }
    Kind::ALL
        .into_iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| {
            Status::invalid_argument(format!(
                "unknown kind {}: use client, exporter, lease, exporteraccesspolicy, admin or router",
                shown(text)
            ))
        })
}

/// `client`, `exporter`, …: the word for a kind in names and messages.
#[must_use]
pub fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Client => "client",
        Kind::Exporter => "exporter",
        Kind::Lease => "lease",
        Kind::ExporterAccessPolicy => "exporteraccesspolicy",
        Kind::Administrator => "admin",
        Kind::Router => "router",
    }
}

fn kind_of(manifest: &Value) -> Result<Kind, Status> {
    let text = |name: &str| manifest.get(name).and_then(Value::as_str);
    match text("apiVersion") {
        Some(API_VERSION) => {}
        found => {
            return Err(Status::invalid_argument(format!(
                "apiVersion is {}, expected \"{API_VERSION}\"",
                found.map_or_else(|| "missing".to_owned(), shown)
            )));
        }
    }
    let Some(found) = text("kind") else {
        return Err(Status::invalid_argument(
            "kind is missing: use Client, Exporter, ExporterAccessPolicy, Administrator or Router",
        ));
    };
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == found);
    kind.ok_or_else(|| {
        Status::invalid_argument(format!(
            "kind is {}, expected Client, Exporter, ExporterAccessPolicy, Administrator or Router",
            shown(found)
        ))
    })
}

fn metadata(kind: Kind, manifest: &Value) -> Result<Metadata, Status> {
    let given: Metadata = part(manifest, "metadata")?;
    let namespace = match kind {
        // Whom these serve is not a matter of namespaces.
        Kind::Administrator | Kind::Router => DEFAULT_NAMESPACE.to_owned(),
        _ if given.namespace.is_empty() => DEFAULT_NAMESPACE.to_owned(),
        _ => given.namespace,
    };
    check_namespace(&namespace).map_err(|error| at("metadata.namespace", &error))?;
    check_name(&given.name).map_err(|error| at("metadata.name", &error))?;
    labels::check(&given.labels)?;
    Ok(Metadata {
        name: given.name,
        namespace,
        labels: given.labels,
        annotations: given.annotations,
        ..Metadata::default()
    })
}

fn at(path: &str, error: &Status) -> Status {
    Status::invalid_argument(format!("{path}: {}", error.message()))
}

fn spec<T: DeserializeOwned + Default>(manifest: &Value) -> Result<T, Status> {
    part(manifest, "spec")
}

fn part<T: DeserializeOwned + Default>(manifest: &Value, name: &str) -> Result<T, Status> {
    match manifest.get(name) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => T::deserialize(without_nulls(value))
            .map_err(|error| Status::invalid_argument(format!("{name}: {error}"))),
    }
}

/// `key: null` means the same as no key at all.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect(),
        Value::Array(values) => values.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn fields(object: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(object) {
        Ok(Value::Object(fields)) => fields,
        // Objects are structures with textual keys, which always become JSON objects.
        Ok(_) | Err(_) => Map::new(),
    }
}

#[cfg(test)]
mod tests;
