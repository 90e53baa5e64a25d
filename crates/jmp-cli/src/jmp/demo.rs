//! `jmp demo`: the whole story on a simulated board.
//!
//! [`story`] is what happens, written with nothing but the client library; [`narrator`] shows it
//! to people and programs; [`lab`] is where it happens: controller, router and exporter, each a process
//! of its own; [`image`] makes what is written to the board.

mod console;
mod image;
mod lab;
mod narrator;
mod story;

use std::path::PathBuf;

use jmp_client::LeaseSocket;

use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::shell::launch::Launch;
use crate::jmp::signals::unless_cancelled;
use crate::output;
use lab::Lab;
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

    /// Remove this directory of a demo when the demo is gone
    #[arg(long, value_name = "DIRECTORY", hide = true)]
    sweep: Option<PathBuf>,
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
    if let Some(directory) = &arguments.sweep {
        return lab::sweep(directory).await;
    }
    let mut narrator = Narrator::new(globals.output, arguments.no_color)?;
    narrator.open()?;
    let mut lab = Lab::new()?;
    let told = unless_cancelled(async {
        let told = story::tell(&mut narrator, &arguments, &mut lab).await;
        told.map_err(|failure| arguments.explain(failure))
    })
    .await;
    let shell = if told.is_ok() && arguments.keep {
        narrator.close(Ending::Kept)?;
        Some(keep(&mut lab).await)
    } else {
        None
    };
    let told = match (told, shell) {
        (Ok(()), Some(shell)) => return lab.stop().await.and(shell),
        (Ok(()), None) => stop(&mut narrator, lab, &arguments).await,
        (Err(error), _) => lab.stop().await.and(Err(error)),
    };
    narrator.close(match &told {
        Ok(()) => Ending::Done,
        Err(_) => Ending::Failed,
    })?;
    told.map(|()| crate::exit::OK)
}

async fn stop(narrator: &mut Narrator, lab: Lab, arguments: &Args) -> Result<(), CliError> {
    let stopped = story::stop(narrator, lab).await;
    stopped.map_err(|failure| arguments.explain(failure))
}

/// A shell with the board, as `jmp shell` has it.
async fn keep(lab: &mut Lab) -> Result<u8, CliError> {
    output::note(
        "The board is yours. Try `j`, `j board power read`, `j board serial start-console`; `exit` ends it.",
    );
    let socket = lab.directory().socket();
    let tunnels = LeaseSocket::bind(&socket, lab.dial()?, |error| {
        output::warn(&format!("no way to the board: {error}"));
    })?;
    let mut launch = Launch::new(Vec::new(), false);
    launch.variable("JUMPSTARTER_HOST", socket.as_os_str());
    let ended = launch
        .run("demo", lab.directory(), std::future::pending())
        .await;
    tunnels.close().await;
    lab.release().await?;
    ended
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
