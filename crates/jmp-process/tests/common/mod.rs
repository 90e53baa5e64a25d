//! Shared by the tests of this crate.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::time::Duration;

use jmp_process::Command;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

/// The program that supervises, owns and runs in the foreground.
pub const HELPER: &str = env!("CARGO_BIN_EXE_jmp-supervise-test");

/// A command supervised by the helper.
pub fn command(program: &str) -> Command {
    Command::new(program).supervisor_executable(HELPER)
}

/// `sh -c script`, supervised by the helper.
pub fn shell(script: &str) -> Command {
    command("sh").args(["-c", script])
}

/// Whether the process ends (or has ended) within the limit. A zombie has ended.
pub fn ends_within(pid: i32, limit: Duration) -> bool {
    let pid = Pid::from_raw(pid).expect("a process id");
    let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let limit = Timespec::try_from(limit).expect("a short limit");
    let mut polled = [PollFd::new(&handle, PollFlags::IN)];
    // A child that ends interrupts the wait; starting it over is exact enough here.
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&limit)))
        .expect("poll works")
        == 1
}

/// Whether the process exists and is no zombie.
pub fn alive(pid: i32) -> bool {
    !ends_within(pid, Duration::ZERO)
}
