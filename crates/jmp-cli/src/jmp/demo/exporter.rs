//! The exporter of the demo: a process of its own that cannot outlive the demo.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jmp_config::{Flags, ProcessEnvironment};
use jmp_driver::Origin;
use jmp_exporter::SessionOptions;
use jmp_process::{Child, Command, Stdio};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::Fault;
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::exporter::open_session;
use crate::jmp::runtime_directory::RuntimeDirectory;
use crate::jmp::signals::unless_cancelled;
use crate::output;

/// How long the exporter may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(10);
/// What the exporter says when it is ready.
const READY: &str = "ready";
/// Lines of its log that are worth showing when it does not start.
const LOG_LINES: usize = 10;

/// The running exporter and its directory.
#[derive(Debug)]
pub struct Exporter {
    child: Child,
    directory: RuntimeDirectory,
}

/// The exporter configuration, as a person would write it.
pub fn configuration(fault: Option<Fault>) -> String {
    let faults = match fault {
        Some(fault) => format!("\n      faults:\n        {}", fault.config()),
        None => String::new(),
    };
    format!(
        "\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata:
  namespace: default
  name: demo
export:
  board:
    type: jumpstarter_driver_virtual_board.driver.VirtualBoard
    description: A simulated board
    config:
      hostname: demo
      autoboot_seconds: 5{faults}
"
    )
}

// === impl Exporter ===

impl Exporter {
    /// Starts the exporter and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it does not start, with the end of its log.
    pub async fn start(fault: Option<Fault>) -> Result<Self, CliError> {
        let directory = RuntimeDirectory::new()?;
        std::fs::write(configuration_file(directory.path()), configuration(fault))?;
        let log: OwnedFd = File::create(log_file(directory.path()))?.into();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["demo", "--serve"])
            .arg(directory.path())
            .stdout(Stdio::Piped)
            .stderr(Stdio::Descriptor(log))
            .spawn()
            .await?;
        let ready = ready(&mut child).await;
        let this = Self { child, directory };
        if ready {
            return Ok(this);
        }
        let log = this.log_end();
        this.stop().await?;
        Err(CliError::new(format!(
            "the exporter was not ready within {} s; it said:\n{log}",
            START_LIMIT.as_secs()
        )))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves its session.
    pub fn socket(&self) -> PathBuf {
        self.directory.socket()
    }

    /// Its directory.
    pub fn directory(&self) -> &RuntimeDirectory {
        &self.directory
    }

    /// Its configuration.
    pub fn configuration_file(&self) -> PathBuf {
        configuration_file(self.directory.path())
    }

    /// Ends it and everything it started, and removes its directory.
    ///
    /// # Errors
    ///
    /// When something survives.
    pub async fn stop(mut self) -> Result<(), CliError> {
        self.child
            .terminate()
            .await
            .map(drop)
            .map_err(|error| CliError::new(format!("cannot end the exporter: {error}")))
    }

    fn log_end(&self) -> String {
        let log = std::fs::read(log_file(self.directory.path())).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        match last {
            [] => "(nothing)".to_owned(),
            lines => lines.join("\n"),
        }
    }
}

fn configuration_file(directory: &Path) -> PathBuf {
    directory.join("exporter.yaml")
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("exporter.log")
}

async fn ready(child: &mut Child) -> bool {
    let Some(stdout) = child.stdout.take() else {
        return false;
    };
    let mut line = String::new();
    let mut stdout = BufReader::new(stdout);
    let reading = stdout.read_line(&mut line);
    let read = tokio::time::timeout(START_LIMIT, reading).await;
    matches!(read, Ok(Ok(_))) && line.trim_end() == READY
}

/// Removes the directory of a demo that was killed.
struct Leftovers<'a>(&'a Path);

impl Drop for Leftovers<'_> {
    fn drop(&mut self) {
        // A demo that is still there removes it itself.
        let _ = std::fs::remove_dir_all(self.0);
    }
}

/// The exporter process: serves the configuration in `directory` until it is told to stop, which
/// its supervisor does at the latest when the demo is gone.
///
/// # Errors
///
/// When the configuration cannot be loaded, a driver opened or the socket bound.
pub async fn serve(directory: &Path) -> Result<u8, CliError> {
    let leftovers = Leftovers(directory);
    let flags = Flags {
        path: Some(configuration_file(directory)),
        ..Flags::default()
    };
    let exporter = Globals::default()
        .store()
        .effective_exporter(&ProcessEnvironment, &flags)?
        .ok_or_else(|| CliError::new("the demo has no exporter configuration"))?;
    let session = open_session(&exporter.file, SessionOptions::default()).await?;
    let serving = async {
        session.serve_unix(&directory.join("socket"), Origin::Client)?;
        session.start_local();
        output::print(&format!("{READY}\n"))?;
        std::future::pending::<Result<(), CliError>>().await
    };
    // The only way out is a signal, which is how the demo ends it, or a socket that cannot be bound.
    let stopped = unless_cancelled(serving).await;
    session.close().await;
    drop(leftovers);
    match stopped {
        Err(error) if error.code() != exit::USAGE => Err(error),
        _ => Ok(exit::OK),
    }
}
