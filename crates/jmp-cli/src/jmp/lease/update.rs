//! `jmp update lease`.

use jmp_client::LeaseChange;
use jmp_types::{TimeSpan, Timestamp};

use super::arguments::{lease_duration, time};
use super::create::show;
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::client::ClientArgs;
use crate::jmp::signals::unless_cancelled;

const EXAMPLES: &str = "\
Examples:
  jmp update lease \"$JMP_LEASE\" --duration 4h     a running lease lasts four hours from its begin
  jmp update lease mine --end-time 2030-01-31T18:00
  jmp update lease mine --to-client colleague      hand it over";

/// Change something on the controller
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Extend or shorten a lease, move one that has not begun, or hand it to another client
    #[command(visible_aliases = ["leases", "l"], after_help = EXAMPLES)]
    Lease(Lease),
}

#[derive(Debug, clap::Args)]
#[group(id = "change", required = true, multiple = true, args = ["duration", "begin_time", "end_time", "to_client"])]
struct Lease {
    #[command(flatten)]
    client: ClientArgs,

    /// The lease
    #[arg(value_name = "NAME")]
    name: String,

    /// How long it lasts altogether, such as 30m, 1h30m or 01:30:00
    #[arg(long, value_parser = TimeSpan::parse, allow_hyphen_values = true)]
    duration: Option<TimeSpan>,

    /// Begin then; only for a lease that has not begun
    #[arg(long, value_parser = time, value_name = "TIME")]
    begin_time: Option<Timestamp>,

    /// End then
    #[arg(long, value_parser = time, value_name = "TIME")]
    end_time: Option<Timestamp>,

    /// Hand the lease to this client of the same namespace
    #[arg(long, value_name = "CLIENT")]
    to_client: Option<String>,
}

/// Runs the command.
///
/// # Errors
///
/// When the change is refused.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    let Command::Lease(arguments) = arguments.command;
    let controller = arguments.client.controller(globals)?;
    let change = LeaseChange {
        duration: arguments.duration.map(lease_duration).transpose()?,
        begin: arguments.begin_time,
        end: arguments.end_time,
        client: arguments.to_client,
    };
    let lease =
        unless_cancelled(async { Ok(controller.update_lease(&arguments.name, &change).await?) })
            .await?;
    show(&lease, globals)?;
    Ok(exit::OK)
}
