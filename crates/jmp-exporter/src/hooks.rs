//! Hook scripts: run on a terminal of their own, logged line by line, never left behind
//! (facts: protocol 6.6).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jmp_driver::Logger;
use jmp_driver::log::LogSource;
use jmp_lease::{Hook, HookOutcome, HookPolicy, OnFailure, hook_environment, hook_invocation};
use jmp_process::{Child, Command, ExitStatus, Pty, WindowSize};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use crate::lines::LineSplitter;
use crate::session::Session;

/// Name of the logger of hook output.
const LOGGER: &str = "jumpstarter.exporter.hooks";
/// Longest text that a hook can give to the people who open a shell, in bytes.
const MOTD_LIMIT: u64 = 64 * 1024;
/// Lines of a failed hook's output that its status message repeats.
const TAIL_LINES: usize = 8;
/// Characters of each of them.
const TAIL_WIDTH: usize = 160;

/// A hook as it is configured.
#[derive(Clone)]
pub struct HookScript {
    /// One line that names an existing file, or a script.
    pub script: String,
    /// The interpreter; `/bin/sh` unless set (`python3` for a file that ends in `.py`).
    pub exec: Option<String>,
    /// How long it may run.
    pub timeout: Duration,
    /// What its failure means.
    pub on_failure: OnFailure,
}

/// The script is left out: it may hold credentials.
impl std::fmt::Debug for HookScript {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HookScript")
            .field("exec", &self.exec)
            .field("timeout", &self.timeout)
            .field("on_failure", &self.on_failure)
            .finish_non_exhaustive()
    }
}

/// The hooks of an exporter.
#[derive(Debug, Clone, Default)]
pub struct HookScripts {
    /// Runs before the devices are handed over.
    pub before_lease: Option<HookScript>,
    /// Runs after they were given back.
    pub after_lease: Option<HookScript>,
}

// === impl HookScripts ===

impl HookScripts {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before_lease.is_none() && self.after_lease.is_none()
    }

    /// What the status machine has to know.
    #[must_use]
    pub fn policies(&self) -> jmp_lease::Hooks {
        let policy = |script: &HookScript| HookPolicy {
            timeout: script.timeout,
            on_failure: script.on_failure,
        };
        jmp_lease::Hooks {
            before_lease: self.before_lease.as_ref().map(policy),
            after_lease: self.after_lease.as_ref().map(policy),
        }
    }

    fn get(&self, hook: Hook) -> Option<&HookScript> {
        match hook {
            Hook::BeforeLease => self.before_lease.as_ref(),
            Hook::AfterLease => self.after_lease.as_ref(),
        }
    }
}

/// Runs the hooks of one session.
#[derive(Clone)]
pub(crate) struct HookRunner {
    pub session: Session,
    pub scripts: HookScripts,
    /// Where hooks reach the session.
    pub socket: PathBuf,
    /// First on the hooks' PATH: holds `j`.
    pub programs: Option<PathBuf>,
    /// Where a beforeLease hook may leave a text.
    pub motd: PathBuf,
    pub lease: String,
    pub client: String,
}

/// A hook that is over, with what it left running.
pub(crate) struct Finished {
    pub outcome: HookOutcome,
    pub leftovers: Option<Leftovers>,
    /// The end of its output, to follow the reason of a failure.
    tail: String,
}

/// What a hook left running in the background. Dropping it ends that.
pub(crate) struct Leftovers {
    child: Child,
    output: Output,
}

// === impl Leftovers ===

impl Leftovers {
    /// Follows the output until nothing runs any more or `ending` fires.
    pub async fn follow(mut self, ending: CancellationToken) {
        let ended = tokio::select! {
            ended = self.child.wait_all() => ended,
            never = self.output.follow() => match never {},
            () = ending.cancelled() => self.child.terminate().await.map(|_| ()),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "what a hook left running did not end");
        }
        self.output.rest();
    }
}

// === impl HookRunner ===

impl HookRunner {
    /// Runs a hook to its end, its timeout or until `cancelled` fires.
    pub async fn run(&self, hook: Hook, cancelled: CancellationToken) -> Finished {
        let log = self.session.log().logger(LOGGER, source(hook));
        let Some(script) = self.scripts.get(hook) else {
            return Finished::new(HookOutcome::Success);
        };
        let _ = std::fs::remove_file(&self.motd);
        let mut finished = match self.command(hook, script).spawn().await {
            Ok(child) => attend(child, script, log.clone(), cancelled).await,
            Err(error) => Finished::failed(error.to_string()),
        };
        if let HookOutcome::Failed { reason } = &mut finished.outcome {
            log.error(format!("{} hook failed: {reason}", hook.name()));
            // The log has that already; whoever is told the status may not see the log.
            reason.push_str(&finished.tail);
        }
        if hook == Hook::BeforeLease {
            self.session.set_hook_motd(self.read_motd(&log));
        }
        finished
    }

    fn command(&self, hook: Hook, script: &HookScript) -> Command {
        let is_file = |path: &str| Path::new(path).is_file();
        let mut line = hook_invocation(&script.script, script.exec.as_deref(), is_file).into_iter();
        let socket = self.socket.to_string_lossy();
        let mut command = Command::new(line.next().unwrap_or_default())
            .args(line)
            .envs(hook_environment(&socket, &self.lease, &self.client))
            .env_remove("PS1")
            // Meant for the process that we are, not for what hooks start.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("JMP_GRPC_PASSPHRASE")
            .pty(WindowSize::default())
            .keep_descendants(hook == Hook::BeforeLease);
        if hook == Hook::BeforeLease {
            command = command.env("JMP_MOTD_FILE", &self.motd);
        }
        if let Some(programs) = &self.programs {
            command = command.env("PATH", with_first(programs));
        }
        command
    }

    fn read_motd(&self, log: &Logger) -> String {
        use std::io::Read;
        let mut text = Vec::new();
        let Ok(file) = std::fs::File::open(&self.motd) else {
            return String::new();
        };
        if let Err(error) = file.take(MOTD_LIMIT + 1).read_to_end(&mut text) {
            log.warning(format!("JMP_MOTD_FILE cannot be read: {error}"));
        }
        if text.len() as u64 > MOTD_LIMIT {
            log.warning("JMP_MOTD_FILE is longer than 64 KiB; the rest is not shown");
            text.truncate(MOTD_LIMIT as usize);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn source(hook: Hook) -> LogSource {
    match hook {
        Hook::BeforeLease => LogSource::BeforeLeaseHook,
        Hook::AfterLease => LogSource::AfterLeaseHook,
    }
}

/// PATH with `directory` in front.
fn with_first(directory: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(directory.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(all).unwrap_or(path)
}

// === impl Finished ===

impl Finished {
    fn new(outcome: HookOutcome) -> Self {
        Self {
            outcome,
            leftovers: None,
            tail: String::new(),
        }
    }

    fn failed(reason: String) -> Self {
        Self::new(HookOutcome::Failed { reason })
    }
}

async fn attend(
    mut child: Child,
    script: &HookScript,
    log: Logger,
    cancelled: CancellationToken,
) -> Finished {
    enum End {
        Status(io::Result<ExitStatus>),
        Reason(String),
    }
    let mut output = Output {
        pty: child.pty.take(),
        lines: LineSplitter::default(),
        tail: Tail::default(),
        log,
    };
    let end = tokio::select! {
        status = child.wait() => End::Status(status),
        never = output.follow() => match never {},
        () = tokio::time::sleep(script.timeout) => {
            End::Reason(format!("timed out after {} s", script.timeout.as_secs_f64()))
        }
        () = cancelled.cancelled() => End::Reason("cancelled".into()),
    };
    let outcome = match end {
        End::Status(Ok(status)) if status.success() => HookOutcome::Success,
        End::Status(Ok(status)) => HookOutcome::Failed {
            reason: status.to_string(),
        },
        End::Status(Err(error)) => HookOutcome::Failed {
            reason: error.to_string(),
        },
        End::Reason(mut reason) => {
            let ended = tokio::select! {
                ended = child.terminate() => ended.map(|_| ()),
                never = output.follow() => match never {},
            };
            if let Err(error) = ended {
                reason = format!("{reason}, and {error}");
            }
            output.rest();
            return Finished {
                tail: output.tail.text(),
                ..Finished::failed(reason)
            };
        }
    };
    output.rest();
    Finished {
        outcome,
        tail: output.tail.text(),
        leftovers: Some(Leftovers { child, output }),
    }
}

/// What a hook prints, on its way into the log.
struct Output {
    /// `None` once it has ended.
    pty: Option<Pty>,
    lines: LineSplitter,
    tail: Tail,
    log: Logger,
}

// === impl Output ===

impl Output {
    /// Logs what comes. Never returns; to be dropped when the hook has ended.
    async fn follow(&mut self) -> Infallible {
        let mut buffer = [0; 4096];
        while let Some(pty) = &mut self.pty {
            match pty.read(&mut buffer).await {
                Ok(0) | Err(_) => self.pty = None,
                Ok(count) => self.feed(&buffer[..count]),
            }
        }
        std::future::pending().await
    }

    /// Logs what is there, and a line without an end.
    fn rest(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(count) = self.pty.as_ref().and_then(|pty| {
            let read = pty.try_read(&mut buffer).ok()?;
            (read > 0).then_some(read)
        }) {
            self.feed(&buffer[..count]);
        }
        if let Some(line) = self.lines.finish() {
            self.tail.push(&line);
            self.log.info(line);
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        for line in self.lines.feed(bytes) {
            self.tail.push(&line);
            self.log.info(line);
        }
    }
}

/// The last lines of what a hook printed, for those who see no more than the status.
#[derive(Debug, Default)]
struct Tail(VecDeque<String>);

// === impl Tail ===

impl Tail {
    fn push(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if self.0.len() == TAIL_LINES {
            self.0.pop_front();
        }
        let mut characters = line.chars().filter(|character| !character.is_control());
        let mut shown: String = characters.by_ref().take(TAIL_WIDTH).collect();
        if characters.next().is_some() {
            shown.push('…');
        }
        self.0.push_back(shown);
    }

    /// What follows the reason of a failure.
    fn text(&self) -> String {
        let lines: Vec<&str> = self.0.iter().map(String::as_str).collect();
        match lines.as_slice() {
            [] => String::new(),
            lines => format!("; it printed last:\n{}", lines.join("\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded() {
        let mut tail = Tail::default();
        assert_eq!(tail.text(), "");
        for number in 0..100 {
            tail.push(&format!("{number} \u{1b}[1m{}", "€".repeat(1000)));
            tail.push(" ");
        }
        let text = tail.text();
        assert!(text.starts_with("; it printed last:\n92 [1m€"), "{text}");
        assert_eq!(text.lines().count(), 1 + TAIL_LINES);
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= TAIL_WIDTH + 1)
        );
    }
}
