//! The located tree: every key and value of a file with its place, scalars with their source text.

use std::fmt;

use serde_json::{Map, Number};

use crate::document::Span;
use crate::redact;

/// A value and where it stands.
#[derive(Clone)]
pub struct Node {
    /// Where the value starts.
    pub span: Span,
    /// The value.
    pub value: Value,
}

/// What a [`Node`] holds.
#[derive(Clone)]
pub enum Value {
    /// Text, number, boolean or nothing: which of them depends on what is wanted.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order of the file.
    Mapping(Mapping),
}

/// A scalar as written.
#[derive(Clone, PartialEq, Eq)]
pub struct Scalar {
    /// The text after YAML's escapes.
    pub text: String,
    /// Whether it was written without quotes, so that it may stand for a number, boolean or null.
    pub plain: bool,
}

/// A mapping in the order of the file, without duplicate keys.
#[derive(Clone, Default)]
pub struct Mapping {
    /// The entries.
    pub entries: Vec<Entry>,
}

/// One key and its value.
#[derive(Clone)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Node,
}

/// A key. Always text: `on:` is the key `on`, not a boolean.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

// === impl Node ===

impl Node {
    pub(crate) fn null() -> Self {
        Self {
            span: Span {
                line: 1,
                column: 1,
                width: 1,
            },
            value: Value::Scalar(Scalar {
                text: String::new(),
                plain: true,
            }),
        }
    }

    /// Whether nothing was written (an absent value, `~` or `null`).
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// The mapping, if it is one.
    #[must_use]
    pub fn as_mapping(&self) -> Option<&Mapping> {
        match &self.value {
            Value::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    /// The list, if it is one.
    #[must_use]
    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The scalar, if it is one.
    #[must_use]
    pub fn as_scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The value as JSON, scalars as the type they look like.
    ///
    /// Unquoted decimal, octal (`0644`, `0o644`), hexadecimal and binary integers become numbers, so do
    /// decimal fractions; `true`/`false` booleans; `~`, `null` and nothing null. Unquoted `yes`, `no`,
    /// `on` and `off` stay text, because only the reader knows whether a boolean is wanted; so do
    /// integers beyond 64 bits, `.inf`, `.nan`, dates and sexagesimal numbers. The source text of a
    /// number is in the tree ([`Scalar::text`]).
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Scalar(scalar) => scalar.to_json(),
            Value::Sequence(items) => items.iter().map(Node::to_json).collect(),
            Value::Mapping(mapping) => mapping.to_json(),
        }
    }

    /// What to call this value in a message: `a list`, `a mapping`, `nothing`, `the text "x"`.
    pub(crate) fn describe(&self, secret: bool) -> String {
        match &self.value {
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Scalar(scalar) if scalar.is_null() => "nothing".to_owned(),
            Value::Scalar(_) if secret => "something else (not shown)".to_owned(),
            Value::Scalar(scalar) => {
                let shown: String = scalar.text.chars().take(40).collect();
                let dots = if shown.len() < scalar.text.len() {
                    "…"
                } else {
                    ""
                };
                match scalar.to_json() {
                    serde_json::Value::String(_) => format!("the text {:?}", shown + dots),
                    _ => format!("{shown}{dots}"),
                }
            }
        }
    }
}

/// Shows structure and values, but no value under a key that names a secret.
impl fmt::Debug for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&redact::json(&self.to_json()), formatter)
    }
}

// === impl Scalar ===

impl Scalar {
    /// Whether it stands for nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The boolean it can stand for where one is wanted; quoted ones count, as they do upstream.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "t" | "1" => Some(true),
            "false" | "no" | "off" | "n" | "f" | "0" => Some(false),
            _ => None,
        }
    }

    fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        if !self.plain {
            return Json::String(self.text.clone());
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Json::Null,
            "true" | "True" | "TRUE" => Json::Bool(true),
            "false" | "False" | "FALSE" => Json::Bool(false),
            text => number(text).map_or_else(|| Json::String(text.to_owned()), Json::Number),
        }
    }
}

/// Numbers as YAML 1.1 and 1.2 write them, as far as JSON can hold them.
fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let first = *unsigned.as_bytes().first()?;
    if !first.is_ascii_digit() && first != b'.' {
        return None;
    }
    let negative = text.starts_with('-');
    let digits = unsigned.replace('_', "");
    let radix = match digits.get(..2) {
        Some("0x") => Some((16, &digits[2..])),
        Some("0o") => Some((8, &digits[2..])),
        Some("0b") => Some((2, &digits[2..])),
        _ if digits.len() > 1
            && digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            Some((8, &digits[1..]))
        }
        _ => None,
    };
    let whole = match radix {
        Some((radix, digits)) if !digits.starts_with(['-', '+']) => {
            Some(u64::from_str_radix(digits, radix).ok()?)
        }
        Some(_) => return None,
        None if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        None => None,
    };
    match whole {
        Some(whole) if negative => Some(Number::from(0_i64.checked_sub_unsigned(whole)?)),
        Some(whole) => Some(Number::from(whole)),
        None => fraction(&digits)
            .and_then(|value| Number::from_f64(if negative { -value } else { value })),
    }
}

fn fraction(digits: &str) -> Option<f64> {
    let allowed =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    if !digits.bytes().all(allowed) {
        return None;
    }
    digits.parse::<f64>().ok()
}

// === impl Mapping ===

impl Mapping {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of `key`.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.text == key)
    }

    /// See [`Node::to_json`].
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let map: Map<String, serde_json::Value> = self
            .entries
            .iter()
            .map(|entry| (entry.key.text.clone(), entry.value.to_json()))
            .collect();
        serde_json::Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        Scalar {
            text: text.to_owned(),
            plain: true,
        }
        .to_json()
        .to_string()
    }

    #[test]
    fn plain_scalars_take_the_type_they_look_like() {
        for (text, json) in [
            ("", "null"),
            ("~", "null"),
            ("True", "true"),
            ("12", "12"),
            ("-12", "-12"),
            ("+12", "12"),
            ("1_000", "1000"),
            ("0644", "420"),
            ("0o644", "420"),
            ("0x1F", "31"),
            ("0b101", "5"),
            ("089", "\"089\""),
            ("0", "0"),
            ("1.5", "1.5"),
            ("-.5", "-0.5"),
            ("1e3", "1000.0"),
            ("1.2.3", "\"1.2.3\""),
            ("yes", "\"yes\""),
            ("on", "\"on\""),
            (".inf", "\".inf\""),
            ("1e999", "\"1e999\""),
            ("-9223372036854775808", "-9223372036854775808"),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "\"18446744073709551616\""),
            ("12:34", "\"12:34\""),
            ("2024-01-01", "\"2024-01-01\""),
            ("-", "\"-\""),
            ("0x", "\"0x\""),
            ("0x-1", "\"0x-1\""),
            ("日本", "\"日本\""),
        ] {
            assert_eq!(plain(text), json, "{text}");
        }
    }
}
