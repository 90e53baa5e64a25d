//! Programs in the foreground, as `jmp shell` runs them, and the terminal around them.

mod common;

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command as StdCommand, Stdio};
use std::time::Duration;

use common::{HELPER, ends_within, shell};
use jmp_process::{RawTerminal, Signal, StdinReader, WindowSize};
use rustix::process::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::LocalModes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn foreground(arguments: &[&str]) -> StdCommand {
    let mut command = StdCommand::new(HELPER);
    command.arg("foreground").args(arguments);
    command
}

#[test]
fn exit_codes_are_passed_on() {
    let code = |arguments: &[&str]| foreground(arguments).status().unwrap().code();
    assert_eq!(code(&["sh", "-c", "exit 5"]), Some(5));
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), Some(137));
    let output = foreground(&["no-such-program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`no-such-program`"));
    assert_eq!(
        foreground(&["/etc/passwd"]).output().unwrap().status.code(),
        Some(126)
    );
    let output = foreground(&["sh", "-c", "echo $JUMPSTARTER_HOST"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"nowhere\n");
}

/// Starts a foreground program that says when it is ready; sends `signal` to its parent.
fn signalled(script: &str, signal: Signal) -> i32 {
    let mut command = foreground(&["sh", "-c", script]);
    let mut parent = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let child: i32 = lines.next().unwrap().unwrap().parse().unwrap();
    let pid = Pid::from_raw(parent.id() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
    let code = parent.wait().unwrap().code().expect("a code, not a signal");
    assert!(ends_within(child, Duration::from_secs(1)));
    code
}

#[test]
fn sigterm_and_sighup_are_forwarded_and_sigint_is_not() {
    let obeying = "trap 'exit 6' TERM; trap 'exit 7' HUP; echo $$; while :; do sleep 0.05; done";
    assert!([6, 7].contains(&signalled(obeying, Signal::TERM)));
    assert_eq!(signalled(obeying, Signal::HUP), 7);
    let deaf = "trap '' TERM HUP; echo $$; while :; do sleep 0.05; done";
    assert_eq!(signalled(deaf, Signal::TERM), 137);
    let short = "trap 'exit 8' INT; echo $$; sleep 0.3; exit 2";
    assert_eq!(signalled(short, Signal::INT), 2);
}

#[tokio::test]
async fn control_c_goes_to_the_program_only() {
    let script = format!(
        "exec {HELPER} foreground sh -c 'trap \"exit 44\" INT; echo ready; while :; do sleep 0.05; done'"
    );
    let mut child = shell(&script)
        .pty(WindowSize::default())
        .spawn()
        .await
        .unwrap();
    let mut pty = child.pty.take().unwrap();
    let mut buffer = [0; 64];
    assert!(pty.read(&mut buffer).await.unwrap() > 0);
    pty.write_all(&[3]).await.unwrap();
    assert_eq!(child.wait().await.unwrap().shell_code(), 44);
}

/// Both sides of a pseudo terminal that belongs to nobody.
fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    (master, terminal)
}

fn is_cooked(terminal: &OwnedFd) -> bool {
    let modes = rustix::termios::tcgetattr(terminal).unwrap();
    modes
        .local_modes
        .contains(LocalModes::ICANON | LocalModes::ECHO)
}

#[test]
fn raw_mode_ends_with_its_guard_and_before_a_panic_is_printed() {
    let (_master, terminal) = terminal();
    assert!(is_cooked(&terminal));
    let outer = RawTerminal::enter(&terminal).unwrap();
    let inner = RawTerminal::enter(&terminal).unwrap();
    assert!(!is_cooked(&terminal));
    drop(inner);
    assert!(!is_cooked(&terminal));
    drop(outer);
    assert!(is_cooked(&terminal));

    let copy = terminal.try_clone().unwrap();
    let panicked = std::thread::spawn(move || {
        // Forgotten, so that only the panic hook can restore it.
        std::mem::forget(RawTerminal::enter(&copy).unwrap());
        panic!("expected by the test");
    });
    assert!(panicked.join().is_err());
    assert!(is_cooked(&terminal));
    assert!(RawTerminal::enter(std::fs::File::open("/dev/null").unwrap()).is_err());
}

#[tokio::test]
async fn terminal_bytes_arrive_one_by_one_and_reads_can_be_given_up() {
    let (master, terminal) = terminal();
    let _raw = RawTerminal::enter(&terminal).unwrap();
    let mut reader = StdinReader::of(&terminal).unwrap();
    let mut buffer = [0; 16];
    let nothing = tokio::time::timeout(Duration::from_millis(50), reader.read(&mut buffer)).await;
    assert!(nothing.is_err());
    for byte in [b"x", b"\x03", b"\x04"] {
        rustix::io::write(&master, byte).unwrap();
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 1);
        assert_eq!(&buffer[..1], byte);
    }
    let flags = rustix::fs::fcntl_getfl(terminal.as_fd()).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    drop(reader);
}

#[tokio::test]
async fn pipes_and_files_are_read_to_their_end_without_changing_their_mode() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let mut reader = StdinReader::of(&read).unwrap();
    let mut buffer = [0; 16];
    let nothing = tokio::time::timeout(Duration::from_millis(50), reader.read(&mut buffer)).await;
    assert!(nothing.is_err());
    rustix::io::write(&write, b"abc").unwrap();
    assert_eq!(reader.read(&mut buffer).await.unwrap(), 3);
    drop(write);
    assert_eq!(reader.read(&mut buffer).await.unwrap(), 0);
    let flags = rustix::fs::fcntl_getfl(&read).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));

    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, b"text").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut text = String::new();
    let mut reader = StdinReader::of(&file).unwrap();
    reader.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "text");
}
