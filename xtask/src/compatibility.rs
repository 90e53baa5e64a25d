//! `docs/compatibility.md` from the results of the interop suites.

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
    /// Releases of exporter and client, of tests that have both.
    pair: Option<(String, String)>,
    defect: Option<String>,
    good: bool,
}

/// Writes the tables from `results`, by default the last runs' files.
///
/// # Errors
/// When there is no result, or the table cannot be written.
pub fn run(results: &[String]) -> Outcome {
    let mut files: Vec<PathBuf> = results.iter().map(PathBuf::from).collect();
    if files.is_empty() {
        files.extend(interop::Suite::ALL.map(interop::Suite::result_file));
    }
    let mut cases = Vec::new();
    for file in &files {
        cases.append(&mut read(file)?);
    }
    let page = page(&cases);
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
                pair: property("exporter").zip(property("client")),
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
    let mut page = String::from(
        "# Compatibility\n\nWritten by `cargo xtask compatibility` from a run of [the interop suites](../tests/interop/README.md): \
         released Python packages (PyPI) against our programs. Do not edit.\n\n## By feature\n\nThe peer is 0.9.0 where no other release is named.\n\n",
    );
    by_feature(&mut page, cases.iter().filter(|c| c.pair.is_none()));
    by_release(&mut page, cases);
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

fn by_feature<'a>(page: &mut String, cases: impl Iterator<Item = &'a Case>) {
    let mut rows: BTreeMap<(&str, &str), Vec<&Case>> = BTreeMap::new();
    for case in cases {
        let row = rows.entry((&case.feature, &case.peer)).or_default();
        row.push(case);
    }
    page.push_str("| feature | peer | tests | result |\n|---|---|---:|---|\n");
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
}

/// One row for each feature of the distributed mode, one column for each pair of releases.
fn by_release(page: &mut String, cases: &[Case]) {
    let mut rows: BTreeMap<&str, BTreeMap<&(String, String), bool>> = BTreeMap::new();
    for case in cases {
        if let Some(pair) = &case.pair {
            let row = rows.entry(&case.feature).or_default();
            *row.entry(pair).or_insert(true) &= case.good;
        }
    }
    let mut pairs: Vec<&(String, String)> =
        rows.values().flat_map(BTreeMap::keys).copied().collect();
    // Newest first; "ours" sorts behind every number.
    pairs.sort_by(|a, b| b.cmp(a));
    pairs.dedup();
    if pairs.is_empty() {
        return;
    }
    page.push_str("\n## Exporters and clients of several releases\n\nThrough our controller and router; a column is an exporter and the client that leases it. Empty: not tested.\n\n| |");
    for (exporter, client) in &pairs {
        let _ = write!(page, " {exporter} → {client} |");
    }
    let _ = writeln!(page, "\n|---|{}", "---|".repeat(pairs.len()));
    for (feature, row) in rows {
        let _ = write!(page, "| {feature} |");
        for pair in &pairs {
            page.push_str(match row.get(pair) {
                Some(true) => " works |",
                Some(false) => " **fails** |",
                None => " |",
            });
        }
        page.push('\n');
    }
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
        assert_eq!(cases[0].pair, None);
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

    #[test]
    fn one_column_a_pair_of_releases() {
        let case = |exporter: &str, client: &str, good| {
            let failure = if good { "" } else { "<failure/>" };
            format!(
                r#"<testcase name="t"><properties><property name="feature" value="Shell" /><property name="peer" value="both" />
                <property name="exporter" value="{exporter}" /><property name="client" value="{client}" /></properties>{failure}</testcase>"#
            )
        };
        let result = [
            case("ours", "0.9.0", true),
            case("ours", "0.9.0", true),
            case("0.7.4", "ours", true),
            case("0.7.4", "ours", false),
        ];
        let page = page(&parse(&result.concat()));
        assert!(page.contains("| | ours → 0.9.0 | 0.7.4 → ours |"), "{page}");
        assert!(page.contains("| Shell | works | **fails** |"), "{page}");
    }
}
