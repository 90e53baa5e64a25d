//! Between wire values and JSON documents, by moving the text.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::{Depth, ValueError, exact_integer};

/// Turns a JSON document into a wire value; strings are moved.
///
/// # Errors
///
/// Nesting deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
pub fn json_to_value(json: serde_json::Value) -> Result<Value, ValueError> {
    json_into_value(json, Depth::default())
}

fn json_into_value(json: serde_json::Value, depth: Depth) -> Result<Value, ValueError> {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        Json::Number(number) => number
            .as_f64()
            .map_or(Kind::NullValue(0), Kind::NumberValue),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(elements) => {
            let depth = depth.enter_container()?;
            let values = elements
                .into_iter()
                .map(|element| json_into_value(element, depth))
                .collect::<Result<_, _>>()?;
            Kind::ListValue(ListValue { values })
        }
        Json::Object(members) => {
            let depth = depth.enter_container()?;
            let fields = members
                .into_iter()
                .map(|(name, member)| Ok((name, json_into_value(member, depth)?)))
                .collect::<Result<_, _>>()?;
            Kind::StructValue(Struct { fields })
        }
    };
    Ok(Value { kind: Some(kind) })
}

/// Turns a wire value into a JSON document; strings are moved.
///
/// Integral doubles up to 2^53 become JSON integers (`5`, not `5.0`), NaN and infinities null.
///
/// # Errors
///
/// Nesting deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
pub fn value_to_json(value: Value) -> Result<serde_json::Value, ValueError> {
    value_into_json(value, Depth::default())
}

fn value_into_json(value: Value, depth: Depth) -> Result<serde_json::Value, ValueError> {
    use serde_json::Value as Json;
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Bool(flag),
        Some(Kind::NumberValue(number)) => match exact_integer(number) {
            Some(integer) => Json::from(integer),
            None => Json::from(number),
        },
        Some(Kind::StringValue(text)) => Json::String(text),
        Some(Kind::ListValue(list)) => {
            let depth = depth.enter_container()?;
            list.values
                .into_iter()
                .map(|element| value_into_json(element, depth))
                .collect::<Result<Vec<_>, _>>()?
                .into()
        }
        Some(Kind::StructValue(members)) => {
            let depth = depth.enter_container()?;
            members
                .fields
                .into_iter()
                .map(|(name, member)| Ok((name, value_into_json(member, depth)?)))
                .collect::<Result<serde_json::Map<_, _>, _>>()?
                .into()
        }
    })
}
