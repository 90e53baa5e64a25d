//! `cargo xtask setup`: what the tests need beyond a Rust toolchain and a C compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::{
    OLDER_PEERS, captured, interop_environment, interop_python, older_environment, program, root,
    s3_environment,
};
use crate::{Outcome, steps};

/// Debian packages and the program whose presence shows that one is installed.
///
/// This is the only list of system packages; a test that needs another peer adds it here.
const PACKAGES: &[(&str, &str)] = &[
    ("python3", "python3"),
    ("openssh-client", "ssh"),
    ("openssh-server", "sshd"),
    ("socat", "socat"),
    ("ser2net", "ser2net"),
    ("dbus-bin", "dbus-send"),
    ("dbus-daemon", "dbus-daemon"),
    ("systemd", "busctl"),
    ("gzip", "gzip"),
    ("bzip2", "bzip2"),
    ("xz-utils", "xz"),
    ("zstd", "zstd"),
];

/// The file in an environment that says which requirements it holds.
const STAMP: &str = "requirements.stamp";

/// Installs missing packages and the Python environments; returns the Python of the interop suite.
///
/// # Errors
/// When something is missing and cannot be installed: it says what, and the command that would do it.
pub fn run() -> Outcome<PathBuf> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, check)| program(check).is_none())
        .map(|(package, _)| *package)
        .collect();
    install(&missing)?;
    let mut wanted = vec![
        (interop_environment(), "requirements.txt".to_owned()),
        (s3_environment(), "s3-requirements.txt".to_owned()),
    ];
    wanted.extend(OLDER_PEERS.map(|version| {
        let requirements = format!("requirements-{version}.txt");
        (older_environment(version), requirements)
    }));
    python_environments(wanted)?;
    Ok(interop_python())
}

/// Makes what is missing or outdated, all at once: an installation waits for the network half of its time.
fn python_environments(wanted: Vec<(PathBuf, String)>) -> Outcome {
    let mut missing = Vec::new();
    for (folder, name) in wanted {
        let requirements = root().join("tests/interop").join(name);
        let content = fs::read_to_string(&requirements)
            .map_err(|error| format!("cannot read {}: {error}", requirements.display()))?;
        let installed = fs::read_to_string(folder.join(STAMP));
        if !folder.join("bin/python").exists() || installed.ok().as_ref() != Some(&content) {
            missing.push((folder, requirements, content));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let base = base_python()?;
    if captured(Command::new(&base).args(["-c", "import venv, ensurepip"])).is_err() {
        install(&["python3-venv"])?;
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = missing
            .iter()
            .map(|(folder, requirements, content)| {
                scope.spawn(|| python_environment(&base, folder, requirements, content))
            })
            .collect();
        running
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "set-up panicked".to_owned())?)
    })
}

fn install(packages: &[&str]) -> Outcome {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let command = format!("apt-get install --yes --no-install-recommends {list}");
    if program("apt-get").is_none() || !is_root() {
        return Err(format!(
            "the tests need these Debian packages or their like: {list}; as root: {command}"
        ));
    }
    println!("setup: installing Debian packages: {list}");
    for arguments in [
        vec!["update", "--quiet"],
        command.split(' ').skip(1).collect(),
    ] {
        let mut apt = Command::new("apt-get");
        steps::must_succeed(apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    Ok(())
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| {
            line.strip_prefix("Uid:")
                .and_then(|ids| ids.split_whitespace().nth(1))
                == Some("0")
        })
    })
}

/// The Python that makes the environment: 3.11 for choice (what the pins were resolved for), never older.
fn base_python() -> Outcome<String> {
    let new_enough = "import sys; sys.exit(sys.version_info < (3, 11))";
    ["python3.11", "python3"]
        .into_iter()
        .find(|name| captured(Command::new(name).args(["-c", new_enough])).is_ok())
        .map(str::to_owned)
        .ok_or_else(|| {
            "the interop suite needs Python 3.11 or newer (python3 is absent or older)".into()
        })
}

/// Creates one environment and writes its stamp: exactly these requirements.
fn python_environment(base: &str, folder: &Path, requirements: &Path, content: &str) -> Outcome {
    println!(
        "setup: Python environment in {} (up to a minute)",
        folder.display()
    );
    create(base, folder, requirements)?;
    let stamp = folder.join(STAMP);
    fs::write(&stamp, content).map_err(|error| format!("cannot write {}: {error}", stamp.display()))
}

fn create(base: &str, folder: &Path, requirements: &Path) -> Outcome {
    steps::must_succeed(
        Command::new(base)
            .args(["-m", "venv", "--clear"])
            .arg(folder),
    )?;
    // The files list everything, so nothing needs to be resolved; what is imported gets compiled then.
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-compile",
        "--requirement",
    ];
    steps::must_succeed(
        Command::new(folder.join("bin/python"))
            .args(pip)
            .arg(requirements),
    )
}
