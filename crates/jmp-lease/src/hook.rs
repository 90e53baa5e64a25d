//! Hooks: when a failed one matters, and how a script is run.

use std::time::Duration;

/// Starts the status message when a hook failed and the lease goes on; clients match on it.
pub const HOOK_WARNING_PREFIX: &str = "[HOOK_WARNING] ";

/// How long a hook may run unless its configuration says otherwise.
pub const DEFAULT_HOOK_TIMEOUT: Duration = Duration::from_secs(120);

/// What runs a hook script unless its configuration says otherwise.
pub const DEFAULT_INTERPRETER: &str = "/bin/sh";

/// Which hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// `hooks.beforeLease`: prepares the devices for their next user.
    BeforeLease,
    /// `hooks.afterLease`: cleans up after a user.
    AfterLease,
}

impl Hook {
    /// The key in exporter configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeLease => "beforeLease",
            Self::AfterLease => "afterLease",
        }
    }
}

/// What a failed hook means (`onFailure`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnFailure {
    /// Go on, with a warning to the user.
    #[default]
    Warn,
    /// End the lease.
    EndLease,
    /// End the exporter.
    Exit,
}

/// How one hook is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookPolicy {
    /// How long it may run; whoever runs it ends it then and reports a failure.
    pub timeout: Duration,
    /// What its failure means.
    pub on_failure: OnFailure,
}

impl Default for HookPolicy {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_HOOK_TIMEOUT,
            on_failure: OnFailure::default(),
        }
    }
}

/// The hooks of an exporter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Runs before the devices are handed over.
    pub before_lease: Option<HookPolicy>,
    /// Runs after they were given back.
    pub after_lease: Option<HookPolicy>,
}

/// One run of a hook; a late report of an earlier run is told from the current one by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookRun(pub u32);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookOutcome {
    /// Exit status 0.
    Success,
    /// Another exit status, a timeout, or it could not be started.
    Failed {
        /// What a person should read.
        reason: String,
    },
}

/// The command line for a hook script (protocol 6.6): a single line that names a file is run by
/// the interpreter as that file, anything else is passed to it after `-c`.
///
/// `interpreter` is the configured one (`exec`); without it a `.py` file gets `python3` and
/// everything else [`DEFAULT_INTERPRETER`]. `is_file` answers whether a path is an existing file.
pub fn hook_invocation(
    script: &str,
    interpreter: Option<&str>,
    is_file: impl FnOnce(&str) -> bool,
) -> Vec<String> {
    let line = script.trim();
    let names_file = !line.is_empty() && !line.contains('\n') && is_file(line);
    if names_file {
        let default = if line.ends_with(".py") {
            "python3"
        } else {
            DEFAULT_INTERPRETER
        };
        vec![interpreter.unwrap_or(default).to_owned(), line.to_owned()]
    } else {
        vec![
            interpreter.unwrap_or(DEFAULT_INTERPRETER).to_owned(),
            "-c".to_owned(),
            script.to_owned(),
        ]
    }
}

/// What a hook finds in its environment besides the exporter's own (protocol 6.6); `PS1` is to be
/// removed.
#[must_use]
pub fn hook_environment<'a>(
    hook_socket: &'a str,
    lease: &'a str,
    client: &'a str,
) -> [(&'static str, &'a str); 7] {
    [
        ("JUMPSTARTER_HOST", hook_socket),
        ("JMP_DRIVERS_ALLOW", "UNSAFE"),
        ("LEASE_NAME", lease),
        ("CLIENT_NAME", client),
        ("TERM", "dumb"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_files() {
        let run = |script, interpreter, file| hook_invocation(script, interpreter, |_| file);
        assert_eq!(run("echo hi", None, false), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(run(" /a/b.sh\n", None, true), ["/bin/sh", "/a/b.sh"]);
        assert_eq!(run("/a/b.py", None, true), ["python3", "/a/b.py"]);
        assert_eq!(run("/a/b.py", Some("bash"), true), ["bash", "/a/b.py"]);
        assert_eq!(run("a\nb\n", Some("bash"), true), ["bash", "-c", "a\nb\n"]);
    }
}
