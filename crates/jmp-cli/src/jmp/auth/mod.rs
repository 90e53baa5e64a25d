//! `jmp auth`: the token of a client.

use std::path::Path;

use jmp_config::{EffectiveClient, Origin, Secret};
use jmp_types::Timestamp;
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::client::{ClientArgs, controller};
use crate::jmp::lease::view::{local_time, timestamp};
use crate::jmp::signals::unless_cancelled;
use crate::jmp::token::{self, Life};
use crate::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  jmp auth status
  jmp auth rotate";

const STATUS_EXAMPLES: &str = "\
Examples:
  jmp auth status
  jmp auth status --verbose
  jmp auth status --client hello -o json";

const ROTATE_EXAMPLES: &str = "\
Examples:
  jmp auth rotate
  jmp auth rotate --client hello";

/// Look at the token of a client, and renew it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show whose the token is and how long it is good
    ///
    /// That is what the token says about itself; nobody is asked. The exit code is 0 whatever it says.
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        #[command(flatten)]
        client: ClientArgs,

        /// Show more about it
        #[arg(short, long)]
        verbose: bool,
    },
    /// Exchange the token for a new one and save that
    ///
    /// The old one works for a short while longer, for what runs with it now.
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Get a new token with a refresh token
    ///
    /// Those come from other issuers (OpenID Connect), which this version cannot ask.
    #[command(after_help = "Examples:\n  jmp auth refresh")]
    Refresh {
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Runs the command.
///
/// # Errors
///
/// When the configuration cannot be used, or the controller says no.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    match arguments.command {
        Command::Status { client, verbose } => status(&client.load(globals)?, verbose, globals),
        Command::Rotate { client } => {
            unless_cancelled(rotate(client.load(globals)?, globals)).await
        }
        Command::Refresh { client } => refresh(&client.load(globals)?),
    }
}

fn status(client: &EffectiveClient, verbose: bool, globals: &Globals) -> Result<u8, CliError> {
    let token = client.token.value.as_ref();
    let peeked = token.and_then(|token| jmp_auth::peek(token.expose()));
    let life = Life::of(peeked.as_ref(), Timestamp::now());
    let refresh = client.refresh_token.value.is_some();
    if globals.output.is_some() {
        let mut data = Map::new();
        data.insert("token".into(), json!(kind(token, peeked.is_some())));
        data.extend(token::json(&peeked.unwrap_or_default(), life));
        data.insert("refreshTokenStored".into(), json!(refresh));
        data.insert("source".into(), json!(client.token.origin.to_string()));
        print(data, life.word(), client, globals)?;
        return Ok(exit::OK);
    }
    let mut lines = Vec::new();
    match (token, &peeked) {
        (None, _) => {
            lines.push("No token: this client is not logged in (`jmp login NAME@HOST`)".to_owned());
        }
        (Some(_), None) => {
            lines.push(
                "Opaque token: it does not say whose it is and how long it is good".to_owned(),
            );
        }
        (Some(_), Some(peeked)) => {
            match peeked.expires_at {
                Some(end) => {
                    lines.push(format!("Token expiry: {}", utc(end)));
                    lines.push(format!("Status: {}", life.text()));
                }
                None => lines.push("The token has no end".to_owned()),
            }
            let mut add = |name: &str, text: Option<String>| {
                lines.extend(text.map(|text| format!("{name}: {text}")));
            };
            add("Subject", peeked.subject.clone());
            add("Issuer", peeked.issuer.clone());
            if verbose {
                add("Issued at", peeked.issued_at.map(utc));
                add("Token id", peeked.token_id.clone());
                add(
                    "Audience",
                    Some(peeked.audiences.join(", ")).filter(|text| !text.is_empty()),
                );
            }
        }
    }
    if verbose {
        lines.push(format!("Token from: {}", client.token.origin));
        let stored = if refresh { "yes" } else { "no" };
        lines.push(format!("Refresh token stored: {stored}"));
    }
    output::print(&(lines.join("\n") + "\n"))?;
    match life {
        Life::Expired(_) => output::note(&format!("hint: {}", token::login_hint(client))),
        Life::ExpiringSoon(_) => output::note("hint: `jmp auth rotate` gets a new one"),
        Life::Unknown | Life::Valid(_) => {}
    }
    Ok(exit::OK)
}

fn kind(token: Option<&Secret>, readable: bool) -> &'static str {
    match (token, readable) {
        (None, _) => "none",
        (Some(_), true) => "jwt",
        (Some(_), false) => "opaque",
    }
}

fn utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn print(
    data: Map<String, Value>,
    word: &str,
    client: &EffectiveClient,
    globals: &Globals,
) -> Result<(), CliError> {
    match globals.output {
        Some(Format::Json) => output::print(&output::json(&Value::Object(data))),
        Some(Format::Yaml) => output::print(&output::yaml(&Value::Object(data))?),
        Some(Format::Path) => {
            let path = client
                .file
                .as_ref()
                .map(|file| file.path.display().to_string());
            output::print(&format!("{}\n", path.unwrap_or_default()))
        }
        Some(Format::Name) | None => output::print(&format!("{word}\n")),
    }
}

async fn rotate(client: EffectiveClient, globals: &Globals) -> Result<u8, CliError> {
    let path = writable(&client)?;
    token::check(&client)?;
    let controller = controller(&client)?;
    let answer = controller.rotate_token().await?;
    globals
        .store()
        .replace_token(path, &Secret::new(&*answer.token))
        .map_err(|error| {
            CliError::from(error).with_hint(
                "the old token works only for a short while now: an administrator gets another one with \
                 `jmp admin rotate client NAME`",
            )
        })?;
    let end = answer.expiry.as_ref().and_then(timestamp);
    if globals.output.is_some() {
        let mut data = Map::new();
        data.insert("expiresAt".into(), json!(end.map(|end| end.to_string())));
        data.insert("path".into(), json!(path.display().to_string()));
        print(data, &path.display().to_string(), &client, globals)?;
    } else {
        let until = end.map_or_else(String::new, |end| {
            format!(", good until {}", local_time(end))
        });
        output::print(&format!("New token{until}\n"))?;
        output::note(&format!("saved {}", path.display()));
    }
    Ok(exit::OK)
}

/// The file in which the token stands, found out to be writable before the controller is asked.
fn writable(client: &EffectiveClient) -> Result<&Path, CliError> {
    let path = match (&client.token.origin, &client.file) {
        (Origin::UserFile { .. } | Origin::SystemFile { .. }, Some(file)) => file.path.as_path(),
        (Origin::Default, _) => {
            return Err(CliError::new("there is no token to exchange").with_hint(
                "log in with `jmp login NAME@HOST`, or choose a client with --client ALIAS",
            ));
        }
        (origin, _) => {
            return Err(CliError::new(format!(
                "the token comes from {origin}, so there is no file for a new one"
            ))
            .with_hint("choose a client configuration with --client ALIAS and unset JMP_TOKEN"));
        }
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    tempfile::NamedTempFile::new_in(directory).map_err(|error| {
        CliError::new(format!(
            "a new token could not be saved in {}: {error}",
            path.display()
        ))
        .with_hint("nothing was changed; make the directory writable first")
    })?;
    Ok(path)
}

fn refresh(client: &EffectiveClient) -> Result<u8, CliError> {
    let error = match client.refresh_token.value {
        None => CliError::new("there is no refresh token to get a new token with"),
        Some(_) => CliError::new(
            "the refresh token comes from another issuer (OpenID Connect), which this version cannot ask",
        ),
    };
    Err(error.with_hint(
        "a token of the controller itself is renewed with `jmp auth rotate`, or replaced with `jmp login \
         --token-file FILE`",
    ))
}
