//! The fields that manifests may have, so that a misspelt one is named instead of ignored.

use jmp_types::resource::Kind;
use serde_json::Value;
use tonic::Status;

use crate::names::shown;

/// What may stand at some place.
enum Shape {
    /// A text.
    Text,
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Number,
    /// Texts by arbitrary keys.
    Texts,
    /// A list of one shape.
    List(&'static Shape),
    /// These fields and no others.
    Fields(&'static [(&'static str, Shape)]),
    /// Whatever; it is not read.
    Ignored,
}

const METADATA: Shape = Shape::Fields(&[
    ("name", Shape::Text),
    ("namespace", Shape::Text),
    ("labels", Shape::Texts),
    ("annotations", Shape::Texts),
    ("uid", Shape::Ignored),
    ("creationTimestamp", Shape::Ignored),
    ("generation", Shape::Ignored),
    ("resourceVersion", Shape::Ignored),
    ("managedFields", Shape::Ignored),
]);

const SELECTOR: Shape = Shape::Fields(&[
    ("matchLabels", Shape::Texts),
    (
        "matchExpressions",
        Shape::List(&Shape::Fields(&[
            ("key", Shape::Text),
            ("operator", Shape::Text),
            ("values", Shape::List(&Shape::Text)),
        ])),
    ),
]);

const CLIENT: Shape = Shape::Fields(&[("username", Shape::Text)]);

const EXPORTER: Shape = Shape::Fields(&[("username", Shape::Text), ("enabled", Shape::Switch)]);

const POLICY: Shape = Shape::Fields(&[
    ("exporterSelector", SELECTOR),
    (
        "policies",
        Shape::List(&Shape::Fields(&[
            ("description", Shape::Text),
            ("priority", Shape::Number),
            (
                "from",
                Shape::List(&Shape::Fields(&[("clientSelector", SELECTOR)])),
            ),
            ("maximumDuration", Shape::Text),
            ("spotAccess", Shape::Switch),
        ])),
    ),
]);

const NOTHING: Shape = Shape::Fields(&[]);

/// Whether every field of the manifest is known and of its kind.
///
/// # Errors
/// INVALID_ARGUMENT with the path of the first one that is not.
pub fn check(kind: Kind, manifest: &Value) -> Result<(), Status> {
    let Value::Object(fields) = manifest else {
        return Err(mismatch("the manifest", "an object", manifest));
    };
    for (key, value) in fields {
        match key.as_str() {
            "apiVersion" | "kind" | "status" => {}
            "metadata" => METADATA.check(key, value)?,
            "spec" => spec(kind).check(key, value)?,
            _ => return Err(unknown(key, &["metadata", "spec"])),
        }
    }
    if kind == Kind::ExporterAccessPolicy {
        operators("spec", &manifest["spec"])?;
    }
    Ok(())
}

fn spec(kind: Kind) -> &'static Shape {
    match kind {
        Kind::Client => &CLIENT,
        Kind::Exporter => &EXPORTER,
        Kind::ExporterAccessPolicy => &POLICY,
        Kind::Lease => &Shape::Ignored,
        Kind::Administrator | Kind::Router => &NOTHING,
    }
}

// === impl Shape ===

impl Shape {
    fn check(&self, path: &str, value: &Value) -> Result<(), Status> {
        match (self, value) {
            (Self::Ignored, _)
            | (_, Value::Null)
            | (Self::Text, Value::String(_))
            | (Self::Switch, Value::Bool(_)) => Ok(()),
            (Self::Number, Value::Number(number)) if number.is_i64() => Ok(()),
            (Self::Texts, Value::Object(fields)) => fields
                .iter()
                .try_for_each(|(key, value)| Self::Text.check(&format!("{path}.{key}"), value)),
            (Self::List(shape), Value::Array(values)) => values
                .iter()
                .enumerate()
                .try_for_each(|(index, value)| shape.check(&format!("{path}[{index}]"), value)),
            (Self::Fields(known), Value::Object(fields)) => {
                fields.iter().try_for_each(|(key, value)| {
                    let path = format!("{path}.{key}");
                    match known.iter().find(|(name, _)| name == key) {
                        Some((_, shape)) => shape.check(&path, value),
                        None => {
                            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                            Err(unknown(&path, &names))
                        }
                    }
                })
            }
            _ => Err(mismatch(path, self.name(), value)),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Switch => "true or false",
            Self::Number => "a whole number",
            Self::Texts => "an object with texts",
            Self::List(_) => "a list",
            Self::Fields(_) => "an object",
            Self::Ignored => "anything",
        }
    }
}

/// An unknown operator matches nothing, which in a policy would shut people out without a word.
fn operators(path: &str, value: &Value) -> Result<(), Status> {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(operator)) = fields.get("operator")
                && !["In", "NotIn", "Exists", "DoesNotExist"].contains(&operator.as_str())
            {
                return Err(Status::invalid_argument(format!(
                    "{path}.operator is {}: use In, NotIn, Exists or DoesNotExist",
                    shown(operator)
                )));
            }
            fields
                .iter()
                .filter(|(key, _)| *key != "matchLabels")
                .try_for_each(|(key, value)| operators(&format!("{path}.{key}"), value))
        }
        Value::Array(values) => values
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| operators(&format!("{path}[{index}]"), value)),
        _ => Ok(()),
    }
}

fn unknown(path: &str, known: &[&str]) -> Status {
    let hint = if known.is_empty() {
        "there are no fields here".to_owned()
    } else {
        format!("known here: {}", known.join(", "))
    };
    Status::invalid_argument(format!("unknown field {}: {hint}", shown(path)))
}

fn mismatch(path: &str, expected: &str, found: &Value) -> Status {
    let found = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "a switch",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Status::invalid_argument(format!("{path} is {found}, expected {expected}"))
}
