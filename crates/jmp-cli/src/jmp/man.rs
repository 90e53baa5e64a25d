//! `jmp man`: reference pages for man(1).

use std::path::{Path, PathBuf};

use clap_mangen::Man;

use crate::error::CliError;
use crate::exit;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  jmp man | man -l -
  jmp man --out ~/.local/share/man/man1     then: man jmp-shell";

/// Print the manual page, or write those of all commands
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Write one page for each command into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// When a page cannot be written.
pub fn run(arguments: &Args) -> Result<u8, CliError> {
    let mut command = super::command();
    command.build();
    match &arguments.out {
        None => output::print(&page(&command)?)?,
        Some(directory) => {
            std::fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
            write(&command, directory)?;
        }
    }
    Ok(exit::OK)
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(format!("cannot write {}: {error}", path.display()))
}

fn write(command: &clap::Command, directory: &Path) -> Result<(), CliError> {
    let name = page_name(command);
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, page(command)?).map_err(|error| failed(&path, &error))?;
    let below = command.get_subcommands();
    for command in below.filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        write(command, directory)?;
    }
    Ok(())
}

/// `jmp-config-client`.
fn page_name(command: &clap::Command) -> String {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    name.replace(' ', "-")
}

fn page(command: &clap::Command) -> Result<String, CliError> {
    let mut text = Vec::new();
    let page = Man::new(command.clone().name(page_name(command)));
    page.render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
