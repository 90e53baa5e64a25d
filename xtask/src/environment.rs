//! Where things are: the workspace, the target folder, programs on PATH.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Outcome;

/// The repository's root folder.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The Cargo that runs us, or the one on PATH.
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// Cargo's build folder (`CARGO_TARGET_DIR`, else `target`).
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) => root().join(path),
        None => root().join("target"),
    }
}

/// The environment with the released packages; may not exist before `setup`.
pub fn interop_environment() -> PathBuf {
    target().join("interop-venv")
}

/// Older releases whose exporters and clients are tested too, each in an environment of its own.
pub const OLDER_PEERS: [&str; 2] = ["0.8.1", "0.7.4"];

/// The environment with an older release; may not exist before `setup`.
pub fn older_environment(version: &str) -> PathBuf {
    target().join(format!("interop-venv-{version}"))
}

/// The environment with an S3 server; may not exist before `setup`.
pub fn s3_environment() -> PathBuf {
    target().join("s3-venv")
}

/// The Python of the interop environment; may not exist before `setup`.
pub fn interop_python() -> PathBuf {
    interop_environment().join("bin/python")
}

/// The program `jmp` of one build profile.
pub fn jmp(release: bool) -> PathBuf {
    target()
        .join(if release { "release" } else { "debug" })
        .join("jmp")
}

/// First executable of this name on PATH or in the administrator's folders.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// `cargo metadata` with the resolved graph of this host.
pub fn metadata() -> Outcome<Value> {
    let host = captured(Command::new("rustc").arg("-vV"))?;
    let triple = host
        .lines()
        .find_map(|l| l.strip_prefix("host: "))
        .ok_or("rustc -vV names no host")?;
    let text = captured(
        Command::new(cargo())
            .args([
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--filter-platform",
                triple,
            ])
            .current_dir(root()),
    )?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))
}

/// Runs a program to its end and returns its standard output; a failure carries its standard error.
pub fn captured(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "{name} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
