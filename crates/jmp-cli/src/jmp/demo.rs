//! `jmp demo`: the whole story on a simulated board.

use crate::error::CliError;
use crate::jmp::Globals;

/// Flash, boot and talk to a simulated board
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End in a shell with the board
    #[arg(long)]
    keep: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When a step of the story fails.
pub async fn run(_arguments: Args, _globals: &Globals) -> Result<u8, CliError> {
    Err(CliError::new("`jmp demo` is being written"))
}
