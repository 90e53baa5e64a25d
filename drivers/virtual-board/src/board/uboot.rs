//! U-Boot: the countdown, the prompt and starting the kernel. Its commands
//! are in `uboot_commands.rs`.

use std::time::Duration;

use super::command_line::{CommandQueue, SyntaxError, words};
use super::console::Console;
use super::digest::{DigestJob, Progress, hexadecimal};
use super::environment::Environment;
use super::image::ImageHeader;
use super::line_editor::{Edit, LineEditor};
use super::power::Activity;
use super::stage::{Context, Handover, Next, Stage, StageKind};

pub(super) const VERSION: &str = "U-Boot 2026.01 (Jan 05 2026 - 10:00:00 +0000)";
const PROMPT: &str = "=> ";
const START: Duration = Duration::from_millis(150);
/// Simulated time to read one chunk of the card.
const CHUNK_TIME: Duration = Duration::from_millis(20);
const KERNEL_HANDOVER: Duration = Duration::from_millis(200);
const RESET_DELAY: Duration = Duration::from_millis(50);

pub(super) struct UBoot {
    /// The header as the ROM read it: the system that `bootm` starts.
    pub(super) header: ImageHeader,
    pub(super) environment: Environment,
    pub(super) queue: CommandQueue,
    editor: LineEditor,
    pub(super) state: State,
}

pub(super) enum State {
    Starting(Duration),
    Countdown {
        at: Duration,
        seconds_left: u32,
    },
    Prompt,
    /// Commands are queued.
    Running(Duration),
    /// Hashing the payload, for a command or before starting the kernel.
    Hashing {
        at: Duration,
        job: Box<DigestJob>,
        purpose: Purpose,
    },
    StartingKernel(Duration),
    Resetting(Duration),
}

#[derive(Clone)]
pub(super) enum Purpose {
    /// `bootm`: must give the digest of this header.
    Boot(Box<ImageHeader>),
    /// `hash`: over these offsets.
    Show { start: u64, end: u64 },
}

impl UBoot {
    pub(super) fn new(header: ImageHeader, context: &Context<'_>) -> Self {
        let environment = context.saved_environment.clone();
        let environment = environment
            .unwrap_or_else(|| Environment::default_for(context.config, &header.command_line));
        Self {
            header,
            environment,
            queue: CommandQueue::default(),
            editor: LineEditor::default(),
            state: State::Starting(context.after(START)),
        }
    }

    fn start(&mut self, context: &mut Context<'_>) {
        let origin = if context.saved_environment.is_some() {
            "SPIFlash... OK"
        } else {
            "SPIFlash... *** Warning - bad CRC, using default environment\n"
        };
        context.console.text(&format!(
            "\n\n{VERSION}\n\nModel: Virtual Board\nDRAM:  512 MiB\nMMC:   mmc@0: 0\n\
             Loading Environment from {origin}\nIn:    serial\nOut:   serial\nErr:   serial\nNet:   No ethernet found.\n"
        ));
        match self.environment.bootdelay() {
            -2 => self.autoboot(context),
            delay if delay < 0 => self.prompt(context.console),
            delay => {
                let seconds_left = delay.unsigned_abs();
                context
                    .console
                    .text(&format!("Hit any key to stop autoboot: {seconds_left:2} "));
                let at = if delay == 0 {
                    context.at
                } else {
                    context.after(Duration::from_secs(1))
                };
                self.state = State::Countdown { at, seconds_left };
            }
        }
    }

    fn count_down(&mut self, seconds_left: u32, context: &mut Context<'_>) {
        let Some(seconds_left) = seconds_left.checked_sub(1) else {
            context.console.line("");
            return self.autoboot(context);
        };
        context
            .console
            .text(&format!("\x08\x08\x08{seconds_left:2} "));
        let wait = Duration::from_secs(u64::from(seconds_left > 0));
        self.state = State::Countdown {
            at: context.after(wait),
            seconds_left,
        };
    }

    fn autoboot(&mut self, context: &mut Context<'_>) {
        let command = self
            .environment
            .get("bootcmd")
            .unwrap_or_default()
            .to_owned();
        self.run_line(&command, context);
    }

    fn run_line(&mut self, line: &str, context: &mut Context<'_>) {
        match self.queue.start(line) {
            Ok(()) if self.queue.is_empty() => self.prompt(context.console),
            Ok(()) => self.state = State::Running(context.at),
            Err(error) => self.refuse(&error, context),
        }
    }

    fn refuse(&mut self, error: &SyntaxError, context: &mut Context<'_>) {
        context.console.line(&error.to_string());
        self.queue.clear();
        self.queue.status = 1;
        self.prompt(context.console);
    }

    fn prompt(&mut self, console: &mut Console) {
        console.text(PROMPT);
        self.state = State::Prompt;
    }

    /// Runs the next queued command, or shows the prompt after the last.
    fn run_next(&mut self, context: &mut Context<'_>) {
        let status = self.queue.status;
        let lookup = |name: &str| match name {
            "?" => Some(status.to_string()),
            _ => self.environment.get(name).map(str::to_owned),
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
            Ok(None) => self.prompt(context.console),
            Err(error) => self.refuse(&error, context),
        }
    }

    /// The running command ended; what is queued behind it goes on.
    pub(super) fn finish(&mut self, status: u8, context: &Context<'_>) {
        self.queue.status = status;
        self.state = State::Running(context.at);
    }

    pub(super) fn hash(&mut self, range: (u64, u64), purpose: Purpose, context: &Context<'_>) {
        let job = Box::new(DigestJob::new(context.storage, range.0, range.1));
        self.state = State::Hashing {
            at: context.after(CHUNK_TIME),
            job,
            purpose,
        };
    }

    pub(super) fn reset(&mut self, context: &mut Context<'_>) {
        context.console.line("resetting ...");
        self.state = State::Resetting(context.after(RESET_DELAY));
    }

    fn hash_chunk(&mut self, mut job: Box<DigestJob>, purpose: Purpose, context: &mut Context<'_>) {
        match job.advance(context.storage) {
            Ok(Progress::More) => {
                self.state = State::Hashing {
                    at: context.after(CHUNK_TIME),
                    job,
                    purpose,
                };
            }
            Ok(Progress::Done(digest)) => match purpose {
                Purpose::Show { start, end } => {
                    let digest = hexadecimal(&digest);
                    context.console.line(&format!(
                        "sha256 for mmc0 {start:08x} ... {end:08x} ==> {digest}"
                    ));
                    self.finish(0, context);
                }
                Purpose::Boot(header) if header.payload_digest == digest => {
                    context.console.text("OK\n\nStarting kernel ...\n\n");
                    self.header = *header;
                    self.state = State::StartingKernel(context.after(KERNEL_HANDOVER));
                }
                Purpose::Boot(_) => {
                    context.console.text(
                        "error!\nBad hash value for 'hash-1' hash node in 'rootfs' image node\n\
                         Bad Data Hash\nERROR: can't get kernel image!\n",
                    );
                    self.finish(1, context);
                }
            },
            Err(_) => {
                if let Purpose::Boot(_) = purpose {
                    context.console.line("error!");
                }
                context.console.line("mmc0: read failed, no card present");
                self.finish(1, context);
            }
        }
    }
}

impl Stage for UBoot {
    fn kind(&self) -> StageKind {
        StageKind::UBoot
    }

    fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Prompt => None,
            State::Starting(at)
            | State::Countdown { at, .. }
            | State::Running(at)
            | State::Hashing { at, .. }
            | State::StartingKernel(at)
            | State::Resetting(at) => Some(at),
        }
    }

    fn advance(&mut self, context: &mut Context<'_>) -> Next {
        match std::mem::replace(&mut self.state, State::Prompt) {
            State::Starting(_) => self.start(context),
            State::Countdown { seconds_left, .. } => self.count_down(seconds_left, context),
            State::Running(_) => self.run_next(context),
            State::Hashing { job, purpose, .. } => {
                self.hash_chunk(job, purpose, context);
                return Next::Yield;
            }
            State::StartingKernel(_) => {
                let command_line = self
                    .environment
                    .get("bootargs")
                    .unwrap_or_default()
                    .to_owned();
                return Next::Linux(Handover {
                    header: self.header.clone(),
                    command_line,
                });
            }
            State::Resetting(_) => return Next::Reset,
            State::Prompt => {}
        }
        Next::Stay
    }

    fn takes_input(&self) -> bool {
        matches!(self.state, State::Prompt | State::Countdown { .. })
    }

    fn input(&mut self, byte: u8, context: &mut Context<'_>) -> Next {
        if matches!(self.state, State::Countdown { .. }) {
            context.console.line("");
            self.prompt(context.console);
            return Next::Stay;
        }
        match self.editor.feed(byte, context.console) {
            Edit::Line(line) => self.run_line(&line, context),
            Edit::Interrupt => {
                context.console.line("<INTERRUPT>");
                self.prompt(context.console);
            }
            Edit::Pending | Edit::EndOfFile => {}
        }
        Next::Stay
    }

    fn interrupt(&mut self, context: &mut Context<'_>) -> bool {
        let running = matches!(self.state, State::Running(_) | State::Hashing { .. });
        if running {
            context.console.text("<INTERRUPT>\n");
            self.queue.clear();
            self.queue.status = 1;
            self.prompt(context.console);
        }
        running
    }

    fn activity(&self, _now: Duration) -> Activity {
        match self.state {
            State::Hashing { .. } => Activity::Busy,
            _ => Activity::UBoot,
        }
    }
}
