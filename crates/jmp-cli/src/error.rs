//! What a command ends with when it fails, and how people and programs get to see it.

use std::fmt;
use std::io;

use serde_json::{Value, json};

use crate::exit;

/// What to do when the controller does not take somebody for who they say they are.
pub const LOGIN_HINT: &str = "`jmp auth status` shows as whom you are logged in and how long; `jmp login` with a token of \
     the administrator changes that";

/// A failed command: an exit code and a text that says what was tried, why it failed and what to do
/// next. Rendered once, by [`crate::output::report`].
#[derive(Debug)]
pub struct CliError {
    code: u8,
    message: String,
    hint: Option<String>,
    diagnostics: Vec<Value>,
    /// Name of the gRPC code of an answer, for programs.
    grpc: Option<&'static str>,
    /// The reader of standard output has gone; nobody is left to tell.
    silent: bool,
}

// === impl CliError ===

impl CliError {
    /// Something failed while the command ran; exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: exit::FAILURE,
            message: message.into(),
            hint: None,
            diagnostics: Vec::new(),
            grpc: None,
            silent: false,
        }
    }

    /// The command line makes no sense; exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(message).with_code(exit::USAGE)
    }

    /// Ends with another exit code.
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Adds what to do next, shown on a line of its own.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What a client operation failed with, and what to do about that.
    pub fn from_client(error: &jmp_client::Error) -> Self {
        let mut this = Self::new(told(error));
        if let jmp_client::Error::Refused { code, .. } = error {
            this.grpc = Some(code);
        }
        match hint_of(error) {
            Some(hint) => this.with_hint(hint),
            None => this,
        }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// What happened, without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next, if anything is known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether nothing is to be said about it.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// The error for programs: `{"error": {"message", "code", "hint", "grpcCode", "diagnostics"}}`,
    /// absent members left out.
    pub fn to_json(&self) -> Value {
        let mut error = json!({"message": self.message, "code": self.code});
        if let Some(hint) = &self.hint {
            error["hint"] = hint.as_str().into();
        }
        if let Some(code) = self.grpc {
            error["grpcCode"] = code.into();
        }
        if !self.diagnostics.is_empty() {
            error["diagnostics"] = self.diagnostics.clone().into();
        }
        json!({ "error": error })
    }

    /// The error of a file, with its places for programs.
    fn diagnosed(error: &jmp_config::ConfigError) -> Self {
        let mut this = Self::new(error.to_string());
        this.diagnostics = error.diagnostics().iter().map(diagnostic_json).collect();
        this
    }
}

fn diagnostic_json(diagnostic: &jmp_config::Diagnostic) -> Value {
    let mut shown = json!({"message": diagnostic.message(), "path": diagnostic.path()});
    if let Some(location) = diagnostic.location() {
        shown["file"] = location.file.into();
        shown["line"] = location.line.into();
        shown["column"] = location.column.into();
    }
    if let Some(nearest) = diagnostic.nearest() {
        shown["nearest"] = nearest.into();
    }
    if let Some(help) = diagnostic.help() {
        shown["help"] = help.into();
    }
    shown
}

/// The message with its causes, each after a colon, unless the message quotes its cause already.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CliError {}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        let mut this = Self::new(with_causes(&error));
        if error.kind() == io::ErrorKind::BrokenPipe {
            this.silent = true;
            this.code = exit::OK;
        }
        this
    }
}

impl From<jmp_config::ConfigError> for CliError {
    fn from(error: jmp_config::ConfigError) -> Self {
        Self::diagnosed(&error)
    }
}

impl From<jmp_config::Error> for CliError {
    fn from(error: jmp_config::Error) -> Self {
        match &error {
            jmp_config::Error::Config(config) => Self::diagnosed(config),
            _ => Self::new(with_causes(&error)),
        }
    }
}

impl From<jmp_client::Error> for CliError {
    fn from(error: jmp_client::Error) -> Self {
        Self::from_client(&error)
    }
}

/// Codes by which a controller refuses what was asked, with the reason in its text: the code adds nothing.
const PLAIN: [&str; 9] = [
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "OUT_OF_RANGE",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNKNOWN",
];

/// What happened, without the code where the controller's words say all.
fn told(error: &jmp_client::Error) -> String {
    match error {
        jmp_client::Error::Refused {
            what,
            code,
            message,
            by_controller: true,
            ..
        } if PLAIN.contains(code) && message != "<no details>" => {
            format!("{what} failed: {message}")
        }
        error => with_causes(error),
    }
}

/// What to do about an answer of the controller or the way to it; one place for all commands.
fn hint_of(error: &jmp_client::Error) -> Option<&'static str> {
    use jmp_client::Error;
    use jmp_wire::endpoint::ConnectFailure;
    match error {
        Error::ControllerUnreachable(failed) => match &failed.reason {
            ConnectFailure::Certificate(text) if text.contains("for another host name") => Some(
                "name the controller as its certificate does, or let it have this name, too: \
                 `jmp controller run --name HOST`",
            ),
            ConnectFailure::Certificate(_) => Some(
                "if the controller has a new authority, `jmp login NAME@HOST --ca-pin PIN` gets it; the pin is \
                 what the controller prints at its start. Without a configuration, JMP_TLS_CA names a file \
                 with the certificate of the authority",
            ),
            ConnectFailure::Tcp(_) | ConnectFailure::TimedOut(_) => Some(
                "`jmp info` shows the endpoint and where it comes from; check that the controller runs there",
            ),
            _ => None,
        },
        Error::Refused {
            code,
            message,
            by_controller: true,
            ..
        } => hint_of_refusal(code, message),
        _ => None,
    }
}

fn hint_of_refusal(code: &str, message: &str) -> Option<&'static str> {
    let elsewhere = match code {
        "UNIMPLEMENTED" => message.starts_with("unknown method"),
        "INTERNAL" => message.contains("404 Not Found"),
        _ => false,
    };
    if elsewhere {
        return Some(
            "is this the port of a controller? That of `jmp controller run` is 8082 unless it was told \
             otherwise; `jmp info` shows where the endpoint comes from",
        );
    }
    if message.ends_with("Lease permission denied") {
        return Some(
            "that is somebody else's lease: `jmp get leases --all-clients` shows whose; an administrator \
             can end it with `jmp admin delete lease NAME`",
        );
    }
    if code == "NOT_FOUND" && message.starts_with("client ") {
        return Some("check the name and the namespace; `jmp info` shows as whom you act");
    }
    is_about_the_caller(code, message).then_some(LOGIN_HINT)
}

/// Controllers answer UNKNOWN to most tokens that are no good (facts: controller 5.1).
fn is_about_the_caller(code: &str, message: &str) -> bool {
    match code {
        "UNAUTHENTICATED" | "PERMISSION_DENIED" => true,
        "UNKNOWN" => {
            message.contains("token is expired")
                || message.contains("token is malformed")
                || message.contains("the token")
        }
        _ => false,
    }
}

impl From<jmp_driver::Error> for CliError {
    fn from(error: jmp_driver::Error) -> Self {
        Self::new(with_causes(&error))
    }
}

impl From<jmp_process::SpawnError> for CliError {
    fn from(error: jmp_process::SpawnError) -> Self {
        let code = error.shell_code();
        Self::new(with_causes(&error)).with_code(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let error = CliError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(error.is_silent());
        assert_eq!(error.code(), exit::OK);
    }

    #[test]
    fn refusals_of_a_controller_say_what_to_do() {
        let hint = |code, message| hint_of_refusal(code, message).unwrap_or_default();
        assert_eq!(hint("PERMISSION_DENIED", "permission denied"), LOGIN_HINT);
        assert!(hint("UNKNOWN", "DeleteLease permission denied").contains("--all-clients"));
        assert!(hint("UNIMPLEMENTED", "unknown method /a/B").contains("8082"));
        assert!(hint("INTERNAL", "protocol error: status: 404 Not Found").contains("8082"));
        assert!(hint("NOT_FOUND", "client other/hello does not exist").contains("namespace"));
        assert_eq!(hint("FAILED_PRECONDITION", "cannot update BeginTime"), "");
    }

    #[test]
    fn causes_are_told_once() {
        let error = jmp_config::Error::Io {
            action: "read",
            path: "/a".into(),
            source: io::Error::other("because"),
        };
        assert_eq!(CliError::from(error).message(), "cannot read /a: because");
    }
}
