//! `jmp describe`: all that the controller knows about one lease or exporter.

use jmp_proto::jmp::v1::DescribeResourceResponse;
use jmp_types::Timestamp;
use serde_json::{Value, json};

use super::get::now;
use super::view::{local_time, span, timestamp};
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::client::ClientArgs;
use crate::jmp::signals::unless_cancelled;
use crate::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  jmp describe lease \"$JMP_LEASE\"
  jmp describe exporter bench-3
  jmp describe exporter bench-3 -o json";

/// Show everything about one lease or exporter, with what happened to it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// A lease: its times, its place in the queue, its events
    #[command(visible_aliases = ["leases", "l"], after_help = EXAMPLES)]
    Lease(Named),
    /// An exporter: its status, what it waits for, its events
    #[command(visible_aliases = ["exporters", "e"], after_help = EXAMPLES)]
    Exporter(Named),
}

#[derive(Debug, clap::Args)]
struct Named {
    #[command(flatten)]
    client: ClientArgs,

    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

/// Runs the command.
///
/// # Errors
///
/// When there is no such object.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    let (kind, named) = match arguments.command {
        Command::Lease(named) => ("leases", named),
        Command::Exporter(named) => ("exporters", named),
    };
    let controller = named.client.controller(globals)?;
    let answer =
        unless_cancelled(async { Ok(controller.describe(kind, &named.name).await?) }).await?;
    let object: Value = serde_json::from_str(&answer.resource).map_err(|error| {
        CliError::new(format!("the controller's answer cannot be read: {error}"))
    })?;
    match globals.output {
        Some(Format::Json) => output::print(&output::json(&data(&object, &answer)))?,
        Some(Format::Yaml) => output::print(&output::yaml(&data(&object, &answer))?)?,
        Some(_) => output::print(&format!("{}\n", named.name))?,
        None => output::print(&text(&object, &answer, now()))?,
    }
    Ok(exit::OK)
}

fn data(object: &Value, answer: &DescribeResourceResponse) -> Value {
    let time = |time: &Option<prost_types::Timestamp>| {
        time.as_ref()
            .and_then(timestamp)
            .map_or(Value::Null, |time| time.to_string().into())
    };
    let events = answer.events.iter().map(|event| {
        json!({
            "time": time(&event.time),
            "reason": event.reason,
            "message": event.message,
            "warning": event.warning,
        })
    });
    let mut data = json!({"object": object, "events": events.collect::<Value>()});
    if !answer.waiting_for.is_empty() {
        data["waitingFor"] = answer.waiting_for.as_str().into();
        data["waitingUntil"] = time(&answer.waiting_until);
    }
    if let Some(queue) = &answer.queue {
        let candidates = queue.candidates.iter().map(|candidate| {
            json!({
                "exporter": candidate.exporter,
                "reason": candidate.reason,
                "client": candidate.client,
                "lease": candidate.lease,
                "until": time(&candidate.until),
            })
        });
        data["queue"] = json!({
            "position": queue.position,
            "length": queue.length,
            "estimate": time(&queue.estimate),
            "candidates": candidates.collect::<Value>(),
        });
    }
    data
}

/// The object as an indented outline, then the queue and the events.
fn text(object: &Value, answer: &DescribeResourceResponse, now: Timestamp) -> String {
    let mut text = String::new();
    outline(object, 0, &mut text);
    if !answer.waiting_for.is_empty() {
        text.push_str(&format!("waiting for: {}", answer.waiting_for));
        if let Some(until) = answer.waiting_until.as_ref().and_then(timestamp) {
            let left = until.as_second() - now.as_second();
            text.push_str(&format!(
                " (until {} at most, {})",
                local_time(until),
                span(left)
            ));
        }
        text.push('\n');
    }
    if let Some(queue) = &answer.queue {
        text.push_str(&format!(
            "queue: place {} of {}\n",
            queue.position, queue.length
        ));
        for candidate in &queue.candidates {
            text.push_str(&format!("  {}: {}", candidate.exporter, candidate.reason));
            if let Some(until) = candidate.until.as_ref().and_then(timestamp) {
                text.push_str(&format!(", until {}", local_time(until)));
            }
            text.push('\n');
        }
    }
    if !answer.events.is_empty() {
        text.push_str("events:\n");
        let rows = answer.events.iter().map(|event| {
            let time = event.time.as_ref().and_then(timestamp);
            vec![
                time.map(local_time).unwrap_or_default(),
                if event.warning { "Warning" } else { "Normal" }.to_owned(),
                event.reason.clone(),
                event.message.clone(),
            ]
        });
        let rows: Vec<_> = rows.collect();
        let table = output::table(&["TIME", "TYPE", "REASON", "MESSAGE"], &rows);
        for line in table.lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}

/// Whether nothing is in any member.
fn is_blank(members: &serde_json::Map<String, Value>) -> bool {
    members
        .values()
        .all(|value| matches!(value, Value::Null) || *value == "" || *value == 0)
}

fn outline(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let scalar = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    // Clients are not told of the exporter's credential.
                    Value::Object(credential) if key == "credential" && is_blank(credential) => {}
                    Value::Object(inner) if !inner.is_empty() => {
                        text.push_str(&format!("{indent}{key}:\n"));
                        outline(value, depth + 1, text);
                    }
                    Value::Array(items) if items.iter().any(|item| item.is_object()) => {
                        text.push_str(&format!("{indent}{key}:\n"));
                        outline(value, depth + 1, text);
                    }
                    Value::Null => {}
                    Value::Object(_) => {}
                    Value::Array(items) => {
                        let items: Vec<String> = items.iter().map(scalar).collect();
                        text.push_str(&format!("{indent}{key}: {}\n", items.join(", ")));
                    }
                    value => text.push_str(&format!("{indent}{key}: {}\n", scalar(value))),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    // One line for each entry, so that conditions and devices can be read.
                    Value::Object(members) => {
                        let cells = members
                            .iter()
                            .map(|(key, value)| format!("{key}={}", scalar(value)));
                        let cells: Vec<String> = cells.collect();
                        text.push_str(&format!("{indent}- {}\n", cells.join("  ")));
                    }
                    item => text.push_str(&format!("{indent}- {}\n", scalar(item))),
                }
            }
        }
        value => text.push_str(&format!("{indent}{}\n", scalar(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_becomes_an_outline() {
        let object = json!({
            "kind": "Exporter",
            "metadata": {"name": "bench", "labels": {"board": "rpi4"}},
            "status": {"conditions": [{"type": "Online", "status": "True"}], "empty": {}, "none": null},
        });
        let mut text = String::new();
        outline(&object, 0, &mut text);
        assert_eq!(
            text,
            "kind: Exporter\nmetadata:\n  name: bench\n  labels:\n    board: rpi4\nstatus:\n  conditions:\n    \
             - type=Online  status=True\n"
        );
    }
}
