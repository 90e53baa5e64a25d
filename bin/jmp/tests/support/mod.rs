//! A user of their own for each test: configuration, runtime directory and nothing of the caller's.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use tempfile::TempDir;

/// An exporter with drivers that need nothing.
pub const EXAMPLE: &str = "\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata:
  namespace: default
  name: example-local
export:
  power:
    type: jumpstarter_driver_power.driver.MockPower
  echo:
    type: jumpstarter_driver_network.driver.EchoNetwork
";

/// A user without anything.
pub struct User {
    home: TempDir,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

// === impl User ===

impl User {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("u").tempdir().unwrap();
        for name in ["config/exporters", "config/clients", "run", "home", "tmp"] {
            std::fs::create_dir_all(home.path().join(name)).unwrap();
        }
        Self { home }
    }

    /// A user with the exporter `example-local`.
    pub fn with_example() -> Self {
        let user = Self::new();
        user.exporter("example-local", EXAMPLE);
        user
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn exporter(&self, alias: &str, text: &str) -> PathBuf {
        self.write(&format!("config/exporters/{alias}.yaml"), text)
    }

    /// What is left where sessions have their directories.
    pub fn left_over(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("run")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The environment of this user's programs.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("PATH", "/usr/local/bin:/usr/bin:/bin".into()),
            ("HOME", self.path("home")),
            ("TMPDIR", self.path("tmp")),
            ("XDG_RUNTIME_DIR", self.path("run")),
            ("JMP_CLIENT_CONFIG_HOME", self.path("config")),
            ("SHELL", "/bin/bash".into()),
        ]
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(program());
        command
            .env_clear()
            .envs(self.environment())
            .current_dir(self.path("home"))
            .timeout(Duration::from_secs(60));
        command
    }

    /// Runs `jmp` with these arguments.
    pub fn jmp(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command().args(arguments))
    }
}

// === impl Ended ===

impl Ended {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Checks the code, and that all of `texts` are said on standard error.
    #[track_caller]
    pub fn fails(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in {}", self.stderr);
        }
    }

    /// Checks that it succeeded without a word on standard error.
    #[track_caller]
    pub fn succeeds(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        &self.stdout
    }
}

pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_jmp"))
}
