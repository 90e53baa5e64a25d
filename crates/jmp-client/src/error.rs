//! What can go wrong on the client's side.

use tonic::Code;

/// A failed client operation. The text says what was tried, on what, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No address of a session is known.
    #[error(
        "no session to talk to: run this inside `jmp shell`, start one with `jmp local start`, \
         or set JUMPSTARTER_HOST"
    )]
    NoSession,
    /// The address cannot be understood.
    #[error("address `{address}` cannot be used: {reason}")]
    Address {
        /// As given.
        address: String,
        /// Why not.
        reason: String,
    },
    /// Nobody answers.
    #[error("cannot reach the exporter at {target}: {source}")]
    Unreachable {
        /// Where.
        target: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The controller does not answer.
    #[error("cannot reach the controller: {0}")]
    ControllerUnreachable(#[source] jmp_wire::endpoint::ConnectError),
    /// The router that the controller named does not answer.
    #[error("cannot reach the router that the controller named: {0}")]
    RouterUnreachable(#[source] jmp_wire::endpoint::ConnectError),
    /// The controller named a router that makes no sense.
    #[error("the controller named a router that cannot be used: {0}")]
    Router(String),
    /// A tunnel lost its router.
    #[error("{0}")]
    TunnelLost(String),
    /// The lease is over, or will never be ready.
    #[error("lease {name} cannot be used, {reason}: {message}")]
    LeaseOver {
        /// Name of the lease.
        name: String,
        /// One word.
        reason: String,
        /// Text of the controller.
        message: String,
    },
    /// The lease was not ready in time.
    #[error("lease {name} was not ready within {} s: {message}", limit.as_secs())]
    LeaseTimeout {
        /// Name of the lease.
        name: String,
        /// How long was waited.
        limit: std::time::Duration,
        /// What it waits for.
        message: String,
    },
    /// The exporter answered with an error.
    #[error("{what} failed with gRPC {code}: {message}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Name of the gRPC code.
        code: &'static str,
        /// Text of the exporter.
        message: String,
        /// The gRPC code.
        status: Box<tonic::Status>,
        /// Whether the controller answered, not an exporter.
        by_controller: bool,
    },
    /// The report of the exporter makes no tree.
    #[error("the exporter's report makes no device tree: {0}")]
    Report(String),
    /// There is no such device.
    #[error("there is no device `{path}`; {known}")]
    NoDevice {
        /// Dot-separated names.
        path: String,
        /// What there is.
        known: String,
    },
    /// The allow list does not cover a device.
    #[error(
        "device `{path}` wants the client class `{class}`, which the allow list does not cover; \
         add it to `drivers.allow` of the client configuration or to JMP_DRIVERS_ALLOW"
    )]
    NotAllowed {
        /// Dot-separated names.
        path: String,
        /// Dotted client class.
        class: String,
    },
    /// Only one background session runs at a time.
    #[error(
        "a background session of exporter `{exporter}` is running already (process {pid}); stop \
         it with `jmp local stop`"
    )]
    LocalSessionExists {
        /// Name of the exporter.
        exporter: String,
        /// The process that serves it.
        pid: u32,
    },
    /// The client configuration, which holds the allow list, cannot be used.
    #[error("reading the allow list of the client configuration: {0}")]
    Configuration(String),
    /// A call to a driver failed.
    #[error(transparent)]
    Driver(#[from] jmp_driver::Error),
    /// Local input or output failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Result of a client operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the same may work a moment later: the controller is away, or was lost meanwhile.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::ControllerUnreachable(_) => true,
            Self::Refused { status, .. } => match status.code() {
                Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::ResourceExhausted
                | Code::Cancelled
                | Code::Internal => true,
                // Controllers answer this to much that no repetition mends, such as unknown names. A
                // stream whose connection broke ends with it, too, and has a cause in this process.
                Code::Unknown => std::error::Error::source(status.as_ref()).is_some(),
                _ => false,
            },
            _ => false,
        }
    }

    pub(crate) fn refused(what: &'static str, status: tonic::Status) -> Self {
        let error = jmp_driver::Error::from(status.clone());
        Self::Refused {
            what,
            code: error.code_name(),
            message: match status.message() {
                "" => "<no details>".into(),
                text => text.to_owned(),
            },
            status: Box::new(status),
            by_controller: false,
        }
    }

    pub(crate) fn refused_by_controller(what: &'static str, status: tonic::Status) -> Self {
        let mut error = Self::refused(what, status);
        if let Self::Refused { by_controller, .. } = &mut error {
            *by_controller = true;
        }
        error
    }
}
