//! Which lease a shell uses: the one that was named, the only one there is, or a new one.

use std::io::{self, BufRead, IsTerminal};

use jmp_client::lease::{Standing, short_name, standing};
use jmp_client::{Controller, LeaseFilter, LeaseRequest};
use jmp_config::EffectiveClient;
use jmp_proto::jumpstarter::client::v1 as wire;
use jmp_types::Selector;

use super::super::RemoteArgs;
use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::lease::arguments::{DEFAULT_DURATION, lease_duration, map, selector};
use crate::jmp::lease::view::local_time;
use crate::output;

/// Where the lease comes from.
pub enum Choice {
    /// It is made here, and ended here.
    New(LeaseRequest),
    /// Somebody else keeps it.
    Borrowed(Box<wire::Lease>),
}

/// Decides, in the order: the lease that was named, a new one for what was asked, the client's own.
pub async fn choose(
    arguments: &RemoteArgs,
    client: &EffectiveClient,
    controller: &Controller,
    globals: &Globals,
) -> Result<Choice, CliError> {
    let selector = selector(&arguments.selector)?;
    if let Some(name) = &client.lease.value {
        return named(name, selector, arguments, controller).await;
    }
    if !selector.is_empty() || arguments.name.is_some() {
        return Ok(Choice::New(request(selector, arguments)?));
    }
    own(controller, globals).await
}

fn request(selector: Selector, arguments: &RemoteArgs) -> Result<LeaseRequest, CliError> {
    let duration = arguments.duration.map(lease_duration).transpose()?;
    Ok(LeaseRequest {
        selector: selector.as_str().to_owned(),
        exporter: arguments.name.clone(),
        duration: Some(duration.unwrap_or(DEFAULT_DURATION)),
        tags: map(&arguments.tags),
        context: map(&arguments.context),
        allow_disabled: arguments.allow_disabled,
        ..LeaseRequest::default()
    })
}

async fn named(
    name: &str,
    wanted: Selector,
    arguments: &RemoteArgs,
    controller: &Controller,
) -> Result<Choice, CliError> {
    let lease = controller.lease(name).await?;
    let owner = short_name(lease.client.as_deref().unwrap_or_default());
    if owner != controller.client_name() {
        return Err(CliError::new(format!(
            "lease {name} belongs to client {owner}, not to {}",
            controller.client_name()
        ))
        .with_hint("its owner can hand it over with `jmp update lease NAME --to-client CLIENT`"));
    }
    if let Standing::Over(reason, message) = standing(&lease) {
        return Err(
            CliError::new(format!("lease {name} is over, {reason}: {message}"))
                .with_hint("ask for a new one with -l SELECTOR or -n EXPORTER"),
        );
    }
    let has: Selector = lease.selector.parse().unwrap_or_default();
    let same = |one: &Selector, other: &Selector| {
        one.terms().len() == other.terms().len()
            && one.terms().iter().all(|term| other.terms().contains(term))
    };
    if !wanted.is_empty() && !same(&wanted, &has) {
        output::warn(&format!(
            "lease {name} was made for `{}`, not for `{wanted}`; asking for a new lease",
            lease.selector
        ));
        return Ok(Choice::New(request(wanted, arguments)?));
    }
    Ok(Choice::Borrowed(Box::new(lease)))
}

async fn own(controller: &Controller, globals: &Globals) -> Result<Choice, CliError> {
    let mine = controller.list_leases(&LeaseFilter::default()).await?;
    let mut mine: Vec<wire::Lease> = mine
        .into_iter()
        .filter(|lease| {
            short_name(lease.client.as_deref().unwrap_or_default()) == controller.client_name()
        })
        .collect();
    match mine.len() {
        0 => Err(
            CliError::usage("say which devices to lease: -l SELECTOR or -n EXPORTER")
                .with_hint("`jmp get exporters` shows what there is; you have no active lease"),
        ),
        1 => {
            let lease = mine.remove(0);
            output::note(&format!(
                "using lease {}, your only active one",
                short_name(&lease.name)
            ));
            Ok(Choice::Borrowed(Box::new(lease)))
        }
        _ if globals.interactive() && io::stdin().is_terminal() => {
            let index = ask(&mine)?;
            Ok(Choice::Borrowed(Box::new(mine.swap_remove(index))))
        }
        _ => {
            let lines: Vec<String> = mine.iter().map(line).collect();
            Err(
                CliError::usage("say which lease to use with --lease NAME or JMP_LEASE")
                    .with_hint(format!("yours are {}", lines.join(", "))),
            )
        }
    }
}

fn line(lease: &wire::Lease) -> String {
    let end = jmp_client::lease::end(lease).map_or_else(|| "not begun".to_owned(), local_time);
    format!(
        "{} (exporter={}, selector={}, expires {end})",
        short_name(&lease.name),
        short_name(lease.exporter.as_deref().unwrap_or_default()),
        lease.selector
    )
}

fn ask(leases: &[wire::Lease]) -> Result<usize, CliError> {
    for (index, lease) in leases.iter().enumerate() {
        output::note(&format!("  {}. {}", index + 1, line(lease)));
    }
    let mut lines = io::stdin().lock().lines();
    loop {
        output::note(&format!("Select a lease [1-{}]", leases.len()));
        let Some(answer) = lines.next() else {
            return Err(CliError::new("Aborted!"));
        };
        match answer?.trim().parse::<usize>() {
            Ok(number) if (1..=leases.len()).contains(&number) => return Ok(number - 1),
            _ => {}
        }
    }
}
