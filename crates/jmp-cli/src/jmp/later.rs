//! Commands of Jumpstarter that are known, but not in this version.

use std::ffi::OsString;

use crate::error::CliError;

/// Not in this version
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// What was asked for
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<OsString>,
}

/// Says that `jmp mcp` is to come.
///
/// # Errors
///
/// Always.
pub fn mcp() -> Result<u8, CliError> {
    Err(CliError::new("`jmp mcp` is not in this version")
        .with_hint("agents can run `jmp shell … -- j …` and read `-o json`"))
}

/// Says what takes the place of commands for clusters.
pub fn cluster(what: &str) -> CliError {
    CliError::new(format!(
        "`{what}` is about Kubernetes, which this version does without"
    ))
    .with_hint("`jmp controller run` starts a whole controller, without a cluster")
}
