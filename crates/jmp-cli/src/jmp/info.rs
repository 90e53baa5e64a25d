//! `jmp info`: what this machine, this user and this shell amount to.

use jmp_config::{AccessConfig, AccessKind, Environment, ProcessEnvironment};
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::admin::target;
use crate::jmp::version;
use crate::output::{self, Listing};

const EXAMPLES: &str = "\
Examples:
  jmp info
  jmp --endpoint other.example.com:443 info     what the option changes
  jmp info -o json";

/// Show the endpoint, client, administrator, session and paths that are in effect
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
///
/// When standard output cannot be written; configuration that cannot be used is a warning.
pub fn run(globals: &Globals) -> Result<u8, CliError> {
    let mut facts = Facts::default();
    facts.add("version", version::VERSION);
    facts.add("program", version::program());
    client(globals, &mut facts);
    administration(globals, &mut facts);
    session(&mut facts);
    paths(globals, &mut facts);
    facts.listing().print(globals.output)?;
    Ok(exit::OK)
}

#[derive(Default)]
struct Facts(Vec<(&'static str, Value, String)>);

// === impl Facts ===

impl Facts {
    fn add(&mut self, key: &'static str, value: impl Into<Value>) {
        self.sourced(key, value, String::new());
    }

    fn sourced(&mut self, key: &'static str, value: impl Into<Value>, source: String) {
        self.0.push((key, value.into(), source));
    }

    fn listing(self) -> Listing {
        let data: Map<String, Value> = self
            .0
            .iter()
            .map(|(key, value, _)| ((*key).to_owned(), value.clone()))
            .collect();
        let rows = self.0.iter().map(|(key, value, source)| {
            let text = match value {
                Value::Null => "-".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            vec![(*key).to_owned(), text, source.clone()]
        });
        Listing {
            headings: vec!["KEY", "VALUE", "SOURCE"],
            rows: rows.collect(),
            names: self.0.iter().map(|(key, ..)| (*key).to_owned()).collect(),
            paths: vec![version::program()],
            data: data.into(),
            empty: "",
        }
    }
}

fn client(globals: &Globals, facts: &mut Facts) {
    let store = globals.store();
    let effective = match store.effective_client(&ProcessEnvironment, &globals.flags()) {
        Ok(effective) => effective,
        Err(error) => {
            output::warn(&CliError::from(error).to_string());
            return;
        }
    };
    let alias = effective
        .file
        .as_ref()
        .and_then(|file| file.alias.as_ref())
        .map(ToString::to_string);
    let path = effective
        .file
        .as_ref()
        .map_or_else(String::new, |file| file.path.display().to_string());
    facts.sourced("client", json!(alias), path);
    let origin = |origin: &jmp_config::Origin| origin.to_string();
    facts.sourced(
        "endpoint",
        json!(effective.endpoint.value),
        origin(&effective.endpoint.origin),
    );
    facts.sourced(
        "namespace",
        json!(effective.namespace.value),
        origin(&effective.namespace.origin),
    );
    facts.sourced(
        "name",
        json!(effective.name.value),
        origin(&effective.name.origin),
    );
}

/// What `jmp admin` would use; nobody is asked.
fn administration(globals: &Globals, facts: &mut Facts) {
    let found = target::find(None, globals);
    let path = found.path.display().to_string();
    if !found.path.exists() {
        let source = format!("{}, not there: {path}", found.source);
        facts.sourced("adminConfig", Value::Null, source);
        return;
    }
    facts.sourced("adminConfig", path, found.source.to_owned());
    match AccessConfig::load(&found.path, AccessKind::Admin) {
        Ok(config) => {
            let endpoint = globals.endpoint.clone().unwrap_or(config.endpoint);
            let source = format!("a controller of its own, as administrator {}", config.name);
            facts.sourced("adminEndpoint", endpoint, source);
        }
        Err(error) => output::warn(&CliError::from(error).to_string()),
    }
}

fn session(facts: &mut Facts) {
    let background = jmp_client::local::find();
    match (
        ProcessEnvironment.filled("JUMPSTARTER_HOST"),
        background.as_ref(),
    ) {
        (Some(host), _) => {
            facts.sourced("session", host, "environment JUMPSTARTER_HOST".into());
        }
        (None, Some(session)) => facts.sourced(
            "session",
            session.socket.display().to_string(),
            format!(
                "`jmp local start`, exporter {}, process {}",
                session.exporter, session.pid
            ),
        ),
        (None, None) => facts.sourced("session", Value::Null, "not inside `jmp shell`".into()),
    }
    for (key, variable) in [("lease", "JMP_LEASE"), ("exporter", "JMP_EXPORTER")] {
        if let Some(value) = ProcessEnvironment.filled(variable) {
            facts.sourced(key, value, format!("environment {variable}"));
        }
    }
}

fn paths(globals: &Globals, facts: &mut Facts) {
    let store = globals.store();
    let paths = store.paths();
    let count = |number: usize| match number {
        1 => "1 configuration".to_owned(),
        number => format!("{number} configurations"),
    };
    let clients = store.list_clients().map_or(0, |files| files.len());
    let exporters = store.list_exporters().unwrap_or_default();
    let ours = exporters
        .iter()
        .filter(|file| file.place == jmp_config::Place::User)
        .count();
    facts.add("userConfig", paths.user_config().display().to_string());
    facts.sourced(
        "clients",
        paths.clients().display().to_string(),
        count(clients),
    );
    facts.sourced(
        "userExporters",
        paths.user_exporters().display().to_string(),
        count(ours),
    );
    facts.sourced(
        "systemExporters",
        paths.system_exporters.display().to_string(),
        count(exporters.len() - ours),
    );
}
