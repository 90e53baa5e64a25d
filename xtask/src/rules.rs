//! Bans, licences, and the arrows between crates: checks over `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{Outcome, environment, licences};

/// Crates that nothing of ours may bring in, and why. `deny.toml` has the same list for cargo-deny.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "one TLS provider: ring"),
    ("aws-lc-sys", "one TLS provider: ring"),
    ("openssl", "one TLS provider: ring"),
    ("openssl-sys", "one TLS provider: ring"),
    ("native-tls", "one TLS provider: ring"),
    ("cmake", "a C compiler is all that a build may need"),
    (
        "serde_yaml",
        "unmaintained; serde-saphyr is the YAML reader",
    ),
    ("serde_yml", "unsound; serde-saphyr is the YAML reader"),
];

/// Which workspace crates a crate may depend on (ordinary and build dependencies). `*` is the rest of the name.
///
/// A new arrow is a decision: add it here in the commit that needs it, with the reason in the message.
const ARROWS: &[(&str, &[&str])] = &[
    ("jmp-types", &[]),
    ("jmp-process", &[]),
    ("jmp-driver-macros", &[]),
    ("jmp-lease", &["jmp-types"]),
    ("jmp-proto", &["jmp-types"]),
    ("jmp-config", &["jmp-types"]),
    ("jmp-store", &["jmp-types"]),
    ("jmp-auth", &["jmp-types"]),
    (
        "jmp-router",
        &["jmp-types", "jmp-proto", "jmp-wire", "jmp-auth"],
    ),
    (
        "jmp-controller",
        &[
            "jmp-types",
            "jmp-lease",
            "jmp-proto",
            "jmp-wire",
            "jmp-auth",
            "jmp-store",
        ],
    ),
    ("jmp-wire", &["jmp-types", "jmp-proto"]),
    (
        "jmp-driver",
        &["jmp-types", "jmp-proto", "jmp-wire", "jmp-driver-macros"],
    ),
    // The system's ssh is run by an adapter that lives there.
    (
        "jmp-interfaces",
        &["jmp-types", "jmp-wire", "jmp-driver", "jmp-process"],
    ),
    (
        "jmp-client",
        &[
            "jmp-types",
            "jmp-proto",
            "jmp-wire",
            "jmp-driver",
            "jmp-interfaces",
            "jmp-config",
            "jmp-process",
        ],
    ),
    (
        "jmp-exporter",
        &[
            "jmp-types",
            "jmp-lease",
            "jmp-proto",
            "jmp-wire",
            "jmp-driver",
            "jmp-config",
            "jmp-process",
        ],
    ),
    (
        "driver-all",
        &[
            "jmp-types",
            "jmp-driver",
            "jmp-interfaces",
            "jmp-client",
            "driver-*",
        ],
    ),
    (
        "driver-*",
        &[
            "jmp-types",
            "jmp-wire",
            "jmp-driver",
            "jmp-interfaces",
            "jmp-client",
            "jmp-process",
        ],
    ),
    // Drivers outside of the drivers' folder see what drivers see.
    (
        "example-*",
        &["jmp-types", "jmp-wire", "jmp-driver", "jmp-interfaces"],
    ),
    (
        "jmp-cli",
        &[
            "jmp-types",
            "jmp-wire",
            "jmp-proto",
            "jmp-driver",
            "jmp-interfaces",
            "jmp-client",
            "jmp-config",
            "jmp-exporter",
            "jmp-lease",
            "jmp-process",
            // The services that it starts.
            "jmp-auth",
            "jmp-store",
            "jmp-controller",
            "jmp-router",
            "driver-all",
        ],
    ),
    ("jmp", &["jmp-cli"]),
    ("jmp-bench", &["jmp-*", "driver-*"]),
    ("xtask", &[]),
];

/// Crates that must stay pure: no async runtime, no network, no file formats.
const PURE: &[&str] = &["jmp-types", "jmp-lease"];
const IMPURE: &[&str] = &[
    "tokio", "hyper", "tonic", "reqwest", "rustls", "opendal", "rustix", "tempfile",
];

/// Command line parsing belongs to these only.
const CLAP_USERS: &[&str] = &["jmp-cli", "jmp", "xtask", "jmp-bench"];
const CLAP: &[&str] = &["clap", "clap_mangen"];

/// Prints every broken rule.
///
/// # Errors
/// When a rule is broken.
pub fn run() -> Outcome {
    let problems = problems(&environment::metadata()?);
    for problem in &problems {
        println!("{problem}");
    }
    if problems.is_empty() {
        println!("bans, licences and arrows hold");
        return Ok(());
    }
    Err(format!("{} broken rules", problems.len()))
}

fn problems(metadata: &Value) -> Vec<String> {
    let packages: BTreeMap<&str, &Value> = list(metadata, "packages")
        .iter()
        .map(|p| (text(p, "id"), p))
        .collect();
    let resolved: BTreeSet<&str> = list(&metadata["resolve"], "nodes")
        .iter()
        .map(|n| text(n, "id"))
        .collect();
    let members: BTreeSet<&str> = list(metadata, "workspace_members")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut found = Vec::new();
    for package in resolved.iter().filter_map(|id| packages.get(id)) {
        let (name, version) = (text(package, "name"), text(package, "version"));
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            found.push(format!(
                "banned: {name} {version} ({why}); find who wants it: cargo tree --invert {name}"
            ));
        }
        if !licences::acceptable(text(package, "license")) {
            found.push(format!(
                "licence: {name} {version} says `{}`, which is not on the list",
                text(package, "license")
            ));
        }
    }
    let own: BTreeSet<&str> = members
        .iter()
        .filter_map(|id| packages.get(id))
        .map(|p| text(p, "name"))
        .collect();
    for member in members.iter().filter_map(|id| packages.get(id)) {
        found.extend(arrows_of(member, &own));
    }
    found
}

fn arrows_of(member: &Value, own: &BTreeSet<&str>) -> Vec<String> {
    let name = text(member, "name");
    let Some((_, allowed)) = ARROWS.iter().find(|(pattern, _)| matches(pattern, name)) else {
        return vec![format!(
            "arrow: {name} is not in the list of arrows (xtask/src/rules.rs); say what it may depend on"
        )];
    };
    let mut found = Vec::new();
    for dependency in list(member, "dependencies")
        .iter()
        .filter(|d| d["kind"].as_str() != Some("dev"))
    {
        let target = text(dependency, "name");
        if own.contains(target) && !allowed.iter().any(|pattern| matches(pattern, target)) {
            found.push(format!(
                "arrow: {name} -> {target} is not allowed; see ARCHITECTURE.md"
            ));
        }
        if PURE.contains(&name) && IMPURE.contains(&target) {
            found.push(format!("arrow: {name} is pure and must not use {target}"));
        }
        if CLAP.contains(&target) && !CLAP_USERS.contains(&name) {
            found.push(format!(
                "arrow: {name} -> {target}: command lines and output formats belong to jmp-cli"
            ));
        }
    }
    found
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(pattern == name, |start| name.starts_with(start))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::problems;

    fn with(name: &str, dependency: &str, licence: &str) -> Vec<String> {
        let package = |id: &str, depends: &str| {
            json!({"id": id, "name": id, "version": "1.0.0", "license": licence,
                   "dependencies": [{"name": depends, "kind": null}, {"name": "jmp-cli", "kind": "dev"}]})
        };
        problems(&json!({
            "packages": [package(name, dependency), package("jmp-cli", ""), package("jmp-exporter", "")],
            "resolve": {"nodes": [{"id": name}]},
            "workspace_members": [name, "jmp-cli", "jmp-exporter"],
        }))
    }

    #[test]
    fn each_rule_can_fail() {
        assert_eq!(
            with("driver-power", "jmp-driver", "MIT"),
            Vec::<String>::new()
        );
        for (name, dependency, licence) in [
            ("driver-power", "jmp-exporter", "MIT"),
            ("jmp-lease", "tokio", "MIT"),
            ("jmp-wire", "clap", "MIT"),
            ("jmp-unheard-of", "", "MIT"),
            ("driver-power", "jmp-driver", "GPL-3.0"),
        ] {
            assert_eq!(
                with(name, dependency, licence).len(),
                1,
                "{name} {dependency} {licence}"
            );
        }
        assert_eq!(
            with("cmake", "", "MIT").len(),
            2,
            "banned, and not a crate of ours"
        );
    }
}
