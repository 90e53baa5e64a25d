//! The supervisor: one thread, no runtime, asleep in `poll` until something happens.
//!
//! It ends when its last descendant is gone. Being a subreaper, "no children left" from
//! `wait` means exactly that: whatever loses its parent below it becomes its child.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::descendants::descendants;
use crate::launch::{self, LAUNCH, Plan, SUPERVISE};
use crate::link::{self, Frame, Stage};
use crate::status::ExitStatus;

/// How long processes may take to vanish after SIGKILL (one in a hung device driver never does).
pub(crate) const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Pause between two rounds of SIGKILL, for processes that fork faster than they are found.
const KILL_ROUND: Duration = Duration::from_millis(20);

/// Takes over when this process was started to supervise a child, and says with which code to
/// end; `None` when it was started for something else.
///
/// `main` calls it first thing, with [`std::env::args_os`]: before a runtime, a thread or a
/// signal handler exists, and before arguments are looked at.
///
/// ```no_run
/// # use std::process::ExitCode;
/// fn main() -> ExitCode {
///     if let Some(code) = jmp_process::maybe_run_supervisor(std::env::args_os()) {
///         return code;
///     }
///     // …
///     ExitCode::SUCCESS
/// }
/// ```
pub fn maybe_run_supervisor(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    let role = arguments.next()?;
    if role == SUPERVISE {
        let plan = Plan::parse(&arguments.collect::<Vec<_>>());
        Some(plan.map_or(ExitCode::FAILURE, |plan| supervise(&plan)))
    } else if role == LAUNCH {
        let parent = arguments
            .next()
            .and_then(|text| text.to_str()?.parse().ok())
            .and_then(Pid::from_raw);
        let plan = Plan::parse(&arguments.collect::<Vec<_>>());
        Some(plan.map_or(ExitCode::FAILURE, |plan| launch::launch(&plan, parent)))
    } else {
        None
    }
}

fn supervise(plan: &Plan) -> ExitCode {
    let started = Supervisor::start(plan);
    match started {
        Ok(Some(mut supervisor)) => ExitCode::from(supervisor.run().shell_code()),
        // The owner went away before it said what to run.
        Ok(None) | Err(_) => ExitCode::FAILURE,
    }
}

/// How far the ending of everything has come.
enum Ending {
    /// The command may run.
    No,
    /// SIGTERM was sent; SIGKILL follows at this time.
    Asked(Instant),
    /// SIGKILL is sent again and again until this time.
    Forced(Instant),
}

struct Supervisor {
    /// To the owner; `None` once the owner has closed it or died.
    owner: Option<UnixStream>,
    /// Becomes readable when a child ended (SIGCHLD).
    child_ended: UnixStream,
    /// Becomes readable when somebody asked this very process to end.
    asked_to_end: UnixStream,
    /// From the launch stage; `None` once it has become the program or given up.
    launch: Option<UnixStream>,
    command: Pid,
    status: Option<ExitStatus>,
    ending: Ending,
    grace: Duration,
    keep_descendants: bool,
}

impl Supervisor {
    /// Waits for the owner's go and starts the launch stage; `None` when the owner has gone.
    fn start(plan: &Plan) -> io::Result<Option<Self>> {
        // `killall jmp` and `pkill jmp` must not take the one that cleans up after jmp.
        #[cfg(target_os = "linux")]
        let _ = std::fs::write("/proc/self/comm", "supervisor");
        let child_ended = signal_pipe(&[signal_hook::consts::SIGCHLD])?;
        let asked_to_end = signal_pipe(&[
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGHUP,
            signal_hook::consts::SIGQUIT,
        ])?;
        #[cfg(target_os = "linux")]
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;

        let owner = launch::control_socket()?;
        // Descriptor 0 is the same socket; as long as it is open the owner sees no end.
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        let Some(streams) = link::receive_start(&owner) else {
            return Ok(None);
        };
        let (ours, theirs) = UnixStream::pair()?;
        let command = match start_launcher(plan, theirs) {
            Ok(command) => command,
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                link::send(&owner, Frame::Failed(Stage::Launcher, errno))?;
                return Ok(None);
            }
        };
        // A launch stage that is already gone shows as the end of `ours`.
        let _ = link::send_start(
            &ours,
            [streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()],
        );
        Ok(Some(Self {
            owner: Some(owner),
            child_ended,
            asked_to_end,
            launch: Some(ours),
            command,
            status: None,
            ending: Ending::No,
            grace: plan.grace,
            keep_descendants: plan.keep_descendants,
        }))
    }

    fn run(&mut self) -> ExitStatus {
        loop {
            let none_left = self.reap();
            // The launch stage must be heard out first: it may have said why it failed.
            if none_left && self.launch.is_none() {
                self.tell(Frame::Done(0));
                break;
            }
            if let Some(survivors) = self.advance_ending() {
                self.tell(Frame::Done(survivors));
                break;
            }
            self.sleep();
        }
        self.status.unwrap_or(ExitStatus::Code(1))
    }

    /// Collects every ended child; whether none is left.
    fn reap(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.command && self.status.is_none() => {
                    let status = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => ExitStatus::Code((code & 0xff) as u8),
                        (None, Some(signal)) => ExitStatus::Signal(signal),
                        (None, None) => continue,
                    };
                    self.command_ended(status);
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    fn command_ended(&mut self, status: ExitStatus) {
        self.status = Some(status);
        self.hear_launcher();
        self.tell(match status {
            ExitStatus::Code(code) => Frame::Exited(i32::from(code)),
            ExitStatus::Signal(signal) => Frame::Signaled(signal),
        });
        if !self.keep_descendants {
            self.ask_to_end();
        }
    }

    /// Waits for the next event: a word from the owner, an ended child, a signal, a deadline.
    fn sleep(&mut self) {
        let timeout = match self.ending {
            Ending::No => None,
            Ending::Asked(at) => Some(at.saturating_duration_since(Instant::now())),
            Ending::Forced(_) => Some(KILL_ROUND),
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let sources = [
            Some(&self.child_ended),
            Some(&self.asked_to_end),
            self.owner.as_ref(),
            self.launch.as_ref(),
        ];
        let mut polled: Vec<PollFd<'_>> = sources
            .iter()
            .flatten()
            .map(|socket| PollFd::new(*socket, PollFlags::IN))
            .collect();
        if rustix::event::poll(&mut polled, timeout.as_ref()).is_err() {
            return;
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        let ready = sources.map(|source| source.is_some() && ready.next().unwrap_or(false));
        let [child_ended, asked_to_end, owner, launch] = ready;
        if child_ended {
            drain(&self.child_ended);
        }
        if asked_to_end {
            drain(&self.asked_to_end);
            self.ask_to_end();
        }
        if launch {
            self.hear_launcher();
        }
        if owner {
            self.hear_owner();
        }
    }

    /// Takes the one message of the launch stage: a failure, or its end by a successful `exec`.
    fn hear_launcher(&mut self) {
        if let Some(launch) = self.launch.take() {
            let pid = self.command.as_raw_nonzero().get();
            self.tell(link::receive(&launch).unwrap_or(Frame::Started(pid)));
        }
    }

    fn hear_owner(&mut self) {
        match self.owner.as_ref().and_then(link::receive) {
            Some(Frame::Signal(signal)) => {
                if let Some(signal) = Signal::from_named_raw(signal)
                    && self.status.is_none()
                {
                    // A group that has just ended is reported as such in a moment.
                    let _ = rustix::process::kill_process_group(self.command, signal);
                }
            }
            Some(Frame::Terminate) => self.ask_to_end(),
            _ => {
                self.owner = None;
                self.ask_to_end();
            }
        }
    }

    fn tell(&mut self, frame: Frame) {
        if let Some(owner) = &self.owner
            && link::send(owner, frame).is_err()
        {
            self.owner = None;
            self.ask_to_end();
        }
    }

    fn ask_to_end(&mut self) {
        if let Ending::No = self.ending {
            self.signal_all(Signal::TERM);
            self.ending = Ending::Asked(Instant::now() + self.grace);
        }
    }

    /// Goes on to SIGKILL when it is time; the number of survivors when even that is over.
    fn advance_ending(&mut self) -> Option<i32> {
        let now = Instant::now();
        if let Ending::Asked(until) = self.ending
            && now >= until
        {
            self.ending = Ending::Forced(now + KILL_LIMIT);
        }
        if let Ending::Forced(until) = self.ending {
            let found = self.signal_all(Signal::KILL);
            if now >= until {
                return Some(i32::try_from(found).unwrap_or(i32::MAX));
            }
        }
        None
    }

    /// Sends `signal` to every process below this one; how many there were.
    fn signal_all(&self, signal: Signal) -> usize {
        let all = descendants(rustix::process::getpid());
        // One call reaches the whole group at once, also where there is no /proc. It fails as
        // long as the launch stage has not made its session.
        let group_reached = self.status.is_none()
            && rustix::process::kill_process_group(self.command, signal).is_ok();
        for pid in &all {
            let in_group =
                group_reached && rustix::process::getpgid(Some(*pid)) == Ok(self.command);
            if !in_group {
                let _ = rustix::process::kill_process(*pid, signal);
            }
            // A stopped process acts on SIGTERM only once it goes on.
            if signal != Signal::KILL {
                let _ = rustix::process::kill_process(*pid, Signal::CONT);
            }
        }
        all.len()
    }
}

fn start_launcher(plan: &Plan, control: UnixStream) -> io::Result<Pid> {
    let mut arguments = plan.arguments(LAUNCH);
    let parent = rustix::process::getpid().as_raw_nonzero().to_string();
    arguments.insert(1, parent.into());
    let child = std::process::Command::new(own_executable()?)
        .arg0("supervised")
        .args(arguments)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(control)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("process id out of range"))
}

/// This executable, also after its file was replaced by a newer one.
pub(crate) fn own_executable() -> io::Result<std::path::PathBuf> {
    if cfg!(target_os = "linux") {
        Ok("/proc/self/exe".into())
    } else {
        std::env::current_exe()
    }
}

/// A socket that becomes readable when one of `signals` arrives.
fn signal_pipe(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for &signal in signals {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

fn drain(mut socket: &UnixStream) {
    let mut buffer = [0; 64];
    while socket.read(&mut buffer).is_ok_and(|count| count > 0) {}
}
