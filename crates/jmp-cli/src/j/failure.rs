//! What `j` ends with when it fails.

use crate::error::CliError;
use crate::exit;
use crate::output;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense.
    Usage(Usage),
    /// Something failed while the command ran.
    Command(CliError),
}

/// A command line that makes no sense.
#[derive(Debug)]
pub struct Usage {
    /// The first line, `Usage: …`.
    pub usage: String,
    /// The words up to the place that makes no sense, for the hint at `--help`.
    pub program: String,
    /// What is wrong.
    pub message: String,
}

/// Result of a command.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

// === impl Failure ===

impl Failure {
    /// Tells the person and returns the exit code. Usage errors end with 1 as in shipped clients,
    /// unlike those of `jmp`.
    pub fn report(&self) -> u8 {
        match self {
            Self::Usage(usage) => {
                output::note(&format!(
                    "{}\nTry '{} --help' for help.\n\nError: {}",
                    usage.usage, usage.program, usage.message
                ));
                exit::FAILURE
            }
            Self::Command(error) => {
                output::report(error, None);
                error.code()
            }
        }
    }
}

impl From<Usage> for Failure {
    fn from(usage: Usage) -> Self {
        Self::Usage(usage)
    }
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        Self::Command(error)
    }
}

impl From<jmp_client::Error> for Failure {
    fn from(error: jmp_client::Error) -> Self {
        match error {
            jmp_client::Error::Driver(error) => error.into(),
            error => Self::Command(error.into()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Command(error.into())
    }
}

impl From<jmp_driver::Error> for Failure {
    fn from(error: jmp_driver::Error) -> Self {
        Self::Command(CliError::new(driver_message(&error)))
    }
}

/// The text of shipped clients for a call that the exporter answered with an error (facts:
/// drivers 0.5); errors that arose here speak for themselves.
fn driver_message(error: &jmp_driver::Error) -> String {
    let Some(call) = error.call() else {
        return error.message().to_owned();
    };
    let details = match error.message() {
        "" => "<no details>",
        text => text,
    };
    format!(
        "{} '{}' failed with gRPC {}: {details}",
        call.rpc,
        call.method,
        error.code_name()
    )
}

/// `; did you mean …` for a misspelt word.
pub fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    jmp_config::nearest(word, known)
        .map(|near| format!(" Did you mean '{near}'?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_exporter_name_the_call() {
        let error = jmp_driver::Error::other("").in_call("DriverCall", "on");
        assert_eq!(
            driver_message(&error),
            "DriverCall 'on' failed with gRPC UNKNOWN: <no details>"
        );
        assert_eq!(driver_message(&jmp_driver::Error::other("a")), "a");
    }
}
