//! `jmp local`: an exporter in the background that `j` finds by itself.
//!
//! [`start`] runs this program again as [`serve`], in a session of its own, and waits until it is
//! ready or has said why not. The record of [`jmp_client::local`] leads everybody else to it.

mod describe;
mod serve;
mod start;
mod stop;

use std::path::PathBuf;

use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::exporter::ExporterArgs;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  jmp local start --config ./exporter.yaml
  j power on                                 finds the exporter by itself
  eval \"$(jmp local env)\"                   for programs that need JUMPSTARTER_HOST
  jmp local stop";

/// Keep an exporter running in the background
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start an exporter in the background
    #[command(
        after_help = "Examples:\n  jmp local start --config ./exporter.yaml\n  jmp local start --exporter bench --replace"
    )]
    Start {
        #[command(flatten)]
        choice: Choice,
        /// Stop the one that is running first
        #[arg(long)]
        replace: bool,
    },
    /// Tell whether an exporter runs in the background; exit code 1 if none does
    #[command(after_help = "Examples:\n  jmp local status\n  jmp local status -o json")]
    Status,
    /// Stop the exporter in the background
    #[command(after_help = "Examples:\n  jmp local stop")]
    Stop,
    /// Print the variables that other programs need to find it: eval "$(jmp local env)"
    #[command(
        after_help = "Examples:\n  eval \"$(jmp local env)\"\n  jmp local env --shell fish | source"
    )]
    Env {
        /// The shell that shall read them
        #[arg(long, value_enum, default_value = "sh")]
        shell: describe::Shell,
    },
    /// What `start` runs in the background
    #[command(hide = true)]
    Serve {
        #[command(flatten)]
        choice: Choice,
    },
}

/// Which exporter.
#[derive(Debug, Clone, clap::Args)]
struct Choice {
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
}

// === impl Choice ===

impl Choice {
    fn exporter_args(&self) -> ExporterArgs {
        ExporterArgs {
            exporter: self.exporter.clone(),
            exporter_config: self.config.clone(),
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// When the exporter cannot be started, found or stopped.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    match arguments.command {
        Command::Start { choice, replace } => start::run(&choice, replace, globals).await,
        Command::Serve { choice } => serve::run(&choice, globals).await,
        Command::Status => describe::status(globals).await,
        Command::Env { shell } => describe::environment(shell, globals),
        Command::Stop => match stop::running()? {
            Some(session) => {
                stop::stop(&session).await?;
                output::note(&format!(
                    "stopped exporter {} (process {})",
                    session.exporter, session.pid
                ));
                Ok(exit::OK)
            }
            None => {
                output::note("no exporter runs in the background");
                Ok(exit::OK)
            }
        },
    }
}
