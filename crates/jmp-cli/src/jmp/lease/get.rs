//! `jmp get`: exporters and leases of the controller.

use std::collections::HashMap;

use futures::{Stream, StreamExt};
use jmp_client::lease::short_name;
use jmp_client::{Controller, LeaseFilter};
use jmp_proto::jumpstarter::client::v1 as wire;
use jmp_types::{Selector, SelectorTerm, Timestamp};
use serde_json::{Value, json};

use super::arguments::selector;
use super::view::{self, ExporterColumns, LEASE_HEADINGS, lease_json, lease_row};
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::client::ClientArgs;
use crate::jmp::signals::unless_cancelled;
use crate::output::{self, Format, Listing};

const EXAMPLES: &str = "\
Examples:
  jmp get exporters --with status,leases
  jmp get leases --all
  jmp get exporters -l board=rpi4 -o json";

const EXPORTER_EXAMPLES: &str = "\
Examples:
  jmp get exporters
  jmp get exporters -l board=rpi4,!broken --with status,leases
  jmp get exporters --wide --watch
  jmp get exporters -o name";

const LEASE_EXAMPLES: &str = "\
Examples:
  jmp get leases
  jmp get leases --all-clients --tag-filter team=audio
  jmp get leases --watch";

/// List exporters or leases
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the exporters that could be leased
    #[command(visible_aliases = ["exporter", "e"], after_help = EXPORTER_EXAMPLES)]
    Exporters(Exporters),
    /// List leases
    #[command(visible_aliases = ["lease", "l"], after_help = LEASE_EXAMPLES)]
    Leases(Leases),
}

/// Columns that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum With {
    Leases,
    Online,
    Status,
}

#[derive(Debug, clap::Args)]
struct Exporters {
    #[command(flatten)]
    client: ClientArgs,

    /// Only exporters with these labels, such as board=foo,!broken; all given must hold
    #[arg(short = 'l', long)]
    selector: Vec<String>,

    /// Columns to add: leases, online, status
    #[arg(
        long,
        value_delimiter = ',',
        ignore_case = true,
        value_name = "COLUMNS",
        hide_possible_values = true
    )]
    with: Vec<With>,

    /// All columns, with what each exporter says about itself; -o wide is the same
    #[arg(short = 'w', long)]
    wide: bool,

    /// Exporters out of service, too
    #[arg(long)]
    allow_disabled: bool,

    /// Labels that the administrator hides, too
    #[arg(long)]
    show_hidden_labels: bool,

    /// Rows to ask the controller for at once (all are shown in any case)
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).range(1..))]
    page_size: Option<u32>,

    /// Go on and print every change
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, clap::Args)]
struct Leases {
    #[command(flatten)]
    client: ClientArgs,

    /// Only leases that were asked for with these labels
    #[arg(short = 'l', long)]
    selector: Vec<String>,

    /// Ended leases, too
    #[arg(short = 'a', long)]
    all: bool,

    /// Leases of all clients, not only yours
    #[arg(short = 'A', long)]
    all_clients: bool,

    /// Only leases with these tags, a selector such as team=audio
    #[arg(
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    tag_filter: String,

    /// With what each lease waits for, or why it ended; -o wide is the same
    #[arg(short = 'w', long)]
    wide: bool,

    /// Rows to ask the controller for at once (all are shown in any case)
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).range(1..))]
    page_size: Option<u32>,

    /// Go on and print every change
    #[arg(long)]
    watch: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When the controller cannot be asked.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    unless_cancelled(async {
        match arguments.command {
            Command::Exporters(arguments) => exporters(arguments, globals).await,
            Command::Leases(arguments) => leases(arguments, globals).await,
        }
    })
    .await
}

async fn exporters(arguments: Exporters, globals: &Globals) -> Result<u8, CliError> {
    let selector = selector(&arguments.selector)?;
    let controller = arguments.client.controller(globals)?;
    let wide = arguments.wide || globals.wide;
    let has = |with| wide || arguments.with.contains(&with);
    let columns = ExporterColumns {
        enabled: arguments.allow_disabled,
        online: has(With::Online) || arguments.with.is_empty(),
        status: has(With::Status) || arguments.with.is_empty(),
        leases: has(With::Leases),
        message: wide,
    };
    let hidden = arguments.show_hidden_labels;
    let shown =
        |exporter: &wire::Exporter| arguments.allow_disabled || exporter.enabled.unwrap_or(true);
    if arguments.watch {
        let changes = controller
            .watch_exporters(selector.as_str(), hidden)
            .await?;
        let changes = changes.ok_or_else(not_watched)?.map(|change| {
            let change = change?;
            Ok(change
                .exporter
                .filter(|exporter| shown(exporter))
                .map(|exporter| Change {
                    row: columns.row(&exporter, None),
                    name: short_name(&exporter.name).to_owned(),
                    data: columns.json(&exporter, None),
                    removed: change.removed,
                }))
        });
        return follow(changes, &columns.headings(), globals.output).await;
    }
    let (found, holders) = tokio::try_join!(
        controller.exporters(selector.as_str(), hidden),
        holders(&controller, columns.leases),
    )?;
    let found: Vec<_> = found.into_iter().filter(shown).collect();
    for exporter in &found {
        view::warn_of_deprecated(&exporter.deprecated_labels);
    }
    let lease = |exporter: &wire::Exporter| holders.get(&exporter.name);
    let listing = Listing {
        headings: columns.headings(),
        rows: found
            .iter()
            .map(|exporter| columns.row(exporter, lease(exporter)))
            .collect(),
        names: found
            .iter()
            .map(|exporter| short_name(&exporter.name).to_owned())
            .collect(),
        paths: Vec::new(),
        data: json!({
            "exporters": found.iter().map(|exporter| columns.json(exporter, lease(exporter))).collect::<Value>(),
        }),
        empty: "No resources found.",
    };
    listing.print(globals.output)?;
    Ok(exit::OK)
}

/// The active lease of each exporter, by the exporter's resource name.
async fn holders(
    controller: &Controller,
    wanted: bool,
) -> Result<HashMap<String, wire::Lease>, jmp_client::Error> {
    if !wanted {
        return Ok(HashMap::new());
    }
    let leases = controller.list_leases(&LeaseFilter::default()).await?;
    Ok(leases
        .into_iter()
        .filter_map(|lease| {
            Some((
                lease.exporter.clone().filter(|name| !name.is_empty())?,
                lease,
            ))
        })
        .collect())
}

async fn leases(arguments: Leases, globals: &Globals) -> Result<u8, CliError> {
    let selector = selector(&arguments.selector)?;
    let controller = arguments.client.controller(globals)?;
    let filter = LeaseFilter {
        selector: equalities(&selector),
        tags: arguments.tag_filter.clone(),
        ended: arguments.all,
    };
    let owner = (!arguments.all_clients).then(|| controller.client_name().to_owned());
    let shown = move |lease: &wire::Lease| is_shown(lease, owner.as_deref(), &selector);
    let wide = arguments.wide || globals.wide;
    let row = |lease: &wire::Lease, now| {
        let mut row = lease_row(lease, now);
        if wide {
            row.push(view::message(lease));
        }
        row
    };
    let mut headings = LEASE_HEADINGS.to_vec();
    if wide {
        headings.push("MESSAGE");
    }
    if arguments.watch {
        let changes = controller.watch_leases(&filter).await?;
        let changes = changes.ok_or_else(not_watched)?.map(|change| {
            let change = change?;
            let lease = change.state.and_then(|state| state.lease);
            Ok(lease.filter(|lease| shown(lease)).map(|lease| Change {
                row: row(&lease, now()),
                name: short_name(&lease.name).to_owned(),
                data: lease_json(&lease),
                removed: change.removed,
            }))
        });
        return follow(changes, &headings, globals.output).await;
    }
    let found = controller.list_leases(&filter).await?;
    let found: Vec<_> = found.into_iter().filter(shown).collect();
    let now = now();
    let listing = Listing {
        headings,
        rows: found.iter().map(|lease| row(lease, now)).collect(),
        names: found
            .iter()
            .map(|lease| short_name(&lease.name).to_owned())
            .collect(),
        paths: Vec::new(),
        data: json!({ "leases": found.iter().map(lease_json).collect::<Value>() }),
        empty: "No resources found.",
    };
    listing.print(globals.output)?;
    Ok(exit::OK)
}

/// The part of a selector by which the controller filters leases: labels that were asked for exactly.
#[must_use]
pub fn equalities(selector: &Selector) -> String {
    let labels = selector.equalities();
    let texts: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    texts.join(",")
}

/// Whether a lease is `owner`'s and was asked for with `selector`: each equality must be in the
/// lease's own selector, anything else must be satisfied by what that asks for.
#[must_use]
pub fn is_shown(lease: &wire::Lease, owner: Option<&str>, selector: &Selector) -> bool {
    let client = short_name(lease.client.as_deref().unwrap_or_default());
    if owner.is_some_and(|owner| owner != client) {
        return false;
    }
    if selector.is_empty() {
        return true;
    }
    let Ok(asked) = lease.selector.parse::<Selector>() else {
        return false;
    };
    let labels = asked.equalities();
    selector.terms().iter().all(|term| match term {
        SelectorTerm::Equals(..) => term.matches(&labels),
        _ => asked.terms().contains(term) || term.matches(&labels),
    })
}

/// The time, for people.
pub fn now() -> Timestamp {
    jmp_client::lease::now()
}

fn not_watched() -> CliError {
    CliError::new(
        "this controller cannot tell of changes, --watch needs a controller of this version",
    )
    .with_hint("leave out --watch and ask again")
}

/// One line of a watched list.
struct Change {
    row: Vec<String>,
    name: String,
    data: Value,
    removed: bool,
}

/// Prints changes as they come.
async fn follow(
    changes: impl Stream<Item = Result<Option<Change>, jmp_client::Error>>,
    headings: &[&str],
    format: Option<Format>,
) -> Result<u8, CliError> {
    let mut changes = std::pin::pin!(changes);
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
    let mut headed = false;
    while let Some(change) = changes.next().await {
        let Some(change) = change? else { continue };
        match format {
            Some(Format::Json) => {
                let line = json!({"removed": change.removed, "object": change.data});
                output::print(&format!("{line}\n"))?;
            }
            Some(Format::Yaml) => {
                output::print(&format!("---\n{}", output::yaml(&change.data)?))?;
            }
            Some(Format::Name | Format::Path) => output::print(&format!("{}\n", change.name))?,
            None => {
                for (width, cell) in widths.iter_mut().zip(&change.row) {
                    *width = (*width).max(cell.chars().count());
                }
                if !headed {
                    let headings: Vec<String> =
                        headings.iter().map(|text| (*text).to_owned()).collect();
                    output::print(&line(&headings, &widths))?;
                    headed = true;
                }
                let mut row = change.row;
                if change.removed {
                    row.push("(gone)".to_owned());
                }
                output::print(&line(&row, &widths))?;
            }
        }
    }
    Err(CliError::new("the controller ended the list of changes")
        .with_hint("run the command again"))
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (index, cell) in cells.iter().enumerate() {
        let width = widths.get(index).copied().unwrap_or(0);
        text.push_str(cell);
        text.push_str(&" ".repeat(width.saturating_sub(cell.chars().count()) + 2));
    }
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(selector: &str) -> wire::Lease {
        wire::Lease {
            selector: selector.into(),
            client: Some("namespaces/default/clients/me".into()),
            ..Default::default()
        }
    }

    #[test]
    fn leases_are_found_by_what_they_asked_for() {
        let cases = [
            ("", "a=1", true),
            ("a=1", "a=1,b=2", true),
            ("a=2", "a=1", false),
            ("!c", "a=1,!c", true),
            ("!c", "a=1", true),
            ("a!=1", "a=1", false),
            ("a in (1,2)", "a=1", true),
            ("a=1", "<none>", false),
        ];
        for (asked, has, expected) in cases {
            let selector = asked.parse().expect("a selector");
            assert_eq!(
                is_shown(&lease(has), Some("me"), &selector),
                expected,
                "{asked} of {has}"
            );
        }
        assert!(!is_shown(&lease(""), Some("you"), &Selector::default()));
        assert!(is_shown(&lease(""), None, &Selector::default()));
    }
}
