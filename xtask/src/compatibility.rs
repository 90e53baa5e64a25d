//! `docs/compatibility.md` from the result of the interop suite.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::{Outcome, environment, interop};

/// One test of the suite: which row and column it belongs to, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Case {
    name: String,
    feature: String,
    peer: String,
    defect: Option<String>,
    good: bool,
}

/// Writes the table from `result`, by default the last run's file.
///
/// # Errors
/// When there is no result, or the table cannot be written.
pub fn run(result: Option<&str>) -> Outcome {
    let result = result.map_or_else(interop::result_file, PathBuf::from);
    let page = page(&read(&result)?);
    let folder = environment::root().join("docs");
    let target = folder.join("compatibility.md");
    if std::fs::read_to_string(&target).is_ok_and(|old| old == page) {
        return Ok(());
    }
    if std::env::var_os("CI").is_some() {
        return Err(format!(
            "{} is not what the suite has shown; run `cargo xtask interop` and commit it",
            target.display()
        ));
    }
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&target, &page))
        .map_err(|error| format!("cannot write {}: {error}", target.display()))?;
    println!("{}", target.display());
    Ok(())
}

/// One line: how many features pass on all their tests.
///
/// # Errors
/// When the result cannot be read.
pub fn summary(result: &Path) -> Outcome<String> {
    let cases = read(result)?;
    let features: BTreeSet<&str> = cases.iter().map(|c| c.feature.as_str()).collect();
    let bad: BTreeSet<&str> = cases
        .iter()
        .filter(|c| !c.good)
        .map(|c| c.feature.as_str())
        .collect();
    Ok(format!(
        "{} of {} features hold on every test\n",
        features.len() - bad.len(),
        features.len()
    ))
}

fn read(result: &Path) -> Outcome<Vec<Case>> {
    let text = std::fs::read_to_string(result).map_err(|error| {
        format!(
            "cannot read {}: {error}; run `cargo xtask interop` first",
            result.display()
        )
    })?;
    let cases = parse(&text);
    if cases.is_empty() {
        Err(format!(
            "{} holds no test of the interop suite",
            result.display()
        ))
    } else {
        Ok(cases)
    }
}

/// Reads pytest's JUnit file. Its writer escapes `<` and `>` in attributes, so tags can be found by their brackets.
fn parse(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for element in text.split("<testcase ").skip(1) {
        let head = element.split('>').next().unwrap_or_default();
        let body = element.split("</testcase>").next().unwrap_or_default();
        let property = |name: &str| {
            let tag = body
                .split("<property ")
                .find(|tag| attribute(tag, "name").as_deref() == Some(name))?;
            attribute(tag.split('>').next()?, "value")
        };
        if let (Some(name), Some(feature), Some(peer)) = (
            attribute(head, "name"),
            property("feature"),
            property("peer"),
        ) {
            let bad = ["<failure", "<error", "<skipped"]
                .iter()
                .any(|tag| body.contains(tag));
            cases.push(Case {
                name,
                feature,
                peer,
                defect: property("upstream_defect"),
                good: !bad,
            });
        }
    }
    cases
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    // The space keeps `classname` from passing for `name`.
    let tag = format!(" {tag}");
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = tag[start..].split('"').next()?;
    Some(
        value
            .replace("&quot;", "\"")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&#10;", " ")
            .replace("&amp;", "&"),
    )
}

fn page(cases: &[Case]) -> String {
    let mut rows: BTreeMap<(&str, &str), Vec<&Case>> = BTreeMap::new();
    for case in cases {
        rows.entry((&case.feature, &case.peer))
            .or_default()
            .push(case);
    }
    let mut page = String::from(
        "# Compatibility\n\nWritten by `cargo xtask compatibility` from a run of [the interop suite](../tests/interop/README.md): \
         released Python packages (PyPI 0.9.0) against our programs. Do not edit.\n\n\
         | feature | peer | tests | result |\n|---|---|---:|---|\n",
    );
    for ((feature, peer), tests) in &rows {
        let bad: Vec<&str> = tests
            .iter()
            .filter(|c| !c.good)
            .map(|c| c.name.as_str())
            .collect();
        let result = if bad.is_empty() {
            "works".into()
        } else {
            format!("**fails**: {}", bad.join(", ").replace('|', "\\|"))
        };
        let _ = writeln!(page, "| {feature} | {peer} | {} | {result} |", tests.len());
    }
    let defects: BTreeMap<&str, &str> = cases
        .iter()
        .filter_map(|c| c.defect.as_deref().map(|why| (c.feature.as_str(), why)))
        .collect();
    page.push_str("\n## Where 0.9.0 is wrong and ours is not\n\nThese tests fail on the released packages and must pass on ours.\n\n");
    for (feature, why) in defects {
        let _ = writeln!(page, "* {feature}: {why}.");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::{page, parse};

    const RESULT: &str = r#"<testsuites><testsuite><testcase classname="t" name="test_a[x&gt;y]" time="1"><properties>
        <property name="feature" value="Power" /><property name="peer" value="Python &amp; co" /></properties></testcase>
        <testcase classname="t" name="test_b"><properties><property name="feature" value="Logs" /><property name="peer" value="p" />
        <property name="upstream_defect" value="one queue" /></properties><failure message="no">x</failure></testcase></testsuite></testsuites>"#;

    #[test]
    fn one_row_a_feature_and_peer() {
        let cases = parse(RESULT);
        assert_eq!(cases.len(), 2);
        assert_eq!(
            (
                cases[0].name.as_str(),
                cases[0].peer.as_str(),
                cases[0].good
            ),
            ("test_a[x>y]", "Python & co", true)
        );
        let page = page(&cases);
        assert!(
            page.contains("| Power | Python & co | 1 | works |"),
            "{page}"
        );
        assert!(
            page.contains("| Logs | p | 1 | **fails**: test_b |"),
            "{page}"
        );
        assert!(page.contains("* Logs: one queue."), "{page}");
    }
}
