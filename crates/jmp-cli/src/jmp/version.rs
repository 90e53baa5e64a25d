//! `jmp version`: which program this is.

use serde_json::json;

use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::output::{self, Format};

/// The version of this program, without a `v`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The release of the Python packages whose protocol and commands this program was checked against.
pub const COMPATIBLE_WITH: &str = "0.9.0";

/// Show the version of this program
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  jmp version\n  jmp version -o json")]
pub struct Args {}

/// Runs the command.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn run(globals: &Globals) -> Result<u8, CliError> {
    let data = json!({"gitVersion": VERSION, "compatibleWith": COMPATIBLE_WITH});
    match globals.output {
        Some(Format::Json) => output::print(&output::json(&data))?,
        Some(Format::Yaml) => output::print(&output::yaml(&data)?)?,
        Some(Format::Path) => output::print(&format!("{}\n", program()))?,
        Some(Format::Name) | None => output::print(&format!(
            "Jumpstarter v{VERSION} from {} (Rust, compatible with {COMPATIBLE_WITH})\n",
            directory()
        ))?,
    }
    Ok(exit::OK)
}

/// Where this program is.
pub fn program() -> String {
    std::env::current_exe().map_or_else(|_| "unknown".into(), |path| path.display().to_string())
}

fn directory() -> String {
    std::env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(|parent| parent.display().to_string()))
        .unwrap_or_else(|| "unknown".into())
}
