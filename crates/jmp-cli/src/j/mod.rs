//! `j`: the devices of a session as commands.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs `j`.
pub fn main(_arguments: Vec<OsString>) -> ExitCode {
    ExitCode::from(crate::exit::FAILURE)
}
