//! One error type for drivers, and the one table that maps it to gRPC.

use std::fmt;

use tonic::{Code, Status};

/// What kind of thing went wrong; callers decide on this, people read the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The driver exists but cannot do this.
    Unimplemented,
    /// An argument has the wrong type, count or value.
    InvalidArgument,
    /// The exporter does not take calls in its present status.
    NotReady,
    /// The driver has no such method, or not of this kind.
    MethodNotFound,
    /// Something did not happen in time.
    Timeout,
    /// A network peer refused, reset or could not be reached.
    Connection,
    /// The device did not behave.
    Device,
    /// A file or device node could not be opened, read or written.
    FileAccess,
    /// The configuration of the driver is wrong.
    Configuration,
    /// The caller went away or the session ended.
    Cancelled,
    /// None of the others.
    Other,
}

/// A call that another process answered with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCall {
    /// `DriverCall`, `StreamingDriverCall` or `Stream`.
    pub rpc: &'static str,
    /// The driver's method.
    pub method: String,
}

/// A failed driver operation.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    /// Kept when an error merely passes through, so that a driver host's status reaches the
    /// client unchanged.
    code: Option<Code>,
    /// Set by what carries calls to another process, for messages to people.
    call: Option<Box<FailedCall>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result of a driver operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The table of kinds and codes. The first row of a code is what an incoming status becomes.
///
/// 0.9.0 answers UNKNOWN for connection and device errors; its successor answers UNAVAILABLE and
/// INTERNAL, which shipped clients take just as well, so ours does too (facts: protocol 2.3).
const CODES: &[(ErrorKind, Code)] = &[
    (ErrorKind::Unimplemented, Code::Unimplemented),
    (ErrorKind::InvalidArgument, Code::InvalidArgument),
    (ErrorKind::NotReady, Code::FailedPrecondition),
    (ErrorKind::MethodNotFound, Code::NotFound),
    (ErrorKind::Timeout, Code::DeadlineExceeded),
    (ErrorKind::Connection, Code::Unavailable),
    (ErrorKind::Device, Code::Internal),
    (ErrorKind::FileAccess, Code::Internal),
    (ErrorKind::Cancelled, Code::Cancelled),
    (ErrorKind::Other, Code::Unknown),
    (ErrorKind::Configuration, Code::Unknown),
];

// === impl Error ===

impl Error {
    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
            call: None,
            source: None,
        }
    }

    /// The driver cannot do this.
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unimplemented, message)
    }

    /// The caller passed something that cannot be used.
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Something did not happen in time.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Timeout, message)
    }

    /// The configuration is wrong.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// The device did not behave.
    pub fn device(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Device, message)
    }

    /// None of the other kinds.
    pub fn other(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Other, message)
    }

    /// Adds the cause; it is logged, not repeated in the message.
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts what was tried in front of the message.
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Notes which call failed, unless an inner one is noted already.
    pub fn in_call(mut self, rpc: &'static str, method: &str) -> Self {
        self.call.get_or_insert_with(|| {
            Box::new(FailedCall {
                rpc,
                method: method.to_owned(),
            })
        });
        self
    }

    /// The call that failed, if another process answered it.
    pub fn call(&self) -> Option<&FailedCall> {
        self.call.as_deref()
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text for a person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The gRPC code this error travels as.
    pub fn code(&self) -> Code {
        self.code.unwrap_or_else(|| {
            CODES
                .iter()
                .find(|(kind, _)| *kind == self.kind)
                .map_or(Code::Unknown, |(_, code)| *code)
        })
    }

    /// Name of the gRPC code as shipped clients print it, for example `INVALID_ARGUMENT`.
    pub fn code_name(&self) -> &'static str {
        jmp_wire::rpc::code_name(self.code())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let kind = CODES
            .iter()
            .find(|(_, code)| *code == status.code())
            .map_or(ErrorKind::Other, |(kind, _)| *kind);
        Self {
            kind,
            message: status.message().to_owned(),
            code: Some(status.code()),
            call: None,
            source: None,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::new(error.code(), error.message)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        if error
            .get_ref()
            .is_some_and(|inner| inner.is::<Status>() || inner.is::<Error>())
        {
            return match error.into_inner().map(|inner| inner.downcast::<Error>()) {
                Some(Ok(error)) => *error,
                Some(Err(inner)) => match inner.downcast::<Status>() {
                    Ok(status) => (*status).into(),
                    Err(other) => Self::other(other.to_string()),
                },
                None => Self::other("unknown error"),
            };
        }
        let kind = match error.kind() {
            Io::TimedOut => ErrorKind::Timeout,
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NotConnected
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::BrokenPipe => ErrorKind::Connection,
            Io::InvalidInput => ErrorKind::InvalidArgument,
            Io::Unsupported => ErrorKind::Unimplemented,
            Io::InvalidData | Io::UnexpectedEof => ErrorKind::Other,
            _ => ErrorKind::FileAccess,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::Timeout => std::io::ErrorKind::TimedOut,
            ErrorKind::Connection => std::io::ErrorKind::ConnectionReset,
            ErrorKind::InvalidArgument => std::io::ErrorKind::InvalidInput,
            ErrorKind::Unimplemented => std::io::ErrorKind::Unsupported,
            _ => std::io::ErrorKind::Other,
        };
        std::io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_passes_through_unchanged() {
        for code in 1..17 {
            let status = Status::new(Code::from(code), "text");
            let back = Status::from(Error::from(status));
            assert_eq!((back.code(), back.message()), (Code::from(code), "text"));
        }
    }

    #[test]
    fn io_errors_carry_errors_both_ways() {
        let io: std::io::Error = Error::timeout("too slow").into();
        let error = Error::from(io);
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Timeout, "too slow")
        );
    }
}
