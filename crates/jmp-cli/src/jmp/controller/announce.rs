//! What a service says of itself when it is ready.

use serde_json::{Map, Value};

use crate::error::CliError;
use crate::output::{self, Format};

/// Says where things are: an object for programs, the sentences for people.
///
/// # Errors
///
/// When standard output is gone.
pub fn announce(
    format: Option<Format>,
    facts: Map<String, Value>,
    name: &str,
    sentences: &[String],
) -> Result<(), CliError> {
    match format {
        Some(Format::Json) => output::print(&output::json(&Value::Object(facts))),
        Some(Format::Yaml) => output::print(&output::yaml(&Value::Object(facts))?),
        Some(Format::Name | Format::Path) => output::print(&format!("{name}\n")),
        None => output::print(&(sentences.join("\n") + "\n")),
    }
}

/// A listener on `[HOST:]PORT`, on all addresses without a host; `None` for `none`.
///
/// # Errors
///
/// When the address makes no sense or is taken.
pub async fn bind(
    option: &str,
    address: &str,
    host: &str,
) -> Result<Option<tokio::net::TcpListener>, CliError> {
    if address == "none" {
        return Ok(None);
    }
    let full = if address.contains(':') {
        address.to_owned()
    } else {
        format!("{host}:{address}")
    };
    let listener = tokio::net::TcpListener::bind(&full).await;
    listener.map(Some).map_err(|error| {
        let told = CliError::new(format!("cannot listen on {full} ({option}): {error}"));
        match error.kind() {
            std::io::ErrorKind::AddrInUse => told.with_hint(format!(
                "another program uses this port, perhaps another one of these; choose another with {option}"
            )),
            std::io::ErrorKind::InvalidInput => {
                told.with_hint("write PORT, HOST:PORT or [IPV6-ADDRESS]:PORT")
            }
            _ => told,
        }
    })
}
