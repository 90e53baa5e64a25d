//! `jmp`: everything but the devices.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs `jmp`.
pub fn main(_arguments: Vec<OsString>) -> ExitCode {
    ExitCode::from(crate::exit::FAILURE)
}
