//! What may not be shown: recognised by the name of the key it stands under.

use serde_json::Value;

pub(crate) const HIDDEN: &str = "[redacted]";

const SECRET_WORDS: [&str; 9] = [
    "token",
    "password",
    "passphrase",
    "secret",
    "api_key",
    "apikey",
    "auth_key",
    "priv_key",
    "credential",
];

/// Whether a value under `key` must not appear in a message or a listing.
#[must_use]
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| key.contains(word))
        || matches!(key.as_str(), "private_key" | "privatekey" | "passwd")
}

/// A copy of `value` with everything under a secret key replaced.
#[must_use]
pub fn json(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| {
                    let shown = if is_secret_key(key) && !is_blank(value) {
                        Value::String(HIDDEN.to_owned())
                    } else {
                        json(value)
                    };
                    (key.clone(), shown)
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// A source line fit to be shown: the rest of the line after a secret key's colon is replaced, control
/// characters (a terminal would obey them) become dots.
pub(crate) fn line(text: &str) -> String {
    let clean = |text: &str| -> String {
        text.chars()
            .map(|character| match character {
                '\t' => ' ',
                other if other.is_control() => '·',
                other => other,
            })
            .collect()
    };
    for (index, _) in text.match_indices(':') {
        let key = text[..index].trim_end_matches(['"', '\'', ' ']);
        let start = key
            .rfind(|character: char| {
                !(character.is_alphanumeric() || matches!(character, '_' | '-' | '.'))
            })
            .map_or(0, |found| {
                found + key[found..].chars().next().map_or(1, char::len_utf8)
            });
        let rest = text[index + 1..].trim();
        if is_secret_key(&key[start..]) && !matches!(rest, "" | "\"\"" | "''") {
            return format!("{}: {HIDDEN}", clean(&text[..index]));
        }
    }
    clean(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_vanish_from_lines() {
        for (text, shown) in [
            ("token: abc", "token: [redacted]"),
            ("  \"password\" : 'x'", "  \"password\" : [redacted]"),
            (
                "{host: a, password: x, port: 1}",
                "{host: a, password: [redacted]",
            ),
            ("token:", "token:"),
            ("token: \"\"", "token: \"\""),
            ("name: a:b", "name: a:b"),
            ("a\u{1b}[31m: b\tc", "a·[31m: b c"),
        ] {
            assert_eq!(line(text), shown);
        }
    }
}
