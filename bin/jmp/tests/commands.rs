//! Commands about the program itself: versions, drivers, completion, manual pages, usage errors.

mod support;

use std::io::Read;
use std::process::Stdio;

use support::{Ended, User};

#[test]
fn versions() {
    let user = User::new();
    let version = env!("CARGO_PKG_VERSION");
    for arguments in [
        &["version"][..],
        &["ver"],
        &["driver", "version"],
        &["version", "-o", "name"],
    ] {
        let ended = user.jmp(arguments);
        assert!(
            ended
                .succeeds()
                .starts_with(&format!("Jumpstarter v{version} from /"))
        );
    }
    let ended = user.jmp(&["version", "-o", "json"]);
    assert!(
        ended
            .succeeds()
            .starts_with(&format!("{{\n    \"gitVersion\": \"{version}\""))
    );
    let ended = user.jmp(&["-o", "yaml", "version"]);
    assert!(ended.succeeds().starts_with("compatibleWith: "));
}

#[test]
fn drivers_are_listed_and_described() {
    let user = User::new();
    let list = user.jmp(&["driver", "ls"]);
    let first = list.succeeds().lines().next().unwrap();
    assert_eq!(
        first.split_whitespace().collect::<Vec<_>>(),
        ["NAME", "TYPE", "SUMMARY"]
    );
    assert!(
        list.stdout
            .contains("jumpstarter_driver_power.driver.MockPower")
    );
    let names = user.jmp(&["driver", "list", "-o", "name"]);
    // Whatever is listed can be described, by itself and for programs.
    for name in names.succeeds().lines() {
        assert!(
            user.jmp(&["driver", "show", name])
                .succeeds()
                .contains("Configuration:"),
            "{name}"
        );
        let data = user.jmp(&["driver", "show", name, "-o", "json"]);
        let data: serde_json::Value = serde_json::from_str(data.succeeds()).unwrap();
        assert_eq!(data["name"], name);
        let schema = user.jmp(&["driver", "schema", data["type"].as_str().unwrap()]);
        let schema: serde_json::Value = serde_json::from_str(schema.succeeds()).unwrap();
        assert!(schema["$schema"].is_string(), "{name}");
    }
    user.jmp(&["driver", "show", "MockPowr"])
        .fails(1, &["MockPower"]);
}

#[test]
fn usage_errors_end_with_two_and_say_what_was_meant() {
    let user = User::new();
    user.jmp(&["shel"]).fails(2, &["Error: ", "'shell'"]);
    user.jmp(&["config", "clinet", "list"])
        .fails(2, &["'client'"]);
    user.jmp(&["version", "--outptu", "json"])
        .fails(2, &["'--output'"]);
    user.jmp(&["version", "-o", "xml"]).fails(2, &["xml"]);
    user.jmp(&[]).fails(2, &["Usage: jmp"]);
    user.jmp(&["config"]).fails(2, &["Usage: jmp config"]);
    user.jmp(&["config", "client", "delete"])
        .fails(2, &["<NAME>"]);
}

#[test]
fn log_levels_in_any_case() {
    let user = User::new();
    for level in ["debug", "INFO", "Warning", "error", "CRITICAL"] {
        assert_eq!(
            user.jmp(&["--log-level", level, "version"]).code,
            0,
            "{level}"
        );
    }
}

#[test]
fn nobody_listening_is_no_failure() {
    let user = User::new();
    let mut child = std::process::Command::new(support::program())
        .env_clear()
        .envs(user.environment())
        .arg("man")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(
        (child.wait().unwrap().code(), stderr.as_str()),
        (Some(0), "")
    );
}

#[test]
fn manual_pages_are_written() {
    let user = User::new();
    assert!(user.jmp(&["man"]).succeeds().contains(".TH jmp 1"));
    user.jmp(&["man", "--out", "pages"]).succeeds();
    for page in [
        "jmp",
        "jmp-shell",
        "jmp-config-client-create",
        "jmp-driver-show",
    ] {
        let text = std::fs::read_to_string(user.path(&format!("home/pages/{page}.1"))).unwrap();
        assert!(text.contains(&format!(".TH {page} 1")), "{page}");
    }
}

#[test]
fn bash_completes_commands_and_names() {
    let user = User::with_example();
    let script = user.jmp(&["completion", "bash"]).succeeds().to_owned();
    assert!(script.contains("_J_COMPLETE") && script.contains("_JMP_COMPLETE"));
    let path = user.write("home/completion.bash", &script);
    let complete = |words: &[&str]| {
        let driver = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; _jmp_completion {} '' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            path.display(),
            words
                .iter()
                .map(|word| format!("'{word}'"))
                .collect::<Vec<_>>()
                .join(" "),
            words.len() - 1,
            support::program().display(),
        );
        let mut bash = assert_cmd::Command::new("bash");
        bash.env_clear()
            .envs(user.environment())
            .args(["--norc", "-c", &driver]);
        Ended::of(&mut bash).stdout
    };
    assert_eq!(complete(&["jmp", "vers"]), "version\n");
    assert_eq!(
        complete(&["jmp", "shell", "--exporter", ""]),
        "example-local\n"
    );
    assert_eq!(
        complete(&["jmp", "driver", "show", "MockPo"]),
        "MockPower\n"
    );
    for shell in ["zsh", "fish"] {
        assert!(
            user.jmp(&["completion", shell])
                .succeeds()
                .contains("_JMP_COMPLETE")
        );
    }
    user.jmp(&["completion", "tcsh"])
        .fails(2, &["bash", "zsh", "fish"]);
}
