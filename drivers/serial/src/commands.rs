//! `j serial …` (facts: drivers 1.4).

use std::io;
use std::path::Path;

use futures::future::BoxFuture;
use jmp_driver::command::{
    Argument, ClientType, Command, Commands, DeviceInfo, Given, Invocation, ValueKind,
};
use jmp_driver::{ByteStream, Error, ErrorKind, Result};
use jmp_interfaces::serial::{SerialClient, SerialReplayClient};
use jmp_process::{RawTerminal, StdinReader, is_terminal};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWrite;

use crate::pipe::{Ending, copy, interact};

/// Client type of [`jmp_interfaces::serial::Serial`].
pub const SERIAL: ClientType = ClientType {
    classes: &["jumpstarter_driver_pyserial.client.PySerialClient"],
    about: "Serial port client",
    commands: serial,
};

fn serial(_: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    Box::pin(async { Ok(Commands::Group(vec![pipe(), start_console()])) })
}

fn replay() -> Argument {
    Argument::flag(
        "replay",
        "First show what the exporter has kept of the output so far",
    )
}

fn start_console() -> Command {
    Command::new("start-console", "Start serial port console", run_console)
        .argument(replay())
        .example("start-console")
}

fn pipe() -> Command {
    Command::new("pipe", "Pipe serial port data to stdout or file.", run_pipe)
        .argument(
            Argument::option(
                "output",
                ValueKind::File,
                "Write to this file instead of standard output",
            )
            .short('o'),
        )
        .argument(
            Argument::flag(
                "input",
                "Send standard input to the port, which happens anyway unless it is a terminal",
            )
            .short('i'),
        )
        .argument(Argument::flag("no-input", "Do not send standard input"))
        .argument(
            Argument::flag("append", "Append to the file instead of overwriting it").short('a'),
        )
        .argument(Argument::flag(
            "no-output",
            "Send standard input and leave at its end",
        ))
        .argument(replay())
        .example("pipe -o serial.log")
        .example("pipe --no-output < commands.txt")
}

async fn connect(invocation: &Invocation) -> Result<ByteStream> {
    let handle = invocation.device.handle.clone();
    if !invocation.given.is_set("replay") {
        return SerialClient::new(handle).connect().await;
    }
    let replayed = SerialReplayClient::new(handle).replay().await;
    replayed.map_err(explain_replay)
}

/// Shipped exporters keep nothing.
fn explain_replay(error: Error) -> Error {
    if error.kind() == ErrorKind::MethodNotFound {
        return Error::unimplemented(
            "this exporter keeps no history of the console; leave `--replay` out",
        );
    }
    error
}

async fn run_console(invocation: Invocation) -> Result<u8> {
    let stdin = io::stdin();
    if !is_terminal(&stdin) {
        return Err(Error::invalid_argument(
            "start-console needs a terminal as standard input; use `pipe` to send a file or the \
             output of a program",
        ));
    }
    let stream = connect(&invocation).await?;
    eprintln!("\nStarting serial port console ... exit with CTRL+B x 3 times\n");
    let ending = {
        let _raw = RawTerminal::enter(&stdin)?;
        interact(stream, StdinReader::new()?, tokio::io::stdout()).await
    };
    // The cursor is wherever the board left it.
    eprintln!();
    finish(ending?)
}

/// What `pipe` was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    input: bool,
    output: bool,
    append: bool,
    /// Standard input is taken because it is no terminal.
    detected: bool,
}

impl Plan {
    /// The errors are those of shipped clients.
    fn new(given: &Given, terminal: bool) -> Result<Self> {
        let [input, no_input, append, no_output] =
            ["input", "no-input", "append", "no-output"].map(|name| given.is_set(name));
        let file = given.get("output").is_some();
        let refuse = |text: &str| Err(Error::invalid_argument(text));
        if input && no_input {
            return refuse("Cannot use both --input and --no-input");
        }
        if no_output && file {
            return refuse("Cannot use both --no-output and --output");
        }
        if no_output && append {
            return refuse("Cannot use both --no-output and --append");
        }
        if append && !file {
            return refuse("--append requires --output");
        }
        let detected = !input && !no_input && !terminal;
        let plan = Self {
            input: input || detected,
            output: !no_output,
            append,
            detected,
        };
        if no_output && !plan.input {
            return refuse("--no-output requires stdin input (pipe stdin or use --input)");
        }
        Ok(plan)
    }

    /// What is told before the first byte (observed on 0.9.0).
    fn status(&self, file: Option<&str>) -> String {
        let how = if self.detected {
            " (auto-detected piped stdin)"
        } else {
            ""
        };
        match (self.input, self.output, file) {
            (true, false, _) => {
                format!("Fire-and-forget mode{how}: stdin→serial, no output (exits at EOF)")
            }
            (true, true, Some(file)) => {
                format!("Bidirectional mode{how} with logging to {file}... (Ctrl+C to exit)")
            }
            (true, true, None) => {
                format!("Bidirectional mode{how}: stdin→serial, serial→stdout (Ctrl+C to exit)")
            }
            (false, _, Some(file)) => {
                format!("Logging serial output to {file} (read-only)... (Ctrl+C to exit)")
            }
            (false, _, None) => {
                "Reading from serial port (read-only)... (Ctrl+C to exit)".to_owned()
            }
        }
    }
}

async fn run_pipe(invocation: Invocation) -> Result<u8> {
    let given = &invocation.given;
    let plan = Plan::new(given, is_terminal(io::stdin()))?;
    let file = given.get("output");
    let output: Option<Box<dyn AsyncWrite + Send + Unpin>> = match file {
        _ if !plan.output => None,
        Some(path) => Some(Box::new(create(Path::new(path), plan.append).await?)),
        None => Some(Box::new(tokio::io::stdout())),
    };
    let input = plan.input.then(StdinReader::new).transpose()?;
    let stream = connect(&invocation).await?;
    eprintln!("{}", plan.status(file));
    finish(copy(stream, input, output).await?)
}

async fn create(path: &Path, append: bool) -> Result<tokio::fs::File> {
    let mut options = OpenOptions::new();
    options.create(true).append(append).write(true);
    options.truncate(!append);
    options.open(path).await.map_err(|error| {
        let text = format!("writing to {}: {error}", path.display());
        Error::new(ErrorKind::FileAccess, text).with_source(error)
    })
}

fn finish(ending: Ending) -> Result<u8> {
    match ending {
        Ending::Left => Ok(0),
        Ending::EndOfStream => {
            eprintln!("\nSerial connection closed normally (end of stream).");
            Ok(0)
        }
        Ending::Lost(error) => {
            eprintln!("\nSerial connection lost (broken resource)...");
            Err(explain_replay(error.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(names: &[&str]) -> Given {
        let mut given = Given::default();
        for name in names {
            given.push(name, if *name == "output" { "log" } else { "" });
        }
        given
    }

    #[test]
    fn conflicts_are_refused_in_the_words_of_shipped_clients() {
        for (names, terminal, text) in [
            (
                &["input", "no-input"][..],
                true,
                "Cannot use both --input and --no-input",
            ),
            (
                &["no-output", "output"],
                false,
                "Cannot use both --no-output and --output",
            ),
            (
                &["no-output", "append"],
                false,
                "Cannot use both --no-output and --append",
            ),
            (&["append"], true, "--append requires --output"),
            (
                &["no-output", "no-input"],
                false,
                "--no-output requires stdin input (pipe stdin or use --input)",
            ),
            (
                &["no-output"],
                true,
                "--no-output requires stdin input (pipe stdin or use --input)",
            ),
        ] {
            let error = Plan::new(&given(names), terminal).unwrap_err();
            assert_eq!(error.message(), text);
        }
    }

    #[test]
    fn the_status_line_tells_what_happens() {
        for (names, terminal, text) in [
            (
                &[][..],
                true,
                "Reading from serial port (read-only)... (Ctrl+C to exit)",
            ),
            (
                &["output"],
                true,
                "Logging serial output to log (read-only)... (Ctrl+C to exit)",
            ),
            (
                &[],
                false,
                "Bidirectional mode (auto-detected piped stdin): stdin→serial, serial→stdout \
                 (Ctrl+C to exit)",
            ),
            (
                &["input", "output", "append"],
                true,
                "Bidirectional mode with logging to log... (Ctrl+C to exit)",
            ),
            (
                &["no-output"],
                false,
                "Fire-and-forget mode (auto-detected piped stdin): stdin→serial, no output (exits \
                 at EOF)",
            ),
        ] {
            let given = given(names);
            let plan = Plan::new(&given, terminal).unwrap();
            assert_eq!(plan.status(given.get("output")), text);
        }
    }
}
