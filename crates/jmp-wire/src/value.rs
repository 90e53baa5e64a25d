//! Between Rust values and `google.protobuf.Value`, the type of driver call arguments and results.
//!
//! [`to_value`] and [`from_value`] are a serde serializer and deserializer that build and consume
//! the message directly. Rules, as observed on 0.9.0:
//!
//! | Rust | on the wire | back |
//! |---|---|---|
//! | `()`, unit struct, `None` | null | null, or a value without kind |
//! | `bool` | bool | bool |
//! | integers, floats | number (a double) | any integer type in range when integral, any float |
//! | NaN, infinities | null | not a number any more: use `Option<f64>` to read them |
//! | `str`, `char`, unit variant | string | string |
//! | bytes | string holding UTF-8 text, otherwise an error | string, or a list of numbers |
//! | sequences, tuples | list | list |
//! | maps | struct, keys as text | struct; keys parsed back |
//! | structs | struct with field names | struct, or a list in field order |
//! | other variants | struct with one member named like the variant | the same |
//!
//! Every number is a double, so integers beyond 2^53 lose precision on the way, silently, as they
//! do upstream; send them as strings where that matters. Where the target type is open
//! (`serde_json::Value`, untagged enums), integral doubles up to 2^53 become integers. The format is
//! human readable, so a UUID is its lowercase hyphenated string.
//!
//! Nesting is limited to [`MAX_DEPTH`] containers in both directions.

mod deserialize;
mod json;
mod keys;
mod serialize;

use std::fmt;

use prost_types::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::json::{json_to_value, value_to_json};

/// How many lists and structs may lie inside each other.
///
/// Protobuf readers give up at 100 nested messages and a struct takes three of them (value, struct,
/// map entry); inside a call's request or response, 32 containers are what every peer can read.
pub const MAX_DEPTH: usize = 32;

/// Options and newtypes leave no trace on the wire but use stack, so they are limited on their own.
const MAX_TRANSPARENT_DEPTH: usize = 128;

/// Integers up to this magnitude are exact in a double.
const LARGEST_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Why a value could not be converted, with the place inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    /// From the outside in, for example `.files[2].name`; empty for the value itself.
    path: String,
    message: String,
}

/// Turns a Rust value into a wire value.
///
/// # Errors
///
/// Bytes that are not UTF-8, map keys that have no text form, nesting deeper than [`MAX_DEPTH`], and
/// whatever the type's own `Serialize` reports.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, ValueError> {
    value.serialize(serialize::ValueSerializer::new())
}

/// Turns a wire value into a Rust value; strings are moved, not copied.
///
/// # Errors
///
/// When the value does not have the shape `T` asks for: the error names the place, what was
/// expected and what was found. Nesting deeper than [`MAX_DEPTH`] is an error, too.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, ValueError> {
    T::deserialize(deserialize::ValueDeserializer::new(value))
}

// === impl ValueError ===

impl ValueError {
    fn new(message: impl fmt::Display) -> Self {
        Self {
            path: String::new(),
            message: message.to_string(),
        }
    }

    fn too_deep() -> Self {
        Self::new(format_args!(
            "nested deeper than {MAX_DEPTH} levels, which peers cannot read; flatten the data or \
             send it as text"
        ))
    }

    /// The place of the error inside the value, for example `.files[2].name`; empty when it is the
    /// value as a whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn in_member(mut self, name: &str) -> Self {
        self.path.insert_str(0, name);
        self.path.insert(0, '.');
        self
    }

    fn in_element(mut self, index: usize) -> Self {
        self.path.insert_str(0, &format!("[{index}]"));
        self
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => formatter.write_str(&self.message),
            path => write!(formatter, "at `{path}`: {}", self.message),
        }
    }
}

impl std::error::Error for ValueError {}

impl serde::ser::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

impl serde::de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

/// How deep a conversion stands; counts containers and what is transparent on the wire apart.
#[derive(Debug, Clone, Copy, Default)]
struct Depth {
    containers: usize,
    transparent: usize,
}

// === impl Depth ===

impl Depth {
    fn enter_container(self) -> Result<Self, ValueError> {
        if self.containers == MAX_DEPTH {
            return Err(ValueError::too_deep());
        }
        Ok(Self {
            containers: self.containers + 1,
            ..self
        })
    }

    fn enter_transparent(self) -> Result<Self, ValueError> {
        if self.transparent == MAX_TRANSPARENT_DEPTH {
            return Err(ValueError::too_deep());
        }
        Ok(Self {
            transparent: self.transparent + 1,
            ..self
        })
    }
}

/// The integer a double stands for, when it is integral and exact.
fn exact_integer(number: f64) -> Option<i64> {
    (number.trunc() == number && number.abs() <= LARGEST_EXACT_INTEGER).then_some(number as i64)
}

/// Body of the fuzz target: an encoded `Value` from a hostile peer.
///
/// # Panics
///
/// When a conversion does not keep what it promises to keep.
#[doc(hidden)]
pub fn fuzz_value(data: &[u8]) {
    use prost::Message;
    let Ok(value) = Value::decode(data) else {
        return;
    };
    // What fits in none of these types must be an error, not a panic.
    let _ = from_value::<Vec<u64>>(value.clone());
    let _ = from_value::<std::collections::BTreeMap<i32, Option<f64>>>(value.clone());
    let _ = from_value::<(String, i8, char)>(value.clone());
    let by_move = value_to_json(value.clone()).ok();
    let by_serde = from_value::<serde_json::Value>(value).ok();
    assert_eq!(by_move, by_serde, "the two ways to JSON differ");
    let Some(json) = by_move else {
        return;
    };
    let again = to_value(&json).expect("what was read can be written");
    assert_eq!(json_to_value(json.clone()).as_ref(), Ok(&again));
    assert_eq!(value_to_json(again), Ok(json), "JSON changed on the way");
}

#[cfg(test)]
mod tests;
