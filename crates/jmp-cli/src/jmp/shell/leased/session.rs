//! From a ready lease to the end of the program.

use std::time::Duration;

use futures::StreamExt;
use jmp_client::{AllowList, Client, Dialer, LeaseDial, LeaseSocket};
use jmp_config::EffectiveClient;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::direct::{self, shown_line};
use super::super::launch::Launch;
use super::super::logs::{Filter, Shown};
use super::{Held, Patience, watch};
use crate::error::CliError;
use crate::jmp::lease::view::pairs;
use crate::jmp::runtime_directory::RuntimeDirectory;
use crate::jmp::signals::unless_cancelled;
use crate::output;

/// How long the exporter may take to clean up after the program.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(300);
/// The protocol has no way to be told of a status.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// How long lines that say why the exporter is not ready may take: those of released exporters come
/// behind the status.
const LAST_LINES: Duration = Duration::from_millis(500);
/// How long the exporter may take to hear that the session is over.
const END_SESSION_LIMIT: Duration = Duration::from_secs(5);

/// Why there was no session, or no good one.
pub enum Failure {
    /// The exporter did not answer; another one may.
    Unreachable(CliError),
    /// Trying again would not help.
    Other(CliError),
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        Self::Other(error)
    }
}

/// Connects, waits for the exporter, runs the program, and lets the exporter clean up. The program is
/// taken out of `launch` when it is started.
pub async fn run(
    held: &Held,
    client: &EffectiveClient,
    launch: &mut Option<Launch>,
    filter: Filter,
    patience: &Patience,
) -> Result<u8, Failure> {
    let dial = LeaseDial::new(held.controller.clone(), held.name(), patience.dial);
    let connected = unless_cancelled(async { Ok(connect(&dial).await) }).await?;
    let session = connected.map_err(|error| unreachable(held, error))?;
    let mut logs = follow_logs(session.clone(), dial.clone(), filter);
    let ready = unless_cancelled(async {
        tokio::select! {
            ready = direct::wait_until_ready(&session) => ready,
            error = async { logs.follow().await; std::future::pending().await } => error,
        }
    });
    let ready = ready.await;
    if ready.is_err() {
        let _ = tokio::time::timeout(LAST_LINES, logs.follow()).await;
    }
    logs.drain();
    ready?;
    let directory = RuntimeDirectory::new()?;
    let (socket, _telling) = bind(&directory, &dial)?;
    let Some(mut launch) = launch.take() else {
        return Err(CliError::new("the program was started before").into());
    };
    variables(&mut launch, held, client, &directory).await;
    launch.set_motd(session.motd());
    let mut end = watch::Watch::new(held, patience.extend);
    let code = launch
        .run_until(held.exporter(), &directory, logs.follow(), end.over())
        .await;
    let over = end.is_over();
    drop(end);
    let code = code?;
    let cleaned = if held.owned && !over {
        clean_up(&session, &mut logs).await
    } else {
        Ok(())
    };
    logs.drain();
    socket.close().await;
    cleaned?;
    Ok(code)
}

async fn connect(dial: &LeaseDial) -> Result<Client, jmp_client::Error> {
    // Which drivers the program may use is its own affair; this only asks for status and logs.
    Client::connect_with(Dialer::new(dial.clone()), &AllowList::Unsafe).await
}

fn unreachable(held: &Held, error: jmp_client::Error) -> Failure {
    let text = error.to_string();
    if text.to_ascii_lowercase().contains("permission denied") {
        return Failure::Other(CliError::new(format!(
            "lease {} was transferred to another client",
            held.name()
        )));
    }
    let failed = CliError::new(format!(
        "exporter {} cannot be reached: {text}",
        held.exporter()
    ))
    .with_hint(format!(
        "`jmp describe exporter {}` shows what is known",
        held.exporter()
    ));
    match &error {
        jmp_client::Error::Refused { code, .. }
            if !matches!(*code, "UNAVAILABLE" | "DEADLINE_EXCEEDED") =>
        {
            Failure::Other(failed)
        }
        _ => Failure::Unreachable(failed),
    }
}

/// The exporter's log for as long as the program runs, through lost tunnels.
fn follow_logs(client: Client, dial: LeaseDial, filter: Filter) -> Shown {
    let lines = futures::stream::unfold(
        (Some(client), dial, jmp_wire::backoff::Backoff::reconnect()),
        |(client, dial, mut backoff)| async move {
            let client = match client {
                Some(client) => client,
                None => {
                    tokio::time::sleep(backoff.pause()).await;
                    match connect(&dial).await {
                        Ok(client) => client,
                        Err(_) => return Some((None, (None, dial, backoff))),
                    }
                }
            };
            match client.logs().await {
                Ok(lines) => {
                    backoff.reset();
                    // Holds the client, and with it the tunnel, as long as lines come.
                    let lines = lines.filter_map(move |line| {
                        let _held = &client;
                        std::future::ready(line.ok())
                    });
                    Some((Some(lines), (None, dial, backoff)))
                }
                Err(_) => Some((None, (None, dial, backoff))),
            }
        },
    );
    let lines = lines.flat_map(|lines| match lines {
        Some(lines) => lines.boxed(),
        None => futures::stream::empty().boxed(),
    });
    Shown::new(lines.map(shown_line), filter)
}

/// The socket whose connections become tunnels; what fails is told once in a while.
fn bind(
    directory: &RuntimeDirectory,
    dial: &LeaseDial,
) -> Result<(LeaseSocket, AbortOnDropHandle<()>), CliError> {
    let path = directory.socket();
    let (failures, mut heard) = mpsc::channel::<String>(1);
    let socket = LeaseSocket::bind(&path, dial.clone(), move |error| {
        // A second failure while the first is being told says the same.
        let _ = failures.try_send(match error {
            jmp_client::Error::TunnelLost(text) => text.clone(),
            other => format!("no way to the exporter: {other}"),
        });
    })
    .map_err(|error| CliError::new(format!("cannot listen on {}: {error}", path.display())))?;
    let telling = tokio::spawn(async move {
        while let Some(failure) = heard.recv().await {
            output::warn(&failure);
        }
    });
    Ok((socket, AbortOnDropHandle::new(telling)))
}

async fn variables(
    launch: &mut Launch,
    held: &Held,
    client: &EffectiveClient,
    directory: &RuntimeDirectory,
) {
    launch.variable("JUMPSTARTER_HOST", directory.socket().as_os_str());
    let allow = if client.drivers_unsafe.value {
        "UNSAFE".to_owned()
    } else {
        client.drivers_allow.value.join(",")
    };
    launch.variable("JMP_DRIVERS_ALLOW", allow);
    launch.variable("JMP_LEASE", held.name());
    launch.variable("JMP_EXPORTER", held.exporter());
    // Labels are a convenience; a session without them is as good.
    match held.controller.exporter(held.exporter()).await {
        Ok(exporter) if !exporter.labels.is_empty() => {
            launch.variable("JMP_EXPORTER_LABELS", pairs(&exporter.labels));
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "no labels of the exporter"),
    }
}

/// Lets the exporter run its afterLease hook while its output can still be shown.
async fn clean_up(session: &Client, logs: &mut Shown) -> Result<(), CliError> {
    let ended = tokio::time::timeout(END_SESSION_LIMIT, session.end_session()).await;
    match ended {
        Ok(Ok(Some((true, _)))) => {}
        // Too old to be told, or gone: the end of the lease will do.
        Ok(Ok(_) | Err(_)) | Err(_) => return Ok(()),
    }
    let waited = unless_cancelled(async {
        tokio::select! {
            waited = until_clean(session) => waited,
            error = async { logs.follow().await; std::future::pending().await } => error,
        }
    });
    waited.await
}

async fn until_clean(session: &Client) -> Result<(), CliError> {
    let deadline = Instant::now() + CLEAN_UP_LIMIT;
    loop {
        let status = match session.status().await {
            Ok(Some(status)) => status,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::debug!(%error, "the exporter ended the session");
                return Ok(());
            }
        };
        match status.name.as_str() {
            "AVAILABLE" => {
                direct::tell_warning(&status.message);
                return Ok(());
            }
            "AFTER_LEASE_HOOK_FAILED" => {
                return Err(CliError::new(format!(
                    "the exporter's afterLease hook failed: {}",
                    status.message
                )));
            }
            _ if Instant::now() >= deadline => {
                output::warn(&format!(
                    "the exporter is still cleaning up after {} s, its status is {}; not waiting any longer",
                    CLEAN_UP_LIMIT.as_secs(),
                    status.name
                ));
                return Ok(());
            }
            _ => tokio::time::sleep(STATUS_INTERVAL).await,
        }
    }
}
