//! `cargo xtask test`: everything that must hold before a change lands.

use std::process::Command;

use crate::environment::{captured, cargo, jmp, program, root};
use crate::steps::{Counts, Steps};
use crate::{Outcome, compatibility, has, interop, rules, setup};

/// The build profile of the tests when none is asked for: one profile, one set of compiled dependencies.
const RELEASE_BY_DEFAULT: bool = false;

/// Runs all steps (also after a failure, unless nothing can be built) and prints the table.
///
/// # Errors
/// When a step failed.
pub fn run(options: &[String]) -> Outcome {
    let release = RELEASE_BY_DEFAULT || has(options, "--release");
    let quick = has(options, "--quick");
    let mut steps = Steps::default();
    steps.task("set-up", || setup::run().map(|_| (Counts::default(), None)));
    steps.command("format", &mut cargo_command(&["fmt", "--all", "--check"]));
    steps.task("bans, licences, arrows", || {
        rules::run().map(|()| (Counts::default(), None))
    });
    if steps.command("build", &mut build(release)) {
        tests(&mut steps, release);
        if quick {
            steps.leave_out("doc tests, interop, clippy, docs", "--quick");
        } else {
            steps.command(
                "documentation tests",
                &mut profiled(&["test", "--workspace", "--doc", "--quiet"], release),
            );
            interop_step(&mut steps, release);
        }
    } else {
        steps.leave_out(
            "unit, integration, documentation and interop tests",
            "the build failed",
        );
    }
    if !quick {
        lints(&mut steps);
    }
    steps.finish()
}

fn build(release: bool) -> Command {
    profiled(&["build", "--workspace", "--all-targets"], release)
}

/// Unit and integration tests, by nextest where it is installed.
fn tests(steps: &mut Steps, release: bool) {
    let nextest = captured(Command::new(cargo()).args(["nextest", "--version"])).is_ok();
    let mut command = if nextest {
        let mut command = cargo_command(&[
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--no-tests",
            "pass",
        ]);
        command.args(release.then_some("--cargo-profile=release"));
        command.args(["--status-level", "slow", "--final-status-level", "fail"]);
        command
    } else {
        profiled(
            &[
                "test",
                "--workspace",
                "--all-targets",
                "--no-fail-fast",
                "--quiet",
            ],
            release,
        )
    };
    command.env("JMP_TEST_JMP", jmp(release));
    command.env("JMP_TEST_PYTHON", crate::environment::interop_python());
    command.env(
        "JMP_TEST_S3_PYTHON",
        crate::environment::s3_environment().join("bin/python"),
    );
    steps.command(
        if nextest {
            "unit and integration tests (nextest)"
        } else {
            "unit and integration tests"
        },
        &mut command,
    );
}

fn interop_step(steps: &mut Steps, release: bool) {
    for suite in interop::Suite::ALL {
        match interop::command(suite, Some(jmp(release))) {
            Ok(mut command) => steps.command(suite.title(), &mut command),
            Err(message) => steps.task(suite.title(), || Err(message)),
        };
    }
    steps.task("compatibility table", || {
        compatibility::run(&[]).map(|()| (Counts::default(), None))
    });
}

fn lints(steps: &mut Steps) {
    steps.command(
        "clippy",
        &mut cargo_command(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]),
    );
    let mut docs = cargo_command(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    steps.command(
        "documentation",
        docs.env(
            "RUSTDOCFLAGS",
            "--deny warnings --allow rustdoc::private-intra-doc-links",
        ),
    );
    if program("cargo-deny").is_some() {
        steps.command(
            "cargo-deny",
            &mut cargo_command(&["deny", "--offline", "check", "bans", "licenses", "sources"]),
        );
    } else {
        steps.leave_out(
            "cargo-deny",
            "not installed; our own check of bans and licences has run",
        );
    }
}

fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(root()).args(arguments);
    command
}

fn profiled(arguments: &[&str], release: bool) -> Command {
    let mut command = cargo_command(&arguments[..1]);
    command
        .args(release.then_some("--release"))
        .args(&arguments[1..]);
    command
}
