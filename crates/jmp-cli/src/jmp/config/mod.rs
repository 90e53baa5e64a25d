//! `jmp config`: configuration files, and what they amount to.

mod client;
mod exporter;
mod show;

use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::prompt;
use crate::output::{self, Format};

/// Show and change configuration
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
#[command(infer_subcommands = false)]
enum Command {
    #[command(visible_aliases = ["clients", "c"])]
    Client(client::Args),
    #[command(visible_aliases = ["exporters", "e"])]
    Exporter(exporter::Args),
    Show(show::Args),
}

/// Runs the command.
///
/// # Errors
///
/// When a file cannot be found, read or written.
pub fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    match arguments.command {
        Command::Client(arguments) => client::run(arguments, globals),
        Command::Exporter(arguments) => exporter::run(arguments, globals),
        Command::Show(arguments) => show::run(arguments, globals),
    }
}

/// Answers a change: silent unless the path or the name of what was changed is wanted.
fn changed(path: &std::path::Path, name: &str, globals: &Globals) -> Result<u8, CliError> {
    let path = path.display().to_string();
    match globals.output {
        None => {}
        Some(Format::Path) => output::print(&format!("{path}\n"))?,
        Some(Format::Name) => output::print(&format!("{name}\n"))?,
        Some(Format::Json) => {
            output::print(&output::json(
                &serde_json::json!({"alias": name, "path": path}),
            ))?;
        }
        Some(Format::Yaml) => {
            output::print(&output::yaml(
                &serde_json::json!({"alias": name, "path": path}),
            )?)?;
        }
    }
    Ok(crate::exit::OK)
}

/// Lets a person confirm that certificates are not checked; a no ends the command.
fn confirm_insecure(insecure: bool, globals: &Globals) -> Result<(), CliError> {
    if !insecure || globals.nointeractive {
        return Ok(());
    }
    if prompt::confirm(
        "Certificates will not be checked, so anybody can pose as the controller. Continue?",
        globals,
    )? {
        return Ok(());
    }
    Err(CliError::new("Aborted!").with_hint("--nointeractive skips the question"))
}

/// A missing text is an absent one in files.
fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
