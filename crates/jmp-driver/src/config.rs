//! Driver configuration: typed structs from untyped values, leniently where nothing is lost.
//!
//! Configuration files are written by hand and used to be read by Python, which checked no
//! types: `port: "22"` and `serial: 1234` are in use. So scalars become what the driver wants as
//! long as nothing is lost (`"22"` to 22, 1 to `"1"`, `yes` to true). Everything else is an error
//! with the path of the key, from which the caller finds file, line and column.

mod reader;

use std::fmt;

use serde::de::{self, DeserializeOwned};
use serde_json::{Map, Value as Json};

use self::reader::Reader;

/// What is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Keys and list positions from the top of `config`.
    pub path: Vec<String>,
    /// What is wrong, for a person.
    pub message: String,
    /// The valid key that looks most like the unknown one.
    pub nearest: Option<String>,
}

/// A key that was ignored.
pub type Warning = ConfigProblem;

// === impl ConfigProblem ===

impl ConfigProblem {
    /// A problem with the value at the top.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            message: message.into(),
            nearest: None,
        }
    }

    /// The same problem seen from one level further up.
    pub fn inside(mut self, key: impl Into<String>) -> Self {
        self.path.insert(0, key.into());
        self
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "`{}`: ", self.path.join("."))?;
        }
        formatter.write_str(&self.message)?;
        if let Some(nearest) = &self.nearest {
            write!(formatter, "; did you mean `{nearest}`?")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigProblem {}

impl de::Error for ConfigProblem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("key `{field}` is missing"))
    }
}

/// Reads a configuration. `null` counts as an empty mapping. Keys that the type does not have
/// are errors, or warnings if `lenient`.
///
/// # Errors
///
/// The first problem found.
pub fn read<T: DeserializeOwned>(
    config: Json,
    lenient: bool,
    warnings: &mut Vec<Warning>,
) -> Result<T, ConfigProblem> {
    let config = match config {
        Json::Null => Json::Object(Map::new()),
        other => other,
    };
    T::deserialize(Reader {
        value: config,
        lenient,
        warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Sample {
        host: String,
        port: u16,
        #[serde(default)]
        flag: bool,
        #[serde(default)]
        rate: Option<f64>,
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        list: Vec<Inner>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        System,
        Session,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Inner {
        key: i8,
    }

    fn sample(value: Json) -> Result<Sample, String> {
        read(value, false, &mut Vec::new()).map_err(|problem| problem.to_string())
    }

    #[test]
    fn scalars_coerce_without_loss() {
        let read = sample(json!({"host": 1, "port": "22", "flag": "yes", "rate": "1.5"})).unwrap();
        assert_eq!((read.host.as_str(), read.port), ("1", 22));
        assert!(read.flag);
        assert_eq!(read.rate, Some(1.5));
    }

    #[test]
    fn problems_name_path_and_type() {
        for (value, expected) in [
            (json!({"host": "a"}), "key `port` is missing"),
            (
                json!({"host": "a", "port": "ssh"}),
                "`port`: expected an integer, found the text `ssh`",
            ),
            (
                json!({"host": "a", "port": 70000}),
                "`port`: expected an integer from 0 to 65535, found 70000",
            ),
            (
                json!({"host": "a", "prot": 1}),
                "`prot`: unknown key; known are host, port, flag, rate, mode, list; did you mean `port`?",
            ),
            (
                json!({"host": "a", "port": 1, "mode": "sesion"}),
                "`mode`: expected one of system, session, found the text `sesion`; did you mean `session`?",
            ),
            (
                json!({"host": "a", "port": 1, "list": [{"key": 1}, {"key": 1000}]}),
                "`list.1.key`: expected an integer from -128 to 127, found 1000",
            ),
            (json!([1]), "expected a mapping, found a list"),
        ] {
            assert_eq!(sample(value).unwrap_err(), expected);
        }
    }

    #[test]
    fn lenient_reading_warns() {
        let mut warnings = Vec::new();
        let value = json!({"host": "a", "port": 1, "list": [{"key": 1, "kee": 2}]});
        let _: Sample = read(value, true, &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].path, ["list", "0", "kee"]);
    }
}
