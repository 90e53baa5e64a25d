//! `jmp run`: an exporter as a service (facts: command line 7).
//!
//! One process, no forked child: starting it again after a failure is the service manager's work,
//! which sees true exit codes. Exit codes: 128 plus the signal that ended it, 1 when a hook, a
//! device or a controller's refusal did, 0 after --exit-on-lease-end, 2 for a command line that makes no sense.

mod leased;
pub mod listener;
pub mod notify;
pub mod passphrase;
pub mod signals;

use std::path::PathBuf;

use jmp_exporter::{HookScript, HookScripts, Lifecycle, LifecycleOptions, Session, SessionOptions};
use jmp_lease::{Mode, OnFailure};
use serde_json::json;

use self::listener::{Listener, Security};
use self::notify::notify;
use self::signals::Signals;
use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::exporter::{ExporterArgs, open_session};
use crate::jmp::globals::{LogLevel, log_from};
use crate::jmp::runtime_directory::RuntimeDirectory;
use crate::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  jmp run --exporter bench
  jmp run --exporter bench --tls-grpc-listener 1234 --tls-cert cert.pem --tls-key key.pem
  jmp run --exporter-config bench.yaml --tls-grpc-listener 127.0.0.1:1234 --tls-grpc-insecure
  jmp run --exporter bench --tls-grpc-listener 1234 --tls-grpc-insecure --passphrase-file secret";

/// Run an exporter until it is stopped
///
/// The exporter registers with the controller of its configuration and serves one lease after the
/// other; with --tls-grpc-listener it serves clients directly. It runs until SIGINT, SIGTERM or
/// SIGQUIT, which end a running lease's session at once, or SIGHUP, which waits for its end. A
/// controller that is away is looked for again and ends no session. It does not restart itself;
/// under systemd use Type=notify and Restart=on-failure with SuccessExitStatus=143.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    exporter: ExporterArgs,

    /// Serve clients directly on this address instead of through a controller
    #[arg(long, value_name = "[HOST:]PORT")]
    tls_grpc_listener: Option<String>,

    /// Serve without TLS
    #[arg(long, requires = "tls_grpc_listener", conflicts_with_all = ["tls_cert", "tls_key"])]
    tls_grpc_insecure: bool,

    /// Certificate chain of the listener
    #[arg(long, value_name = "PEM", requires_all = ["tls_key", "tls_grpc_listener"])]
    tls_cert: Option<PathBuf>,

    /// Private key of the listener
    #[arg(long, value_name = "PEM", requires_all = ["tls_cert", "tls_grpc_listener"])]
    tls_key: Option<PathBuf>,

    /// Clients of the listener must present this passphrase
    ///
    /// Other users of this machine can read it in the list of processes: better put it into a
    /// file (--passphrase-file) or into the variable JMP_GRPC_PASSPHRASE.
    #[arg(long, requires = "tls_grpc_listener")]
    passphrase: Option<String>,

    /// File that holds the passphrase; blanks around it do not count
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_grpc_listener",
        conflicts_with = "passphrase"
    )]
    passphrase_file: Option<PathBuf>,

    /// End when the first lease ends
    #[arg(long, conflicts_with = "tls_grpc_listener")]
    exit_on_lease_end: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When the exporter cannot be started.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    if globals.log_level.is_none() {
        log_from(LogLevel::Info);
    }
    let security = arguments.security()?;
    let exporter = arguments.exporter.load(globals)?.ok_or_else(|| {
        CliError::usage("no exporter was named")
            .with_hint("add --exporter ALIAS or --exporter-config FILE")
    })?;
    let Some((address, security)) = security else {
        return leased::run(&exporter, arguments.exit_on_lease_end, globals).await;
    };
    // Before the devices: what cannot be served need not be opened.
    let listener = Listener::bind(&address, security).await?;
    let mut signals = Signals::catch()?;
    let config = &exporter.file.config;
    let options = SessionOptions {
        motd: config.motd.clone().unwrap_or_default(),
        lease: Some(jmp_exporter::STANDALONE_LEASE.to_owned()),
        ..SessionOptions::default()
    };
    let session = tokio::select! {
        session = open_session(&exporter.file, options) => session?,
        stop = signals.next() => return Ok(stop.exit_code),
    };
    let directory = RuntimeDirectory::new()?;
    let result = serve(
        &session,
        &directory,
        hooks(config),
        listener,
        signals,
        globals,
    )
    .await;
    // After the life cycle this has been done; after a failure to start it has not.
    session.close().await;
    result
}

/// Serves until the life cycle ends.
async fn serve(
    session: &Session,
    directory: &RuntimeDirectory,
    hooks: HookScripts,
    listener: Listener,
    mut signals: Signals,
    globals: &Globals,
) -> Result<u8, CliError> {
    let options = LifecycleOptions {
        mode: Mode::Direct,
        hooks,
        programs: Some(directory.path().join("bin")),
        directory: directory.path().to_owned(),
    };
    let mut lifecycle = Lifecycle::start(session.clone(), options)
        .map_err(|error| CliError::new(format!("cannot serve the hooks: {error}")))?;
    announce(&listener.serve(session)?, globals)?;
    notify("READY=1");
    let shutdown = lifecycle.shutdown_handle();
    loop {
        tokio::select! {
            code = lifecycle.finished() => return Ok(code),
            stop = signals.next() => {
                notify("STOPPING=1");
                tracing::info!("stopping because of {}", stop.name);
                shutdown.request(stop.graceful, stop.exit_code).await;
            }
        }
    }
}

/// Says where clients find the exporter, for people and for scripts that asked for any port.
fn announce(served: &listener::Served, globals: &Globals) -> Result<(), CliError> {
    let address = served.address.to_string();
    match globals.output {
        Some(Format::Json) => output::print(&output::json(&json!({
            "address": address,
            "tls": served.tls,
            "passphrase": served.passphrase,
        }))),
        Some(Format::Yaml) => output::print(&output::yaml(&json!({
            "address": address,
            "tls": served.tls,
            "passphrase": served.passphrase,
        }))?),
        Some(Format::Name | Format::Path) => output::print(&format!("{address}\n")),
        None => output::print(&format!("listening on {address}\n")),
    }
}

// === impl Args ===

impl Args {
    /// Where and how to listen; `None` for an exporter of a controller.
    fn security(&self) -> Result<Option<(String, Security)>, CliError> {
        let Some(address) = self.tls_grpc_listener.clone() else {
            return Ok(None);
        };
        let certificate = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            _ if self.tls_grpc_insecure => None,
            _ => {
                return Err(CliError::usage(
                    "the listener needs --tls-cert and --tls-key, or --tls-grpc-insecure",
                ));
            }
        };
        let passphrase =
            passphrase::find(self.passphrase.as_deref(), self.passphrase_file.as_deref())?;
        Ok(Some((
            address,
            Security {
                certificate,
                passphrase,
            },
        )))
    }
}

/// The hooks of a configuration.
pub fn hooks(config: &jmp_config::ExporterConfig) -> HookScripts {
    let script = |hook: &jmp_config::Hook| HookScript {
        script: hook.script.clone(),
        exec: hook.exec.clone(),
        timeout: hook.timeout,
        on_failure: match hook.on_failure {
            jmp_config::OnFailure::Warn => OnFailure::Warn,
            jmp_config::OnFailure::EndLease => OnFailure::EndLease,
            jmp_config::OnFailure::Exit => OnFailure::Exit,
        },
    };
    HookScripts {
        before_lease: config.hooks.before_lease.as_ref().map(script),
        after_lease: config.hooks.after_lease.as_ref().map(script),
    }
}
