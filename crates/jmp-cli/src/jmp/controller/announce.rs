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

/// An address that others are given: `HOST:PORT`.
///
/// # Errors
///
/// When it has no port, or is no address.
pub fn public(option: &str, address: &str) -> Result<String, CliError> {
    let wrong = |reason: String| {
        CliError::usage(format!("{option} {address}: {reason}")).with_hint(
            "write HOST:PORT, such as lab.example.com:8082: the address by which others reach it",
        )
    };
    let endpoint: jmp_wire::endpoint::Endpoint =
        address.parse().map_err(|error| wrong(format!("{error}")))?;
    if !address.ends_with(&format!(":{}", endpoint.port())) {
        return Err(wrong("the port is missing".to_owned()));
    }
    Ok(address.to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_have_a_port() {
        for good in ["lab:8082", "10.0.0.1:1", "[::1]:443"] {
            assert_eq!(public("--endpoint", good).unwrap(), good);
        }
        for bad in ["lab", "lab:", "lab:0", "lab:99999", "::1", ":8082", ""] {
            let error = public("--endpoint", bad).unwrap_err();
            assert_eq!(error.code(), crate::exit::USAGE, "{bad}");
            assert!(error.to_string().contains("--endpoint"), "{bad}");
        }
    }
}
