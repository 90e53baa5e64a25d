//! `cargo xtask interop`: the suite of `tests/interop` on a build of ours, or on the released packages.

use std::path::PathBuf;
use std::process::Command;

use crate::environment::{cargo, jmp, root, target};
use crate::{Outcome, compatibility, has, setup, steps};

/// Where the suite leaves its result.
pub fn result_file() -> PathBuf {
    target().join("interop.xml")
}

/// The command that runs the suite; `program` is our `jmp`, or nothing for the released one.
///
/// # Errors
/// When the environment cannot be set up.
pub fn command(program: Option<PathBuf>) -> Outcome<Command> {
    let python = setup::run()?;
    let mut command = Command::new(python);
    command.current_dir(root().join("tests/interop"));
    command
        .args(["-B", "-m", "pytest", "--quiet"])
        .arg(format!("--junitxml={}", result_file().display()));
    command.env(
        "JMP_INTEROP_EXPORTER",
        program.unwrap_or_else(|| "upstream".into()),
    );
    command.env_remove("JMP_INTEROP_J");
    Ok(command)
}

/// Builds `jmp` and runs the suite; options it does not know go to pytest.
///
/// # Errors
/// When the build or a test fails.
pub fn run(options: &[String]) -> Outcome {
    let upstream = has(options, "--upstream");
    let release = has(options, "--release");
    if !upstream {
        let mut build = Command::new(cargo());
        build.current_dir(root()).args(["build", "--bin", "jmp"]);
        steps::must_succeed(if release {
            build.arg("--release")
        } else {
            &mut build
        })?;
    }
    let mut suite = command((!upstream).then(|| jmp(release)))?;
    suite.args(
        options
            .iter()
            .filter(|o| !["--upstream", "--release"].contains(&o.as_str())),
    );
    let outcome = steps::must_succeed(&mut suite);
    print!("{}", compatibility::summary(&result_file())?);
    outcome
}
