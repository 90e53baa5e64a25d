//! The environment, handed in: logic never reads the process's own.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// Where variables are looked up.
pub trait Environment {
    /// The variable's value. Implementations leave the empty text in; callers treat it as absent.
    fn variable(&self, name: &str) -> Option<String>;

    /// The variable's value unless it is absent or empty.
    fn filled(&self, name: &str) -> Option<String> {
        self.variable(name).filter(|value| !value.is_empty())
    }
}

/// The environment of this process. Only `main` should name it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Environment for BTreeMap<String, String> {
    fn variable(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

impl Environment for HashMap<String, String> {
    fn variable(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

impl<const N: usize> Environment for [(&str, &str); N] {
    fn variable(&self, name: &str) -> Option<String> {
        self.iter()
            .find_map(|(found, value)| (*found == name).then(|| (*value).to_owned()))
    }
}

/// Where configuration lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The user's directory, holding `config.yaml`, `clients/` and `exporters/`.
    pub user: PathBuf,
    /// Exporters of the machine.
    pub system_exporters: PathBuf,
}

/// Exporters of the machine, as documented since 0.6.
pub const SYSTEM_EXPORTERS: &str = "/etc/jumpstarter/exporters";

impl Paths {
    /// `$JMP_CLIENT_CONFIG_HOME`, else `$XDG_CONFIG_HOME/jumpstarter`, else `~/.config/jumpstarter`; a
    /// relative `XDG_CONFIG_HOME` is ignored, as its specification asks. Without any of them and without
    /// `HOME`, the user's directory is `.config/jumpstarter` below the root, where nothing will be found.
    #[must_use]
    pub fn from_environment(environment: &dyn Environment) -> Self {
        let xdg = || {
            let home = PathBuf::from(environment.filled("XDG_CONFIG_HOME")?);
            home.is_absolute().then(|| home.join("jumpstarter"))
        };
        let home = || {
            let home = environment.filled("HOME").unwrap_or_else(|| "/".to_owned());
            PathBuf::from(home).join(".config/jumpstarter")
        };
        let user = environment
            .filled("JMP_CLIENT_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(xdg)
            .unwrap_or_else(home);
        Self {
            user,
            system_exporters: PathBuf::from(SYSTEM_EXPORTERS),
        }
    }

    /// `config.yaml`.
    #[must_use]
    pub fn user_config(&self) -> PathBuf {
        self.user.join("config.yaml")
    }

    /// What lets this user administer a controller.
    #[must_use]
    pub fn admin_config(&self) -> PathBuf {
        self.user.join("admin.yaml")
    }

    /// Client files.
    #[must_use]
    pub fn clients(&self) -> PathBuf {
        self.user.join("clients")
    }

    /// The user's exporter files, which hide the machine's of the same name.
    #[must_use]
    pub fn user_exporters(&self) -> PathBuf {
        self.user.join("exporters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_places_in_order() {
        let all = [
            ("JMP_CLIENT_CONFIG_HOME", "/a"),
            ("XDG_CONFIG_HOME", "/b"),
            ("HOME", "/c"),
        ];
        let user = |environment: &dyn Environment| Paths::from_environment(environment).user;
        assert_eq!(user(&all), PathBuf::from("/a"));
        assert_eq!(user(&[all[1], all[2]]), PathBuf::from("/b/jumpstarter"));
        assert_eq!(user(&[all[2]]), PathBuf::from("/c/.config/jumpstarter"));
        let relative = [("XDG_CONFIG_HOME", "b"), ("HOME", "/c")];
        assert_eq!(user(&relative), PathBuf::from("/c/.config/jumpstarter"));
    }
}
