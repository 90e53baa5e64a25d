//! A shell with the devices of an exporter that is leased from a controller (facts: cli 6.3).
//!
//! [`pick`] finds or makes the lease, [`Held`] keeps it and gives it back on every path out, [`session`]
//! connects and runs the program, [`watch`] tells of its end.

mod pick;
mod session;
mod watch;

use std::time::Duration;

use jmp_client::Controller;
use jmp_client::lease::{self, short_name};
use jmp_config::EffectiveClient;
use jmp_proto::jumpstarter::client::v1 as wire;
use jmp_types::TimeSpan;
use jmp_wire::backoff::Backoff;
use tokio::time::Instant;

use self::pick::Choice;
use super::RemoteArgs;
use super::launch::Launch;
use super::logs::Filter;
use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::client::controller;
use crate::jmp::lease::waiting::Waiting;
use crate::jmp::signals::unless_cancelled;
use crate::output;

/// How long giving a lease back may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(30);

/// A lease that is ready.
struct Held {
    controller: Controller,
    lease: wire::Lease,
    /// Made here, so given back here.
    owned: bool,
}

/// How patient to be, and what else the options say.
struct Patience {
    acquisition: Duration,
    retry: Duration,
    dial: Duration,
    /// By how much a lease is extended when it is about to end; never, if nothing was asked for.
    extend: Option<Duration>,
}

/// Runs a program with the devices of a leased exporter.
pub async fn run(
    arguments: &RemoteArgs,
    client: &EffectiveClient,
    launch: Launch,
    filter: Filter,
    globals: &Globals,
) -> Result<u8, CliError> {
    crate::jmp::token::check(client)?;
    let controller = controller(client)?;
    let patience = Patience {
        acquisition: client.acquisition_timeout.value,
        retry: client.retry_timeout.value,
        dial: client.dial_timeout.value,
        extend: arguments
            .extend
            .map(TimeSpan::to_duration)
            .transpose()
            .map_err(|error| CliError::usage(format!("--extend: {error}")))?,
    };
    let choice = unless_cancelled(pick::choose(arguments, client, &controller, globals)).await?;
    let give_up = Instant::now() + patience.retry;
    let mut launch = Some(launch);
    loop {
        let held = acquire(&controller, &choice, &patience).await?;
        let outcome = session::run(&held, client, &mut launch, filter, &patience).await;
        held.give_back().await;
        match outcome {
            Err(session::Failure::Unreachable(error))
                if matches!(choice, Choice::New(_)) && Instant::now() < give_up =>
            {
                output::warn(&format!("{error}; trying to get another lease"));
            }
            Err(session::Failure::Unreachable(error) | session::Failure::Other(error)) => {
                return Err(error);
            }
            Ok(code) => return Ok(code),
        }
    }
}

/// Waits for the lease; one made here that does not become ready is ended.
async fn acquire(
    controller: &Controller,
    choice: &Choice,
    patience: &Patience,
) -> Result<Held, CliError> {
    let deadline = Instant::now() + patience.acquisition;
    loop {
        let (name, owned) = match choice {
            Choice::New(request) => {
                let made = unless_cancelled(async { Ok(controller.create_lease(request).await?) });
                let made = made.await?;
                crate::jmp::lease::view::warn_of_deprecated(&made.deprecated_labels);
                (short_name(&made.name).to_owned(), true)
            }
            Choice::Borrowed(lease) => (short_name(&lease.name).to_owned(), false),
        };
        let mut waiting = Waiting::new(&name);
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = unless_cancelled(async {
            let show = |lease: &wire::Lease, queue: Option<&_>| waiting.show(lease, queue);
            Ok(lease::wait_until_ready(controller, &name, left, show).await)
        })
        .await;
        drop(waiting);
        let error = match ready {
            Ok(Ok(lease)) => {
                return Ok(Held {
                    controller: controller.clone(),
                    lease,
                    owned,
                });
            }
            Ok(Err(error)) => error,
            Err(cancelled) => {
                release(controller, &name, owned).await;
                return Err(cancelled);
            }
        };
        release(controller, &name, owned).await;
        let again =
            matches!(&error, jmp_client::Error::LeaseOver { reason, .. } if reason == "NoExporter");
        if !again || !owned || Instant::now() >= deadline {
            return Err(explained(error));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn explained(error: jmp_client::Error) -> CliError {
    let hint = match &error {
        jmp_client::Error::LeaseOver { reason, .. } => match reason.as_str() {
            "Released" | "Expired" | "Ended" => "ask for a new one with -l SELECTOR or -n EXPORTER",
            "DurationTooLong" => "ask for a shorter --duration",
            _ => "`jmp get exporters --with status` shows what there is",
        },
        jmp_client::Error::LeaseTimeout { .. } => {
            "`jmp get exporters --with leases` shows who has the devices; --acquisition-timeout waits longer"
        }
        _ => return error.into(),
    };
    let text = match &error {
        jmp_client::Error::LeaseOver {
            name,
            reason,
            message,
        } if !matches!(reason.as_str(), "Released" | "Expired" | "Ended") => {
            format!("lease {name} cannot be satisfied, {reason}: {message}")
        }
        _ => error.to_string(),
    };
    CliError::new(text).with_hint(hint)
}

/// Ends a lease that was made here. That it has ended already is no news; a controller that is away for
/// a moment gets another chance, for the device would be idle until the lease ends by itself.
async fn release(controller: &Controller, name: &str, owned: bool) {
    if !owned {
        return;
    }
    let deadline = Instant::now() + RELEASE_LIMIT;
    let mut backoff = Backoff::reconnect();
    let failure = loop {
        let error = match tokio::time::timeout_at(deadline, controller.delete_lease(name)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) if is_over(&error) => return,
            Ok(Err(error)) => error,
            Err(_) => break format!("no answer within {} s", RELEASE_LIMIT.as_secs()),
        };
        let pause = backoff.pause();
        if !error.is_transient() || Instant::now() + pause >= deadline {
            break error.to_string();
        }
        tracing::debug!(%error, lease = name, "the lease is not given back yet; trying again");
        tokio::time::sleep(pause).await;
    };
    output::warn(&format!(
        "lease {name} could not be given back ({failure}); end it with `jmp delete lease {name}`, or use it \
         with `JMP_LEASE={name} jmp shell`"
    ));
}

fn is_over(error: &jmp_client::Error) -> bool {
    matches!(error, jmp_client::Error::Refused { code, .. } if *code == "FAILED_PRECONDITION" || *code == "NOT_FOUND")
}

// === impl Held ===

impl Held {
    fn name(&self) -> &str {
        short_name(&self.lease.name)
    }

    fn exporter(&self) -> &str {
        short_name(self.lease.exporter.as_deref().unwrap_or_default())
    }

    async fn give_back(&self) {
        if self.owned {
            tracing::info!(lease = self.name(), "releasing the lease");
        }
        release(&self.controller, self.name(), self.owned).await;
    }
}
