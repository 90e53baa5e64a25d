//! JSON schemas of driver configurations, read as a person would.

use jmp_driver::registry::DriverEntry;
use serde_json::{Value, json};

/// How deep references are followed; schemas may refer to themselves.
const DEPTH: usize = 8;

/// One key of a driver's `config`.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// A few words for its type.
    pub type_name: String,
    /// Whether it must be given.
    pub required: bool,
    /// What counts when it is not given.
    pub default: Option<Value>,
    /// What it means, on one line.
    pub description: String,
}

// === impl Field ===

impl Field {
    /// The row of a table.
    pub fn row(&self) -> Vec<String> {
        let default = match (&self.default, self.required) {
            (_, true) => "(required)".to_owned(),
            (None | Some(Value::Null), false) => "-".to_owned(),
            (Some(value), false) => value.to_string(),
        };
        vec![
            self.name.clone(),
            self.type_name.clone(),
            default,
            self.description.clone(),
        ]
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "key": self.name,
            "type": self.type_name,
            "required": self.required,
            "default": self.default,
            "description": self.description,
        })
    }
}

/// The keys of a schema in its order, the required ones first.
pub fn fields(schema: &Value) -> Vec<Field> {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut fields: Vec<Field> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, property)| Field {
            name: name.clone(),
            type_name: type_name(property, schema, DEPTH),
            required: required.contains(&name.as_str()),
            default: property.get("default").cloned(),
            description: description(property, schema),
        })
        .collect();
    fields.sort_by_key(|field| !field.required);
    fields
}

fn description(property: &Value, root: &Value) -> String {
    let text = property["description"]
        .as_str()
        .or_else(|| resolve(property, root)["description"].as_str())
        .unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a `$ref` stands for, or the schema itself.
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    match schema["$ref"]
        .as_str()
        .and_then(|path| path.strip_prefix('#'))
    {
        Some(pointer) => root.pointer(pointer).unwrap_or(schema),
        None => schema,
    }
}

fn type_name(schema: &Value, root: &Value, depth: usize) -> String {
    if depth == 0 {
        return "…".into();
    }
    let schema = resolve(schema, root);
    if let Some(word) = schema.get("const") {
        return word.to_string();
    }
    if let Some(words) = schema["enum"].as_array() {
        return alternatives(words.iter().map(Value::to_string));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(variants) = schema[key].as_array() {
            let names = variants
                .iter()
                .map(|variant| type_name(variant, root, depth - 1));
            return alternatives(names);
        }
    }
    match &schema["type"] {
        Value::String(name) => simple(name, schema, root, depth),
        Value::Array(names) => alternatives(
            names
                .iter()
                .filter_map(Value::as_str)
                .map(|name| simple(name, schema, root, depth)),
        ),
        _ => "anything".into(),
    }
}

fn simple(name: &str, schema: &Value, root: &Value, depth: usize) -> String {
    match name {
        "array" => match schema.get("items") {
            Some(items) => format!("list of {}", type_name(items, root, depth - 1)),
            None => "list".into(),
        },
        "object" => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => {
                format!("mapping to {}", type_name(values, root, depth - 1))
            }
            _ => "mapping".into(),
        },
        "string" => "text".into(),
        other => other.into(),
    }
}

/// `a or b`, each once, without the null that stands for "may be left out".
fn alternatives(names: impl Iterator<Item = String>) -> String {
    let mut unique: Vec<String> = Vec::new();
    for name in names {
        if name != "null" && !unique.contains(&name) {
            unique.push(name);
        }
    }
    if unique.is_empty() {
        return "null".into();
    }
    unique.join(" or ")
}

/// An entry of an exporter configuration with the keys that must be given.
pub fn example(entry: &DriverEntry, fields: &[Field]) -> String {
    let mut text = format!(
        "export:\n  {}:\n    type: {}\n",
        key_for(entry.name()),
        entry.types.first().copied().unwrap_or_default()
    );
    let required: Vec<&Field> = fields.iter().filter(|field| field.required).collect();
    if !required.is_empty() {
        text.push_str("    config:\n");
        for field in required {
            text.push_str(&format!("      {}: <{}>\n", field.name, field.type_name));
        }
    }
    text
}

/// `MockPower` as a key: `mock_power`.
fn key_for(name: &str) -> String {
    let mut key = String::new();
    let mut before: Option<char> = None;
    for character in name.chars() {
        let starts_word = before.is_some_and(char::is_lowercase);
        if character.is_uppercase() && starts_word {
            key.push('_');
        }
        key.extend(character.to_lowercase());
        before = Some(character);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_keys_come_first_and_types_are_words() {
        let schema = json!({
            "type": "object",
            "properties": {
                "baudrate": {"type": "integer", "default": 115200},
                "url": {"type": "string", "description": "Where\n it is."},
                "mode": {"anyOf": [{"$ref": "#/$defs/Mode"}, {"type": "null"}]},
                "list": {"type": ["array", "null"], "items": {"type": "string"}},
            },
            "required": ["url"],
            "$defs": {"Mode": {"enum": ["a", "b"]}},
        });
        let fields = fields(&schema);
        let rows: Vec<Vec<String>> = fields.iter().map(Field::row).collect();
        assert_eq!(rows[0], ["url", "text", "(required)", "Where it is."]);
        assert_eq!(rows[1], ["baudrate", "integer", "115200", ""]);
        assert_eq!(rows[2][1], "\"a\" or \"b\"");
        assert_eq!(rows[3][1], "list of text");
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({
            "properties": {"a": {"$ref": "#/$defs/A"}},
            "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}},
        });
        assert!(fields(&schema)[0].type_name.ends_with('…'));
    }

    #[test]
    fn keys_are_snake_case() {
        assert_eq!(key_for("MockPower"), "mock_power");
        assert_eq!(key_for("PySerial"), "py_serial");
        assert_eq!(key_for("SNMPServer"), "snmpserver");
    }
}
