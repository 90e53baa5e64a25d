//! `jmp admin create`.

use serde_json::{Value, json};

use super::save::{self, SaveArgs};
use super::target::Target;
use super::{full_name, show};
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::lease::arguments::{map, pair};

const EXAMPLES: &str = "\
Examples:
  jmp admin create exporter bench-3 --label board=rpi4 --save
  jmp admin create client hello --save --unsafe
  jmp admin create client ci --label team=audio --out ci.yaml --allow 'jumpstarter_driver_*'
  jmp admin create router hall-2 --out hall-2.yaml
  jmp admin create administrator anna --out anna.yaml";

/// Create a client, exporter, router or administrator
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a client, and a configuration to act as it
    #[command(visible_aliases = ["clients", "c"], after_help = EXAMPLES)]
    Client {
        #[command(flatten)]
        object: Object,
        #[command(flatten)]
        save: SaveArgs,
    },
    /// Create an exporter, and a configuration to run it with
    #[command(visible_aliases = ["exporters", "e"], after_help = EXAMPLES)]
    Exporter {
        #[command(flatten)]
        object: Object,
        #[command(flatten)]
        save: SaveArgs,
    },
    /// Create a credential for a router on another host
    #[command(visible_aliases = ["routers"], after_help = EXAMPLES)]
    Router(Access),
    /// Create another administrator
    #[command(visible_aliases = ["admin", "admins", "administrators"], after_help = EXAMPLES)]
    Administrator(Access),
}

#[derive(Debug, clap::Args)]
struct Object {
    /// Name in the controller
    #[arg(value_name = "NAME")]
    name: String,

    /// Label of the object; may be repeated
    #[arg(short = 'l', long = "label", value_parser = pair, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,

    /// Another identity that may act as this one, such as dex:alice
    #[arg(long, value_name = "USERNAME")]
    oidc_username: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Access {
    /// Name in the controller
    #[arg(value_name = "NAME")]
    name: String,

    /// Write the file that lets it in here, mode 0600
    #[arg(long, value_name = "FILE")]
    out: std::path::PathBuf,
}

/// Runs the command.
pub async fn run(arguments: Args, target: &Target, globals: &Globals) -> Result<u8, CliError> {
    match arguments.command {
        Command::Client { object, save } => make("Client", object, save, target, globals).await,
        Command::Exporter { object, save } => {
            if object.labels.is_empty() {
                return Err(
                    CliError::usage("an exporter needs at least one --label KEY=VALUE").with_hint(
                        "clients find exporters by their labels, for example --label board=rpi4",
                    ),
                );
            }
            make("Exporter", object, save, target, globals).await
        }
        Command::Router(access) => let_in("Router", access, target, globals).await,
        Command::Administrator(access) => let_in("Administrator", access, target, globals).await,
    }
}

async fn make(
    kind: &str,
    arguments: Object,
    save: SaveArgs,
    target: &Target,
    globals: &Globals,
) -> Result<u8, CliError> {
    // Before the object is made: a question that is answered with no must not leave half of it.
    save.check(kind, &arguments.name, globals)?;
    let mut manifest = manifest(kind, &arguments.name, &target.namespace);
    manifest["metadata"]["labels"] = json!(map(&arguments.labels));
    manifest["spec"] = json!({});
    if let Some(username) = &arguments.oidc_username {
        manifest["spec"]["username"] = username.as_str().into();
    }
    let created = target.admin.create(&manifest).await?;
    let said = format!("{} created", full_name(kind, &arguments.name));
    show(&created.object, &said, globals)?;
    let Some(credential) = created.credential else {
        return Ok(exit::OK);
    };
    save.save(
        kind,
        &arguments.name,
        &target.namespace,
        &credential,
        globals,
    )?;
    Ok(exit::OK)
}

async fn let_in(
    kind: &str,
    arguments: Access,
    target: &Target,
    globals: &Globals,
) -> Result<u8, CliError> {
    let manifest = manifest(kind, &arguments.name, super::target::DEFAULT_NAMESPACE);
    let created = target.admin.create(&manifest).await?;
    let Some(credential) = created.credential else {
        return Err(CliError::new("the controller made no credential"));
    };
    save::access(kind, &arguments.name, &arguments.out, &credential)?;
    let said = format!(
        "{} created, {} lets it in",
        full_name(kind, &arguments.name),
        arguments.out.display()
    );
    show(&created.object, &said, globals)?;
    Ok(exit::OK)
}

fn manifest(kind: &str, name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": jmp_types::resource::API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    })
}
