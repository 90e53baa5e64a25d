//! `jmp run`: an exporter as a service.

use std::path::PathBuf;

use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::exporter::ExporterArgs;

/// Run an exporter until it is stopped
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    exporter: ExporterArgs,

    /// Serve clients directly on this address instead of through a controller
    #[arg(long, value_name = "[HOST:]PORT")]
    tls_grpc_listener: Option<String>,

    /// Serve without TLS
    #[arg(long, requires = "tls_grpc_listener", conflicts_with_all = ["tls_cert", "tls_key"])]
    tls_grpc_insecure: bool,

    /// Certificate chain of the listener
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the listener
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Clients of the listener must present this passphrase
    #[arg(long, requires = "tls_grpc_listener")]
    passphrase: Option<String>,

    /// End when the first lease ends
    #[arg(long)]
    exit_on_lease_end: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When the exporter cannot be started.
pub async fn run(_arguments: Args, _globals: &Globals) -> Result<u8, CliError> {
    Err(CliError::new("`jmp run` is being written"))
}
