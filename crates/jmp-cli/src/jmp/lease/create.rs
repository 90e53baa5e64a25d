//! `jmp create lease`.

use std::time::Duration;

use jmp_client::lease::{self, short_name};
use jmp_client::{Controller, LeaseRequest};
use jmp_proto::jumpstarter::client::v1 as wire;
use jmp_types::{TimeSpan, Timestamp};

use super::arguments::{DEFAULT_DURATION, lease_duration, map, pair, selector, time};
use super::get::now;
use super::view::{self, LEASE_HEADINGS, lease_json, lease_row};
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::client::ClientArgs;
use crate::jmp::signals::unless_cancelled;
use crate::output::Listing;

const EXAMPLES: &str = "\
Examples:
  jmp create lease -l board=rpi4 --duration 1h
  JMP_LEASE=$(jmp create lease -l board=rpi4 --duration 1d --wait 10m -o name)
  jmp create lease -n bench-3 --begin-time 2030-01-31T18:00 --duration 12h --tag team=audio";

/// Create something on the controller
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Ask for a lease and print it; without --wait it may still have to wait for its exporter
    #[command(visible_aliases = ["leases", "l"], after_help = EXAMPLES)]
    Lease(Box<Lease>),
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("exporter").args(["selector", "name"]).required(true).multiple(true))]
struct Lease {
    #[command(flatten)]
    client: ClientArgs,

    /// Lease an exporter with these labels, such as board=foo,!broken; all given must hold
    #[arg(short = 'l', long)]
    selector: Vec<String>,

    /// Lease the exporter of this name
    #[arg(
        short = 'n',
        long = "name",
        alias = "exporter-name",
        value_name = "EXPORTER"
    )]
    name: Option<String>,

    /// How long, such as 30m, 1h30m or 01:30:00; 30m with --wait
    #[arg(long, value_parser = TimeSpan::parse, required_unless_present_any = ["wait", "end_time"], allow_hyphen_values = true)]
    duration: Option<TimeSpan>,

    /// Begin then, and keep the exporter for it, such as 2030-01-31T18:00
    #[arg(long, value_parser = time, value_name = "TIME")]
    begin_time: Option<Timestamp>,

    /// End then
    #[arg(long, value_parser = time, value_name = "TIME")]
    end_time: Option<Timestamp>,

    /// Name of the lease; made up by the controller otherwise
    #[arg(long, value_name = "NAME")]
    lease_id: Option<String>,

    /// For filters and accounts; may be repeated
    #[arg(long = "tag", value_parser = pair, value_name = "KEY=VALUE")]
    tags: Vec<(String, String)>,

    /// For the exporter and its logs; may be repeated
    #[arg(long = "context", value_parser = pair, value_name = "KEY=VALUE")]
    context: Vec<(String, String)>,

    /// Take the named exporter even if it is out of service
    #[arg(long, requires = "name")]
    allow_disabled: bool,

    /// Wait until the exporter is assigned, at most this long (default 2h); a lease that is not is ended
    #[arg(long, value_parser = TimeSpan::parse, value_name = "DURATION", num_args = 0..=1, default_missing_value = "2h")]
    wait: Option<TimeSpan>,
}

/// Runs the command.
///
/// # Errors
///
/// When the lease is refused, or not ready in time.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    let Command::Lease(arguments) = arguments.command;
    let controller = arguments.client.controller(globals)?;
    let wait = arguments.wait.map(TimeSpan::to_duration).transpose();
    let wait = wait.map_err(|error| CliError::usage(format!("--wait: {error}")))?;
    let request = arguments.request()?;
    let created = unless_cancelled(async { Ok(controller.create_lease(&request).await?) }).await?;
    view::warn_of_deprecated(&created.deprecated_labels);
    let created = match wait {
        Some(limit) => wait_for(&controller, created, limit).await?,
        None => created,
    };
    show(&created, globals)?;
    Ok(exit::OK)
}

/// Waits for a lease of our own; one that does not become ready is ended.
async fn wait_for(
    controller: &Controller,
    created: wire::Lease,
    limit: Duration,
) -> Result<wire::Lease, CliError> {
    let name = short_name(&created.name).to_owned();
    let mut waiting = super::waiting::Waiting::new(&name);
    let ready = unless_cancelled(async {
        let progress = |lease: &wire::Lease, queue: Option<&_>| waiting.show(lease, queue);
        Ok(lease::wait_until_ready(controller, &name, limit, progress).await?)
    })
    .await;
    waiting.done();
    match ready {
        Ok(lease) => Ok(lease),
        Err(error) => {
            // It may have ended by itself; whoever reads the error needs no second one.
            let _ = controller.delete_lease(&name).await;
            Err(error)
        }
    }
}

/// Prints one lease.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn show(lease: &wire::Lease, globals: &Globals) -> Result<(), CliError> {
    let listing = Listing {
        headings: LEASE_HEADINGS.to_vec(),
        rows: vec![lease_row(lease, now())],
        names: vec![short_name(&lease.name).to_owned()],
        paths: Vec::new(),
        data: lease_json(lease),
        empty: "",
    };
    listing.print(globals.output)
}

// === impl Lease ===

impl Lease {
    fn request(&self) -> Result<LeaseRequest, CliError> {
        let duration = match self.duration {
            Some(span) => Some(lease_duration(span)?),
            None if self.end_time.is_some() && self.begin_time.is_some() => None,
            None if self.end_time.is_some() => {
                return Err(CliError::usage(
                    "--end-time needs --duration or --begin-time",
                ));
            }
            None => Some(DEFAULT_DURATION),
        };
        if let (Some(begin), Some(end)) = (self.begin_time, self.end_time)
            && end <= begin
        {
            return Err(CliError::usage("--end-time must come after --begin-time"));
        }
        Ok(LeaseRequest {
            selector: selector(&self.selector)?.as_str().to_owned(),
            exporter: self.name.clone(),
            duration,
            begin: self.begin_time,
            end: self.end_time,
            name: self.lease_id.clone(),
            tags: map(&self.tags),
            context: map(&self.context),
            allow_disabled: self.allow_disabled,
        })
    }
}
