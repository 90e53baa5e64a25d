//! `jmp admin get`.

use jmp_types::Timestamp;
use jmp_types::resource::{
    API_VERSION, AccessPolicy, Administrator, Client, Exporter, Lease, Metadata, Router,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::full_name;
use super::target::Target;
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::lease::view::local_time;
use crate::output::{self, Format, Listing};

const EXAMPLES: &str = "\
Examples:
  jmp admin get exporters
  jmp admin get exporter bench-3 --devices
  jmp admin get client hello -o yaml
  jmp admin get leases --all
  jmp admin get exporters --all-namespaces
  jmp admin get policies";

/// Show objects of the controller
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show clients
    #[command(visible_aliases = ["clients", "c"], after_help = EXAMPLES)]
    Client(Which),
    /// Show exporters
    #[command(visible_aliases = ["exporters", "e"], after_help = EXAMPLES)]
    Exporter {
        #[command(flatten)]
        which: Which,
        /// One row for each device
        #[arg(short, long)]
        devices: bool,
    },
    /// Show leases
    #[command(visible_aliases = ["leases", "l"], after_help = EXAMPLES)]
    Lease {
        #[command(flatten)]
        which: Which,
        /// Ended leases, too
        #[arg(short, long)]
        all: bool,
    },
    /// Show access policies
    #[command(visible_aliases = ["policies", "p", "exporteraccesspolicy"], after_help = EXAMPLES)]
    Policy(Which),
    /// Show routers that may join
    #[command(visible_alias = "routers", after_help = EXAMPLES)]
    Router(Which),
    /// Show administrators
    #[command(visible_aliases = ["admin", "admins", "administrators"], after_help = EXAMPLES)]
    Administrator(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Only this one
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Only objects with these labels
    #[arg(
        short = 'l',
        long,
        default_value = "",
        hide_default_value = true,
        conflicts_with = "name"
    )]
    selector: String,

    /// Objects of all namespaces
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,
}

/// Runs the command.
pub async fn run(arguments: Args, target: &Target, globals: &Globals) -> Result<u8, CliError> {
    let (kind, list, which, all, devices) = match arguments.command {
        Command::Client(which) => ("client", "ClientList", which, false, false),
        Command::Exporter { which, devices } => ("exporter", "ExporterList", which, false, devices),
        Command::Lease { which, all } => ("lease", "LeaseList", which, all, false),
        Command::Policy(which) => (
            "exporteraccesspolicy",
            "ExporterAccessPolicyList",
            which,
            false,
            false,
        ),
        Command::Router(which) => ("router", "RouterList", which, false, false),
        Command::Administrator(which) => ("admin", "AdministratorList", which, false, false),
    };
    let objects = match &which.name {
        Some(name) => vec![target.admin.get(target.name(kind, name)).await?],
        None => {
            let selector = which.selector.as_str();
            let namespace = match which.all_namespaces {
                true => "",
                false => target.namespace.as_str(),
            };
            target.admin.list(kind, namespace, selector, all).await?
        }
    };
    let (mut headings, mut rows) = table(kind, &objects, devices)?;
    if which.all_namespaces {
        headings.insert(0, "NAMESPACE");
        rows = namespaced(kind, &objects, devices)?;
    }
    if which.name.is_some() && matches!(globals.output, Some(Format::Json | Format::Yaml)) {
        let object = objects.into_iter().next().unwrap_or_default();
        return match globals.output {
            Some(Format::Yaml) => output::print(&output::yaml(&object)?),
            _ => output::print(&output::json(&object)),
        }
        .map(|()| exit::OK);
    }
    let empty = match which.all_namespaces {
        true => "No resources found.".to_owned(),
        false => format!("No resources found in {} namespace.", target.namespace),
    };
    if rows.is_empty() && globals.output.is_none() {
        output::print(&format!("{empty}\n"))?;
        return Ok(exit::OK);
    }
    let listing = Listing {
        headings,
        rows,
        names: objects.iter().map(name).collect(),
        paths: Vec::new(),
        data: json!({"apiVersion": API_VERSION, "items": objects, "kind": list}),
        empty: "",
    };
    listing.print(globals.output)?;
    Ok(exit::OK)
}

fn name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    full_name(
        kind,
        object["metadata"]["name"].as_str().unwrap_or_default(),
    )
}

/// The rows of [`table`], each after the namespace of its object.
fn namespaced(kind: &str, objects: &[Value], devices: bool) -> Result<Vec<Vec<String>>, CliError> {
    let mut rows = Vec::new();
    for object in objects {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let (_, of_object) = table(kind, std::slice::from_ref(object), devices)?;
        for mut row in of_object {
            row.insert(0, namespace.to_owned());
            rows.push(row);
        }
    }
    Ok(rows)
}

type Table = (Vec<&'static str>, Vec<Vec<String>>);

fn table(kind: &str, objects: &[Value], devices: bool) -> Result<Table, CliError> {
    let now = crate::jmp::lease::get::now();
    match kind {
        "client" => {
            let rows = typed::<Client>(objects)?;
            let rows = rows.iter().map(|client| {
                vec![
                    client.metadata.name.clone(),
                    client.status.endpoint.clone(),
                    client
                        .status
                        .token_expires_at
                        .map(local_time)
                        .unwrap_or_default(),
                    labels(&client.metadata),
                ]
            });
            Ok((
                vec!["NAME", "ENDPOINT", "TOKEN EXPIRES", "LABELS"],
                rows.collect(),
            ))
        }
        "exporter" => {
            let exporters = typed::<Exporter>(objects)?;
            Ok(if devices {
                device_rows(&exporters, now)
            } else {
                exporter_rows(&exporters, now)
            })
        }
        "lease" => {
            let leases = typed::<Lease>(objects)?;
            Ok((
                vec![
                    "NAME", "CLIENT", "SELECTOR", "EXPORTER", "DURATION", "STATUS", "REASON",
                    "BEGIN", "END", "AGE",
                ],
                leases.iter().map(|lease| lease_row(lease, now)).collect(),
            ))
        }
        "exporteraccesspolicy" => {
            let policies = typed::<AccessPolicy>(objects)?;
            let rows = policies.iter().map(|policy| {
                let rules = &policy.spec.policies;
                let best = rules.iter().map(|rule| rule.priority).max();
                vec![
                    policy.metadata.name.clone(),
                    match policy.spec.exporter_selector.to_string() {
                        text if text.is_empty() => "*".to_owned(),
                        text => text,
                    },
                    rules.len().to_string(),
                    best.map(|priority| priority.to_string())
                        .unwrap_or_default(),
                    age(&policy.metadata, now),
                ]
            });
            Ok((
                vec!["NAME", "EXPORTERS", "RULES", "PRIORITY", "AGE"],
                rows.collect(),
            ))
        }
        "router" => Ok((
            vec!["NAME", "AGE"],
            typed::<Router>(objects)?
                .iter()
                .map(|router| vec![router.metadata.name.clone(), age(&router.metadata, now)])
                .collect(),
        )),
        _ => Ok((
            vec!["NAME", "AGE"],
            typed::<Administrator>(objects)?
                .iter()
                .map(|admin| vec![admin.metadata.name.clone(), age(&admin.metadata, now)])
                .collect(),
        )),
    }
}

fn typed<T: DeserializeOwned>(objects: &[Value]) -> Result<Vec<T>, CliError> {
    let parsed = objects
        .iter()
        .map(|object| serde_json::from_value(object.clone()));
    parsed
        .collect::<Result<_, _>>()
        .map_err(|error| CliError::new(format!("the controller's answer cannot be read: {error}")))
}

fn status(exporter: &Exporter) -> String {
    match exporter.status.exporter_status.as_str() {
        "" => "Unknown".to_owned(),
        word => word.to_owned(),
    }
}

fn exporter_rows(exporters: &[Exporter], now: Timestamp) -> Table {
    let rows = exporters.iter().map(|exporter| {
        vec![
            exporter.metadata.name.clone(),
            if exporter.is_enabled() { "yes" } else { "no" }.to_owned(),
            status(exporter),
            exporter.status.endpoint.clone(),
            exporter.status.devices.len().to_string(),
            age(&exporter.metadata, now),
            exporter.status.status_message.clone(),
        ]
    });
    (
        vec![
            "NAME", "ENABLED", "STATUS", "ENDPOINT", "DEVICES", "AGE", "MESSAGE",
        ],
        rows.collect(),
    )
}

fn device_rows(exporters: &[Exporter], now: Timestamp) -> Table {
    let rows = exporters.iter().flat_map(|exporter| {
        exporter.status.devices.iter().map(move |device| {
            let labels = device
                .labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"));
            vec![
                exporter.metadata.name.clone(),
                status(exporter),
                exporter.status.endpoint.clone(),
                age(&exporter.metadata, now),
                labels.collect::<Vec<_>>().join(","),
                device.uuid.clone(),
            ]
        })
    });
    (
        vec!["NAME", "STATUS", "ENDPOINT", "AGE", "LABELS", "UUID"],
        rows.collect(),
    )
}

fn lease_row(lease: &Lease, now: Timestamp) -> Vec<String> {
    let selector = match lease.spec.selector.to_string() {
        text if text.is_empty() => "*".to_owned(),
        text => text,
    };
    let reason = lease.status.conditions.last();
    let time = |time: Option<Timestamp>| time.map(local_time).unwrap_or_default();
    let exporter = lease.status.exporter_ref.as_ref();
    vec![
        lease.metadata.name.clone(),
        lease.spec.client_ref.name.clone(),
        selector,
        exporter
            .map(|exporter| exporter.name.clone())
            .unwrap_or_default(),
        lease
            .spec
            .duration
            .map(|duration| duration.to_string())
            .unwrap_or_default(),
        if lease.status.ended {
            "Ended"
        } else {
            "InProgress"
        }
        .to_owned(),
        reason
            .map(|condition| condition.reason.clone())
            .unwrap_or_default(),
        time(lease.status.begin_time.or(lease.spec.begin_time)),
        time(lease.status.end_time.or(lease.spec.end_time)),
        age(&lease.metadata, now),
    ]
}

fn labels(metadata: &Metadata) -> String {
    let labels = metadata
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

fn age(metadata: &Metadata, now: Timestamp) -> String {
    match metadata.creation_timestamp {
        Some(created) => short_age(now.as_second() - created.as_second()),
        None => String::new(),
    }
}

/// `45s`, `3m10s`, `1h5m`, `2d3h`, `10mo24d`, `1y2mo`.
fn short_age(seconds: i64) -> String {
    const UNITS: [(i64, &str); 6] = [
        (365 * 86_400, "y"),
        (30 * 86_400, "mo"),
        (86_400, "d"),
        (3600, "h"),
        (60, "m"),
        (1, "s"),
    ];
    let seconds = seconds.max(0);
    let Some(first) = UNITS.iter().position(|(size, _)| seconds >= *size) else {
        return "0s".to_owned();
    };
    let (size, unit) = UNITS[first];
    let mut text = format!("{}{unit}", seconds / size);
    if let Some((next, unit)) = UNITS.get(first + 1) {
        let rest = seconds % size / next;
        if rest > 0 {
            text.push_str(&format!("{rest}{unit}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let day = 86_400;
        let cases = [
            (0, "0s"),
            (45, "45s"),
            (190, "3m10s"),
            (3900, "1h5m"),
            (2 * day + 3 * 3600, "2d3h"),
            (324 * day, "10mo24d"),
            (425 * day, "1y2mo"),
        ];
        for (seconds, text) in cases {
            assert_eq!(short_age(seconds), text);
        }
    }
}
