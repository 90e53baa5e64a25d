//! A shell with the devices of this machine: the exporter runs in this process (facts: protocol 10.1).

use std::sync::Arc;

use futures::StreamExt;
use jmp_config::EffectiveExporter;
use jmp_driver::Origin;
use jmp_driver::log::{LogRecord, LogSource};
use jmp_exporter::SessionOptions;

use super::launch::Launch;
use super::logs::{Filter, Line, Shown};
use crate::error::CliError;
use crate::jmp::exporter::open_session;
use crate::jmp::globals::LogLevel;
use crate::jmp::runtime_directory::RuntimeDirectory;
use crate::jmp::signals::unless_cancelled;

/// Opens the devices, serves them on a private socket, runs the program, and closes everything.
pub async fn run(
    exporter: EffectiveExporter,
    mut launch: Launch,
    filter: Filter,
) -> Result<u8, CliError> {
    let file = &exporter.file;
    let directory = RuntimeDirectory::new()?;
    let motd = file.config.motd.clone().unwrap_or_default();
    launch.set_motd(&motd);
    let options = SessionOptions {
        motd,
        ..SessionOptions::default()
    };
    let session = unless_cancelled(open_session(file, options)).await?;
    let mut logs = Shown::new(
        session.log().subscribe_from(filter.least()).map(line),
        filter,
    );
    logs.drain();
    let result = serve_and_run(&session, launch, &directory, &mut logs).await;
    session.close().await;
    logs.drain();
    result
}

async fn serve_and_run(
    session: &jmp_exporter::Session,
    mut launch: Launch,
    directory: &RuntimeDirectory,
    logs: &mut Shown,
) -> Result<u8, CliError> {
    let socket = directory.socket();
    session
        .serve_unix(&socket, Origin::Client)
        .map_err(|error| {
            CliError::new(format!("cannot listen on {}: {error}", socket.display()))
        })?;
    session.start_local();
    launch.variable("JUMPSTARTER_HOST", socket.as_os_str());
    launch.run("local", directory, logs.follow()).await
}

fn line(record: Arc<LogRecord>) -> Line {
    Line {
        source: match record.source {
            LogSource::Driver => "driver",
            LogSource::BeforeLeaseHook => "beforeLease",
            LogSource::AfterLeaseHook => "afterLease",
            LogSource::System => "system",
        },
        level: LogLevel::of(record.severity.as_str()),
        message: format!("[{}] {}", record.logger, record.message),
    }
}
