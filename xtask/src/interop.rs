//! `cargo xtask interop`: the suites of `tests/interop` on a build of ours, or on the released packages.

use std::path::PathBuf;
use std::process::Command;

use crate::environment::{cargo, jmp, root, target};
use crate::{Outcome, compatibility, has, setup, steps};

/// One run of pytest with a result of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// One machine: `jmp shell --exporter`, the direct listener, `j`; 0.9.0 only.
    Local,
    /// Controller, router, exporters and clients of several releases.
    Distributed,
}

impl Suite {
    /// Both, in the order in which they run.
    pub const ALL: [Self; 2] = [Self::Local, Self::Distributed];

    /// Where the suite leaves its result.
    pub fn result_file(self) -> PathBuf {
        target().join(match self {
            Self::Local => "interop.xml",
            Self::Distributed => "interop-distributed.xml",
        })
    }

    /// How a table of steps calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Local => "interop with Python 0.9.0",
            Self::Distributed => "interop, distributed, with 0.9.0, 0.8.1 and 0.7.4",
        }
    }

    /// What to tell pytest. The distributed suite waits more than it computes: three workers on two cores.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Local => &["."],
            Self::Distributed => &["distributed", "-n", "3", "--dist", "loadgroup"],
        }
    }
}

/// The command that runs a suite; `program` is our `jmp`, or nothing for the released one.
///
/// # Errors
/// When the environment cannot be set up.
pub fn command(suite: Suite, program: Option<PathBuf>) -> Outcome<Command> {
    let python = setup::run()?;
    let mut command = Command::new(python);
    command.current_dir(root().join("tests/interop"));
    command
        .args(["-B", "-m", "pytest", "--quiet"])
        .arg(format!("--junitxml={}", suite.result_file().display()))
        .args(suite.arguments());
    command.env(
        "JMP_INTEROP_EXPORTER",
        program.unwrap_or_else(|| "upstream".into()),
    );
    command.env_remove("JMP_INTEROP_J");
    Ok(command)
}

/// Builds `jmp` and runs the suites; options it does not know go to pytest.
///
/// # Errors
/// When the build or a test fails.
pub fn run(options: &[String]) -> Outcome {
    const OURS: [&str; 4] = ["--upstream", "--release", "--local", "--distributed"];
    let upstream = has(options, OURS[0]);
    let release = has(options, OURS[1]);
    if !upstream {
        let mut build = Command::new(cargo());
        build.current_dir(root()).args(["build", "--bin", "jmp"]);
        steps::must_succeed(if release {
            build.arg("--release")
        } else {
            &mut build
        })?;
    }
    let mut outcome = Ok(());
    for suite in Suite::ALL {
        let left_out = match suite {
            Suite::Local => has(options, OURS[3]),
            // The released packages hold no controller that could take the place of ours.
            Suite::Distributed => has(options, OURS[2]) || upstream,
        };
        if left_out {
            continue;
        }
        let mut pytest = command(suite, (!upstream).then(|| jmp(release)))?;
        pytest.args(options.iter().filter(|o| !OURS.contains(&o.as_str())));
        outcome = outcome.and(steps::must_succeed(&mut pytest));
        print!("{}", compatibility::summary(&suite.result_file())?);
    }
    outcome
}
