//! `jmp router`: the relay of tunnels as a service.

pub mod run;

use clap::Subcommand;

use crate::error::CliError;
use crate::jmp::Globals;

/// Run a router, which carries the bytes between clients and exporters
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
    super::controller::raise_file_limit();
    match arguments.command {
        Command::Run(arguments) => run::run(*arguments, globals).await,
    }
}
