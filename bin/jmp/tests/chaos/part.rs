//! A program of the lab, kept running as a service manager would.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::network::Place;

/// Between an end and the next start: systemd's default.
const RESTART_AFTER: Duration = Duration::from_millis(100);
/// How long a program may take to end politely.
const STOP_LIMIT: Duration = Duration::from_secs(45);

/// How a program is started.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub name: String,
    pub place: Place,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, PathBuf)>,
    /// Everything that it says, of all its lives.
    pub log: PathBuf,
}

/// A program that is started again whenever it ends.
#[derive(Debug)]
pub struct Part {
    pub shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// What others may do to it.
#[derive(Debug)]
pub struct Shared {
    pub recipe: Recipe,
    /// The present process.
    process: Mutex<Option<Pid>>,
    /// The next end is our doing.
    killed: AtomicBool,
    pub starts: AtomicU32,
    /// Ends that were nobody's doing.
    pub complaints: Mutex<Vec<String>>,
    /// No start while it is set.
    hold: AtomicBool,
    stop: CancellationToken,
}

// === impl Part ===

impl Part {
    pub fn start(recipe: Recipe) -> Self {
        let shared = Arc::new(Shared {
            recipe,
            process: Mutex::new(None),
            killed: AtomicBool::new(false),
            starts: AtomicU32::new(0),
            complaints: Mutex::new(Vec::new()),
            hold: AtomicBool::new(false),
            stop: CancellationToken::new(),
        });
        let keeper = tokio::spawn(Arc::clone(&shared).keep());
        let keeper = Mutex::new(Some(keeper));
        Self { shared, keeper }
    }

    /// Asks it to end and waits for that.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        let keeper = self.keeper.lock().unwrap().take();
        keeper.unwrap().await.unwrap();
    }
}

// === impl Shared ===

impl Shared {
    async fn keep(self: Arc<Self>) {
        loop {
            if self.hold.load(Ordering::SeqCst) {
                tokio::time::sleep(RESTART_AFTER).await;
                continue;
            }
            let mut child = self.recipe.spawn();
            let process = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
            *self.process.lock().unwrap() = process;
            self.starts.fetch_add(1, Ordering::SeqCst);
            let ended = tokio::select! {
                status = child.wait() => status.unwrap(),
                () = self.stop.cancelled() => return self.end(child).await,
            };
            *self.process.lock().unwrap() = None;
            if !self.killed.swap(false, Ordering::SeqCst) {
                self.complain(&format!("ended by itself with {ended}"));
            }
            tokio::select! {
                () = tokio::time::sleep(RESTART_AFTER) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn end(&self, mut child: tokio::process::Child) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        match tokio::time::timeout(STOP_LIMIT, child.wait()).await {
            Ok(status) => {
                let status = status.unwrap();
                if !is_polite(status) {
                    self.complain(&format!("ended with {status} when it was asked to"));
                }
            }
            Err(_) => {
                self.complain(&format!("did not end within {STOP_LIMIT:?} of SIGTERM"));
                child.kill().await.unwrap();
            }
        }
        *self.process.lock().unwrap() = None;
    }

    fn complain(&self, what: &str) {
        let log = end_of(&self.recipe.log);
        let text = format!("{} {what}; it said at last:\n{log}", self.recipe.name);
        self.complaints.lock().unwrap().push(text);
    }

    /// Sends a signal to the present process; whether there was one.
    pub fn signal(&self, signal: Signal) -> bool {
        let process = self.process.lock().unwrap();
        let Some(process) = *process else {
            return false;
        };
        if signal == Signal::KILL {
            self.killed.store(true, Ordering::SeqCst);
        }
        kill_process(process, signal).is_ok()
    }

    /// Kills it and keeps it from being started until [`Self::release`].
    pub async fn kill_and_hold(&self) {
        self.hold.store(true, Ordering::SeqCst);
        self.signal(Signal::KILL);
        while self.process.lock().unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn release(&self) {
        self.hold.store(false, Ordering::SeqCst);
    }

    /// Waits until it has said so, in any of its lives.
    pub async fn until_said(&self, text: &str, limit: Duration) {
        let waiting = async {
            while !std::fs::read_to_string(&self.recipe.log).is_ok_and(|log| log.contains(text)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let said = tokio::time::timeout(limit, waiting).await;
        let (name, log) = (&self.recipe.name, end_of(&self.recipe.log));
        assert!(
            said.is_ok(),
            "{name} did not say `{text}` within {limit:?}, but:\n{log}"
        );
    }
}

fn is_polite(status: ExitStatus) -> bool {
    // An exporter's exit code names the signal that ended it.
    matches!(status.code(), Some(0 | 143))
}

/// The last lines of a log.
pub fn end_of(log: &Path) -> String {
    let log = std::fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

// === impl Recipe ===

impl Recipe {
    fn spawn(&self) -> tokio::process::Child {
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        self.place
            .command(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }
}
