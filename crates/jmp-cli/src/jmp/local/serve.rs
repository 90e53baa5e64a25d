//! `jmp local serve`, which `start` runs: the exporter in the background.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jmp_config::{EffectiveExporter, ExporterConfig, Loaded};
use jmp_driver::Origin;
use jmp_exporter::{Session, SessionOptions};

use super::Choice;
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::exporter::open_session;
use crate::jmp::globals::{LogLevel, log_from};
use crate::jmp::run::signals::Signals;
use crate::jmp::runtime_directory::RuntimeDirectory;
use crate::session_record::{LocalRecords, LocalSession};

/// What it says when it serves.
pub const READY: &str = "ready";

/// Serves until it is stopped. Until it is ready it complains on the standard error of `start`,
/// afterwards in its log.
pub async fn run(choice: &Choice, globals: &Globals) -> Result<u8, CliError> {
    // Fails only for the leader of a process group, which `start` has not made us.
    let _ = rustix::process::setsid();
    if globals.log_level.is_none() {
        log_from(LogLevel::Info);
    }
    let mut signals = Signals::catch()?;
    let exporter = choice.exporter_args().load(globals)?.ok_or_else(|| {
        CliError::usage("no exporter was named").with_hint("add --config FILE or --exporter ALIAS")
    })?;
    let options = SessionOptions {
        motd: exporter.file.config.motd.clone().unwrap_or_default(),
        ..SessionOptions::default()
    };
    let session = tokio::select! {
        session = open_session(&exporter.file, options) => session?,
        stop = signals.next() => return Ok(stop.exit_code),
    };
    let result = serve(&session, &exporter, signals).await;
    session.close().await;
    result
}

async fn serve(
    session: &Session,
    exporter: &EffectiveExporter,
    mut signals: Signals,
) -> Result<u8, CliError> {
    let records = LocalRecords::of_user();
    let directory = RuntimeDirectory::new()?;
    let socket = directory.socket();
    session
        .serve_unix(&socket, Origin::Client)
        .map_err(|error| {
            CliError::new(format!("cannot listen on {}: {error}", socket.display()))
        })?;
    session.start_local();
    let (log, log_path) = open_log(&records)?;
    let mut record =
        LocalSession::of_this_process(&socket, name(&exporter.file), absolute(&exporter.file.path))
            .ok_or_else(|| CliError::new("the system does not tell when this process started"))?;
    record.log = Some(log_path);
    // Refuses if another one was faster.
    records.publish(&record)?;
    let result = match let_go(&log) {
        Ok(()) => {
            let stop = signals.next().await;
            tracing::info!("stopping because of {}", stop.name);
            Ok(exit::OK)
        }
        // Whoever started us has gone.
        Err(error) => Err(CliError::new(format!(
            "cannot move to the background: {error}"
        ))),
    };
    records.withdraw(&record)?;
    result
}

/// Says that we are ready, and goes on with the log as standard error.
fn let_go(log: &File) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{READY}")?;
    stdout.flush()?;
    rustix::stdio::dup2_stderr(log)?;
    rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    Ok(())
}

fn name(file: &Loaded<ExporterConfig>) -> String {
    let stem = || {
        file.path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
    };
    file.alias
        .as_ref()
        .map(ToString::to_string)
        .or_else(|| file.config.metadata.name.clone())
        .or_else(stem)
        .unwrap_or_else(|| "exporter".to_owned())
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Opens the log, empty, readable by this user only: `$XDG_STATE_HOME/jumpstarter/local.log`, by
/// default in `~/.local/state`; without a home beside the record.
fn open_log(records: &LocalRecords) -> Result<(File, PathBuf), CliError> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("jumpstarter"));
    let open = |directory: &Path| {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let path = directory.join("local.log");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        Ok((file, path))
    };
    // A home that cannot be written, as that of a service, keeps nobody from a local session.
    if let Some(opened) = state.and_then(|state| open(&state).ok()) {
        return Ok(opened);
    }
    records.prepare()?;
    open(records.directory()).map_err(|error: io::Error| {
        CliError::new(format!(
            "cannot write a log in {}: {error}",
            records.directory().display()
        ))
    })
}
