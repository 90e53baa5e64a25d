//! `j`: the devices of a session as commands.
//!
//! Everything comes from the device tree of the session and the list of client types; nothing
//! here knows a single driver. [`mod@line`] walks down the tree word by word, [`leaf`] turns the one
//! command that is addressed into an argument parser, [`group`] shows what there is, [`generic`]
//! calls drivers whose client class nobody knows, [`complete`] answers the shell.

pub mod complete;
mod failure;
mod generic;
mod group;
mod leaf;
mod line;
mod logs;
mod offer;
mod run;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::exit;
use crate::output;
use failure::Failure;

/// Runs `j`. The exit code is the one of the command; 1 for usage errors and for errors of
/// drivers and connections, 2 when interrupted.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    end_quietly_without_reader();
    let completion = complete::Request::from_environment();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("Error: starting: {error}"));
            return ExitCode::from(exit::FAILURE);
        }
    };
    let code = match completion {
        Some(request) => runtime.block_on(complete::answer(request)),
        None => runtime.block_on(guarded(arguments)),
    };
    // A thread that waits for standard input must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Runs the command until it ends or a signal asks to stop.
async fn guarded(arguments: Vec<OsString>) -> u8 {
    let (mut interrupt, mut terminate) = match (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => {
            return Failure::from(error).report();
        }
    };
    // Words of shipped clients.
    let notice = tokio::select! {
        result = run::run(arguments) => {
            return match result {
                Ok(code) => flushed(code),
                Err(failure) => failure.report(),
            };
        }
        _ = interrupt.recv() => "SIGINT pressed, terminating",
        _ = terminate.recv() => "SIGTERM received, terminating",
    };
    output::note(notice);
    exit::USAGE
}

/// A reader of standard output that has gone wants no more, which is a success.
fn quiet(error: std::io::Error) -> jmp_driver::Error {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(exit::OK.into());
    }
    jmp_driver::Error::from(error).context("writing to standard output")
}

/// Standard output may hold an unfinished line.
fn flushed(code: u8) -> u8 {
    match std::io::stdout().flush() {
        Ok(()) => code,
        Err(error) => Failure::from(error).report(),
    }
}

/// `j power read | head -1` is no failure, and no panic: the commands of drivers print by
/// `println!`, which panics when standard output cannot be written.
fn end_quietly_without_reader() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        match text.and_then(|text| text.strip_prefix("failed printing to stdout: ")) {
            Some(reason) if reason.starts_with("Broken pipe") => {
                std::process::exit(exit::OK.into())
            }
            Some(reason) => {
                output::note(&format!("Error: writing to standard output: {reason}"));
                std::process::exit(exit::FAILURE.into())
            }
            None => others(panic),
        }
    }));
}
