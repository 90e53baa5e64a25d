//! The programs `jmp` and `j`: commands and output formats, as a library.
//!
//! One program with two names: [`main`] looks at the name it was called by. [`jmp`] has one
//! module a command, [`j`] turns the live device tree into commands. Both fail with a
//! [`error::CliError`] and print through [`output`].

// Doc comments of arguments are their help, where brackets mean that something is optional.
#![allow(rustdoc::broken_intra_doc_links)]

pub mod error;
pub mod exit;
pub mod j;
pub mod jmp;
pub mod output;
pub mod session_record;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Runs the program under the name it was called by.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // First of all: the supervisor of child processes must be up before anything can go wrong.
    if let Some(code) = jmp_process::maybe_run_supervisor(arguments.iter().cloned()) {
        return code;
    }
    jmp_wire::tls::install_provider();
    let called_as_j = arguments
        .first()
        .and_then(|name| Path::new(name).file_stem())
        .is_some_and(|name| name == "j");
    if called_as_j {
        j::main(arguments)
    } else {
        jmp::main(arguments)
    }
}
