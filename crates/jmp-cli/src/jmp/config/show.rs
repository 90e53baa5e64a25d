//! `jmp config show`: every value that counts, and where it comes from.

use std::path::PathBuf;

use jmp_config::{ExportMap, ExportNode, Flags, Location, ProcessEnvironment, ShownValue};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::exporter::ExporterArgs;
use crate::output::Listing;

const EXAMPLES: &str = "\
Examples:
  jmp config show                       the current client
  jmp config show --client my-client
  jmp config show --exporter example-local
  JMP_ENDPOINT=other:443 jmp config show   shows that the environment wins

Tokens are never shown.";

/// Show each value that counts and whether option, environment, file or default gave it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    exporter: ExporterArgs,

    /// Client configuration by name
    #[arg(long, value_name = "ALIAS", conflicts_with_all = ["client_config", "exporter", "exporter_config"])]
    client: Option<String>,

    /// Client configuration by file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exporter", "exporter_config"])]
    client_config: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// When a file cannot be found or is wrong.
pub fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    let listing = match arguments.exporter.load(globals)? {
        Some(effective) => {
            let mut rows: Vec<Row> = effective.rows().into_iter().map(Row::from).collect();
            drivers(&effective.file.config.export, "export", &mut rows);
            let path = effective.file.path.display().to_string();
            listing("exporter", Some(path), &rows)
        }
        None => {
            let flags = Flags {
                alias: arguments.client,
                path: arguments.client_config,
                ..globals.flags()
            };
            let effective = globals
                .store()
                .effective_client(&ProcessEnvironment, &flags)?;
            let path = effective
                .file
                .as_ref()
                .map(|file| file.path.display().to_string());
            let rows: Vec<Row> = effective.rows().into_iter().map(Row::from).collect();
            listing("client", path, &rows)
        }
    };
    listing.print(globals.output)?;
    Ok(exit::OK)
}

struct Row {
    key: String,
    value: Value,
    source: String,
}

impl From<ShownValue> for Row {
    fn from(shown: ShownValue) -> Self {
        Self {
            key: shown.key.to_owned(),
            value: shown.value,
            source: shown.origin.to_string(),
        }
    }
}

/// One row for each entry of the export tree: what it is and where it stands.
fn drivers(map: &ExportMap, above: &str, rows: &mut Vec<Row>) {
    for (name, node) in map.iter() {
        let key = format!("{above}.{name}");
        let mut add = |value: String, location: &Location| {
            rows.push(Row {
                key: key.clone(),
                value: value.into(),
                source: format!("{}:{}", location.file, location.line),
            });
        };
        match node {
            ExportNode::Driver {
                driver_type,
                children,
                location,
                ..
            } => {
                add(driver_type.clone(), location);
                drivers(children, &key, rows);
            }
            ExportNode::Group {
                children, location, ..
            } => {
                add("(group)".into(), location);
                drivers(children, &key, rows);
            }
            ExportNode::Reference { target, location } => {
                add(format!("(reference to {target})"), location);
            }
        }
    }
}

fn listing(kind: &str, path: Option<String>, rows: &[Row]) -> Listing {
    let values: Vec<Value> = rows
        .iter()
        .map(|row| json!({"key": row.key, "value": row.value, "source": row.source}))
        .collect();
    Listing {
        headings: vec!["KEY", "VALUE", "SOURCE"],
        rows: rows
            .iter()
            .map(|row| vec![row.key.clone(), text(&row.value), row.source.clone()])
            .collect(),
        names: rows.iter().map(|row| row.key.clone()).collect(),
        paths: path.iter().cloned().collect(),
        data: json!({"kind": kind, "path": path, "values": values}),
        empty: "",
    }
}

/// A value in a table: lists by commas, nothing as a dash.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Object(map) if map.is_empty() => "-".to_owned(),
        other => other.to_string(),
    }
}
