//! Which client classes may be used (facts: protocol 5.3).

use jmp_config::{Flags, Paths, ProcessEnvironment, Store};
use wildmatch::WildMatch;

use crate::error::{Error, Result};

/// Shell globs over dotted client classes, matched case-sensitively and as a whole.
#[derive(Debug, Clone, PartialEq)]
pub enum AllowList {
    /// Everything, for sessions on the user's own machine.
    Unsafe,
    /// Only matching classes.
    Globs(Vec<WildMatch>),
}

// === impl AllowList ===

impl AllowList {
    /// From patterns; the word `UNSAFE` among them allows everything.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut globs = Vec::new();
        for pattern in patterns {
            match pattern.trim() {
                "UNSAFE" => return Self::Unsafe,
                "" => {}
                pattern => globs.push(WildMatch::new(pattern)),
            }
        }
        Self::Globs(globs)
    }

    /// From a comma separated list, the form of `JMP_DRIVERS_ALLOW`.
    pub fn parse(list: &str) -> Self {
        Self::new(list.split(','))
    }

    /// From `JMP_DRIVERS_ALLOW` and `JMP_DRIVERS_UNSAFE`; `None` if neither is set.
    pub fn from_environment() -> Option<Self> {
        let truthy = |value: &str| {
            matches!(
                value.to_ascii_lowercase().as_str(),
                "1" | "true" | "yes" | "on"
            )
        };
        if std::env::var("JMP_DRIVERS_UNSAFE").is_ok_and(|value| truthy(&value)) {
            return Some(Self::Unsafe);
        }
        std::env::var("JMP_DRIVERS_ALLOW")
            .ok()
            .map(|list| Self::parse(&list))
    }

    /// What counts for this user: `JMP_DRIVERS_ALLOW` and `JMP_DRIVERS_UNSAFE`, else the
    /// `drivers` section of the client configuration in use, else everything. No code is ever
    /// loaded by the name of a class, so a user who has set no policy is not in danger.
    ///
    /// # Errors
    ///
    /// If the configuration cannot be read: a policy that is there must not be lost silently.
    pub fn effective() -> Result<Self> {
        match Self::from_environment() {
            Some(list) => Ok(list),
            None => Self::from_store(&Store::new(Paths::from_environment(&ProcessEnvironment))),
        }
    }

    fn from_store(store: &Store) -> Result<Self> {
        let effective = store
            .effective_client(&ProcessEnvironment, &Flags::default())
            .map_err(|source| Error::Configuration(source.to_string()))?;
        let drivers = effective.file.map(|file| file.config.drivers);
        Ok(match drivers {
            Some(drivers) if drivers.unsafe_all != Some(true) => match drivers.allow {
                Some(allow) => Self::new(allow.iter().map(String::as_str)),
                None if drivers.unsafe_all.is_some() => Self::Globs(Vec::new()),
                None => Self::Unsafe,
            },
            _ => Self::Unsafe,
        })
    }

    /// Whether a client class may be used.
    pub fn allows(&self, class: &str) -> bool {
        match self {
            Self::Unsafe => true,
            Self::Globs(globs) => globs.iter().any(|glob| glob.matches(class)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_cover_the_whole_path() {
        let list = AllowList::parse("jumpstarter_driver_*, example.client.Lamp?");
        assert!(list.allows("jumpstarter_driver_power.client.PowerClient"));
        assert!(list.allows("example.client.LampX"));
        assert!(!list.allows("example.client.Lamp"));
        assert!(!list.allows("Jumpstarter_driver_power.client.PowerClient"));
        assert!(!AllowList::parse("").allows("a.b"));
        assert!(AllowList::parse("a.b, UNSAFE").allows("c.d"));
    }

    fn with_drivers(section: &str) -> Result<AllowList> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("clients")).unwrap();
        let head = "apiVersion: jumpstarter.dev/v1alpha1\n";
        let user = format!("{head}kind: UserConfig\nconfig: {{current-client: me}}\n");
        std::fs::write(directory.path().join("config.yaml"), user).unwrap();
        let client = format!(
            "{head}kind: ClientConfig\nmetadata: {{name: me, namespace: us}}\n\
             endpoint: a:1\ntoken: t\n{section}\n"
        );
        std::fs::write(directory.path().join("clients/me.yaml"), client).unwrap();
        AllowList::from_store(&Store::new(Paths {
            user: directory.path().to_owned(),
            system_exporters: directory.path().join("none"),
        }))
    }

    #[test]
    fn the_current_client_decides_if_it_says_anything() {
        assert_eq!(with_drivers("").unwrap(), AllowList::Unsafe);
        let list = with_drivers("drivers: {allow: [\"a.*\"]}").unwrap();
        assert!(list.allows("a.b") && !list.allows("b.c"));
        let nothing = with_drivers("drivers: {allow: []}").unwrap();
        assert!(!nothing.allows("a.b"));
        let all = with_drivers("drivers: {allow: [x], unsafe: true}").unwrap();
        assert_eq!(all, AllowList::Unsafe);
        assert!(with_drivers("drivers: {allowed: [x]}").is_err());
    }
}
