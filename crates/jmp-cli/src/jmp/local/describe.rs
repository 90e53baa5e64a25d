//! `jmp local status` and `jmp local env`.

use std::path::Path;
use std::time::Duration;

use jmp_client::{AllowList, Client, Dialer};
use serde_json::{Value, json};

use super::stop::running;
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::output::{self, Format, Listing};
use crate::session_record::LocalSession;

/// How long the session may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Shells that can read the variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// sh, bash, zsh, dash, ksh
    #[value(alias = "bash", alias = "zsh")]
    Sh,
    /// fish
    Fish,
}

/// Prints what runs.
pub async fn status(globals: &Globals) -> Result<u8, CliError> {
    let Some(session) = running()? else {
        let listing = Listing {
            data: json!({"running": false}),
            empty: "no exporter runs in the background",
            ..Listing::default()
        };
        listing.print(globals.output)?;
        return Ok(exit::FAILURE);
    };
    let status = asked(&session).await;
    let log = session.log.as_deref().map(shown).unwrap_or_default();
    let listing = Listing {
        headings: vec!["EXPORTER", "STATUS", "PID", "CONFIG", "SOCKET", "LOG"],
        rows: vec![vec![
            session.exporter.clone(),
            status.clone(),
            session.pid.to_string(),
            shown(&session.config),
            shown(&session.socket),
            log,
        ]],
        names: vec![session.exporter.clone()],
        paths: vec![shown(&session.config)],
        data: json!({
            "running": true,
            "exporter": session.exporter,
            "status": status,
            "pid": session.pid,
            "config": session.config,
            "socket": session.socket,
            "log": session.log,
        }),
        empty: "",
    };
    listing.print(globals.output)?;
    Ok(exit::OK)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The status as the session itself tells it.
async fn asked(session: &LocalSession) -> String {
    let answer = async {
        let client = Client::connect_with(Dialer::unix(&session.socket), &AllowList::Unsafe);
        client.await?.status().await
    };
    match tokio::time::timeout(ANSWER_LIMIT, answer).await {
        Ok(Ok(Some(status))) => status.name,
        Ok(Ok(None)) => "unknown".into(),
        Ok(Err(error)) => {
            output::warn(&error.to_string());
            "unreachable".into()
        }
        Err(_) => "no answer".into(),
    }
}

/// Prints the variables that lead other programs to the session.
pub fn environment(shell: Shell, globals: &Globals) -> Result<u8, CliError> {
    let session = running()?.ok_or_else(|| {
        CliError::new("no exporter runs in the background")
            .with_hint("start one with `jmp local start --exporter ALIAS`")
    })?;
    let programs = session.socket.with_file_name("bin");
    let variables = [
        ("JUMPSTARTER_HOST", shown(&session.socket)),
        ("JMP_DRIVERS_ALLOW", "UNSAFE".to_owned()),
        ("_JMP_SUPPRESS_DRIVER_WARNINGS", "1".to_owned()),
    ];
    let text = match globals.output {
        None | Some(Format::Name | Format::Path) => {
            let lines = variables.iter().map(|(name, value)| shell.set(name, value));
            lines.collect::<String>() + &shell.set_path(&shown(&programs))
        }
        Some(format) => {
            let mut data: serde_json::Map<String, Value> = variables
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect();
            let path = std::env::var("PATH").unwrap_or_default();
            data.insert("PATH".into(), format!("{}:{path}", shown(&programs)).into());
            match format {
                Format::Yaml => output::yaml(&data.into())?,
                _ => output::json(&data.into()),
            }
        }
    };
    output::print(&text)?;
    Ok(exit::OK)
}

// === impl Shell ===

impl Shell {
    fn set(self, name: &str, value: &str) -> String {
        let value = self.quoted(value);
        match self {
            Self::Sh => format!("export {name}={value}\n"),
            Self::Fish => format!("set -gx {name} {value};\n"),
        }
    }

    fn set_path(self, first: &str) -> String {
        let first = self.quoted(first);
        match self {
            Self::Sh => format!("export PATH={first}:\"$PATH\"\n"),
            Self::Fish => format!("set -gx PATH {first} $PATH;\n"),
        }
    }

    fn quoted(self, text: &str) -> String {
        match self {
            Self::Sh => format!("'{}'", text.replace('\'', r"'\''")),
            Self::Fish => format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_shell() {
        assert_eq!(Shell::Sh.set("A", "it's"), "export A='it'\\''s'\n");
        assert_eq!(Shell::Fish.set("A", "it's"), "set -gx A 'it\\'s';\n");
        assert_eq!(Shell::Sh.set_path("/a b"), "export PATH='/a b':\"$PATH\"\n");
    }
}
