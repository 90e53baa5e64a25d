//! `jmp demo`: the story, what changes it, and that it leaves nothing behind.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{User, program};

/// Longest demo that is still a success.
const WHOLE_STORY: f64 = 15.0;
/// How long something may take to go away.
const LIMIT: Duration = Duration::from_secs(20);

const STEPS: [&str; 17] = [
    "start-controller",
    "start-exporter",
    "lease",
    "device-tree",
    "prepare-image",
    "write-image",
    "storage-to-dut",
    "power-on",
    "stop-u-boot",
    "set-variable",
    "boot",
    "log-in",
    "run-command",
    "measure",
    "power-off",
    "release",
    "stop-lab",
];

/// A small image: a test build makes large ones slowly.
fn demo(user: &User, more: &[&str]) -> support::Ended {
    let arguments = [&["demo", "--image-size", "2"], more].concat();
    user.jmp(&arguments)
}

fn data(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn names(told: &Value) -> Vec<&str> {
    let steps = told["steps"].as_array().unwrap().iter();
    steps.map(|step| step["name"].as_str().unwrap()).collect()
}

fn exists(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits until `done`; the processes that it waits for are not this one's children.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "{what} within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_story_is_told_in_order_and_leaves_nothing_behind() {
    let user = User::new();
    let told = data(demo(&user, &["-o", "json"]).succeeds());
    assert_eq!(told["result"], "ok");
    assert_eq!(names(&told), STEPS);
    let seconds = told["seconds"].as_f64().unwrap();
    assert!(seconds < WHOLE_STORY, "{seconds} s");

    let steps = &told["steps"];
    let tree = ["board", "board.power", "board.serial", "board.storage"];
    assert_eq!(steps[3]["data"]["devices"], serde_json::json!(tree));
    assert_eq!(steps[4]["data"]["version"], "2026.1");
    let console = |step: usize| steps[step]["console"].to_string();
    assert!(
        console(8).contains("Hit any key to stop autoboot"),
        "{}",
        console(8)
    );
    assert!(
        console(10).contains("rootwait story=demo"),
        "{}",
        console(10)
    );
    assert!(
        console(12).contains("VERSION=\\\"2026.1\\\""),
        "{}",
        console(12)
    );
    let volts = steps[13]["data"]["voltage"].as_f64().unwrap();
    assert!((4.8..5.2).contains(&volts), "{volts} V");

    for (step, process) in [(0, "controller"), (0, "router"), (1, "exporter")] {
        assert!(!exists(steps[step]["data"][process].as_u64().unwrap()));
    }
    assert!(user.left_over().is_empty(), "{:?}", user.left_over());
}

#[test]
fn in_a_pipe_it_is_plain_text() {
    let user = User::new();
    let ended = demo(&user, &[]);
    let text = ended.succeeds();
    assert!(!text.contains('\x1b') && !text.contains('\r'), "{text:?}");
    let ticks: Vec<_> = text.lines().filter(|line| line.starts_with(" ✓")).collect();
    assert_eq!(ticks.len(), STEPS.len());
    let ends: Vec<_> = ticks.iter().map(|line| line.chars().count()).collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "aligned: {text}");
    assert!(text.contains("nothing is left running"), "{text}");
}

#[test]
fn a_corrupted_image_does_not_boot() {
    let user = User::new();
    let ended = demo(&user, &["--corrupt"]);
    ended.fails(
        1,
        &[
            "Boot failed: the board said `Bad Data Hash`",
            "hint: that is what --corrupt asked for",
        ],
    );
    assert!(ended.stdout.contains("✗ 11 Boot"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("│ Bad hash value for 'hash-1'"),
        "{}",
        ended.stdout
    );
    assert!(user.left_over().is_empty());
}

#[test]
fn an_image_of_ones_own_is_used() {
    let user = User::new();
    let image = user.write("home/image", "this is no image at all");
    let ended = demo_with_image(&user, &image);
    let told = data(&ended.stdout);
    assert_eq!((ended.code, &told["result"]), (1, &"failed".into()));
    assert_eq!(told["steps"][5]["result"], "ok", "writing anything works");
    let failed = told["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(failed["name"], "stop-u-boot");
    assert_eq!(failed["error"], "the board said `no boot device`");
    let console = failed["console"].to_string();
    assert!(console.contains("no valid image (bad magic)"), "{console}");
    let missing = demo_with_image(&user, Path::new("/nonexistent/image"));
    missing.fails(1, &["the image /nonexistent/image cannot be read"]);
    assert!(user.left_over().is_empty());
}

fn demo_with_image(user: &User, image: &Path) -> support::Ended {
    user.jmp(&["demo", "-o", "json", "--image", image.to_str().unwrap()])
}

#[test]
fn a_failing_write_is_told_and_ends_the_story() {
    let user = User::new();
    let ended = demo(&user, &["--fault", "flash-fails", "-o", "json"]);
    ended.fails(
        1,
        &["Write the image to the storage failed", "fault injected"],
    );
    let told = data(&ended.stdout);
    assert_eq!(names(&told), STEPS[..6]);
    assert_eq!(told["steps"][5]["result"], "failed");
    assert!(user.left_over().is_empty());
}

#[test]
fn a_killed_demo_takes_its_lab_along() {
    let user = User::new();
    let mut demo = std::process::Command::new(program())
        .args(["demo", "--image-size", "2"])
        .env_clear()
        .envs(user.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The first two steps name the processes.
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut processes = Vec::new();
    while processes.len() < 3 {
        let line = lines.next().unwrap().unwrap();
        if let Some((_, rest)) = line.split_once("process ") {
            processes.push(rest.split(',').next().unwrap().parse::<u64>().unwrap());
        }
    }
    assert!(processes.iter().copied().all(exists));
    demo.kill().unwrap();
    demo.wait().unwrap();
    for process in processes {
        eventually("the process ends", || !exists(process));
    }
    eventually("its directory goes", || user.left_over().is_empty());
}

#[test]
fn an_interrupted_demo_ends_its_lab() {
    let user = User::new();
    let mut demo = std::process::Command::new(program())
        .args(["demo", "--image-size", "2"])
        .env_clear()
        .envs(user.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with(" ✓  1"));
    let pid = demo.id().to_string();
    let told = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    assert!(told.unwrap().success());
    let status = demo.wait().unwrap();
    let mut errors = String::new();
    demo.stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(errors.contains("stopped by SIGTERM"), "{errors}");
    assert!(user.left_over().is_empty(), "{:?}", user.left_over());
}

#[test]
fn keep_ends_in_a_shell_with_the_board() {
    let user = User::new();
    let mut demo = std::process::Command::new(program())
        .args(["demo", "--image-size", "2", "--keep"])
        .env_clear()
        .envs(user.environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let script =
        b"j board power read\nj board power off\necho \"host $JUMPSTARTER_HOST\"\nexit 7\n";
    demo.stdin.take().unwrap().write_all(script).unwrap();
    let output = demo.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(7), "{text}");
    assert!(
        text.contains("voltage=4.9"),
        "the board is still on: {text}"
    );
    assert!(text.contains("host /"), "{text}");
    assert!(user.left_over().is_empty(), "{:?}", user.left_over());
}
