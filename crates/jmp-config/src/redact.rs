//! What may not be shown: recognised by the name of the key it stands under.

use jmp_types::REDACTED;
use serde_json::Value;

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
                        Value::String(REDACTED.to_owned())
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

/// The text without characters a terminal would obey; line breaks stay.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' => '\n',
            '\t' => ' ',
            other if other.is_control() => '·',
            other => other,
        })
        .collect()
}

/// A source line fit to be shown. After a secret key's colon nothing is shown, and of a line that belongs
/// to a secret key above it (`above` runs upward) nothing at all.
pub(crate) fn line_in_context<'a>(text: &str, above: impl Iterator<Item = &'a str>) -> String {
    let indentation = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut indent = indentation(text);
    // Members of a list may stand as far left as the key they belong to.
    let mut list = text.trim_start().starts_with('-');
    for parent in above {
        let here = indentation(parent);
        let blank = parent.trim().is_empty() || parent.trim_start().starts_with('#');
        if blank || here > indent || (here == indent && !list) {
            continue;
        }
        if secret_colon(parent).is_some() {
            return format!("{}{REDACTED}", " ".repeat(indentation(text)));
        }
        list = parent.trim_start().starts_with('-');
        indent = here;
        if here == 0 && !list {
            break;
        }
    }
    line(text)
}

/// A source line fit to be shown, judged by itself.
pub(crate) fn line(text: &str) -> String {
    match secret_colon(text) {
        Some(colon) if !matches!(text[colon + 1..].trim(), "" | "\"\"" | "''") => {
            format!("{}: {REDACTED}", printable(&text[..colon]))
        }
        _ => printable(text),
    }
}

/// Where the first colon after a secret key stands.
fn secret_colon(text: &str) -> Option<usize> {
    let word =
        |character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '.');
    text.match_indices(':')
        .map(|(index, _)| index)
        .find(|index| {
            let key = text[..*index].trim_end_matches(['"', '\'', ' ']);
            let start = key
                .char_indices()
                .rev()
                .take_while(|(_, character)| word(*character))
                .last()
                .map_or(key.len(), |(start, _)| start);
            is_secret_key(&key[start..])
        })
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

    #[test]
    fn secrets_vanish_from_lines_below_their_key() {
        let file = "a:\n  token: |\n\n    abc\n  passwords:\n  - x\n  name: y\nlist:\n- b\n";
        let lines: Vec<&str> = file.lines().collect();
        let shown =
            |index: usize| line_in_context(lines[index], lines[..index].iter().rev().copied());
        assert_eq!(shown(3), "    [redacted]");
        assert_eq!(shown(5), "  [redacted]");
        assert_eq!(shown(6), "  name: y");
        assert_eq!(shown(8), "- b");
    }
}
