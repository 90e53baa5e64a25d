//! `jmp router run`.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jmp_auth::Secret;
use jmp_auth::pki::{Protocols, Refreshed, ServerCertificate, host_name};
use jmp_config::{AccessConfig, AccessKind};
use jmp_router::{ControlOptions, Keys, Listener, Router, RouterOptions, Tls, TlsDial};
use jmp_types::Timestamp;
use jmp_wire::tls::Trust;
use rustix::fs::{FlockOperation, flock};
use serde_json::Map;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::controller::announce::{announce, bind};
use crate::jmp::controller::run::host_of;
use crate::jmp::globals::{LogLevel, log_from};
use crate::jmp::run::notify::notify;
use crate::jmp::run::signals::Signals;

/// Time between two looks at files with a certificate.
const RENEWAL: Duration = Duration::from_secs(3600);
/// Time between two reports of the load to the controller.
const REPORT: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  jmp router run --join router.yaml
  jmp router run --join router.yaml --public-endpoint relay.example.com:8083 --label site=berlin";

/// Run a router until it is stopped
///
/// It joins the controller of the file, from which it gets its keys and its certificate. When it is
/// stopped, tunnels have 30 s to end.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What lets it in at the controller: `router.yaml` of the controller's data directory, or a file
    /// of `jmp admin create router NAME --out FILE`
    #[arg(long, value_name = "FILE")]
    join: PathBuf,

    /// Where clients and exporters connect
    #[arg(long, value_name = "[HOST:]PORT", default_value = "0.0.0.0:8083")]
    listen: String,

    /// Public address of the router [default: this host and the port]
    #[arg(long, value_name = "HOST:PORT")]
    public_endpoint: Option<String>,

    /// Public host of the router, if only that is known
    #[arg(
        long,
        value_name = "HOST",
        hide = true,
        conflicts_with = "public_endpoint"
    )]
    public_host: Option<String>,

    /// Name of the router [default: that of the file]
    #[arg(long)]
    name: Option<String>,

    /// Label; exporters with the same ones get their tunnels through this router. Can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,

    /// Certificate chain, instead of one of the controller's authority
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of that certificate
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Where metrics and health are, over plain HTTP, or `none`
    #[arg(long, value_name = "[HOST:]PORT", default_value = "127.0.0.1:8081")]
    metrics_listen: String,

    /// How the controller on this host knows that the router lives
    #[arg(long, value_name = "FILE", hide = true)]
    lock: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// When the router cannot be started.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    if globals.log_level.is_none() {
        log_from(LogLevel::Info);
    }
    let _lock = arguments.lock.as_deref().map(lock).transpose()?;
    let mut signals = Signals::catch()?;
    let join = AccessConfig::load(&arguments.join, AccessKind::Router)?;
    let listener = bind("--listen", &arguments.listen, "0.0.0.0")
        .await?
        .ok_or_else(|| CliError::usage("a router needs --listen"))?;
    let address = listener.local_addr()?;
    let endpoint = arguments
        .public_endpoint
        .clone()
        .or_else(|| globals.endpoint.clone())
        .unwrap_or_else(|| {
            let host = match &arguments.public_host {
                Some(host) => host.clone(),
                None if address.ip().is_unspecified() => {
                    host_name().unwrap_or_else(|| "localhost".to_owned())
                }
                None => address.ip().to_string(),
            };
            match host.contains(':') {
                true => format!("[{host}]:{}", address.port()),
                false => format!("{host}:{}", address.port()),
            }
        });
    let certificate = certificate(&arguments, &endpoint)?;
    let tls = match &certificate {
        Some(certificate) => {
            let config = certificate.server_config(Protocols::Grpc);
            Tls::Config(config.map_err(|error| CliError::new(error.to_string()))?)
        }
        None => Tls::FromController,
    };
    let _renewal =
        certificate.map(|certificate| AbortOnDropHandle::new(tokio::spawn(renew(certificate))));
    let mut options = RouterOptions::new(Listener::tcp(listener)?, tls, Keys::FromController);
    options.control = Some(control(&arguments, &join, &endpoint)?);
    options.metrics = bind("--metrics-listen", &arguments.metrics_listen, "127.0.0.1").await?;
    let stop = CancellationToken::new();
    let router = Router::start(options, stop.clone())?;
    tracing::info!(
        controller = join.endpoint,
        endpoint,
        "joining the controller"
    );
    let stopped = tokio::select! {
        () = router.ready() => None,
        signal = signals.next() => Some(signal),
    };
    let signal = match stopped {
        Some(signal) => signal,
        None => {
            let mut facts = Map::new();
            facts.insert("endpoint".into(), endpoint.clone().into());
            facts.insert("address".into(), address.to_string().into());
            facts.insert("controller".into(), join.endpoint.clone().into());
            if let Some(metrics) = router.metrics_addr() {
                facts.insert("metrics".into(), metrics.to_string().into());
            }
            let sentence = format!("router {endpoint}, listening on {address}");
            announce(globals.output, facts, &endpoint, &[sentence])?;
            notify("READY=1");
            signals.next().await
        }
    };
    notify("STOPPING=1");
    tracing::info!("stopping because of {}", signal.name);
    stop.cancel();
    // A second signal ends the tunnels that are still open.
    tokio::select! {
        () = router.stopped() => {}
        _ = signals.next() => tracing::warn!("ending the tunnels that are still open"),
    }
    Ok(crate::exit::OK)
}

/// The certificate of the options, if there is one: for the host by which the router is reached.
fn certificate(arguments: &Args, endpoint: &str) -> Result<Option<ServerCertificate>, CliError> {
    let (Some(chain), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) else {
        return Ok(None);
    };
    let host = host_of(endpoint);
    let certificate = ServerCertificate::from_files(chain, key, &host, Timestamp::now());
    certificate
        .map(Some)
        .map_err(|error| CliError::new(error.to_string()))
}

/// Takes up files that were exchanged.
async fn renew(certificate: ServerCertificate) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        match certificate.refresh(Timestamp::now()) {
            Ok(Refreshed::Unchanged) => {}
            Ok(_) => tracing::info!("the certificate was exchanged"),
            Err(error) => tracing::error!(%error, "the new certificate cannot be used"),
        }
    }
}

fn control(
    arguments: &Args,
    join: &AccessConfig,
    endpoint: &str,
) -> Result<ControlOptions, CliError> {
    let unusable = |error: String| {
        CliError::new(format!(
            "the authority in {} cannot be used: {error}",
            arguments.join.display()
        ))
    };
    let trust = match join.tls.ca.as_deref().filter(|ca| !ca.is_empty()) {
        Some(ca) => Trust::Authorities(
            STANDARD
                .decode(ca)
                .map_err(|error| unusable(error.to_string()))?,
        ),
        None => jmp_client::trust_from_environment()?,
    };
    let connector = jmp_wire::tls::client(&trust).map_err(|error| unusable(error.to_string()))?;
    let name = arguments.name.clone().unwrap_or_else(|| join.name.clone());
    Ok(ControlOptions {
        dial: Arc::new(TlsDial {
            endpoint: join.endpoint.clone(),
            connector,
        }),
        controller: join.endpoint.clone(),
        credential: Secret::new(join.token.expose()),
        name,
        endpoint: endpoint.to_owned(),
        labels: labels(&arguments.labels)?,
        instance: Uuid::new_v4().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        report_every: REPORT,
    })
}

fn labels(given: &[String]) -> Result<HashMap<String, String>, CliError> {
    given
        .iter()
        .map(|label| {
            let (key, value) = label.split_once('=').ok_or_else(|| {
                CliError::usage(format!("--label `{label}` is not of the form KEY=VALUE"))
            })?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Takes the lock, leaves the process's number in the file, and leaves the session of the
/// controller, whose end and whose terminal are not this one's.
fn lock(path: &Path) -> Result<File, CliError> {
    // Fails for the leader of a process group, which has what is wanted.
    let _ = rustix::process::setsid();
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        CliError::new(format!("another router holds {}: {error}", path.display()))
    })?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
    file.sync_all()?;
    Ok(file)
}
