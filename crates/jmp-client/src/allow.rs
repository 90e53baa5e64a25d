//! Which client classes may be used (facts: protocol 5.3).

use wildmatch::WildMatch;

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
}
