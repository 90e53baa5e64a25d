//! What commands print: tables, JSON, YAML and names on standard output, everything else on standard
//! error.

use std::io::{self, IsTerminal, Write};

use serde_json::{Map, Value};

use crate::error::CliError;

/// Values of `-o/--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// JSON, four spaces of indentation; errors on standard error are JSON, too
    Json,
    /// YAML with sorted keys
    Yaml,
    /// One name a line
    Name,
    /// One file path a line
    Path,
    /// A table with all columns
    Wide,
}

impl Form {
    /// What is printed instead of a table.
    pub fn format(self) -> Option<Format> {
        match self {
            Self::Json => Some(Format::Json),
            Self::Yaml => Some(Format::Yaml),
            Self::Name => Some(Format::Name),
            Self::Path => Some(Format::Path),
            Self::Wide => None,
        }
    }
}

/// What is printed instead of a table or a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON, four spaces of indentation; errors on standard error are JSON, too
    Json,
    /// YAML with sorted keys
    Yaml,
    /// One name a line
    Name,
    /// One file path a line
    Path,
}

/// Something that can be listed in all forms.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The column headings.
    pub headings: Vec<&'static str>,
    /// The rows of the table.
    pub rows: Vec<Vec<String>>,
    /// What `-o name` prints.
    pub names: Vec<String>,
    /// What `-o path` prints.
    pub paths: Vec<String>,
    /// What `-o json` and `-o yaml` print.
    pub data: Value,
    /// Said instead of an empty table.
    pub empty: &'static str,
}

// === impl Listing ===

impl Listing {
    /// Prints it on standard output.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub fn print(&self, format: Option<Format>) -> Result<(), CliError> {
        match format {
            Some(Format::Json) => print(&json(&self.data)),
            Some(Format::Yaml) => print(&yaml(&self.data)?),
            Some(Format::Name) => print(&lines(&self.names)),
            Some(Format::Path) => print(&lines(&self.paths)),
            None if self.rows.is_empty() => print(&format!("{}\n", self.empty)),
            None => print(&table(&self.headings, &self.rows)),
        }
    }
}

fn lines(texts: &[String]) -> String {
    texts.iter().map(|text| format!("{text}\n")).collect()
}

/// Writes `text` to standard output.
///
/// # Errors
///
/// When it cannot be written. That the reader has gone is a success for the caller's caller, see
/// [`CliError::is_silent`].
pub fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// JSON as shipped clients print it: four spaces, order of insertion.
pub fn json(value: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // A `Value` always serializes, and JSON is UTF-8.
    let _ = serde::Serialize::serialize(value, &mut serializer);
    text.push(b'\n');
    String::from_utf8_lossy(&text).into_owned()
}

/// YAML with sorted keys.
///
/// # Errors
///
/// When the value cannot be written as YAML.
pub fn yaml(value: &Value) -> Result<String, CliError> {
    let mut text = serde_saphyr::to_string(&sorted(value))
        .map_err(|error| CliError::new(format!("cannot write the result as YAML: {error}")))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|left, right| left.0.cmp(right.0));
            let entries = entries
                .into_iter()
                .map(|(key, value)| (key.clone(), sorted(value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// A table without borders: two spaces between columns, no cell is ever cut or wrapped, no blanks at
/// line ends.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|text| width(text)).collect();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            match widths.get_mut(index) {
                Some(widest) => *widest = (*widest).max(width(cell)),
                None => widths.push(width(cell)),
            }
        }
    }
    let mut text = String::new();
    let headings = headings.iter().map(|text| (*text).to_owned()).collect();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (cell, widest) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(widest - width(cell) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Columns a text takes; names and paths of other scripts are counted by characters.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// Whether standard error may be coloured: it is a terminal, `NO_COLOR` is not set and the terminal is
/// not a dumb one.
pub fn colours_stderr() -> bool {
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    io::stderr().is_terminal()
        && unset("NO_COLOR")
        && std::env::var("TERM").is_ok_and(|terminal| terminal != "dumb")
}

/// Says on standard error that something is not as it should be, without failing.
pub fn warn(message: &str) {
    label("Warning", "33", message);
}

/// Says something to the person on standard error.
pub fn note(message: &str) {
    // There is nowhere left to report that standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// Reports a failed command on standard error, as JSON when the result was wanted as JSON.
pub fn report(error: &CliError, format: Option<Format>) {
    if error.is_silent() {
        return;
    }
    if format == Some(Format::Json) {
        let _ = io::stderr()
            .lock()
            .write_all(json(&error.to_json()).as_bytes());
        return;
    }
    label("Error", "31", error.message());
    if let Some(hint) = error.hint() {
        note(&format!("hint: {hint}"));
    }
}

fn label(word: &str, colour: &str, message: &str) {
    let word = if colours_stderr() {
        format!("\x1b[{colour}m{word}:\x1b[0m")
    } else {
        format!("{word}:")
    };
    note(&format!("{word} {message}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_whole() {
        let long = "x".repeat(200);
        let rows = vec![
            vec!["a".into(), long.clone()],
            vec!["bcd".into(), "e".into()],
        ];
        let text = table(&["NAME", "VALUE"], &rows);
        assert_eq!(text, format!("NAME  VALUE\na     {long}\nbcd   e\n"));
    }

    #[test]
    fn yaml_keys_are_sorted_at_every_depth() {
        let value = serde_json::json!({"b": {"d": 1, "c": 2}, "a": [{"f": 1, "e": 2}]});
        let text = yaml(&value).unwrap();
        let at = |key: &str| text.find(key).unwrap();
        assert!(at("a:") < at("b:") && at("c:") < at("d:") && at("e:") < at("f:"));
    }

    #[test]
    fn json_is_indented_by_four() {
        assert_eq!(json(&serde_json::json!({"a": 1})), "{\n    \"a\": 1\n}\n");
    }
}
