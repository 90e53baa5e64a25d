//! `jmp admin delete` and `jmp admin revoke`.

use super::target::Target;
use super::{full_name, show};
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::prompt;
use crate::output;

const DELETE_EXAMPLES: &str = "\
Examples:
  jmp admin delete client hello --delete
  jmp admin delete exporter bench-3
  jmp admin delete policy lab";

/// Delete an object; leases of a client or exporter end with it
#[derive(Debug, clap::Args)]
#[command(after_help = DELETE_EXAMPLES)]
pub struct DeleteArgs {
    #[command(subcommand)]
    command: DeleteCommand,
}

#[derive(Debug, clap::Subcommand)]
enum DeleteCommand {
    /// Delete a client
    #[command(visible_aliases = ["clients", "c"], after_help = DELETE_EXAMPLES)]
    Client(WithFile),
    /// Delete an exporter
    #[command(visible_aliases = ["exporters", "e"], after_help = DELETE_EXAMPLES)]
    Exporter(WithFile),
    /// End somebody's lease
    #[command(visible_aliases = ["leases", "l"], after_help = DELETE_EXAMPLES)]
    Lease(Named),
    /// Delete an access policy
    #[command(visible_aliases = ["policies", "p", "exporteraccesspolicy"], after_help = DELETE_EXAMPLES)]
    Policy(Named),
    /// Delete a router's credential
    #[command(visible_alias = "routers", after_help = DELETE_EXAMPLES)]
    Router(Named),
    /// Delete an administrator
    #[command(visible_aliases = ["admin", "admins", "administrators"], after_help = DELETE_EXAMPLES)]
    Administrator(Named),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Debug, clap::Args)]
struct WithFile {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,

    /// Delete this user's configuration of that name, too
    #[arg(short, long)]
    delete: bool,
}

const REVOKE_EXAMPLES: &str = "\
Examples:
  jmp admin revoke client hello
  jmp admin revoke exporter bench-3";

/// Stop all tokens at once, also on open connections; `jmp admin rotate` gives out a new one
#[derive(Debug, clap::Args)]
#[command(after_help = REVOKE_EXAMPLES)]
pub struct RevokeArgs {
    /// What it is
    #[arg(value_name = "KIND", value_parser = ["client", "exporter", "router", "administrator"])]
    kind: String,

    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

/// Runs `jmp admin delete`.
pub async fn delete(
    arguments: DeleteArgs,
    target: &Target,
    globals: &Globals,
) -> Result<u8, CliError> {
    let (kind, name, file) = match arguments.command {
        DeleteCommand::Client(object) => ("client", object.name, Some(object.delete)),
        DeleteCommand::Exporter(object) => ("exporter", object.name, Some(object.delete)),
        DeleteCommand::Lease(object) => ("lease", object.name, None),
        DeleteCommand::Policy(object) => ("exporteraccesspolicy", object.name, None),
        DeleteCommand::Router(object) => ("router", object.name, None),
        DeleteCommand::Administrator(object) => ("admin", object.name, None),
    };
    let deleted = target.admin.delete(target.name(kind, &name)).await?;
    let said = match kind {
        "lease" => format!("{} ended", full_name(kind, &name)),
        _ => format!(
            "Deleted {kind} '{name}' in namespace '{}'",
            target.namespace
        ),
    };
    show(&deleted, &said, globals)?;
    if let Some(wanted) = file {
        local_file(kind, &name, wanted, globals)?;
    }
    Ok(exit::OK)
}

fn local_file(kind: &str, name: &str, wanted: bool, globals: &Globals) -> Result<(), CliError> {
    let Ok(alias) = name.parse() else {
        return Ok(());
    };
    let store = globals.store();
    let path = match kind {
        "client" => store.client_path(&alias),
        _ => store.exporter_path(&alias),
    };
    if !path.exists() {
        return Ok(());
    }
    let question = format!("Delete the configuration {} as well?", path.display());
    if !wanted && !prompt::confirm(&question, globals)? {
        output::note(&format!(
            "the configuration {} is still there; its token is of no use any more",
            path.display()
        ));
        return Ok(());
    }
    match kind {
        "client" => store.delete_client(&alias)?,
        _ => store.delete_exporter(&alias)?,
    };
    output::note(&format!("deleted {}", path.display()));
    Ok(())
}

/// Runs `jmp admin revoke`.
pub async fn revoke(
    arguments: RevokeArgs,
    target: &Target,
    globals: &Globals,
) -> Result<u8, CliError> {
    let kind = match arguments.kind.as_str() {
        "administrator" => "admin",
        other => other,
    };
    let object = target
        .admin
        .revoke(target.name(kind, &arguments.name))
        .await?;
    let said = format!(
        "all tokens of {} are revoked",
        full_name(&arguments.kind, &arguments.name)
    );
    show(&object, &said, globals)?;
    Ok(exit::OK)
}
