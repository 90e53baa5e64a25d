//! `jmp local`: an exporter in the background that `j` finds by itself.

use std::path::PathBuf;

use crate::error::CliError;
use crate::jmp::Globals;

/// Keep an exporter running in the background
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start an exporter in the background
    Start {
        /// Exporter configuration by file
        #[arg(
            long,
            visible_alias = "exporter-config",
            value_name = "FILE",
            required_unless_present = "exporter"
        )]
        config: Option<PathBuf>,
        /// Exporter configuration by name
        #[arg(long, value_name = "ALIAS", conflicts_with = "config")]
        exporter: Option<String>,
    },
    /// Tell whether an exporter runs in the background
    Status,
    /// Stop the exporter in the background
    Stop,
    /// Print the variables that other programs need to find it
    Env,
}

/// Runs the command.
///
/// # Errors
///
/// When the exporter cannot be started, found or stopped.
pub async fn run(_arguments: Args, _globals: &Globals) -> Result<u8, CliError> {
    Err(CliError::new("`jmp local` is being written"))
}
