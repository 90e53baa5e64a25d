//! `jmp controller`: the controller as a service.

pub mod announce;
pub mod data;
mod local_router;
pub mod run;

use clap::Subcommand;

use crate::error::CliError;
use crate::jmp::Globals;

/// Run the controller that leases exporters to clients
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Args>),
}

/// Runs the command.
///
/// # Errors
///
/// Those of the command.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    match arguments.command {
        Command::Run(arguments) => run::run(*arguments, globals).await,
    }
}
