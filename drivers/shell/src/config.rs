//! What `config` holds.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jmp_driver::{Error, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};

/// Configuration of [`crate::ShellDriver`].
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ShellConfig {
    /// The commands by name: a command line, or a mapping with `command`, `description` and
    /// `timeout`.
    pub methods: Methods,
    /// The program that runs a command line, with the options in front of it.
    #[serde(default = "default_shell")]
    pub shell: Vec<String>,
    /// How long a command may run, in seconds, unless it has a timeout of its own.
    #[serde(default = "default_timeout")]
    pub timeout: f64,
    /// Where commands run; by default where the exporter does.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
}

fn default_shell() -> Vec<String> {
    vec!["bash".into(), "-c".into()]
}

fn default_timeout() -> f64 {
    300.0
}

/// A command.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MethodConfig {
    /// The command line. Its arguments are `$1`, `$2`, …, its name is `$0`.
    #[serde(default = "default_command")]
    pub command: String,
    /// Help of the command.
    #[serde(default)]
    pub description: Option<String>,
    /// How long it may run, in seconds.
    #[serde(default)]
    pub timeout: Option<f64>,
}

fn default_command() -> String {
    "echo Hello".into()
}

/// The commands in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct Methods(Vec<(String, MethodConfig)>);

// === impl ShellConfig ===

impl ShellConfig {
    /// What the types cannot say.
    pub(crate) fn check(&self) -> Result<()> {
        if self.shell.first().is_none_or(String::is_empty) {
            return Err(Error::configuration(
                "`shell` names no program; write for example `shell: [bash, -c]`",
            ));
        }
        seconds(self.timeout, "timeout")?;
        for (name, method) in &self.methods.0 {
            if let Some(timeout) = method.timeout {
                seconds(timeout, &format!("methods.{name}.timeout"))?;
            }
        }
        Ok(())
    }

    /// How long `method` may run.
    pub(crate) fn timeout_of(&self, method: &MethodConfig) -> Result<Duration> {
        seconds(method.timeout.unwrap_or(self.timeout), "timeout")
    }
}

fn seconds(value: f64, key: &str) -> Result<Duration> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| {
            Error::configuration(format!(
                "`{key}` should be a number of seconds greater than 0, found {value}"
            ))
        })
}

// === impl Methods ===

impl Methods {
    /// The command of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&MethodConfig> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, method)| method)
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Help by name, for the commands that have one.
    pub(crate) fn descriptions(&self) -> BTreeMap<String, String> {
        let described = self.0.iter().filter_map(|(name, method)| {
            let text = method.description.clone().filter(|text| !text.is_empty())?;
            Some((name.clone(), text))
        });
        described.collect()
    }
}

impl JsonSchema for Methods {
    fn schema_name() -> Cow<'static, str> {
        "Methods".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let method = generator.subschema_for::<MethodConfig>();
        json_schema!({
            "type": "object",
            "additionalProperties": { "anyOf": [{ "type": "string" }, method] },
        })
    }
}

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MethodsVisitor;

        impl<'de> Visitor<'de> for MethodsVisitor {
            type Value = Methods;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a mapping of names to commands")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Methods, A::Error> {
                let mut methods = Vec::new();
                while let Some((name, OneMethod(method))) = map.next_entry::<String, OneMethod>()? {
                    methods.push((name, method));
                }
                Ok(Methods(methods))
            }
        }

        deserializer.deserialize_map(MethodsVisitor)
    }
}

/// A command in either form.
struct OneMethod(MethodConfig);

impl From<String> for OneMethod {
    fn from(command: String) -> Self {
        Self(MethodConfig {
            command,
            description: None,
            timeout: None,
        })
    }
}

impl<'de> Deserialize<'de> for OneMethod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneVisitor;

        impl<'de> Visitor<'de> for OneVisitor {
            type Value = OneMethod;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a command line, or a mapping with `command`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneMethod, E> {
                Ok(text.to_owned().into())
            }

            // `true` and `false` are commands, too.
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<OneMethod, E> {
                Ok(value.to_string().into())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneMethod, A::Error> {
                MethodConfig::deserialize(MapAccessDeserializer::new(map)).map(OneMethod)
            }
        }

        deserializer.deserialize_any(OneVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: serde_json::Value) -> Result<ShellConfig, String> {
        jmp_driver::config::read(config, false, &mut Vec::new())
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn commands_in_both_forms_and_in_order() {
        let config = read(json!({
            "methods": {"z": "echo z", "a": {"description": "does a", "timeout": "5"}, "t": true},
        }))
        .unwrap();
        assert_eq!(config.methods.names().collect::<Vec<_>>(), ["z", "a", "t"]);
        let a = config.methods.get("a").unwrap();
        assert_eq!((a.command.as_str(), a.timeout), ("echo Hello", Some(5.0)));
        assert_eq!(config.methods.get("t").unwrap().command, "true");
        assert_eq!(config.methods.descriptions().len(), 1);
        assert_eq!(config.shell, ["bash", "-c"]);
        config.check().unwrap();
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (config, text) in [
            (json!({}), "`methods`"),
            (json!({"methods": {"a": ["x"]}}), "`methods.a`"),
            (json!({"methods": {"a": {"comand": "x"}}}), "comand"),
        ] {
            let error = read(config).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        for (config, text) in [
            (json!({"methods": {}, "shell": []}), "`shell` names no"),
            (json!({"methods": {}, "timeout": 0}), "`timeout` should"),
            (
                json!({"methods": {"a": {"timeout": -1}}}),
                "`methods.a.timeout`",
            ),
        ] {
            let error = read(config).unwrap().check().unwrap_err();
            assert!(error.message().contains(text), "{error}");
        }
    }
}
