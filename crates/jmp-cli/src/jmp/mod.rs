//! `jmp`: everything but the devices.
//!
//! All commands are listed in [`Command`] and started in [`dispatch`]; each is one module with its
//! arguments and a `run`. Commands that touch the network are `async`, and only those pay for a runtime.

pub mod admin;
pub mod auth;
pub mod client;
pub mod completion;
pub mod config;
pub mod controller;
pub mod demo;
pub mod driver;
pub mod exporter;
pub mod globals;
pub mod info;
pub mod later;
mod lazy;
pub mod lease;
pub mod local;
pub mod login;
pub mod man;
pub mod prompt;
pub mod router;
pub mod run;
pub mod runtime_directory;
pub mod shell;
pub mod signals;
pub mod token;
pub mod version;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::CliError;
use crate::{exit, output};
pub use globals::Globals;
use lazy::Lazy;

/// How long work in the background, such as a read of standard input, may hold up the end of the program.
const SHUTDOWN: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  jmp demo                                     the whole story on a simulated board
  jmp shell --exporter example-local           a shell in which `j` controls the devices
  jmp shell --exporter example-local -- j power on
  jmp run --exporter bench --tls-grpc-listener 1234 --tls-cert c.pem --tls-key k.pem
  jmp driver list                              what exporters can be configured with

Exit codes:
  0 success   1 failure   2 wrong command line, or stopped by a signal
  `jmp shell` ends with the code of its command; 127 or 126 when that is not found or cannot be run";

/// Use real and virtual devices under test from anywhere
#[derive(Debug, Parser)]
#[command(
    name = "jmp",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXAMPLES
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
    /// Flash, boot and talk to a simulated board
    Demo(Lazy<demo::Args>),
    // The headings of its help come before that of the global options if they are there first.
    #[command(visible_aliases = ["sh", "s"])]
    Shell(Box<shell::Args>),
    /// Run an exporter until it is stopped
    Run(Lazy<run::Args>),
    /// List exporters or leases
    #[command(visible_alias = "g")]
    Get(Lazy<lease::get::Args>),
    /// Create something on the controller
    #[command(visible_alias = "c")]
    Create(Lazy<lease::create::Args>),
    /// Change something on the controller
    Update(Lazy<lease::update::Args>),
    /// Delete something on the controller
    #[command(visible_aliases = ["del", "d"])]
    Delete(Lazy<lease::delete::Args>),
    /// Show everything about one lease or exporter, with what happened to it
    Describe(Lazy<lease::describe::Args>),
    // Its `--endpoint` takes the place of the global one, which has to be seen before that is added.
    Login(Box<login::Args>),
    /// Look at the token of a client, and renew it
    Auth(Lazy<auth::Args>),
    /// Administer a controller: clients, exporters, policies, routers, credentials, audit
    #[command(visible_alias = "a")]
    Admin(Lazy<admin::Args>),
    /// Run the controller that leases exporters to clients, and look after its store
    Controller(Lazy<controller::Args>),
    /// Run a router, which carries the bytes between clients and exporters
    Router(Lazy<router::Args>),
    /// Keep an exporter running in the background
    Local(Lazy<local::Args>),
    /// Show the endpoint, client, administrator, session and paths that are in effect
    Info(Lazy<info::Args>),
    /// Show and change configuration
    #[command(visible_alias = "conf")]
    Config(Lazy<config::Args>),
    /// Show the drivers that exporter configurations can name
    #[command(alias = "drivers")]
    Driver(Lazy<driver::Args>),
    /// Show the version of this program
    #[command(visible_aliases = ["ver", "v"])]
    Version(Lazy<version::Args>),
    /// Print a script that makes a shell complete `jmp` and `j`
    Completion(Lazy<completion::Args>),
    /// Print the manual page, or write those of all commands
    Man(Lazy<man::Args>),
    /// Old form of `jmp shell`
    #[command(hide = true, alias = "e")]
    Exporter(Lazy<shell::OldArgs>),
    /// Commands of a later version
    #[command(hide = true)]
    Mcp(Lazy<later::Args>),
}

/// Starts a command; the result is the exit code.
fn dispatch(command: Command, globals: &Globals) -> Result<u8, CliError> {
    match command {
        Command::Demo(arguments) => wait(demo::run(arguments.0, globals)),
        Command::Shell(arguments) => wait(shell::run(*arguments, globals)),
        Command::Run(arguments) => wait(run::run(arguments.0, globals)),
        Command::Get(arguments) => wait(lease::get::run(arguments.0, globals)),
        Command::Create(arguments) => wait(lease::create::run(arguments.0, globals)),
        Command::Update(arguments) => wait(lease::update::run(arguments.0, globals)),
        Command::Delete(arguments) => wait(lease::delete::run(arguments.0, globals)),
        Command::Describe(arguments) => wait(lease::describe::run(arguments.0, globals)),
        Command::Login(arguments) => wait(login::run(*arguments, globals)),
        Command::Auth(arguments) => wait(auth::run(arguments.0, globals)),
        Command::Admin(arguments) => wait(admin::run(arguments.0, globals)),
        Command::Local(arguments) => wait(local::run(arguments.0, globals)),
        Command::Info(_) => info::run(globals),
        Command::Config(arguments) => config::run(arguments.0, globals),
        Command::Driver(arguments) => driver::run(&arguments.0, globals),
        Command::Version(_) => version::run(globals),
        Command::Completion(arguments) => completion::run(&arguments.0),
        Command::Man(arguments) => man::run(&arguments.0),
        Command::Exporter(arguments) => wait(shell::run_old(arguments.0, globals)),
        Command::Controller(arguments) => wait(controller::run(arguments.0, globals)),
        Command::Router(arguments) => wait(router::run(arguments.0, globals)),
        Command::Mcp(_) => later::mcp(),
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
    if let Some(code) = completion::answer() {
        return code;
    }
    let wants_json = wants_json(&arguments);
    let parsed = command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => start(cli),
        Err(error) => explain(&error, wants_json),
    }
}

fn start(cli: Cli) -> ExitCode {
    let globals = cli.globals.settled();
    globals.start_logging();
    match dispatch(cli.command, &globals) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::report(&error, globals.output);
            ExitCode::from(error.code())
        }
    }
}

/// Shows help that was asked for on standard output, everything else on standard error.
fn explain(error: &clap::Error, wants_json: bool) -> ExitCode {
    if !error.use_stderr() {
        // A closed pipe is the only failure there can be, and nobody is left to hear of it.
        let _ = error.print();
        return ExitCode::from(exit::OK);
    }
    let rendered = error.render();
    if wants_json {
        let text = rendered.to_string();
        let message = text.trim_start_matches("error: ").trim_end();
        output::report(&CliError::usage(message), Some(output::Format::Json));
    } else if output::colours_stderr() {
        output::note(rendered.ansi().to_string().trim_end());
    } else {
        let text = rendered.to_string();
        let text = text.trim_end();
        match text.strip_prefix("error: ") {
            Some(rest) => output::note(&format!("Error: {rest}")),
            None => output::note(text),
        }
    }
    ExitCode::from(exit::USAGE)
}

/// Whether `-o json` stands before any `--`, as far as can be told of a line that makes no sense.
fn wants_json(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments
        .iter()
        .filter_map(|word| word.to_str())
        .take_while(|word| *word != "--")
        .collect();
    words
        .windows(2)
        .any(|pair| matches!(pair, ["-o" | "--output", "json"]))
        || words
            .iter()
            .any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"))
}
