//! Environment variables: what the programs know is in `docs/configuration.md`.

use std::collections::BTreeSet;
use std::path::Path;

/// Variables of the programs that the page does not have.
pub fn undocumented(root: &Path) -> Vec<String> {
    let page = std::fs::read_to_string(root.join("docs/configuration.md")).expect("the page");
    let mut known = BTreeSet::new();
    for folder in ["crates", "drivers"] {
        for package in entries(&root.join(folder)) {
            collect(&package.join("src"), &mut known);
        }
    }
    assert!(!known.is_empty(), "the programs read no variables");
    known
        .into_iter()
        .filter(|name| !page.contains(&format!("`{name}`")) && !page.contains(&format!("`{name}=")))
        .collect()
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

fn collect(folder: &Path, known: &mut BTreeSet<String>) {
    for path in entries(folder) {
        if path.is_dir() {
            collect(&path, known);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file in UTF-8");
            known.extend(
                text.split('"')
                    .filter(|text| is_variable(text))
                    .map(str::to_owned),
            );
        }
    }
}

/// Names in string literals; those of tests and simulations are for contributors.
fn is_variable(text: &str) -> bool {
    let ours = text.starts_with("JMP_") || text.starts_with("JUMPSTARTER_");
    ours && !text.starts_with("JMP_TEST_")
        && !text.starts_with("JMP_SIM_")
        && text
            .bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_uppercase())
}
