//! The router that a controller starts beside itself: a process in a session of its own, which
//! outlives a controller that is killed, and is adopted by the next.
//!
//! A lock on a file tells whether it lives: the kernel gives the lock up with the process, however it
//! ends, so there is nothing to clean up and nothing to guess.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::data::DataDirectory;
use crate::error::CliError;

/// Pause before a router that ended is started again; doubles up to the limit.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_LIMIT: Duration = Duration::from_secs(30);
/// A router that lived so long did not fail to start.
const LIVED: Duration = Duration::from_secs(60);
/// How long the router may take to end its tunnels.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Keeps a router running.
pub struct LocalRouter {
    data: DataDirectory,
    stop: CancellationToken,
    keeper: tokio::task::JoinHandle<()>,
}

/// How the router is started.
struct Program {
    data: DataDirectory,
    arguments: Vec<String>,
}

// === impl LocalRouter ===

impl LocalRouter {
    /// Whether one runs, such as one that outlived its controller.
    pub fn lives(data: &DataDirectory) -> bool {
        open_lock(data)
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
    }

    /// Adopts the router that runs, or starts one; and again whenever it ends.
    ///
    /// # Errors
    ///
    /// When there is no place for its lock.
    pub fn start(
        data: &DataDirectory,
        listen: &str,
        endpoint: Option<String>,
        host: Option<String>,
        certificate: Option<(&Path, &Path)>,
    ) -> Result<Self, CliError> {
        let mut arguments = vec![
            "router".to_owned(),
            "run".to_owned(),
            "--join".to_owned(),
            data.router().display().to_string(),
            "--listen".to_owned(),
            listen.to_owned(),
            "--metrics-listen".to_owned(),
            "none".to_owned(),
            "--lock".to_owned(),
            data.router_lock().display().to_string(),
        ];
        if let Some(endpoint) = endpoint {
            arguments.extend(["--public-endpoint".to_owned(), endpoint]);
        }
        if let Some(host) = host {
            arguments.extend(["--public-host".to_owned(), host]);
        }
        if let Some((chain, key)) = certificate {
            for (option, path) in [("--tls-cert", chain), ("--tls-key", key)] {
                arguments.extend([option.to_owned(), path.display().to_string()]);
            }
        }
        open_lock(data)?;
        let stop = CancellationToken::new();
        let program = Program {
            data: data.clone(),
            arguments,
        };
        let keeper = tokio::spawn(keep(program, stop.clone()));
        Ok(Self {
            data: data.clone(),
            stop,
            keeper,
        })
    }

    /// Ends the router, too, however it was started.
    pub async fn stop(self) {
        self.stop.cancel();
        self.keeper.abort();
        let data = self.data.clone();
        let ended = tokio::task::spawn_blocking(move || {
            terminate(&data);
            wait(&data);
        });
        if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
            tracing::warn!("the router takes long to end its tunnels; leaving it to that");
        }
    }
}

async fn keep(program: Program, stop: CancellationToken) {
    let mut pause = PAUSE;
    loop {
        let data = program.data.clone();
        // Returns at once when none lives, else with its end.
        let waited = tokio::task::spawn_blocking(move || wait(&data));
        tokio::select! {
            _ = waited => {}
            () = stop.cancelled() => return,
        }
        let begun = tokio::time::Instant::now();
        match program.spawn() {
            Ok(mut child) => {
                tokio::select! {
                    ended = child.wait() => {
                        let ended = ended.map_or_else(|error| error.to_string(), |ended| ended.to_string());
                        let log = program.data.router_log();
                        let reason = last_words(&log);
                        tracing::warn!(reason, log = %log.display(), again_in = ?pause, "the router ended: {ended}");
                    }
                    () = stop.cancelled() => return,
                }
            }
            Err(error) => tracing::error!(%error, "the router cannot be started"),
        }
        if begun.elapsed() >= LIVED {
            pause = PAUSE;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(PAUSE_LIMIT);
    }
}

// === impl Program ===

impl Program {
    fn spawn(&self) -> std::io::Result<tokio::process::Child> {
        let log = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(self.data.router_log())?;
        tokio::process::Command::new(std::env::current_exe()?)
            .args(&self.arguments)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(false)
            .spawn()
    }
}

/// What a router that ended said last: its error, else its last line.
fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = || text.lines().rev().filter(|line| !line.trim().is_empty());
    let error = lines().find_map(|line| line.strip_prefix("Error: "));
    error
        .or_else(|| lines().next())
        .unwrap_or_default()
        .to_owned()
}

fn open_lock(data: &DataDirectory) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(data.router_lock())
}

/// Blocks until no router lives.
fn wait(data: &DataDirectory) {
    let locked = open_lock(data).and_then(|file| Ok(flock(&file, FlockOperation::LockExclusive)?));
    if let Err(error) = locked {
        tracing::warn!(%error, "cannot tell whether the router lives");
    }
}

/// Asks the router to end, if it lives: only then the number in the file is its own.
fn terminate(data: &DataDirectory) {
    let Ok(mut file) = open_lock(data) else {
        return;
    };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return;
    }
    let mut text = String::new();
    if file.read_to_string(&mut text).is_err() {
        return;
    }
    let Some(process) = text.trim().parse().ok().and_then(Pid::from_raw) else {
        return;
    };
    if let Err(error) = kill_process(process, Signal::TERM) {
        tracing::warn!(%error, "the router cannot be stopped");
    }
}
