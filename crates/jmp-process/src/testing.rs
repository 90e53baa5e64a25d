//! For the tests of crates that spawn supervised children.
//!
//! A test executable is not `jmp` and cannot supervise; a small program of this crate can.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const NAME: &str = "jmp-supervise-test";

/// Builds the supervising program of this crate, once, beside the running test and names it with
/// [`crate::set_supervisor_executable`]. Call it at the start of every test that needs it.
///
/// # Panics
///
/// When it cannot be built, for example because the test was not started by cargo.
pub fn install_supervisor() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = build();
        crate::set_supervisor_executable(&path);
        path
    })
}

/// Builds into the target directory of the running test: `…/target/PROFILE/deps/test-HASH`.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own executable");
    let profile = test
        .ancestors()
        .find(|folder| folder.ends_with("deps"))
        .and_then(Path::parent)
        .expect("a test executable lies in the deps folder");
    let target = profile.parent().expect("a profile lies in a target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--offline", "--package", "jmp-process"])
        .args(["--bin", NAME])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo can be started");
    assert!(status.success(), "cargo could not build {NAME}");
    profile.join(NAME)
}
