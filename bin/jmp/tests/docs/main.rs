//! The documentation against the code: links lead somewhere, quoted code is code that is built
//! and tested, configuration examples load, command lines are understood, environment variables
//! are explained, and `docs/drivers.md` is what the drivers say.

mod commands;
mod examples;
mod links;
mod markdown;
mod reference;
mod variables;

use std::path::{Path, PathBuf};

/// The top of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("bin/jmp is two levels deep")
        .to_owned()
}

#[test]
fn links_lead_somewhere() {
    let problems = links::problems(&root());
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn quoted_code_is_in_the_files_it_is_said_to_be_from() {
    let problems = examples::quotations(&root());
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn configuration_examples_load() {
    let problems = examples::configurations(&root());
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn command_lines_are_understood() {
    let problems = commands::refused(&root());
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn environment_variables_are_explained() {
    let missing = variables::undocumented(&root());
    assert!(
        missing.is_empty(),
        "docs/configuration.md has no {}",
        missing.join(", ")
    );
}

/// `JMP_UPDATE_DOCS=1` writes the file instead of comparing it.
#[tokio::test]
async fn the_driver_reference_is_current() {
    let path = root().join("docs/drivers.md");
    let expected = reference::drivers().await;
    if std::env::var_os("JMP_UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).expect("docs/drivers.md can be written");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = found
        .lines()
        .zip(expected.lines())
        .position(|(found, expected)| found != expected)
        .or_else(|| {
            (found != expected).then(|| found.lines().count().min(expected.lines().count()))
        });
    if let Some(line) = difference {
        panic!(
            "docs/drivers.md is out of date from line {} on; write it anew with \
             `JMP_UPDATE_DOCS=1 cargo test -p jmp --test docs`",
            line + 1
        );
    }
}
