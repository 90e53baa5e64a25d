//! `jmp demo`: the whole story on a simulated board.
//!
//! [`story`] is what happens, written with nothing but the client library; [`narrator`] shows it
//! to people and programs; [`exporter`] is the exporter, a process of its own; [`image`] makes what
//! is written to the board.

mod console;
mod exporter;
mod image;
mod narrator;
mod story;

use std::path::PathBuf;

use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::shell::launch::Launch;
use crate::jmp::signals::unless_cancelled;
use crate::output;
use exporter::Exporter;
use narrator::{Ending, Narrator};
use story::Failure;

const EXAMPLES: &str = "\
Examples:
  jmp demo                        flash, boot and talk to a simulated board
  jmp demo --keep                 the same, then a shell with the board (try: j board power read)
  jmp demo --corrupt              what a damaged image looks like; ends with exit code 1
  jmp demo --fault flash-fails    what a failing write looks like; ends with exit code 1
  jmp demo -o json                the steps as data

Exit codes:
  0 when every step worked, 1 when one failed, 2 when it was stopped by a signal;
  with --keep the one of the shell";

/// Flash, boot and talk to a simulated board
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// End in a shell with the board, which stays on
    #[arg(long)]
    keep: bool,

    /// Write this image instead of one made for the occasion
    #[arg(long, value_name = "FILE", conflicts_with = "image_size")]
    image: Option<PathBuf>,

    /// Size of the image that is made, in mebibytes
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1024))]
    image_size: u64,

    /// Damage the image on its way to the board
    #[arg(long)]
    corrupt: bool,

    /// Let something else go wrong
    #[arg(long, value_enum)]
    fault: Option<Fault>,

    /// Use no colours
    #[arg(long)]
    no_color: bool,

    /// Be the exporter of a demo whose files are in this directory
    #[arg(long, value_name = "DIRECTORY", hide = true)]
    serve: Option<PathBuf>,
}

/// What can be made to go wrong, besides the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Fault {
    /// The board does not reach its login
    DoesNotBoot,
    /// The serial line flips bits
    GarblesSerial,
    /// Writing the storage fails part way
    FlashFails,
}

// === impl Fault ===

impl Fault {
    /// The configuration of the board that makes it happen.
    fn config(self) -> &'static str {
        match self {
            Self::DoesNotBoot => "does_not_boot: 1.0",
            Self::GarblesSerial => "garbles_serial: 0.2",
            Self::FlashFails => "flash_fails: 1.0",
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// When a step of the story fails; everything has ended by then.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    if let Some(directory) = &arguments.serve {
        return exporter::serve(directory).await;
    }
    let mut narrator = Narrator::new(globals.output, arguments.no_color)?;
    narrator.open()?;
    let mut exporter = None;
    let told = unless_cancelled(async {
        let told = story::tell(&mut narrator, &arguments, &mut exporter).await;
        told.map_err(|failure| arguments.explain(failure))
    })
    .await;
    let shell = match (&told, &exporter) {
        (Ok(()), Some(exporter)) if arguments.keep => {
            narrator.close(Ending::Kept)?;
            Some(keep(exporter).await)
        }
        _ => None,
    };
    let stopped = match exporter {
        Some(exporter) => exporter.stop().await,
        None => Ok(()),
    };
    if let Some(shell) = shell {
        return shell.and_then(|code| stopped.map(|()| code));
    }
    let ending = match &told {
        Ok(()) => Ending::Done,
        Err(_) => Ending::Failed,
    };
    narrator.close(ending)?;
    told.and(stopped).map(|()| crate::exit::OK)
}

/// A shell with the board, as `jmp shell` has it.
async fn keep(exporter: &Exporter) -> Result<u8, CliError> {
    output::note(
        "The board is yours. Try `j`, `j board power read`, `j board serial start-console`; `exit` ends it.",
    );
    let mut launch = Launch::new(Vec::new(), false);
    launch.variable("JUMPSTARTER_HOST", exporter.socket().as_os_str());
    launch
        .run("demo", exporter.directory(), std::future::pending())
        .await
}

// === impl Args ===

impl Args {
    /// The failure for the person, with what they asked for themselves.
    fn explain(&self, failure: Failure) -> CliError {
        let error = CliError::new(format!("{} failed: {}", failure.step, failure.reason));
        let asked = match (self.corrupt, self.fault) {
            (true, None) => Some("--corrupt"),
            (false, Some(_)) => Some("--fault"),
            (true, Some(_)) => Some("--corrupt and --fault"),
            (false, None) => None,
        };
        match (failure.hint, asked) {
            (Some(hint), _) => error.with_hint(hint),
            (None, Some(options)) => error.with_hint(format!(
                "that is what {options} asked for; without, it works"
            )),
            (None, None) => error,
        }
    }
}
