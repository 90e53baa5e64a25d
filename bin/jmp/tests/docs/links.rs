//! Relative links of all pages.

use std::path::Path;

use crate::markdown::{Page, pages};

/// What is wrong with the links of all pages.
pub fn problems(root: &Path) -> Vec<String> {
    let pages = pages(root);
    let mut problems = Vec::new();
    for page in &pages {
        for (line, text) in page.prose() {
            for target in targets(text) {
                if let Some(problem) = problem(root, &pages, page, target) {
                    problems.push(format!("{}:{line}: {problem}", page.path.display()));
                }
            }
        }
    }
    problems
}

/// What stands in the parentheses of `[…](…)`, outside of code spans.
fn targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find("](") {
        let code = rest[..start].matches('`').count() % 2 == 1;
        let after = &rest[start + 2..];
        let Some(end) = after.find(')') else { break };
        if !code {
            targets.push(&after[..end]);
        }
        rest = &after[end..];
    }
    targets
}

fn problem(root: &Path, pages: &[Page], page: &Page, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() {
        root.join(&page.path)
    } else {
        root.join(&page.path).parent()?.join(path)
    };
    let Ok(file) = file.canonicalize() else {
        return Some(format!("`{target}` leads nowhere"));
    };
    if anchor.is_empty() {
        return None;
    }
    let linked = pages
        .iter()
        .find(|page| root.join(&page.path).canonicalize().ok().as_ref() == Some(&file))?;
    let known = linked.anchors().iter().any(|known| known == anchor);
    (!known).then(|| format!("`{target}`: the page has no heading for `#{anchor}`"))
}
