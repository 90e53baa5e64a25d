//! The lab of the demo: controller, router and exporter, each a process of its own that cannot outlive
//! the demo, with TLS and tokens, in one temporary directory.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jmp_client::lease::{self, short_name};
use jmp_client::{Controller, LeaseDial, LeaseRequest};
use jmp_config::{AccessConfig, AccessKind};
use jmp_process::{Child, ChildStdout, Command, Stdio};
use jmp_proto::jmp::v1::Credential;
use jmp_proto::jumpstarter::client::v1 as wire;
use jmp_wire::endpoint::{CallerKind, Connector, Credentials, Endpoint, ServerTrust};
use jmp_wire::tls::Trust;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::Fault;
use crate::error::CliError;
use crate::exit;
use crate::jmp::admin::target;
use crate::jmp::runtime_directory::RuntimeDirectory;
use crate::jmp::signals::unless_cancelled;
use crate::output;

/// How long a process may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long the only exporter may take to be leased.
const LEASE_LIMIT: Duration = Duration::from_secs(10);
/// How long the exporter may take to be ready for its tunnels.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// How long the lease is asked for; the story takes seconds.
const LEASE_DURATION: Duration = Duration::from_secs(3600);
/// What a process says of itself is short.
const ANNOUNCEMENT_LIMIT: usize = 64 * 1024;
/// Lines of a log that are worth showing when its process does not start.
const LOG_LINES: usize = 10;
/// The process that clears up after a demo that was killed.
const SWEEPER: &str = "sweeper";
/// How long the others may still write into the directory that it removes.
const SWEEP_LIMIT: Duration = Duration::from_secs(10);
/// Names of the two identities.
const EXPORTER: &str = "bench";
const CLIENT: &str = "demo";

/// A process of the lab.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    /// Kept open, so that what it says later does not end it.
    _stdout: Option<ChildStdout>,
}

/// What runs so far, and the directory of it all.
#[derive(Debug)]
pub struct Lab {
    directory: RuntimeDirectory,
    /// In the order in which they were started; they are stopped in the opposite one.
    processes: Vec<Process>,
    address: String,
    controller: Option<Controller>,
    lease: Option<wire::Lease>,
}

// === impl Lab ===

impl Lab {
    /// An empty lab.
    ///
    /// # Errors
    ///
    /// When there is no place for its directory.
    pub fn new() -> Result<Self, CliError> {
        Ok(Self {
            directory: RuntimeDirectory::new()?,
            processes: Vec::new(),
            address: String::new(),
            controller: None,
            lease: None,
        })
    }

    /// Its directory.
    pub fn directory(&self) -> &RuntimeDirectory {
        &self.directory
    }

    /// Where the controller is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The processes that run, by name.
    pub fn processes(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.processes
            .iter()
            .filter(|process| process.name != SWEEPER)
            .map(|process| (process.name, process.child.id()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the controller and a router that joins it.
    ///
    /// # Errors
    ///
    /// When one of them does not start, with the end of its log.
    pub async fn start_controller(&mut self) -> Result<(), CliError> {
        let directory = self.directory.path().display().to_string();
        self.start(SWEEPER, &["demo", "--sweep", &directory])
            .await?;
        let data = self.path("controller").display().to_string();
        let arguments = [
            "controller",
            "run",
            "--data-directory",
            &data,
            "--listen",
            "127.0.0.1:0",
            "--login-listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "none",
            "--no-router",
            "-o",
            "json",
        ];
        let said = self.start("controller", &arguments).await?;
        self.address = text(&said, "endpoint")?;
        let join = text(&said, "joinFile")?;
        let arguments = [
            "router",
            "run",
            "--join",
            &join,
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "none",
            "-o",
            "json",
        ];
        self.start("router", &arguments).await?;
        Ok(())
    }

    /// Makes an exporter and a client at the controller, as an administrator does, and starts the exporter.
    ///
    /// # Errors
    ///
    /// When the controller says no, or the exporter does not start.
    pub async fn start_exporter(&mut self, fault: Option<Fault>) -> Result<(), CliError> {
        let file = self.path("config/admin.yaml");
        let config = AccessConfig::load(&file, AccessKind::Admin)?;
        let admin = target::connect(&config).await?;
        let mut credentials = Vec::new();
        for (kind, name) in [("Exporter", EXPORTER), ("Client", CLIENT)] {
            let manifest = json!({
                "apiVersion": jmp_types::resource::API_VERSION,
                "kind": kind,
                "metadata": {
                    "name": name,
                    "namespace": target::DEFAULT_NAMESPACE,
                    "labels": {"board": "virtual"},
                },
                "spec": {},
            });
            let created = admin.create(&manifest).await?;
            let credential = created.credential;
            credentials.push(
                credential
                    .ok_or_else(|| CliError::new(format!("{kind} {name} got no credential")))?,
            );
        }
        let [exporter, client] = credentials.as_slice() else {
            return Err(CliError::new("the controller made too few credentials"));
        };
        self.controller = Some(controller(client)?);
        let path = self.exporter_file();
        std::fs::write(&path, configuration(exporter, fault))?;
        let path = path.display().to_string();
        self.start(
            "exporter",
            &["run", "--exporter-config", &path, "-o", "json"],
        )
        .await?;
        Ok(())
    }

    /// The exporter's configuration.
    pub fn exporter_file(&self) -> PathBuf {
        self.path("exporter.yaml")
    }

    /// Leases the board.
    ///
    /// # Errors
    ///
    /// When it is not to be had.
    pub async fn lease(&mut self) -> Result<&wire::Lease, CliError> {
        let controller = self.client()?;
        let request = LeaseRequest {
            selector: "board=virtual".to_owned(),
            duration: Some(LEASE_DURATION),
            ..LeaseRequest::default()
        };
        let made = controller.create_lease(&request).await?;
        let name = short_name(&made.name).to_owned();
        let ready = lease::wait_until_ready(controller, &name, LEASE_LIMIT, |_, _| {}).await?;
        Ok(self.lease.insert(ready))
    }

    /// The way to the leased board.
    ///
    /// # Errors
    ///
    /// When nothing is leased.
    pub fn dial(&self) -> Result<LeaseDial, CliError> {
        let lease = self.lease.as_ref();
        let lease = lease.ok_or_else(|| CliError::new("nothing is leased"))?;
        let controller = self.client()?.clone();
        Ok(LeaseDial::new(
            controller,
            short_name(&lease.name),
            DIAL_LIMIT,
        ))
    }

    /// Gives the board back.
    ///
    /// # Errors
    ///
    /// When the controller says no.
    pub async fn release(&mut self) -> Result<(), CliError> {
        let Some(lease) = self.lease.take() else {
            return Ok(());
        };
        Ok(self.client()?.delete_lease(short_name(&lease.name)).await?)
    }

    fn client(&self) -> Result<&Controller, CliError> {
        let controller = self.controller.as_ref();
        controller.ok_or_else(|| CliError::new("there is no client yet"))
    }

    /// Ends everything, and removes the directory.
    ///
    /// # Errors
    ///
    /// When something survives.
    pub async fn stop(mut self) -> Result<(), CliError> {
        self.controller = None;
        let mut failure = Ok(());
        while let Some(mut process) = self.processes.pop() {
            if let Err(error) = process.child.terminate().await {
                failure = Err(CliError::new(format!(
                    "cannot end the {}: {error}",
                    process.name
                )));
            }
        }
        failure
    }

    /// Starts one process and waits for what it says of itself when it is ready.
    async fn start(&mut self, name: &'static str, arguments: &[&str]) -> Result<Value, CliError> {
        let log_file = self.path(&format!("{name}.log"));
        let runtime = self.path("run");
        std::fs::create_dir_all(&runtime)?;
        let log: OwnedFd = File::create(&log_file)?.into();
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .env("JMP_CLIENT_CONFIG_HOME", self.path("config"))
            // One that is killed must not leave anything elsewhere.
            .env("XDG_RUNTIME_DIR", &runtime)
            .stdout(Stdio::Piped)
            .stderr(Stdio::Descriptor(log))
            .spawn()
            .await?;
        let mut stdout = child.stdout.take();
        let said = match &mut stdout {
            Some(stdout) => tokio::time::timeout(START_LIMIT, announcement(stdout)).await,
            None => Ok(None),
        };
        self.processes.push(Process {
            name,
            child,
            _stdout: stdout,
        });
        match said {
            Ok(Some(said)) => Ok(said),
            Ok(None) | Err(_) => Err(CliError::new(format!(
                "the {name} was not ready within {} s; it said:\n{}",
                START_LIMIT.as_secs(),
                log_end(&log_file)
            ))),
        }
    }
}

/// The sweeper: waits for the end of the demo, which its supervisor tells it of, and removes what the demo,
/// had it not been killed, would have removed itself.
///
/// # Errors
///
/// When signals cannot be caught.
pub async fn sweep(directory: &Path) -> Result<u8, CliError> {
    let waiting = async {
        output::print("{}\n")?;
        std::future::pending::<Result<(), CliError>>().await
    };
    let told = unless_cancelled(waiting).await;
    let deadline = Instant::now() + SWEEP_LIMIT;
    while directory.exists() && Instant::now() < deadline {
        // Files of processes that are about to end may appear again meanwhile.
        let _ = std::fs::remove_dir_all(directory);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    match told {
        Err(error) if error.code() != exit::USAGE => Err(error),
        _ => Ok(exit::OK),
    }
}

fn text(said: &Value, key: &str) -> Result<String, CliError> {
    let text = said[key].as_str().map(str::to_owned);
    text.ok_or_else(|| CliError::new(format!("the controller did not say its `{key}`")))
}

/// Reads until there is a whole JSON object; `None` when there never is.
async fn announcement(stdout: &mut ChildStdout) -> Option<Value> {
    let mut said = Vec::new();
    while said.len() < ANNOUNCEMENT_LIMIT {
        if stdout.read_buf(&mut said).await.ok()? == 0 {
            return None;
        }
        if let Ok(value) = serde_json::from_slice(&said) {
            return Some(value);
        }
    }
    None
}

fn log_end(log_file: &Path) -> String {
    let log = std::fs::read(log_file).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().collect();
    match &lines[lines.len().saturating_sub(LOG_LINES)..] {
        [] => "(nothing)".to_owned(),
        lines => lines.join("\n"),
    }
}

/// The controller as the client of the demo.
fn controller(credential: &Credential) -> Result<Controller, CliError> {
    let authority = credential.certificate_authority.clone().into_bytes();
    let trust = ServerTrust::configured(false, None, Trust::Authorities(authority))
        .map_err(|error| CliError::new(error.to_string()))?;
    let endpoint: Endpoint = credential
        .endpoint
        .parse()
        .map_err(|error| CliError::new(format!("{error}")))?;
    let credentials = Credentials {
        kind: CallerKind::Client,
        namespace: target::DEFAULT_NAMESPACE.to_owned(),
        name: CLIENT.to_owned(),
        token: credential.token.clone(),
    };
    Controller::new(Connector::new(trust), endpoint, &credentials)
        .map_err(|error| CliError::new(error.to_string()))
}

/// The exporter configuration, as `jmp admin create exporter --save` and a person write it.
fn configuration(credential: &Credential, fault: Option<Fault>) -> String {
    use base64::Engine as _;
    let faults = match fault {
        Some(fault) => format!("\n      faults:\n        {}", fault.config()),
        None => String::new(),
    };
    let authority = &credential.certificate_authority;
    let authority = base64::engine::general_purpose::STANDARD.encode(authority);
    format!(
        "\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata:
  namespace: default
  name: {EXPORTER}
endpoint: {}
tls:
  ca: {authority}
token: {}
export:
  board:
    type: jumpstarter_driver_virtual_board.driver.VirtualBoard
    description: A simulated board
    config:
      hostname: demo
      autoboot_seconds: 5{faults}
",
        credential.endpoint, credential.token
    )
}
