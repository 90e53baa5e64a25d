//! Commands that every device has, for drivers whose client class nobody knows.

use std::io::Write;

use futures::{SinkExt, StreamExt};
use jmp_client::{Client, Device, MethodInfo};
use jmp_driver::command::{Argument, Command, Given, Invocation, OutputFormat, ValueKind};
use jmp_driver::{ByteStream, DriverHandle, Error, ErrorKind, MethodKind, Result};
use prost_types::Value;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::group::listing_format;
use super::line::{self, FORMATS};
use super::quiet;
use crate::output::{self, Listing};

/// What `stream` opens unless told otherwise: the conventional name.
const STREAM_METHOD: &str = "connect";

/// `call`, `stream` and `methods` for a device.
pub fn commands(client: &Client, device: &Device) -> Vec<Command> {
    let call = Command::new("call", "Call a method and print its result", call)
        .argument(Argument::positional("method", ValueKind::Text, "Its name"))
        .argument(Argument::trailing(
            "args",
            "Its arguments, JSON or else plain text",
        ))
        .argument(
            Argument::option(
                "output",
                ValueKind::Choice(FORMATS.iter().map(|word| (*word).into()).collect()),
                "How to print the result, JSON unless given",
            )
            .short('o'),
        );
    let stream = Command::new(
        "stream",
        "Connect standard input and output to a byte stream",
        stream,
    )
    .argument(
        Argument::positional("method", ValueKind::Text, "Its name, `connect` if left out")
            .requirement(false),
    );
    let uuid = device.uuid();
    let client = client.clone();
    let methods = Command::new(
        "methods",
        "List the methods with their arguments",
        move |invocation: Invocation| {
            let client = client.clone();
            async move { methods(&client, uuid, invocation.output).await }
        },
    );
    vec![call, stream, methods]
}

/// What a driver can be asked; `None` if the exporter does not tell.
pub async fn described(client: &Client, uuid: Uuid) -> Result<Option<Vec<MethodInfo>>> {
    let all = client
        .describe()
        .await
        .map_err(|error| Error::other(error.to_string()))?;
    Ok(all.map(|mut all| all.remove(&uuid).unwrap_or_default()))
}

/// `write(handle, offset: integer, [mode: string], more...)`
pub fn signature(method: &MethodInfo) -> String {
    let arguments: Vec<String> = method
        .arguments
        .iter()
        .map(|argument| {
            let typed = match argument.type_name.as_str() {
                "" => argument.name.clone(),
                name => format!("{}: {name}", argument.name),
            };
            match (argument.variadic, argument.optional) {
                (true, _) => format!("{typed}..."),
                (false, true) => format!("[{typed}]"),
                (false, false) => typed,
            }
        })
        .collect();
    format!("{}({})", method.name, arguments.join(", "))
}

fn kind_name(kind: MethodKind) -> &'static str {
    match kind {
        MethodKind::Unary => "call",
        MethodKind::Streaming => "streaming call",
        MethodKind::ByteStream => "byte stream",
    }
}

async fn methods(client: &Client, uuid: Uuid, format: OutputFormat) -> Result<u8> {
    let methods = described(client, uuid).await?.ok_or_else(|| {
        Error::unimplemented(
            "this exporter does not tell what its drivers can be asked; `call METHOD` works for \
             methods that you know",
        )
    })?;
    let listing = Listing {
        headings: vec!["METHOD", "KIND", "ABOUT"],
        rows: methods
            .iter()
            .map(|method| {
                let about = method.documentation.lines().next().unwrap_or_default();
                vec![
                    signature(method),
                    kind_name(method.kind).to_owned(),
                    about.to_owned(),
                ]
            })
            .collect(),
        names: methods.iter().map(|method| method.name.clone()).collect(),
        paths: Vec::new(),
        data: methods.iter().map(method_json).collect(),
        empty: "No methods.",
    };
    listing
        .print(listing_format(format))
        .map_err(|error| Error::other(error.to_string()))?;
    Ok(0)
}

fn method_json(method: &MethodInfo) -> serde_json::Value {
    let arguments: Vec<_> = method
        .arguments
        .iter()
        .map(|argument| {
            json!({
                "name": argument.name,
                "type": argument.type_name,
                "optional": argument.optional,
                "variadic": argument.variadic,
            })
        })
        .collect();
    json!({
        "name": method.name,
        "kind": kind_name(method.kind),
        "documentation": method.documentation,
        "arguments": arguments,
    })
}

/// JSON where it is JSON, else text: `5`, `true`, `[1, 2]` and `"5"`, but also `/a/path`.
fn arguments(given: &Given) -> Result<Vec<Value>> {
    given
        .all("args")
        .iter()
        .map(|word| {
            let value: serde_json::Value =
                serde_json::from_str(word).unwrap_or_else(|_| word.as_str().into());
            jmp_wire::value::to_value(&value)
                .map_err(|error| Error::invalid_argument(format!("argument `{word}`: {error}")))
        })
        .collect()
}

/// Whether the driver says that it has the method, but not of this kind (facts: protocol 2.3).
fn is_other_kind(error: &Error, marker: &str) -> bool {
    error.kind() == ErrorKind::MethodNotFound
        && error
            .message()
            .ends_with(&format!("missing marker {marker}"))
}

/// Tries a unary call first, which is what shipped exporters make necessary: they do not tell
/// which kind a method is.
async fn call(invocation: Invocation) -> Result<u8> {
    let handle = &invocation.device.handle;
    let method = invocation.given.required("method")?;
    let arguments = arguments(&invocation.given)?;
    let format = match invocation.given.get("output") {
        Some(word) => line::format(word).map_err(Error::invalid_argument)?,
        None => invocation.output,
    };
    match handle.call_raw(method, arguments.clone()).await {
        Ok(value) => print(value, format, false)?,
        Err(error) if is_other_kind(&error, "marker_drivercall") => {
            stream_values(handle, method, arguments, format).await?;
        }
        Err(error) => return Err(error),
    }
    Ok(0)
}

async fn stream_values(
    handle: &DriverHandle,
    method: &str,
    arguments: Vec<Value>,
    format: OutputFormat,
) -> Result<()> {
    let explained = |error: Error| {
        if is_other_kind(&error, "marker_streamingdrivercall") {
            Error::invalid_argument(format!(
                "method `{method}` is no call; if it is a byte stream, use `stream {method}`"
            ))
        } else {
            error
        }
    };
    let values = handle.streaming_call(method, arguments).await;
    let mut values = values.map_err(explained)?;
    while let Some(value) = values.next().await {
        print(value.map_err(explained)?, format, true)?;
    }
    Ok(())
}

/// Prints a value as JSON unless another form is asked for. A method without result prints
/// nothing, except where a program reads the output.
fn print(value: Value, format: OutputFormat, one_of_many: bool) -> Result<()> {
    let value: serde_json::Value = jmp_wire::value::from_value(value)
        .map_err(|error| Error::other(format!("the result is no JSON: {error}")))?;
    let failed = |error: crate::error::CliError| Error::other(error.to_string());
    let text = match (format, &value) {
        (OutputFormat::Text | OutputFormat::Name, serde_json::Value::Null) => String::new(),
        (OutputFormat::Name, serde_json::Value::String(text)) => format!("{text}\n"),
        (OutputFormat::Yaml, _) => {
            let text = output::yaml(&value).map_err(failed)?;
            if one_of_many {
                format!("---\n{text}")
            } else {
                text
            }
        }
        (OutputFormat::Json | OutputFormat::Text, _) if !one_of_many => output::json(&value),
        _ => format!("{value}\n"),
    };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    written.and_then(|()| stdout.flush()).map_err(quiet)
}

async fn stream(invocation: Invocation) -> Result<u8> {
    let method = invocation.given.get("method").unwrap_or(STREAM_METHOD);
    let opened = invocation.device.handle.open_stream(method).await?;
    let ByteStream {
        mut reader,
        mut writer,
    } = opened;
    let send = async {
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; jmp_wire::stream::READ_SIZE];
        loop {
            let count = stdin.read(&mut buffer).await?;
            if count == 0 {
                return writer.close().await;
            }
            writer.send(buffer[..count].to_vec().into()).await?;
        }
    };
    let receive = async {
        let mut stdout = tokio::io::stdout();
        while let Some(chunk) = reader.next().await {
            let chunk = chunk.map_err(|error| Error::from(error).in_call("Stream", method))?;
            let written = stdout.write_all(&chunk).await;
            if let Err(error) = written.and(stdout.flush().await) {
                return Err(quiet(error));
            }
        }
        Ok(())
    };
    tokio::pin!(receive);
    // The device may go on talking after our end; its end is the end of all.
    tokio::select! {
        received = &mut receive => received?,
        sent = send => {
            sent.map_err(|error| Error::from(error).in_call("Stream", method))?;
            receive.await?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_or_text() {
        let mut given = Given::default();
        for word in ["5", "\"5\"", "/a/path", "[1,true]", "-1.5", ""] {
            given.push("args", word);
        }
        let values: Vec<serde_json::Value> = arguments(&given)
            .unwrap()
            .into_iter()
            .map(|value| jmp_wire::value::from_value(value).unwrap())
            .collect();
        assert_eq!(
            values,
            [
                json!(5),
                json!("5"),
                json!("/a/path"),
                json!([1, true]),
                json!(-1.5),
                json!("")
            ]
        );
    }
}
