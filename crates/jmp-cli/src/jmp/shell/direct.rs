//! A shell with the devices of an exporter that listens for its clients itself (facts: cli 6.4).

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use jmp_client::{AllowList, Client, Dialer, LogLine, trust_from_environment};
use jmp_wire::tls::Trust;
use tokio::time::Instant;

use super::DirectArgs;
use super::launch::Launch;
use super::logs::{Filter, Line, Shown};
use crate::error::CliError;
use crate::jmp::globals::LogLevel;
use crate::jmp::runtime_directory::RuntimeDirectory;
use crate::jmp::signals::unless_cancelled;
use crate::output;

/// How long an exporter may take to become ready, its hook included.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// The protocol has no way to be told of a status.
const STATUS_INTERVAL: Duration = Duration::from_millis(300);
/// In front of a status text that is a warning of a hook (facts: protocol 12, literal strings).
const HOOK_WARNING: &str = "[HOOK_WARNING] ";

/// A listener and how to be let in.
pub struct Listener {
    address: String,
    dialer: Dialer,
    insecure: bool,
    authority: Option<PathBuf>,
    passphrase: Option<String>,
}

// === impl Listener ===

impl Listener {
    /// From the command line.
    pub(super) fn new(address: &str, options: &DirectArgs) -> Result<Self, CliError> {
        let authority = options
            .tls_ca
            .as_ref()
            .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        let trust = match &authority {
            Some(path) => Trust::Authorities(std::fs::read(path).map_err(|error| {
                CliError::new(format!("cannot read {}: {error}", path.display()))
            })?),
            None => trust_from_environment()?,
        };
        let trust = (!options.tls_grpc_insecure).then_some(trust);
        let passphrase = passphrase(options)?;
        let dialer = Dialer::tcp(address, trust, passphrase.as_deref())
            .map_err(|error| CliError::from(error).with_code(crate::exit::USAGE))?;
        Ok(Self {
            address: address.to_owned(),
            dialer,
            insecure: options.tls_grpc_insecure,
            authority,
            passphrase,
        })
    }

    async fn connect(&self) -> Result<Client, CliError> {
        let connected = Client::connect_with(self.dialer.clone(), &AllowList::Unsafe).await;
        connected.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: jmp_client::Error) -> CliError {
        match &error {
            jmp_client::Error::Refused { code, .. } if *code == "UNAUTHENTICATED" => {
                let what = match self.passphrase {
                    Some(_) => "the passphrase is wrong",
                    None => "the exporter wants a passphrase",
                };
                CliError::new(format!("Authentication failed at {}: {what}", self.address))
                    .with_hint(
                        "give the exporter's passphrase with --passphrase or JMP_GRPC_PASSPHRASE",
                    )
            }
            jmp_client::Error::Unreachable { .. } | jmp_client::Error::Refused { .. } => {
                let hint = match (self.insecure, &self.authority) {
                    (true, _) => {
                        "check that the exporter runs and listens there; an exporter with TLS is \
                         reached without --tls-grpc-insecure"
                    }
                    (false, None) => {
                        "check that the exporter runs and listens there; --tls-ca FILE trusts a \
                         certificate of your own, --tls-grpc-insecure connects without TLS"
                    }
                    (false, Some(_)) => {
                        "check that the exporter runs and listens there, and that its certificate \
                         names this host and comes from the authority given with --tls-ca"
                    }
                };
                CliError::from(error).with_hint(hint)
            }
            _ => error.into(),
        }
    }

    fn variables(&self, launch: &mut Launch) {
        launch.variable("JUMPSTARTER_HOST", &self.address);
        launch.variable("JMP_EXPORTER", "direct");
        launch.variable("JMP_LEASE", "direct");
        if self.insecure {
            launch.variable("JMP_GRPC_INSECURE", "1");
        }
        if let Some(passphrase) = &self.passphrase {
            launch.variable("JMP_GRPC_PASSPHRASE", passphrase);
        }
        if let Some(authority) = &self.authority {
            launch.variable("JMP_TLS_CA", authority);
            // What Python's gRPC reads.
            launch.variable("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", authority);
        }
    }
}

fn passphrase(options: &DirectArgs) -> Result<Option<String>, CliError> {
    if options.passphrase.is_none() && options.passphrase_file.is_none() {
        let variable = std::env::var("JMP_GRPC_PASSPHRASE").ok();
        return Ok(variable.filter(|text| !text.is_empty()));
    }
    crate::jmp::run::passphrase::find(
        options.passphrase.as_deref(),
        options.passphrase_file.as_deref(),
    )
}

/// Connects, waits until the exporter is ready, and runs the program.
pub async fn run(listener: Listener, mut launch: Launch, filter: Filter) -> Result<u8, CliError> {
    let client = unless_cancelled(listener.connect()).await?;
    let mut logs = match client.logs().await {
        Ok(lines) => {
            let lines = lines.filter_map(|line| std::future::ready(line.ok()));
            Shown::new(lines.map(shown_line), filter)
        }
        Err(error) => {
            output::warn(&format!("the exporter's log is not shown: {error}"));
            Shown::new(futures::stream::empty(), filter)
        }
    };
    unless_cancelled(async {
        tokio::select! {
            ready = wait_until_ready(&client) => ready,
            error = async { logs.follow().await; std::future::pending().await } => error,
        }
    })
    .await?;
    launch.set_motd(client.motd());
    listener.variables(&mut launch);
    let directory = RuntimeDirectory::new()?;
    let code = launch.run("direct", &directory, logs.follow()).await;
    logs.drain();
    code
}

/// Waits until the exporter may be used, and tells what it waits for.
pub async fn wait_until_ready(client: &Client) -> Result<(), CliError> {
    let deadline = Instant::now() + READY_LIMIT;
    let mut told = String::new();
    loop {
        let Some(status) = client.status().await? else {
            // Too old to have a status.
            return Ok(());
        };
        match status.name.as_str() {
            "LEASE_READY" => {
                tell_warning(&status.message);
                return Ok(());
            }
            "BEFORE_LEASE_HOOK_FAILED" | "AFTER_LEASE_HOOK_FAILED" | "OFFLINE" => {
                return Err(CliError::new(format!(
                    "the exporter cannot be used, its status is {}{}",
                    status.name,
                    reason(&status.message)
                )));
            }
            _ => {}
        }
        let state = format!("{}{}", status.name, reason(&status.message));
        if Instant::now() >= deadline {
            return Err(CliError::new(format!(
                "the exporter did not become ready within {} s, its status is {state}",
                READY_LIMIT.as_secs()
            )));
        }
        if state != told {
            output::note(&format!("waiting for the exporter, its status is {state}"));
            told = state;
        }
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
}

/// Shows a status text that is a warning of a hook.
pub fn tell_warning(message: &str) {
    if let Some(warning) = message.strip_prefix(HOOK_WARNING) {
        output::warn(warning);
    }
}

fn reason(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

/// A line of an exporter elsewhere.
pub fn shown_line(line: LogLine) -> Line {
    Line {
        source: line.source,
        level: LogLevel::of(&line.severity),
        message: line.message,
    }
}
