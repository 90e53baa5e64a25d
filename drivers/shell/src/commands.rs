//! `j NAME METHOD …` (facts: drivers 1.16).

use std::collections::HashMap;
use std::io::Write;

use futures::StreamExt;
use futures::future::BoxFuture;
use jmp_driver::command::{
    Argument, ClientType, Command, Commands, DeviceInfo, Invocation, ValueKind,
};
use jmp_driver::{Error, ErrorKind, Result};

use crate::interface::ShellClient;

/// Client type of [`crate::Shell`].
pub const SHELL: ClientType = ClientType {
    classes: &["jumpstarter_driver_shell.client.ShellClient"],
    about: "Shell command executor",
    commands,
};

/// Exit code when the reader of our output has gone, as a shell would report it.
const BROKEN_PIPE: u8 = 128 + 13;

fn commands(device: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    Box::pin(async move {
        let names = ShellClient::new(device.handle).get_methods().await?;
        Ok(Commands::Group(names.into_iter().map(method).collect()))
    })
}

fn method(name: String) -> Command {
    let about = format!("Execute the {name} shell method");
    Command::new(name.clone(), about, move |invocation: Invocation| {
        run(name.clone(), invocation)
    })
    .argument(
        Argument::option("env", ValueKind::Text, "Environment variable, KEY=VALUE")
            .short('e')
            .repeated(),
    )
    .argument(Argument::trailing("args", "Arguments for the command"))
}

async fn run(method: String, invocation: Invocation) -> Result<u8> {
    let mut env = HashMap::new();
    for pair in invocation.given.all("env") {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Error::invalid_argument(format!(
                "`{pair}` is no environment variable; write `--env KEY=VALUE`"
            ))
        })?;
        env.insert(name.to_owned(), value.to_owned());
    }
    let args = invocation.given.all("args").to_vec();
    let client = ShellClient::new(invocation.device.handle);
    match follow(&client, &method, &env, &args).await {
        // Exporters of the first releases answer at the end only.
        Err(error)
            if error.kind() == ErrorKind::MethodNotFound
                && error.message().contains("missing marker") =>
        {
            let (out, err, code) = client.call_method_to_end(method, env, args).await?;
            Ok(show(&out, &err)?.unwrap_or(exit_code(code)))
        }
        followed => followed,
    }
}

async fn follow(
    client: &ShellClient,
    method: &str,
    env: &HashMap<String, String>,
    args: &[String],
) -> Result<u8> {
    let mut items = client
        .call_method(method.to_owned(), env.clone(), args.to_vec())
        .await?;
    while let Some(item) = items.next().await {
        let (out, err, code) = item?;
        if let Some(broken) = show(&out, &err)? {
            return Ok(broken);
        }
        if let Some(code) = code {
            return Ok(exit_code(code));
        }
    }
    Err(Error::new(
        ErrorKind::Connection,
        format!("the exporter did not say how `{method}` ended"),
    ))
}

/// Prints at once; an exit code when nobody reads any more.
fn show(out: &str, err: &str) -> Result<Option<u8>> {
    for (text, stream) in [
        (out, &mut std::io::stdout() as &mut dyn Write),
        (err, &mut std::io::stderr()),
    ] {
        if text.is_empty() {
            continue;
        }
        match stream
            .write_all(text.as_bytes())
            .and_then(|()| stream.flush())
        {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                return Ok(Some(BROKEN_PIPE));
            }
            Err(error) => return Err(Error::from(error).context("printing the output")),
        }
    }
    Ok(None)
}

/// As a shell would report it: minus a signal number is 128 plus it.
fn exit_code(code: i64) -> u8 {
    match code {
        0..=255 => (code & 0xff) as u8,
        -127..=-1 => (128 - code).clamp(129, 255) as u8,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let codes = [0, 3, 199, 255, -15, -9, 256, -1000].map(exit_code);
        assert_eq!(codes, [0, 3, 199, 255, 143, 137, 1, 1]);
    }
}
