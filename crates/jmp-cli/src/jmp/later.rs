//! Commands that need a controller: known, but not in this version yet.

use std::ffi::OsString;

use crate::error::CliError;

/// Words that mean such a command.
pub const WORDS: [&str; 8] = [
    "import",
    "i",
    "lease",
    "leases",
    "mcp",
    "client",
    "clients",
    "exporters",
];

/// Anything that needs a controller
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// What was asked for
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Says so.
///
/// # Errors
///
/// Always.
pub fn run(arguments: &Args) -> Result<u8, CliError> {
    let typed = std::env::args().find(|word| WORDS.contains(&word.as_str()));
    let mut command = vec!["jmp".to_owned()];
    command.extend(typed);
    let words = arguments
        .words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .take_while(|word| !word.starts_with('-'));
    command.extend(words);
    Err(needed(&format!("`{}`", command.join(" "))))
}

/// The honest answer.
pub fn needed(what: &str) -> CliError {
    CliError::new(format!(
        "{what} needs a controller, which this version cannot talk to yet"
    ))
    .with_hint(
        "devices of this machine: `jmp shell --exporter ALIAS`; an exporter elsewhere: \
         `jmp run … --tls-grpc-listener PORT` there and `jmp shell --tls-grpc HOST:PORT` here",
    )
}
