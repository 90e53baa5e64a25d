//! `jmp`: everything but the devices.
//!
//! All commands are listed in [`Command`] and started in [`dispatch`]; each is one module with its
//! arguments and a `run`. Commands that touch the network are `async`, and only those pay for a runtime.

pub mod demo;
pub mod exporter;
pub mod globals;
pub mod local;
pub mod run;
pub mod runtime_directory;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::CliError;
use crate::{exit, output};
pub use globals::Globals;

/// How long work in the background, such as a read of standard input, may hold up the end of the program.
const SHUTDOWN: Duration = Duration::from_millis(500);

/// Use real and virtual devices under test from anywhere.
#[derive(Debug, Parser)]
#[command(
    name = "jmp",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    infer_long_args = false,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// All commands, in the order of the help.
#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Local(local::Args),
    Demo(demo::Args),
}

/// Starts a command; the result is the exit code.
fn dispatch(command: Command, globals: &Globals) -> Result<u8, CliError> {
    match command {
        Command::Run(arguments) => wait(run::run(arguments, globals)),
        Command::Local(arguments) => wait(local::run(arguments, globals)),
        Command::Demo(arguments) => wait(demo::run(arguments, globals)),
    }
}

/// Runs a command that needs the network.
fn wait(command: impl Future<Output = Result<u8, CliError>>) -> Result<u8, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(command);
    runtime.shutdown_timeout(SHUTDOWN);
    result
}

/// The command line as data, for completion and reference pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs `jmp`.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let parsed = command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is the only failure there can be, and nobody is left to hear of it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() {
                exit::USAGE
            } else {
                exit::OK
            });
        }
    };
    let globals = cli.globals;
    globals.start_logging();
    match dispatch(cli.command, &globals) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::report(&error, globals.output);
            ExitCode::from(error.code())
        }
    }
}
