//! U-Boot's environment.

use std::collections::BTreeMap;

use super::config::BoardConfig;

/// Size of the environment area: names, values and their separators, in bytes.
pub(super) const CAPACITY: usize = 8188;

/// Named values, in the order in which `printenv` shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// What a board has before anything was saved.
    pub(super) fn default_for(config: &BoardConfig, bootargs: &str) -> Self {
        let bootdelay = config.autoboot_seconds.to_string();
        let defaults = [
            ("arch", "arm"),
            ("baudrate", "115200"),
            ("board", "virtual"),
            ("bootargs", bootargs),
            ("bootcmd", "mmc dev 0; bootm"),
            ("bootdelay", &bootdelay),
            ("ethaddr", "02:00:00:00:00:01"),
        ];
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            variables: defaults.into_iter().map(own).collect(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Sets a variable, or removes it when the value is empty, as U-Boot does.
    /// False when the name cannot be one or the area would overflow.
    pub(super) fn set(&mut self, name: &str, value: &str) -> bool {
        if name.is_empty() || name.contains('=') {
            return false;
        }
        if value.is_empty() {
            self.variables.remove(name);
            return true;
        }
        let replaced = self.get(name).map_or(0, |old| entry_size(name, old));
        if self.size() - replaced + entry_size(name, value) > CAPACITY {
            return false;
        }
        self.variables.insert(name.to_owned(), value.to_owned());
        true
    }

    /// How many bytes of the area are taken.
    pub(super) fn size(&self) -> usize {
        self.iter()
            .map(|(name, value)| entry_size(name, value))
            .sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Seconds to count down before booting; U-Boot's own default where the
    /// variable is missing or not a number.
    pub(super) fn bootdelay(&self) -> i32 {
        self.get("bootdelay")
            .and_then(|value| value.parse().ok())
            .unwrap_or(2)
            .min(999)
    }
}

/// `name=value` and a zero byte.
fn entry_size(name: &str, value: &str) -> usize {
    name.len() + value.len() + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_replace_vanish_and_overflow() {
        let mut environment = Environment::default_for(&BoardConfig::default(), "quiet");
        assert_eq!(environment.get("bootargs"), Some("quiet"));
        assert!(environment.set("a", &"x".repeat(4000)));
        assert!(
            environment.set("a", &"y".repeat(7000)),
            "the old value makes room"
        );
        assert!(!environment.set("b", &"x".repeat(4000)));
        assert!(environment.size() <= CAPACITY);
        assert!(environment.set("a", ""));
        assert_eq!(environment.get("a"), None);
        assert!(!environment.set("a=b", "c") && !environment.set("", "c"));
    }

    #[test]
    fn bootdelay_survives_nonsense() {
        let mut environment = Environment::default_for(&BoardConfig::default(), "");
        for (value, delay) in [("-2", -2), ("5000", 999), ("soon", 2), ("", 2)] {
            environment.set("bootdelay", value);
            assert_eq!(environment.bootdelay(), delay, "{value:?}");
        }
    }
}
