//! `jmp local`: the real program in the background.

mod support;

use std::time::{Duration, Instant};

use support::{Ended, User};

/// Ends what a failed test leaves in the background.
struct Background(User);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.jmp(&["local", "stop"]);
    }
}

impl std::ops::Deref for Background {
    type Target = User;

    fn deref(&self) -> &User {
        &self.0
    }
}

impl Background {
    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.jmp(&["local", "status", "-o", "json"]).stdout).unwrap()
    }

    fn sh(&self, script: &str) -> Ended {
        let path = std::path::Path::new(support::program()).parent().unwrap();
        let mut command = assert_cmd::Command::new("/bin/sh");
        command
            .env_clear()
            .envs(self.environment())
            .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
            .timeout(Duration::from_secs(60))
            .args(["-c", script]);
        Ended::of(&mut command)
    }
}

fn user() -> Background {
    Background(User::with_example())
}

#[test]
fn from_start_to_stop() {
    let user = user();
    let ended = user.jmp(&["local", "status"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stdout.contains("no exporter"), "{ended:?}");
    user.jmp(&["local", "env"]).fails(1, &["jmp local start"]);
    user.jmp(&["local", "start", "--exporter", "example-local"])
        .fails(0, &["example-local", "`j` finds it"]);
    let status = user.status();
    assert_eq!(
        (&status["exporter"], &status["status"]),
        (&"example-local".into(), &"LEASE_READY".into())
    );
    let table = user.jmp(&["local", "status"]);
    assert!(table.succeeds().contains("LEASE_READY"));

    // Without a variable, and with those for other programs.
    let link = user.path("j");
    std::os::unix::fs::symlink(support::program(), &link).unwrap();
    let found = user.sh(&format!("{} power on", link.display()));
    assert_eq!((found.code, &*found.stdout), (0, "ok\n"), "{found:?}");
    let script = "eval \"$(jmp local env)\" && cd / && j power on && \
                  echo $JMP_DRIVERS_ALLOW && test -S \"$JUMPSTARTER_HOST\"";
    let found = user.sh(script);
    assert_eq!(
        (found.code, &*found.stdout),
        (0, "ok\nUNSAFE\n"),
        "{found:?}"
    );
    let fish = user.jmp(&["local", "env", "--shell", "fish"]);
    assert!(fish.succeeds().starts_with("set -gx JUMPSTARTER_HOST '"));

    user.jmp(&["local", "stop"]).fails(0, &["stopped"]);
    assert_eq!(user.jmp(&["local", "status"]).code, 1);
    user.jmp(&["local", "stop"]).fails(0, &["no exporter"]);
    let left: Vec<_> = user.left_over();
    let sessions = left
        .iter()
        .filter(|path| path.file_name().unwrap() != "jumpstarter");
    assert_eq!(sessions.count(), 0, "{left:?}");
    let log = std::path::Path::new(status["log"].as_str().unwrap());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("power on") && log.contains("SIGTERM"), "{log}");
}

#[test]
fn only_one_at_a_time() {
    let user = user();
    let path = user.exporter("other", support::EXAMPLE);
    user.jmp(&["local", "start", "--exporter", "example-local"])
        .fails(0, &[]);
    let first = user.status()["pid"].clone();
    let option = format!("--config={}", path.display());
    user.jmp(&["local", "start", &option]).fails(
        1,
        &[
            "already runs",
            &first.to_string(),
            "example-local.yaml",
            "--replace",
        ],
    );
    user.jmp(&["local", "start", &option, "--replace"])
        .fails(0, &[]);
    let second = user.status();
    assert_ne!(second["pid"], first);
    assert_eq!(second["config"], path.to_str().unwrap());
    // Its parent may be slow to collect it.
    let first = std::fs::read_to_string(format!("/proc/{first}/stat"));
    assert!(first.is_err() || first.is_ok_and(|stat| stat.contains(") Z ")));
}

#[test]
fn what_is_wrong_is_said_on_the_terminal() {
    let user = user();
    user.exporter("broken", &support::EXAMPLE.replace("MockPower", "MockPowr"));
    user.jmp(&["local", "start", "--exporter", "broken"])
        .fails(1, &["broken.yaml", "MockPowr", "MockPower"]);
    user.jmp(&["local", "start", "--exporter", "exampel-local"])
        .fails(1, &["exampel-local", "example-local"]);
    user.jmp(&["local", "start", "--config", "/nonexistent.yaml"])
        .fails(1, &["/nonexistent.yaml"]);
    user.jmp(&["local", "start"]).fails(2, &["--config"]);
    assert_eq!(user.status(), serde_json::json!({"running": false}));
    assert!(
        user.left_over()
            .iter()
            .all(|path| path.ends_with("jumpstarter"))
    );
}

#[test]
fn a_crash_leaves_nothing_in_the_way() {
    let user = user();
    user.jmp(&["local", "start", "--exporter", "example-local"])
        .fails(0, &[]);
    let pid = user.status()["pid"].to_string();
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid])
        .status();
    assert!(killed.unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(20);
    while user.status()["running"] == true {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        user.left_over()
            .iter()
            .all(|path| path.ends_with("jumpstarter"))
    );
    user.jmp(&["local", "start", "--exporter", "example-local"])
        .fails(0, &[]);
    assert_eq!(user.status()["running"], true);
}
