//! Supervised children against real programs.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio as StdStdio;
use std::time::{Duration, Instant};

use common::{HELPER, alive, command, ends_within, shell};
use jmp_process::{Child, ExitStatus, Signal, SpawnError, Stdio, WindowSize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

/// Starts a child and a family below it: a plain grandchild, one in a session of its own, and
/// one whose parent has left it. Prints their process ids.
const FAMILY: &str = "sleep 1000 & echo $!
setsid sh -c 'echo $$; exec sleep 1000' &
sh -c 'setsid sleep 1000 & echo $!'
wait";

async fn lines(child: &mut Child, count: usize) -> Vec<i32> {
    let stdout = child.stdout.as_mut().expect("stdout is piped");
    let mut lines = tokio::io::BufReader::new(stdout).lines();
    let mut numbers = Vec::new();
    for _ in 0..count {
        let line = lines.next_line().await.unwrap().expect("one more line");
        numbers.push(line.trim().parse().expect("a process id"));
    }
    numbers
}

#[tokio::test]
async fn exit_codes_and_signals_come_back() {
    let mut child = shell("exit 7").spawn().await.unwrap();
    assert_eq!(child.wait().await.unwrap(), ExitStatus::Code(7));
    let mut child = shell("kill -USR1 $$").spawn().await.unwrap();
    let status = child.wait().await.unwrap();
    assert_eq!(status, ExitStatus::Signal(Signal::USR1.as_raw()));
    assert_eq!(status.shell_code(), 128 + 10);
}

#[tokio::test]
async fn failures_to_start_name_program_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let error = command("no-such-program").spawn().await.unwrap_err();
    assert!(matches!(error, SpawnError::NotFound { .. }), "{error}");
    assert_eq!(error.shell_code(), 127);
    assert!(error.to_string().contains("no-such-program"));

    // Written by another process: a file that this one has had open for writing may still be open
    // in a child that another test is just starting, and would then be busy.
    let prepare = "cd \"$1\"; echo '#!/bin/sh' >plain; echo '#!/no/such' >script; chmod +x script";
    let status = std::process::Command::new("sh")
        .args(["-c", prepare, "sh"])
        .arg(folder.path())
        .status();
    assert!(status.unwrap().success());
    let error = command(folder.path().join("plain").to_str().unwrap());
    let error = error.spawn().await.unwrap_err();
    assert!(matches!(error, SpawnError::NotExecutable { .. }), "{error}");
    assert_eq!(error.shell_code(), 126);
    assert!(error.to_string().contains("Permission denied"), "{error}");

    let error = command(folder.path().join("script").to_str().unwrap());
    assert_eq!(error.spawn().await.unwrap_err().shell_code(), 127);

    let error = shell("true").current_dir("/no/such").spawn().await;
    assert!(matches!(error, Err(SpawnError::WorkingDirectory { .. })));

    let error = command("true").supervisor_executable("/bin/true");
    let error = error.spawn().await.unwrap_err();
    assert!(
        error.to_string().contains("maybe_run_supervisor"),
        "{error}"
    );
}

#[tokio::test]
async fn environment_directory_and_streams_are_as_asked() {
    let output = shell("echo $ONE-$HOME; pwd; echo oops >&2; cat; exit 3")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("ONE", "1")
        .current_dir("/")
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1-\n/\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "oops\n");
    assert_eq!(output.status, ExitStatus::Code(3));
}

#[tokio::test]
async fn output_streams_while_the_child_runs() {
    let child = shell("while read line; do echo got $line; done; echo end")
        .stdin(Stdio::Piped)
        .stdout(Stdio::Piped);
    let mut child = child.spawn().await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = tokio::io::BufReader::new(child.stdout.take().unwrap()).lines();
    for word in ["one", "two"] {
        stdin
            .write_all(format!("{word}\n").as_bytes())
            .await
            .unwrap();
        assert_eq!(
            lines.next_line().await.unwrap().unwrap(),
            format!("got {word}")
        );
    }
    assert!(alive(child.id() as i32));
    drop(stdin);
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "end");
    assert_eq!(child.wait().await.unwrap(), ExitStatus::Code(0));
}

/// An owner in a process of its own that runs `script`; its output so far: `count` process ids.
fn owner(script: &str, count: usize) -> (std::process::Child, Vec<i32>) {
    let mut owner = std::process::Command::new(HELPER)
        .args(["own", "sh", "-c", script])
        .stdout(StdStdio::piped())
        .spawn()
        .unwrap();
    let pids: Vec<i32> = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .take(count)
        .map(|line| line.unwrap().trim().parse().unwrap())
        .collect();
    assert!(pids.iter().all(|&pid| alive(pid)), "{pids:?}");
    (owner, pids)
}

#[test]
fn kill_minus_nine_of_the_owner_ends_the_family() {
    let (mut owner, mut pids) = owner(FAMILY, 4);
    let children = format!("/proc/{0}/task/{0}/children", owner.id());
    let children = std::fs::read_to_string(children).unwrap();
    let supervisor = children.trim().parse().unwrap();
    pids.push(supervisor);
    owner.kill().unwrap();
    owner.wait().unwrap();
    for pid in &pids {
        assert!(
            ends_within(*pid, Duration::from_secs(1)),
            "{pid} of {pids:?}"
        );
    }
}

#[test]
fn kill_minus_nine_of_the_owner_ends_the_deaf_after_the_grace_time() {
    let deaf = "trap '' TERM HUP; setsid sh -c 'echo $$; while :; do sleep 1; done'";
    let (mut owner, pids) = owner(deaf, 2);
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(!ends_within(pids[0], Duration::from_millis(200)));
    for pid in &pids {
        assert!(
            ends_within(*pid, Duration::from_millis(1300)),
            "{pid} of {pids:?}"
        );
    }
}

#[test]
fn an_owner_that_dies_before_the_start_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("started");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut supervisor = std::process::Command::new(HELPER)
        .args(["__supervise", "500", "pipes", "end", "", "touch"])
        .arg(&file)
        .stdin(StdStdio::from(std::os::fd::OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    drop(ours);
    assert!(ends_within(supervisor.id() as i32, Duration::from_secs(1)));
    assert!(!supervisor.wait().unwrap().success());
    assert!(!file.exists());
}

/// The process id of the parent.
fn parent_of(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit(')').next().unwrap();
    rest.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_command_dies_with_its_supervisor() {
    let mut child = shell("sleep 1000 & echo $!; wait")
        .stdout(Stdio::Piped)
        .spawn()
        .await
        .unwrap();
    let grandchild = lines(&mut child, 1).await[0];
    let supervisor = child.supervisor_id().unwrap() as i32;
    let command = child.id() as i32;
    assert_eq!(parent_of(command), supervisor);
    let pid = rustix::process::Pid::from_raw(supervisor).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    assert!(ends_within(command, Duration::from_secs(1)));
    let error = child.wait().await.unwrap_err();
    assert!(error.to_string().contains("supervisor"), "{error}");
    assert!(ends_within(grandchild, Duration::from_secs(1)));
}

#[tokio::test]
async fn terminate_ends_the_family_and_reports_the_status() {
    let child = shell(FAMILY).stdout(Stdio::Piped);
    let mut child = child.spawn().await.unwrap();
    let mut pids = lines(&mut child, 3).await;
    pids.push(child.id() as i32);
    assert!(pids.iter().all(|&pid| alive(pid)));
    // A wait that is given up in between loses nothing.
    let early = tokio::time::timeout(Duration::from_millis(50), child.wait()).await;
    assert!(early.is_err());
    let status = child.terminate().await.unwrap();
    assert_eq!(status, ExitStatus::Signal(Signal::TERM.as_raw()));
    assert!(!pids.iter().any(|&pid| alive(pid)), "{pids:?}");
    assert_eq!(child.supervisor_id(), None);
    assert_eq!(child.wait().await.unwrap(), status);
}

#[tokio::test]
async fn a_child_that_ignores_sigterm_is_killed_after_the_grace_time() {
    let child = shell("trap '' TERM; echo $$; while :; do sleep 1000; done")
        .stdout(Stdio::Piped)
        .grace(Duration::from_millis(300));
    let mut child = child.spawn().await.unwrap();
    lines(&mut child, 1).await;
    let start = Instant::now();
    let status = child.terminate().await.unwrap();
    assert_eq!(status, ExitStatus::Signal(Signal::KILL.as_raw()));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_child_may_clean_up_on_sigterm() {
    let child = shell("trap 'sleep 0.1; echo cleaned; exit 4' TERM; echo $$; sleep 1000 & wait")
        .stdout(Stdio::Piped);
    let mut child = child.spawn().await.unwrap();
    let mut stdout = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    stdout.read_line(&mut text).await.unwrap();
    assert_eq!(child.terminate().await.unwrap(), ExitStatus::Code(4));
    stdout.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("cleaned\n"), "{text}");
}

#[tokio::test]
async fn what_the_program_leaves_behind_ends_unless_kept() {
    let script = "sleep 1000 & echo $!";
    let mut child = shell(script).stdout(Stdio::Piped).spawn().await.unwrap();
    let left = lines(&mut child, 1).await[0];
    assert!(child.wait().await.unwrap().success());
    assert!(!alive(left));

    let kept = shell(script).stdout(Stdio::Piped).keep_descendants(true);
    let mut child = kept.spawn().await.unwrap();
    let left = lines(&mut child, 1).await[0];
    assert!(child.wait().await.unwrap().success());
    assert!(alive(left));
    drop(child);
    assert!(ends_within(left, Duration::from_secs(1)));
}

#[tokio::test]
async fn signals_reach_the_group() {
    let child = shell("trap 'exit 9' USR2; echo $$; while :; do sleep 0.05; done");
    let mut child = child.stdout(Stdio::Piped).spawn().await.unwrap();
    lines(&mut child, 1).await;
    child.signal(Signal::USR2);
    assert_eq!(child.wait().await.unwrap().shell_code(), 9);
}

#[tokio::test]
async fn a_pty_child_has_a_controlling_terminal() {
    let size = WindowSize {
        rows: 33,
        columns: 101,
    };
    let script = "tty; stty size; stty -echo; read line; stty size; echo \"got $line\"; \
                  echo direct >/dev/tty; ps -o tpgid= -p $$; echo $$";
    let mut child = shell(script).pty(size).spawn().await.unwrap();
    let mut pty = child.pty.take().unwrap();
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while text.lines().count() < 2 || !text.ends_with('\n') {
        let count = pty.read(&mut buffer).await.unwrap();
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    pty.resize(WindowSize {
        rows: 5,
        columns: 6,
    })
    .unwrap();
    pty.write_all(b"hello\n").await.unwrap();
    let mut rest = Vec::new();
    pty.read_to_end(&mut rest).await.unwrap();
    text.push_str(&String::from_utf8_lossy(&rest));
    for expected in ["/dev/pts/", "33 101", "5 6", "got hello", "direct"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_pty_child_gets_interrupts_and_hangups() {
    let mut child = shell("echo ready; exec sleep 1000")
        .pty(WindowSize::default())
        .spawn()
        .await
        .unwrap();
    let mut pty = child.pty.take().unwrap();
    let mut buffer = [0; 64];
    assert!(pty.read(&mut buffer).await.unwrap() > 0);
    pty.write_all(&[3]).await.unwrap();
    assert_eq!(child.wait().await.unwrap().shell_code(), 130);
}

#[tokio::test]
async fn many_spawns_leak_no_descriptors() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let run = async || {
        let mut child = command("true")
            .stdin(Stdio::Piped)
            .stdout(Stdio::Piped)
            .spawn()
            .await
            .unwrap();
        assert!(child.wait().await.unwrap().success());
    };
    run().await;
    let before = open();
    for _ in 0..200 {
        run().await;
    }
    // Other tests of this process run at the same time and hold a few.
    assert!(open() < before + 60, "{} then {}", before, open());
}

#[tokio::test]
async fn a_child_inherits_nothing_but_its_streams() {
    let list = "ls /proc/self/fd | wc -l";
    let plain = std::process::Command::new("sh")
        .args(["-c", list])
        .output()
        .unwrap();
    // Whatever this test was started with is none of ours.
    let supervised = shell(list).output().await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&supervised.stdout),
        String::from_utf8_lossy(&plain.stdout)
    );
}
