//! `jmp admin`: the objects of a controller.

mod apply;
mod audit;
mod create;
mod get;
mod remove;
mod save;
mod service;
pub mod target;

use self::target::AdminArgs;
use crate::error::{CliError, LOGIN_HINT};
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::later;
use crate::jmp::signals::unless_cancelled;
use crate::jmp::version;
use crate::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  jmp admin create exporter bench-3 --label board=rpi4 --save
  jmp admin create client hello --save --unsafe
  jmp admin get exporters
  jmp admin apply -f policies.yaml
  jmp admin rotate client hello --save
  jmp admin audit --actor client:default:hello";

/// What to do when a controller does not take somebody for its administrator.
const ADMIN_HINT: &str = "`jmp info` shows which administrator's file is used; another administrator makes a new one with \
     `jmp admin rotate administrator NAME --out FILE`, and the controller's data directory has the first, admin.yaml";

/// Administer a controller: clients, exporters, policies, routers, credentials, audit
///
/// The controller is the one of --admin-config FILE, else of the variable JMP_ADMIN_CONFIG, else of
/// admin.yaml beside your other configuration, which `jmp controller run` writes on its own host.
/// That file can be copied to any host.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(visible_alias = "c")]
    Create(create::Args),
    #[command(visible_alias = "g")]
    Get(get::Args),
    Apply(apply::Args),
    #[command(visible_aliases = ["del", "d"])]
    Delete(remove::DeleteArgs),
    #[command(visible_alias = "i")]
    Import(save::ImportArgs),
    Rotate(save::RotateArgs),
    Revoke(remove::RevokeArgs),
    /// Take exporters into service again
    Enable(service::Args),
    /// Take exporters out of service: no new leases; a running one goes on
    Disable(service::Args),
    Audit(audit::Args),
    Backup(audit::BackupArgs),
    Status(audit::StatusArgs),
    /// Of Jumpstarter 0.6
    #[command(hide = true)]
    Install(later::Args),
    /// Show the version
    #[command(visible_aliases = ["ver", "v"], after_help = "Examples:\n  jmp admin version -o json")]
    Version,
}

/// Runs the command.
///
/// # Errors
///
/// When the controller cannot be asked, or says no.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    if matches!(arguments.command, Command::Version) {
        return version::run(globals);
    }
    if matches!(arguments.command, Command::Install(_)) {
        return Err(later::cluster("jmp admin install"));
    }
    unless_cancelled(async {
        let target = arguments.admin.connect(globals).await?;
        match arguments.command {
            Command::Create(arguments) => create::run(arguments, &target, globals).await,
            Command::Get(arguments) => get::run(arguments, &target, globals).await,
            Command::Apply(arguments) => apply::run(arguments, &target, globals).await,
            Command::Delete(arguments) => remove::delete(arguments, &target, globals).await,
            Command::Import(arguments) => save::import(arguments, &target, globals).await,
            Command::Rotate(arguments) => save::rotate(arguments, &target, globals).await,
            Command::Revoke(arguments) => remove::revoke(arguments, &target, globals).await,
            Command::Enable(arguments) => service::run(arguments, true, &target, globals).await,
            Command::Disable(arguments) => service::run(arguments, false, &target, globals).await,
            Command::Audit(arguments) => audit::run(arguments, &target, globals).await,
            Command::Backup(arguments) => audit::backup(arguments, &target, globals).await,
            Command::Status(_) => audit::status(&target, globals).await,
            Command::Version | Command::Install(_) => Ok(exit::OK),
        }
    })
    .await
    .map_err(|error| match error.hint() {
        // What a client would do about it does not help an administrator.
        Some(LOGIN_HINT) => error.with_hint(ADMIN_HINT),
        _ => error,
    })
}

/// The plural that Kubernetes uses in names of resources, without the version.
fn full_name(kind: &str, name: &str) -> String {
    format!("{}.jumpstarter.dev/{name}", kind.to_ascii_lowercase())
}

/// Prints one object: `-o json|yaml|name`, else a sentence.
fn show(object: &serde_json::Value, said: &str, globals: &Globals) -> Result<(), CliError> {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    match globals.output {
        Some(Format::Json) => output::print(&output::json(object)),
        Some(Format::Yaml) => output::print(&output::yaml(object)?),
        Some(_) => output::print(&format!("{}\n", full_name(kind, text("name")))),
        None => output::print(&format!("{said}\n")),
    }
}
