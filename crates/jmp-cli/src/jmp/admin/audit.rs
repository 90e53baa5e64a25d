//! `jmp admin audit`, `jmp admin backup` and `jmp admin status`.

use std::io::Write as _;
use std::path::PathBuf;

use futures::StreamExt;
use jmp_types::Timestamp;
use serde_json::{Value, json};

use super::target::Target;
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::lease::arguments::time;
use crate::jmp::lease::view::{local_time, timestamp};
use crate::output::{self, Listing};

const EXAMPLES: &str = "\
Examples:
  jmp admin audit
  jmp admin audit --actor client:default:hello --since 2030-01-31
  jmp admin audit --resource default/bench-3 -o json";

/// Show who did what, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only what those did whose identity has this text in it
    #[arg(long, default_value = "", hide_default_value = true)]
    actor: String,

    /// Only what was done to objects whose name has this text in it
    #[arg(long, default_value = "", hide_default_value = true)]
    resource: String,

    /// Only what was done since then
    #[arg(long, value_parser = time, value_name = "TIME")]
    since: Option<Timestamp>,

    /// At most this many rows
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

const BACKUP_EXAMPLES: &str = "\
Examples:
  jmp admin backup lab-$(date +%F).db
  jmp controller restore lab-2030-01-31.db      later, on the controller's host";

/// Copy the controller's store to a file while it is in use
#[derive(Debug, clap::Args)]
#[command(after_help = BACKUP_EXAMPLES)]
pub struct BackupArgs {
    /// The file; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Show what the controller is and does
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  jmp admin status\n  jmp admin status -o json")]
pub struct StatusArgs {}

/// Runs `jmp admin audit`.
pub async fn run(arguments: Args, target: &Target, globals: &Globals) -> Result<u8, CliError> {
    let records = target
        .admin
        .audit(
            &arguments.actor,
            &arguments.resource,
            arguments.since,
            arguments.limit,
        )
        .await?;
    let when = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(timestamp);
    let listing = Listing {
        headings: vec![
            "TIME", "ACTOR", "FROM", "ACTION", "RESOURCE", "RESULT", "DETAIL",
        ],
        rows: records
            .iter()
            .map(|record| {
                vec![
                    when(&record.time).map(local_time).unwrap_or_default(),
                    record.actor.clone(),
                    record.peer.clone(),
                    record.action.clone(),
                    record.resource.clone(),
                    record.result.clone(),
                    record.detail.clone(),
                ]
            })
            .collect(),
        names: records
            .iter()
            .map(|record| record.number.to_string())
            .collect(),
        paths: Vec::new(),
        data: json!({
            "records": records
                .iter()
                .map(|record| json!({
                    "number": record.number,
                    "time": when(&record.time).map(|time| time.to_string()),
                    "actor": record.actor,
                    "tokenId": record.token_id,
                    "peer": record.peer,
                    "action": record.action,
                    "resource": record.resource,
                    "result": record.result,
                    "detail": record.detail,
                }))
                .collect::<Value>(),
        }),
        empty: "No records found.",
    };
    listing.print(globals.output)?;
    Ok(exit::OK)
}

/// Runs `jmp admin backup`.
pub async fn backup(
    arguments: BackupArgs,
    target: &Target,
    globals: &Globals,
) -> Result<u8, CliError> {
    let path = &arguments.file;
    if path.exists() {
        return Err(CliError::new(format!("{} exists already", path.display()))
            .with_hint("give another name; a backup never replaces a file"));
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(std::path::Path::new("."));
    // Private from the first byte, and a whole file or none.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    let mut chunks = target.admin.backup().await?;
    let mut bytes = 0_u64;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        bytes += chunk.len() as u64;
        file.write_all(&chunk)?;
    }
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    output::note(&format!("saved {} ({bytes} bytes)", path.display()));
    if globals.output.is_some() {
        output::print(&format!("{}\n", path.display()))?;
    }
    Ok(exit::OK)
}

/// Runs `jmp admin status`.
pub async fn status(target: &Target, globals: &Globals) -> Result<u8, CliError> {
    let info = target.admin.info().await?;
    let started = info.started.as_ref().and_then(timestamp);
    let facts = [
        ("version", json!(info.version)),
        ("endpoint", json!(info.endpoint)),
        ("started", json!(started.map(|time| time.to_string()))),
        ("identity", json!(info.identity)),
        ("exporters", json!(info.exporters)),
        ("exportersOnline", json!(info.exporters_online)),
        ("leasesActive", json!(info.leases_active)),
        ("leasesWaiting", json!(info.leases_waiting)),
    ];
    let mut data: serde_json::Map<String, Value> = facts
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    let mut rows: Vec<Vec<String>> = facts
        .iter()
        .map(|(key, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            vec![(*key).to_owned(), text]
        })
        .collect();
    let mut routers = Vec::new();
    for router in &info.routers {
        let state = if router.connected {
            "connected"
        } else {
            "not connected"
        };
        rows.push(vec![
            format!("router {}", router.name),
            format!(
                "{}, {state}, {} tunnels, {} bytes",
                router.endpoint, router.tunnels, router.bytes_forwarded
            ),
        ]);
        routers.push(json!({
            "name": router.name,
            "endpoint": router.endpoint,
            "connected": router.connected,
            "tunnels": router.tunnels,
            "bytesForwarded": router.bytes_forwarded,
            "labels": router.labels.iter().collect::<std::collections::BTreeMap<_, _>>(),
        }));
    }
    data.insert("routers".to_owned(), routers.into());
    let listing = Listing {
        headings: vec!["KEY", "VALUE"],
        names: rows.iter().map(|row| row[0].clone()).collect(),
        rows,
        paths: Vec::new(),
        data: data.into(),
        empty: "",
    };
    listing.print(globals.output)?;
    Ok(exit::OK)
}
