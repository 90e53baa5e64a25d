//! `jmp config client`: how this user reaches controllers.

use std::path::PathBuf;

use jmp_config::{API_VERSION, ClientConfig, DriverAdmission, Listed, Metadata, Secret, Tls};
use jmp_types::Alias;
use serde_json::{Value, json};

use super::{changed, confirm_insecure, filled};
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::prompt::{self, Question};
use crate::output::{self, Listing};

const EXAMPLES: &str = "\
Examples:
  jmp config client create my-client --namespace lab --name me \\
      --endpoint grpc.example.com:8082 --token \"$TOKEN\" --allow 'jumpstarter_driver_*'
  jmp config client list
  jmp config client use my-client
  jmp config client delete my-client";

const CREATE_EXAMPLES: &str = "\
Examples:
  jmp config client create my-client
  jmp config client create ci --nointeractive --namespace lab --name ci \\
      --endpoint grpc.example.com:8082 --token \"$TOKEN\" --unsafe -o path";

/// Client configurations: create, choose, list and delete
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a client configuration; what is not given is asked for
    #[command(visible_alias = "c", after_help = CREATE_EXAMPLES)]
    Create(Create),
    /// Delete a client configuration
    #[command(
        visible_aliases = ["del", "d"],
        after_help = "Examples:\n  jmp config client delete my-client"
    )]
    Delete {
        /// The configuration
        #[arg(value_name = "NAME")]
        alias: Alias,
    },
    /// List client configurations; `*` marks the current one
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  jmp config client list\n  jmp config client list -o json"
    )]
    List,
    /// Make a client configuration the current one
    #[command(after_help = "Examples:\n  jmp config client use my-client")]
    Use {
        /// The configuration
        #[arg(value_name = "NAME")]
        alias: Alias,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Name of the configuration on this machine
    alias: Alias,

    /// Write to this file instead
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Namespace in the controller
    #[arg(long)]
    namespace: Option<String>,

    /// Name of the client in the controller
    #[arg(long)]
    name: Option<String>,

    /// The controller, HOST[:PORT]
    #[arg(short, long, id = "endpoint")]
    endpoint: Option<String>,

    /// Token for the controller
    #[arg(short, long)]
    token: Option<String>,

    /// Driver client classes that may run here, comma-separated globs
    #[arg(short, long)]
    allow: Option<String>,

    /// Allow all driver client classes
    #[arg(long = "unsafe")]
    unsafe_all: bool,

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
    let store = globals.store();
    match arguments.command {
        Command::Create(create) => create.run(globals),
        Command::Delete { alias } => {
            let deleted = store.delete_client(&alias)?;
            changed(&deleted.path, alias.as_str(), globals)
        }
        Command::List => list(globals),
        Command::Use { alias } => {
            let path = store.use_client(Some(&alias))?;
            changed(&path, alias.as_str(), globals)
        }
    }
}

// === impl Create ===

impl Create {
    fn run(self, globals: &Globals) -> Result<u8, CliError> {
        let store = globals.store();
        if self.out.is_none() && store.client_path(&self.alias).exists() {
            return Err(jmp_config::Error::Exists {
                kind: jmp_config::Kind::Client,
                alias: self.alias.to_string(),
                path: store.client_path(&self.alias),
            }
            .into());
        }
        confirm_insecure(self.insecure_tls, globals)?;
        let ask = |given, text, option, secret| {
            let question = Question {
                text,
                option,
                default: None,
                secret,
            };
            prompt::value(given, question, globals)
        };
        let namespace = ask(self.namespace, "Namespace", "--namespace", false)?;
        let name = ask(self.name, "Name of the client", "--name", false)?;
        let endpoint = ask(
            self.endpoint,
            "Endpoint of the controller",
            "--endpoint",
            false,
        )?;
        let token = ask(self.token, "Token", "--token", true)?;
        let allow = match (self.allow, self.unsafe_all) {
            (None, true) => String::new(),
            (given, _) => {
                let question = Question {
                    text: "Allowed driver clients, comma-separated (may be empty)",
                    option: "--allow",
                    default: Some(""),
                    secret: false,
                };
                prompt::value(given, question, globals)?
            }
        };
        let config = ClientConfig {
            metadata: Metadata {
                name: filled(name),
                namespace: filled(namespace),
            },
            endpoint: filled(endpoint),
            tls: Tls {
                ca: None,
                insecure: self.insecure_tls.then_some(true),
            },
            token: filled(token).map(Secret::new),
            drivers: DriverAdmission {
                allow: Some(globs(&allow)),
                unsafe_all: Some(self.unsafe_all),
            },
            ..ClientConfig::default()
        };
        let path = match self.out {
            Some(path) => {
                store.save_client_file(&path, &config)?;
                path
            }
            None => store.create_client(&self.alias, &config)?,
        };
        changed(&path, self.alias.as_str(), globals)
    }
}

fn globs(list: &str) -> Vec<String> {
    list.split(',')
        .map(str::trim)
        .filter(|glob| !glob.is_empty())
        .map(str::to_owned)
        .collect()
}

fn list(globals: &Globals) -> Result<u8, CliError> {
    let store = globals.store();
    let listed = store.list_clients()?;
    let current = store.current_client().unwrap_or_else(|error| {
        output::warn(&CliError::from(error).to_string());
        None
    });
    let mut listing = Listing {
        headings: vec!["CURRENT", "ALIAS", "ENDPOINT", "PATH"],
        empty: "No resources found.",
        ..Listing::default()
    };
    let mut items = Vec::new();
    for file in &listed {
        let mark = if current.as_ref() == Some(&file.alias) {
            "*"
        } else {
            ""
        };
        let endpoint = match &file.result {
            Ok(loaded) => loaded.config.endpoint.clone().unwrap_or_default(),
            Err(_) => "<unusable>".to_owned(),
        };
        let path = file.path.display().to_string();
        listing.rows.push(vec![
            mark.to_owned(),
            file.alias.to_string(),
            endpoint,
            path.clone(),
        ]);
        listing.names.push(file.alias.to_string());
        listing.paths.push(path);
        items.push(item(file, |loaded| loaded.shown()));
    }
    listing.data = json!({
        "apiVersion": API_VERSION,
        "currentConfig": current.map(|alias| alias.to_string()),
        "items": items,
        "kind": "ClientConfigList",
    });
    listing.print(globals.output)?;
    Ok(exit::OK)
}

/// A file of a listing with alias and path first; a broken one is warned about and carries its error.
pub(super) fn item<T>(file: &Listed<T>, shown: impl Fn(&T) -> Value) -> Value {
    let mut item = json!({"alias": file.alias.as_str(), "path": file.path.display().to_string()});
    match &file.result {
        Ok(loaded) => {
            if let (Some(item), Value::Object(content)) =
                (item.as_object_mut(), shown(&loaded.config))
            {
                item.extend(content);
            }
        }
        Err(error) => {
            output::warn(&error.to_string());
            item["error"] = error.to_string().into();
        }
    }
    item
}
