//! `j logs`: the log of the session.

use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use jmp_client::{Client, LogLine};
use jmp_driver::command::{Argument, Command, Invocation, OutputFormat};
use jmp_driver::{Error, Result};

/// The exporter sends what it has at once and does not say where the past ends; a pause of this
/// length is taken for it.
const PAUSE: Duration = Duration::from_millis(250);

/// The command.
pub fn command(client: &Client) -> Command {
    let client = client.clone();
    Command::new(
        "logs",
        "Show the log of the session",
        move |invocation: Invocation| {
            let client = client.clone();
            async move { show(&client, &invocation).await }
        },
    )
    .argument(Argument::flag("follow", "Go on until the session ends").short('f'))
    .example("logs --follow")
}

async fn show(client: &Client, invocation: &Invocation) -> Result<u8> {
    let follow = invocation.given.is_set("follow");
    let mut lines = client.logs().await.map_err(other)?;
    loop {
        let line = if follow {
            lines.next().await
        } else {
            match tokio::time::timeout(PAUSE, lines.next()).await {
                Ok(line) => line,
                Err(_) => return Ok(0),
            }
        };
        match line {
            Some(line) => print(&line.map_err(other)?, invocation.output)?,
            None => return Ok(0),
        }
    }
}

fn other(error: jmp_client::Error) -> Error {
    Error::other(error.to_string())
}

/// One line, as text or as JSON; YAML is a document for each line.
fn print(line: &LogLine, format: OutputFormat) -> Result<()> {
    let data = || {
        serde_json::json!({
            "severity": line.severity,
            "source": line.source,
            "message": line.message,
        })
    };
    let text = match format {
        OutputFormat::Json => format!("{}\n", data()),
        OutputFormat::Yaml => {
            let yaml = crate::output::yaml(&data());
            format!(
                "---\n{}",
                yaml.map_err(|error| Error::other(error.to_string()))?
            )
        }
        OutputFormat::Name => format!("{}\n", line.message),
        OutputFormat::Text => format!("{:8} {} {}\n", line.severity, line.source, line.message),
    };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    written.and_then(|()| stdout.flush()).map_err(super::quiet)
}
