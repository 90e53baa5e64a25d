//! `jmp controller`: the controller as a service.

pub mod announce;
pub mod data;
mod local_router;
pub mod run;
mod stored;

use clap::Subcommand;

use crate::error::CliError;
use crate::jmp::Globals;

/// Run the controller that leases exporters to clients, and look after its store
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Backup(stored::BackupArgs),
    Restore(stored::RestoreArgs),
    Inspect(stored::InspectArgs),
    Dump(stored::DumpArgs),
}

/// Runs the command.
///
/// # Errors
///
/// Those of the command.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    raise_file_limit();
    match arguments.command {
        Command::Run(arguments) => run::run(*arguments, globals).await,
        Command::Backup(arguments) => stored::backup(arguments, globals).await,
        Command::Restore(arguments) => stored::restore(arguments, globals).await,
        Command::Inspect(arguments) => stored::inspect(arguments, globals).await,
        Command::Dump(arguments) => stored::dump(arguments).await,
    }
}

/// Every connection is an open file, and what programs are started with is 1024 on many systems: takes
/// what the system allows.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}
