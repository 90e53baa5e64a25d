//! The kernel and its system: boot, login, shell. Who may log in is in
//! `linux_login.rs`, the shell's commands are in `linux_commands.rs`.

use std::time::Duration;

use super::command_line::{CommandQueue, SyntaxError, words};
use super::digest::{DigestJob, Progress, hexadecimal};
use super::faults::BootFailure;
use super::kernel_log::{
    BootLine, LOGIN_MILLISECONDS, MOUNT_PANIC, STORAGE_LOST, Source, boot_lines, stamped,
};
use super::line_editor::{Edit, LineEditor};
use super::power::Activity;
use super::stage::{Context, Handover, Next, Stage, StageKind};

/// Kernel messages kept for `dmesg`.
const KERNEL_LOG_LINES: usize = 200;
/// How long a command keeps the processor busy.
const COMMAND_TIME: Duration = Duration::from_millis(200);
/// Simulated time to read one chunk of the card.
const CHUNK_TIME: Duration = Duration::from_millis(20);
const SHUTDOWN_STEP: Duration = Duration::from_millis(400);

pub(super) struct Linux {
    pub(super) handover: Handover,
    pub(super) hostname: String,
    /// When the kernel started.
    started: Duration,
    /// Messages for `dmesg`.
    pub(super) kernel_log: Vec<String>,
    boot_lines: std::vec::IntoIter<BootLine>,
    mounted: bool,
    /// The card went away while it was mounted: file system errors last until the next boot.
    root_lost: bool,
    pub(super) queue: CommandQueue,
    pub(super) editor: LineEditor,
    busy_until: Duration,
    pub(super) state: State,
}

pub(super) enum State {
    /// The line is due at the time; none is left when the login is due.
    Booting(Duration, Option<BootLine>),
    Login,
    Password {
        user: String,
    },
    LoginRefused(Duration),
    Shell,
    Running(Duration),
    Sleeping(Duration),
    Hashing {
        at: Duration,
        job: Box<DigestJob>,
        path: String,
    },
    Stopping {
        at: Duration,
        said: usize,
        restarts: bool,
    },
}

impl Linux {
    pub(super) fn new(handover: Handover, context: &Context<'_>) -> Self {
        let hostname = match handover.header.hostname.as_str() {
            "" => context.config.hostname.clone(),
            name => name.to_owned(),
        };
        let storage_length = context.storage.length_as_board().unwrap_or(0);
        let mut boot_lines = boot_lines(&handover, storage_length).into_iter();
        let first = boot_lines.next();
        Self {
            handover,
            hostname,
            started: context.at,
            kernel_log: Vec::new(),
            boot_lines,
            mounted: false,
            root_lost: false,
            queue: CommandQueue::default(),
            editor: LineEditor::default(),
            busy_until: context.at,
            state: State::Booting(context.at, first),
        }
    }

    /// Simulated seconds since the kernel started.
    pub(super) fn uptime(&self, context: &Context<'_>) -> f64 {
        context.at.saturating_sub(self.started).as_secs_f64() * context.config.speed
    }

    fn boot_line(&mut self, line: Option<BootLine>, context: &mut Context<'_>) -> Next {
        let Some(line) = line else {
            self.show_login(context);
            return Next::Stay;
        };
        if line.source == Source::Mount {
            let failed = context.boot_failure == Some(BootFailure::Kernel);
            if failed || context.storage.length_as_board().is_err() {
                let uptime = self.uptime(context);
                MOUNT_PANIC
                    .iter()
                    .for_each(|text| self.kernel_says(uptime, text, context));
                return Next::Hang;
            }
            self.mounted = true;
        }
        match line.source {
            Source::System => context.console.line(&line.text),
            // The table's time, not the clock's: real stamps do not depend on `speed`.
            _ => self.kernel_says(line.seconds(), &line.text, context),
        }
        let next = self.boot_lines.next();
        let milliseconds = next
            .as_ref()
            .map_or(LOGIN_MILLISECONDS, |line| line.milliseconds);
        let after = context.config.scaled(Duration::from_millis(milliseconds));
        self.state = State::Booting(self.started.saturating_add(after), next);
        Next::Stay
    }

    fn kernel_says(&mut self, seconds: f64, text: &str, context: &mut Context<'_>) {
        let line = stamped(seconds, text);
        context.console.line(&line);
        if self.kernel_log.len() < KERNEL_LOG_LINES {
            self.kernel_log.push(line);
        }
    }

    pub(super) fn open_shell(&mut self, context: &mut Context<'_>) {
        self.editor = LineEditor::default();
        self.queue = CommandQueue::default();
        self.prompt(context);
    }

    fn prompt(&mut self, context: &mut Context<'_>) {
        context.console.text(&format!("root@{}:~# ", self.hostname));
        self.state = State::Shell;
    }

    fn run_line(&mut self, line: &str, context: &mut Context<'_>) {
        match self.queue.start(line) {
            Ok(()) if self.queue.is_empty() => self.prompt(context),
            Ok(()) => {
                self.busy_until = context.after(COMMAND_TIME);
                self.state = State::Running(context.at);
            }
            Err(error) => self.refuse(&error, context),
        }
    }

    fn refuse(&mut self, error: &SyntaxError, context: &mut Context<'_>) {
        context.console.line(&format!("sh: {error}"));
        self.queue.clear();
        self.queue.status = 2;
        self.prompt(context);
    }

    fn run_next(&mut self, context: &mut Context<'_>) {
        let status = self.queue.status;
        let hostname = &self.hostname;
        let lookup = |name: &str| match name {
            "?" => Some(status.to_string()),
            "HOME" | "PWD" => Some("/root".to_owned()),
            "USER" => Some("root".to_owned()),
            "HOSTNAME" => Some(hostname.clone()),
            _ => None,
        };
        match self
            .queue
            .next()
            .and_then(|text| text.map(|text| words(&text, lookup)).transpose())
        {
            Ok(Some(arguments)) => {
                self.state = State::Running(context.at);
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                if !arguments.is_empty() {
                    self.command(&arguments, context);
                }
            }
            Ok(None) => self.prompt(context),
            Err(error) => self.refuse(&error, context),
        }
    }

    pub(super) fn sleep(&mut self, time: Duration, context: &Context<'_>) {
        self.state = State::Sleeping(context.after(time));
    }

    pub(super) fn hash(&mut self, job: DigestJob, path: &str, context: &Context<'_>) {
        let at = context.after(CHUNK_TIME);
        self.state = State::Hashing {
            at,
            job: Box::new(job),
            path: path.to_owned(),
        };
    }

    pub(super) fn shut_down(&mut self, restarts: bool, context: &mut Context<'_>) {
        self.queue.clear();
        context.console.line("The system is going down NOW!");
        self.state = State::Stopping {
            at: context.after(SHUTDOWN_STEP),
            said: 0,
            restarts,
        };
    }

    /// Whether files of the root file system can be read.
    pub(super) fn root_is_readable(&self, context: &Context<'_>) -> bool {
        !self.root_lost && context.storage.length_as_board().is_ok()
    }

    fn hash_chunk(&mut self, mut job: Box<DigestJob>, path: String, context: &mut Context<'_>) {
        self.queue.status = match job.advance(context.storage) {
            Ok(Progress::More) => {
                self.state = State::Hashing {
                    at: context.after(CHUNK_TIME),
                    job,
                    path,
                };
                return;
            }
            Ok(Progress::Done(digest)) => {
                context
                    .console
                    .line(&format!("{}  {path}", hexadecimal(&digest)));
                0
            }
            Err(_) => {
                context.console.line(&format!(
                    "sha256sum: read error on '{path}': Input/output error"
                ));
                1
            }
        };
        self.state = State::Running(context.at);
    }

    fn stop(&mut self, said: usize, restarts: bool, context: &mut Context<'_>) -> Next {
        const LINES: [&str; 3] = [
            "Sent SIGTERM to all processes",
            "Sent SIGKILL to all processes",
            "Requesting system shutdown",
        ];
        if let Some(line) = LINES.get(said) {
            context.console.line(line);
            self.state = State::Stopping {
                at: context.after(SHUTDOWN_STEP),
                said: said + 1,
                restarts,
            };
            return Next::Stay;
        }
        let uptime = self.uptime(context);
        let (last, next) = if restarts {
            ("reboot: Restarting system", Next::Reset)
        } else {
            ("reboot: Power down", Next::Halt)
        };
        self.kernel_says(uptime, last, context);
        next
    }
}

impl Stage for Linux {
    fn kind(&self) -> StageKind {
        StageKind::Linux
    }

    fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Login | State::Password { .. } | State::Shell => None,
            State::Booting(at, _)
            | State::LoginRefused(at)
            | State::Running(at)
            | State::Sleeping(at)
            | State::Hashing { at, .. }
            | State::Stopping { at, .. } => Some(at),
        }
    }

    fn advance(&mut self, context: &mut Context<'_>) -> Next {
        match std::mem::replace(&mut self.state, State::Shell) {
            State::Booting(_, line) => return self.boot_line(line, context),
            State::LoginRefused(_) => {
                context.console.line("Login incorrect");
                context.console.text(&format!("{} login: ", self.hostname));
                self.editor = LineEditor::default();
                self.state = State::Login;
            }
            State::Running(_) => self.run_next(context),
            State::Sleeping(_) => {
                self.queue.status = 0;
                self.state = State::Running(context.at);
            }
            State::Hashing { job, path, .. } => {
                self.hash_chunk(job, path, context);
                return Next::Yield;
            }
            State::Stopping { said, restarts, .. } => return self.stop(said, restarts, context),
            waiting @ (State::Login | State::Password { .. } | State::Shell) => {
                self.state = waiting
            }
        }
        Next::Stay
    }

    // Keys typed while it boots or stops go nowhere, as before a real getty;
    // keys typed while a command runs wait for the prompt.
    fn takes_input(&self) -> bool {
        !matches!(
            self.state,
            State::Running(_) | State::Sleeping(_) | State::Hashing { .. } | State::LoginRefused(_)
        )
    }

    fn input(&mut self, byte: u8, context: &mut Context<'_>) -> Next {
        if matches!(self.state, State::Booting(..) | State::Stopping { .. }) {
            return Next::Stay;
        }
        match (
            self.editor.feed(byte, context.console),
            std::mem::replace(&mut self.state, State::Shell),
        ) {
            (Edit::Pending, state) => self.state = state,
            (Edit::Line(line), State::Login) => {
                self.state = State::Login;
                self.log_in(&line, context);
            }
            (Edit::Line(line), State::Password { user }) => {
                self.check_password(&user, &line, context)
            }
            (Edit::Line(line), _) => self.run_line(&line, context),
            (Edit::Interrupt, State::Shell) => {
                context.console.line("^C");
                self.queue.status = 130;
                self.prompt(context);
            }
            (Edit::EndOfFile, State::Shell) => {
                context.console.line("");
                self.log_out(context);
            }
            (Edit::Interrupt | Edit::EndOfFile, _) => {
                context.console.line("");
                self.show_login(context);
            }
        }
        Next::Stay
    }

    fn interrupt(&mut self, context: &mut Context<'_>) -> bool {
        let running = matches!(
            self.state,
            State::Running(_) | State::Sleeping(_) | State::Hashing { .. }
        );
        if running {
            context.console.line("^C");
            self.queue.clear();
            self.queue.status = 130;
            self.prompt(context);
        }
        running
    }

    fn storage_switched(&mut self, context: &mut Context<'_>) {
        let uptime = self.uptime(context);
        let present = context.storage.length_as_board().is_ok();
        if present && self.root_lost {
            self.kernel_says(
                uptime,
                "mmc0: new high speed SDHC card at address 0001",
                context,
            );
        } else if !present && self.mounted && !self.root_lost {
            self.root_lost = true;
            context.console.line("");
            STORAGE_LOST
                .iter()
                .for_each(|text| self.kernel_says(uptime, text, context));
        }
    }

    fn activity(&self, now: Duration) -> Activity {
        match self.state {
            State::Booting(..) => Activity::KernelBoot,
            State::Hashing { .. } | State::Stopping { .. } => Activity::Busy,
            _ if now < self.busy_until => Activity::Busy,
            _ => Activity::Idle,
        }
    }
}
