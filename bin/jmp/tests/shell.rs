//! `jmp shell` with the devices of this machine.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Ended, User};

#[test]
fn the_exit_code_of_the_command_is_kept() {
    let user = User::with_example();
    for code in [0, 1, 7, 255] {
        let script = format!("exit {code}");
        let ended = user.jmp(&[
            "shell",
            "--exporter",
            "example-local",
            "--",
            "sh",
            "-c",
            &script,
        ]);
        assert_eq!((ended.code, ended.stderr.as_str()), (code, ""));
    }
    let killed = user.jmp(&[
        "shell",
        "--exporter",
        "example-local",
        "sh",
        "-c",
        "kill -9 $$",
    ]);
    assert_eq!(killed.code, 128 + 9);
    assert_eq!(user.left_over(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_command_keeps_its_own_options() {
    let user = User::with_example();
    let ended = user.jmp(&[
        "shell",
        "--exporter",
        "example-local",
        "ls",
        "-l",
        "-d",
        "/",
    ]);
    assert!(ended.succeeds().starts_with('d'), "{ended:?}");
    let ended = user.jmp(&[
        "shell",
        "--exporter",
        "example-local",
        "echo",
        "--exporter",
        "-o",
    ]);
    assert_eq!(ended.succeeds(), "--exporter -o\n");
}

#[test]
fn programs_that_cannot_run_have_the_codes_of_a_shell() {
    let user = User::with_example();
    let ended = user.jmp(&[
        "shell",
        "--exporter",
        "example-local",
        "--",
        "no-such-program",
    ]);
    ended.fails(127, &["Error: cannot run `no-such-program`"]);
    let plain = user.write("home/plain", "text");
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = user.jmp(&["shell", "--exporter", "example-local", "--", "./plain"]);
    ended.fails(126, &["Error: cannot run `./plain`"]);
    assert!(user.left_over().is_empty());
}

#[test]
fn the_session_is_private_and_in_the_environment() {
    let user = User::with_example();
    let script = "stat -c %a $(dirname $JUMPSTARTER_HOST); stat -c %a $JUMPSTARTER_HOST; \
                  echo $JMP_DRIVERS_ALLOW $_JMP_SUPPRESS_DRIVER_WARNINGS $GRPC_VERBOSITY; \
                  echo ${JMP_EXPORTER-unset} ${JMP_GRPC_PASSPHRASE-unset}";
    let mut command = user.command();
    command
        .env("JMP_GRPC_PASSPHRASE", "of another session")
        .env("JMP_EXPORTER", "another")
        .args([
            "shell",
            "--exporter",
            "example-local",
            "--",
            "sh",
            "-c",
            script,
        ]);
    let ended = Ended::of(&mut command);
    assert_eq!(ended.succeeds(), "700\n600\nUNSAFE 1 ERROR\nunset unset\n");
}

#[test]
fn j_is_found_wherever_jmp_was_started_from() {
    let user = User::with_example();
    let script = "readlink -f $(command -v j); readlink -f $(command -v jmp)";
    let ended = user.jmp(&[
        "shell",
        "--exporter",
        "example-local",
        "--",
        "sh",
        "-c",
        script,
    ]);
    let program = support::program().canonicalize().unwrap();
    let expected = format!("{0}\n{0}\n", program.display());
    assert_eq!(ended.succeeds(), expected);
}

#[test]
fn j_works_inside_and_only_results_are_on_standard_output() {
    let user = User::with_example();
    let ended = user.jmp(&[
        "shell",
        "--exporter",
        "example-local",
        "--",
        "j",
        "power",
        "on",
    ]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "ok\n"),
        "{ended:?}"
    );
    let arguments = ["shell", "--exporter", "example-local", "--exporter-logs"];
    let logged = user.jmp(&[&arguments[..], &["--", "j", "power", "on"]].concat());
    assert_eq!(logged.stdout, "ok\n");
    assert!(logged.stderr.contains("power on"), "{logged:?}");
}

#[test]
fn an_interactive_shell_reads_its_commands() {
    let user = User::with_example();
    let mut command = user.command();
    command
        .args(["shell", "--exporter", "example-local"])
        .write_stdin("echo \"in $0\"\nexit 3\n");
    let ended = Ended::of(&mut command);
    assert_eq!((ended.code, ended.stdout.as_str()), (3, "in /bin/bash\n"));
}

#[test]
fn without_an_option_the_only_exporter_is_used() {
    let user = User::with_example();
    let ended = user.jmp(&["shell", "--", "true"]);
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.contains("using exporter example-local"));
    user.exporter("another", support::EXAMPLE);
    let ended = user.jmp(&["shell", "--", "true"]);
    ended.fails(2, &["--exporter ALIAS", "another, example-local"]);
    User::new()
        .jmp(&["shell", "--", "true"])
        .fails(2, &["--exporter-config FILE", "--tls-grpc HOST:PORT"]);
}

#[test]
fn a_misspelt_exporter_is_answered_with_the_near_ones() {
    let user = User::with_example();
    let ended = user.jmp(&["shell", "--exporter", "exampel-local", "--", "true"]);
    let directory = user.path("config/exporters").display().to_string();
    ended.fails(
        1,
        &[
            "did you mean `example-local`",
            &directory,
            "/etc/jumpstarter/exporters",
        ],
    );
}

#[test]
fn a_misspelt_option_is_not_taken_for_the_command() {
    let user = User::with_example();
    let ended = user.jmp(&["shell", "--exportr", "example-local"]);
    ended.fails(2, &["--exporter"]);
}

#[test]
fn without_a_client_it_is_said_how_to_get_one() {
    let user = User::with_example();
    for arguments in [
        &["shell", "--client", "hello"][..],
        &["shell", "-l", "board=foo", "--", "true"],
        &["shell", "--lease", "x", "--duration", "1h30m"],
        &["get", "leases", "-o", "json"],
        &["create", "lease", "--selector", "a=b", "--duration", "1h"],
    ] {
        user.jmp(arguments).fails(1, &["client configuration"]);
    }
    user.jmp(&["shell", "--duration", "soon"])
        .fails(2, &["soon"]);
    user.jmp(&["admin", "install", "--help"])
        .fails(1, &["jmp controller run"]);
    user.jmp(&["mcp", "serve"])
        .fails(1, &["not in this version"]);
}

#[test]
fn options_of_a_controller_have_no_effect_here_and_say_so() {
    let user = User::with_example();
    let arguments = [
        "shell",
        "--exporter",
        "example-local",
        "--lease",
        "x",
        "-l",
        "a=b",
        "true",
    ];
    let ended = user.jmp(&arguments);
    assert_eq!(ended.code, 0);
    assert!(
        ended
            .stderr
            .contains("Warning: --lease, --selector have no effect")
    );
}

#[test]
fn the_old_form_works() {
    let user = User::new();
    let path = user.write("exporter.yaml", support::EXAMPLE);
    let path = path.to_str().unwrap();
    let ended = user.jmp(&["exporter", "shell", "-c", path, "--", "sh", "-c", "exit 4"]);
    assert_eq!(ended.code, 4, "{ended:?}");
}

#[test]
fn a_signal_ends_the_command_and_nothing_is_left() {
    for signal in ["TERM", "HUP"] {
        let user = User::with_example();
        let mut child = std::process::Command::new(support::program())
            .env_clear()
            .envs(user.environment())
            .args(["shell", "--exporter", "example-local", "--"])
            .args(["sh", "-c", "touch ../home/started; exec sleep 60"])
            .current_dir(user.path("home"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !user.path("home/started").exists() {
            assert!(Instant::now() < deadline, "the command did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let sent = std::process::Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        let started = Instant::now();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(2), "after SIG{signal}");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(user.left_over().is_empty(), "after SIG{signal}");
    }
}

#[test]
fn the_background_session_is_used_without_an_option() {
    let user = User::with_example();
    user.exporter("another", support::EXAMPLE);
    let started = user.jmp(&["local", "start", "--exporter", "example-local"]);
    assert_eq!(started.code, 0, "{started:?}");
    let ended = user.jmp(&["shell", "--", "sh", "-c", "j power on; exit 9"]);
    let info = user.jmp(&["info"]);
    let stopped = user.jmp(&["local", "stop"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (9, "ok\n"),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("background session of exporter example-local")
    );
    assert!(info.stdout.contains("jmp local start"), "{info:?}");
    assert_eq!(stopped.code, 0, "{stopped:?}");
    user.jmp(&["shell", "--", "true"])
        .fails(2, &["--exporter ALIAS"]);
}
