//! Where the passphrase of a direct listener comes from.

use std::path::Path;

use crate::error::CliError;

/// Variable that direct clients read, too.
const VARIABLE: &str = "JMP_GRPC_PASSPHRASE";

/// The passphrase of the option, the file or the environment, in this order.
///
/// # Errors
///
/// When the file cannot be read, or the passphrase is empty or cannot travel in a header.
pub fn find(option: Option<&str>, file: Option<&Path>) -> Result<Option<String>, CliError> {
    let (text, origin) = if let Some(text) = option {
        (text.to_owned(), "--passphrase".to_owned())
    } else if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            CliError::new(format!(
                "cannot read the passphrase from {}: {error}",
                path.display()
            ))
        })?;
        (text.trim().to_owned(), path.display().to_string())
    } else if let Ok(text) = std::env::var(VARIABLE)
        && !text.is_empty()
    {
        tracing::info!("clients need the passphrase of the variable {VARIABLE}");
        (text, VARIABLE.to_owned())
    } else {
        return Ok(None);
    };
    let problem = if text.is_empty() {
        "is empty"
    } else if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        "has characters other than printable ASCII, which clients cannot send"
    } else if text.trim() != text {
        "begins or ends with a blank, which does not survive the way"
    } else {
        return Ok(Some(text));
    };
    Err(CliError::usage(format!(
        "the passphrase of {origin} {problem}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passphrases_must_fit_a_header() {
        assert_eq!(find(Some("a b"), None).unwrap().as_deref(), Some("a b"));
        for bad in ["", " a", "a\n", "ü"] {
            assert!(find(Some(bad), None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_may_end_with_a_newline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "open sesame\n").unwrap();
        assert_eq!(
            find(None, Some(&path)).unwrap().as_deref(),
            Some("open sesame")
        );
        let missing = find(None, Some(&directory.path().join("x"))).unwrap_err();
        assert!(missing.message().contains("cannot read"), "{missing}");
    }
}
