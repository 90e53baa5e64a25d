//! `jmp config exporter`: which drivers exporters of this machine have.

use std::path::Path;

use jmp_config::{API_VERSION, Error, ExporterConfig, Metadata, Place, Secret, Tls};
use jmp_types::Alias;
use serde_json::json;

use super::client::item;
use super::{changed, confirm_insecure, filled};
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::prompt::{self, Question};
use crate::output::{self, Listing};

const EXAMPLES: &str = "\
Examples:
  jmp config exporter create my-exporter     then: jmp config exporter edit my-exporter
  jmp config exporter list
  jmp config exporter delete my-exporter";

const CREATE_EXAMPLES: &str = "\
Examples:
  jmp config exporter create bench --nointeractive          for local use
  jmp config exporter create bench --namespace lab --name bench \\
      --endpoint grpc.example.com:8082 --token \"$TOKEN\"";

/// Exporter configurations: create, edit, list and delete
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create an exporter configuration; what is not given is asked for
    #[command(visible_alias = "c", after_help = CREATE_EXAMPLES)]
    Create(Create),
    /// Delete an exporter configuration of this user
    #[command(
        visible_aliases = ["del", "d"],
        after_help = "Examples:\n  jmp config exporter delete bench"
    )]
    Delete {
        /// The configuration
        #[arg(default_value = "default")]
        alias: Alias,
    },
    /// Edit an exporter configuration with $VISUAL or $EDITOR, and check it
    #[command(after_help = "Examples:\n  EDITOR=nano jmp config exporter edit bench")]
    Edit {
        /// The configuration
        #[arg(default_value = "default")]
        alias: Alias,
    },
    /// List exporter configurations, those of this user first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  jmp config exporter list\n  jmp config exporter list -o name"
    )]
    List,
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Name of the configuration on this machine
    #[arg(default_value = "default")]
    alias: Alias,

    /// Namespace in the controller
    #[arg(long)]
    namespace: Option<String>,

    /// Name of the exporter in the controller
    #[arg(long)]
    name: Option<String>,

    /// The controller, HOST[:PORT]; empty for local use
    #[arg(short, long, id = "endpoint")]
    endpoint: Option<String>,

    /// Token for the controller; empty for local use
    #[arg(short, long)]
    token: Option<String>,

    /// Do not check the controller's certificate
    #[arg(short = 'k', long, alias = "insecure-tls-config")]
    insecure_tls: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When a file cannot be found, read or written.
pub fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    match arguments.command {
        Command::Create(create) => create.run(globals),
        Command::Delete { alias } => {
            let deleted = globals.store().delete_exporter(&alias)?;
            if let Some(remaining) = &deleted.remaining {
                output::warn(&format!(
                    "the system's configuration of the same name is used from now on: {}",
                    remaining.display()
                ));
            }
            changed(&deleted.path, alias.as_str(), globals)
        }
        Command::Edit { alias } => edit(&alias, globals),
        Command::List => list(globals),
    }
}

// === impl Create ===

impl Create {
    fn run(self, globals: &Globals) -> Result<u8, CliError> {
        let store = globals.store();
        let path = store.exporter_path(&self.alias);
        if path.exists() {
            return Err(Error::Exists {
                kind: jmp_config::Kind::Exporter,
                alias: self.alias.to_string(),
                path,
            }
            .into());
        }
        confirm_insecure(self.insecure_tls, globals)?;
        let ask = |given, text, option, default, secret| {
            let question = Question {
                text,
                option,
                default: Some(default),
                secret,
            };
            prompt::value(given, question, globals)
        };
        let namespace = ask(self.namespace, "Namespace", "--namespace", "default", false)?;
        let name = ask(
            self.name,
            "Name of the exporter",
            "--name",
            self.alias.as_str(),
            false,
        )?;
        let endpoint = ask(
            self.endpoint,
            "Endpoint of the controller (empty for local use)",
            "--endpoint",
            "",
            false,
        )?;
        let token = match (self.token, endpoint.is_empty()) {
            (None, true) => String::new(),
            (given, _) => ask(given, "Token", "--token", "", true)?,
        };
        let config = ExporterConfig {
            metadata: Metadata {
                name: filled(name),
                namespace: filled(namespace),
            },
            endpoint: filled(endpoint),
            token: filled(token).map(Secret::new),
            tls: Tls {
                ca: None,
                insecure: self.insecure_tls.then_some(true),
            },
            ..ExporterConfig::default()
        };
        let path = store.create_exporter(&self.alias, &config)?;
        changed(&path, self.alias.as_str(), globals)
    }
}

fn edit(alias: &Alias, globals: &Globals) -> Result<u8, CliError> {
    let store = globals.store();
    let (path, place) = store.find_exporter(alias.as_str())?;
    if place == Place::System {
        output::warn(&format!(
            "{} belongs to the system; saving it may need an administrator",
            path.display()
        ));
    }
    open_editor(&path)?;
    let loaded = store.load_exporter_file(&path).map_err(|error| {
        CliError::from(error).with_hint(format!(
            "the file is saved but cannot be used; edit it again with `jmp config exporter edit {alias}`"
        ))
    })?;
    for warning in &loaded.warnings {
        output::warn(&warning.to_string());
    }
    Ok(exit::OK)
}

/// The editor may come with arguments, so a shell splits it, as git does it.
fn open_editor(path: &Path) -> Result<(), CliError> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
        .unwrap_or_else(|| "vi".into());
    let failed = |reason: String| {
        CliError::new(format!("the editor `{editor}` {reason}"))
            .with_hint("set VISUAL or EDITOR to the editor you want")
    };
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("{editor} \"$@\""), "editor"])
        .arg(path)
        .status()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(format!("failed: {status}")))
    }
}

fn list(globals: &Globals) -> Result<u8, CliError> {
    let mut listing = Listing {
        headings: vec!["ALIAS", "PATH"],
        empty: "No resources found.",
        ..Listing::default()
    };
    let mut items = Vec::new();
    for file in globals.store().list_exporters()? {
        let path = file.path.display().to_string();
        listing
            .rows
            .push(vec![file.alias.to_string(), path.clone()]);
        listing.names.push(file.alias.to_string());
        listing.paths.push(path);
        items.push(item(&file, |config: &ExporterConfig| config.shown()));
    }
    listing.data = json!({
        "apiVersion": API_VERSION,
        "items": items,
        "kind": "ExporterConfigList",
    });
    listing.print(globals.output)?;
    Ok(exit::OK)
}
