//! What a caller may not ask for, in the words that shipped clients know (facts: drivers 1.16).

use std::collections::HashMap;
use std::path::Path;

use jmp_driver::{Error, Result};

/// Variables that change which code runs.
const BLOCKED: [&str; 7] = [
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONPATH",
    "BASH_ENV",
    "KUBECONFIG",
    "HOME",
];
const BLOCKED_PREFIXES: [&str; 2] = ["LD_", "BASH_FUNC_"];

pub(crate) fn environment(env: &HashMap<String, String>) -> Result<()> {
    for (name, value) in env {
        let blocked = BLOCKED.contains(&name.as_str())
            || BLOCKED_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix));
        if blocked {
            return Err(Error::invalid_argument(format!(
                "Environment variable '{name}' is blocked for security reasons"
            )));
        }
        if !is_identifier(name) {
            return Err(Error::invalid_argument(format!(
                "Invalid environment variable name: '{name}'"
            )));
        }
        if value.contains('\0') {
            return Err(Error::invalid_argument(format!(
                "environment variable '{name}' contains a zero byte"
            )));
        }
    }
    Ok(())
}

fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_alphanumeric() || letter == '_')
}

pub(crate) fn arguments(args: &[String]) -> Result<()> {
    match args.iter().position(|argument| argument.contains('\0')) {
        Some(index) => Err(Error::invalid_argument(format!(
            "argument {} contains a zero byte",
            index + 1
        ))),
        None => Ok(()),
    }
}

pub(crate) fn script(method: &str, command: &str) -> Result<()> {
    if command.trim().is_empty() {
        return Err(Error::invalid_argument(format!(
            "the command of method '{method}' is blank; see `methods` in the exporter's configuration"
        )));
    }
    Ok(())
}

pub(crate) fn directory(directory: &Path) -> Result<()> {
    if !directory.is_dir() {
        return Err(Error::invalid_argument(format!(
            "Working directory '{}' does not exist; see `cwd` in the exporter's configuration",
            directory.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_checked() {
        let check = |name: &str| {
            environment(&HashMap::from([(name.to_owned(), "x".to_owned())]))
                .map_err(|error| error.message().to_owned())
        };
        for good in ["A", "_a1", "PATHS", "grün"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for blocked in ["PATH", "HOME", "LD_DEBUG", "BASH_FUNC_ls%%"] {
            assert_eq!(
                check(blocked).unwrap_err(),
                format!("Environment variable '{blocked}' is blocked for security reasons")
            );
        }
        for bad in ["", "1A", "A-B", "A=B"] {
            assert!(check(bad).unwrap_err().starts_with("Invalid"), "{bad}");
        }
    }
}
