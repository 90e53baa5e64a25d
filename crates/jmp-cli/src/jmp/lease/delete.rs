//! `jmp delete leases`.

use jmp_client::lease::short_name;
use jmp_client::{Controller, LeaseFilter};
use jmp_config::{Environment, ProcessEnvironment};
use jmp_types::Selector;

use super::arguments::selector;
use super::get::{equalities, is_shown};
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::client::ClientArgs;
use crate::jmp::signals::unless_cancelled;
use crate::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  jmp delete lease \"$JMP_LEASE\"
  jmp delete lease                  the lease of JMP_LEASE, else your only one
  jmp delete leases --all
  jmp delete leases -l board=rpi4 -o name";

/// Delete something on the controller
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// End leases, so that others can have the devices
    #[command(visible_aliases = ["lease", "l"], after_help = EXAMPLES)]
    Leases(Leases),
}

#[derive(Debug, clap::Args)]
struct Leases {
    #[command(flatten)]
    client: ClientArgs,

    /// The leases
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Your leases that were asked for with these labels
    #[arg(short = 'l', long, conflicts_with = "names")]
    selector: Vec<String>,

    /// All your active leases
    #[arg(short = 'a', long, conflicts_with_all = ["names", "selector"])]
    all: bool,

    /// Leases of other clients, too, as far as the controller lets you
    #[arg(short = 'A', long, conflicts_with = "names")]
    all_clients: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When a lease cannot be ended; those before it have been.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    let Command::Leases(arguments) = arguments.command;
    let controller = arguments.client.controller(globals)?;
    unless_cancelled(async {
        let of_environment = arguments.of_environment();
        for name in arguments.find(&controller).await? {
            match controller.delete_lease(&name).await {
                // The last step of a script, after the lease's time or another step ended it.
                Err(error) if of_environment && is_over(&error) => {
                    output::note(&format!("lease {name} of JMP_LEASE has ended already"));
                    continue;
                }
                ended => ended?,
            };
            match globals.output {
                None => output::print(&format!("lease \"{name}\" deleted\n"))?,
                Some(Format::Json | Format::Yaml) => {
                    output::print(&format!("{}\n", serde_json::json!({ "deleted": name })))?;
                }
                Some(_) => output::print(&format!("{name}\n"))?,
            }
        }
        Ok(exit::OK)
    })
    .await
}

/// Whether there is no such lease any more.
fn is_over(error: &jmp_client::Error) -> bool {
    let jmp_client::Error::Refused { code, message, .. } = error else {
        return false;
    };
    match *code {
        "NOT_FOUND" => true,
        "FAILED_PRECONDITION" => message.contains("already been released"),
        "UNKNOWN" => message.contains("not found"),
        _ => false,
    }
}

// === impl Leases ===

impl Leases {
    /// Nothing says which lease is meant but JMP_LEASE.
    fn of_environment(&self) -> bool {
        let several = self.all || self.all_clients || !self.selector.is_empty();
        !several && self.names.is_empty() && ProcessEnvironment.filled("JMP_LEASE").is_some()
    }

    async fn find(&self, controller: &Controller) -> Result<Vec<String>, CliError> {
        if !self.names.is_empty() {
            return Ok(self.names.clone());
        }
        let selector = selector(&self.selector)?;
        let several = self.all || self.all_clients || !selector.is_empty();
        if !several && let Some(name) = ProcessEnvironment.filled("JMP_LEASE") {
            return Ok(vec![name]);
        }
        let found = self.active(controller, &selector).await?;
        if several {
            return match found.len() {
                0 => Err(CliError::new("no active lease was found that fits")
                    .with_hint("`jmp get leases` shows yours")),
                _ => Ok(found),
            };
        }
        match found.len() {
            // The last step of a script that has cleaned up already.
            0 => {
                output::note("no active lease, nothing to end");
                Ok(found)
            }
            1 => Ok(found),
            _ => Err(CliError::new(format!(
                "say which lease to end, yours are {}",
                found.join(", ")
            ))
            .with_hint("`jmp delete leases --all` ends all of them")),
        }
    }

    async fn active(
        &self,
        controller: &Controller,
        selector: &Selector,
    ) -> Result<Vec<String>, CliError> {
        let filter = LeaseFilter {
            selector: equalities(selector),
            ..Default::default()
        };
        let owner = (!self.all_clients).then(|| controller.client_name());
        let found = controller.list_leases(&filter).await?;
        let found = found
            .iter()
            .filter(|lease| is_shown(lease, owner, selector));
        Ok(found
            .map(|lease| short_name(&lease.name).to_owned())
            .collect())
    }
}
