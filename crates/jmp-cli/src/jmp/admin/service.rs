//! `jmp admin enable` and `jmp admin disable`: taking exporters out of service, and back.

use super::target::Target;
use super::{full_name, show};
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;

const EXAMPLES: &str = "\
Examples:
  jmp admin disable exporter bench-3
  jmp admin enable exporter bench-3";

/// Exporters that are meant.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Exporters, by name
    #[command(visible_aliases = ["exporters", "e"], after_help = EXAMPLES)]
    Exporter {
        /// The exporters
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(
    arguments: Args,
    enabled: bool,
    target: &Target,
    globals: &Globals,
) -> Result<u8, CliError> {
    let Command::Exporter { names } = arguments.command;
    for name in names {
        let mut object = target.admin.get(target.name("exporter", &name)).await?;
        object["spec"]["enabled"] = enabled.into();
        let changed = target.admin.apply(&object).await?;
        let word = if enabled { "enabled" } else { "disabled" };
        let said = format!("{} {word}", full_name("Exporter", &name));
        show(&changed.object, &said, globals)?;
    }
    Ok(exit::OK)
}
