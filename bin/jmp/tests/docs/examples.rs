//! Code and configuration inside the pages.

use std::path::Path;

use jmp_config::{ClientConfig, Document, ExportMap, ExportNode, ExporterConfig, UserConfig};

use crate::markdown::{Block, pages};

/// Stands for lines that a quotation leaves out.
const LEFT_OUT: &str = "// …";

/// Blocks below `<!-- from: path -->` that are not in that file.
pub fn quotations(root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut count = 0;
    for page in pages(root) {
        for block in page.blocks() {
            let Some(from) = &block.from else { continue };
            count += 1;
            let place = format!("{}:{}", page.path.display(), block.line);
            match std::fs::read_to_string(root.join(from)) {
                Err(error) => problems.push(format!("{place}: {from}: {error}")),
                Ok(file) => {
                    if let Some(part) = missing(&file, &block) {
                        problems.push(format!("{place}: not in {from}:\n{part}"));
                    }
                }
            }
        }
    }
    assert!(count > 0, "no page quotes any code");
    problems
}

/// The first part of a block that does not follow in the file after the parts before it.
fn missing(file: &str, block: &Block) -> Option<String> {
    let file: Vec<&str> = file.lines().map(content).collect();
    let lines: Vec<&str> = block.text.lines().map(content).collect();
    let mut start = 0;
    for part in lines.split(|line| *line == LEFT_OUT) {
        let mut part = part;
        while let [first, rest @ ..] = part
            && first.is_empty()
        {
            part = rest;
        }
        while let [rest @ .., last] = part
            && last.is_empty()
        {
            part = rest;
        }
        if part.is_empty() {
            continue;
        }
        match file[start..]
            .windows(part.len())
            .position(|lines| lines == part)
        {
            Some(found) => start += found + part.len(),
            None => return Some(part.join("\n")),
        }
    }
    None
}

/// A line without indentation; examples in module documentation can be quoted, too.
fn content(line: &str) -> &str {
    line.trim().trim_start_matches("//! ")
}

/// YAML blocks with a `kind` of ours that do not load or name a driver that does not exist.
pub fn configurations(root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut count = 0;
    for page in pages(root) {
        for block in page.blocks() {
            if block.language != "yaml" || !block.text.contains("kind: ") {
                continue;
            }
            count += 1;
            let place = format!("{}:{}", page.path.display(), block.line);
            problems.extend(
                configuration(&block.text)
                    .into_iter()
                    .map(|problem| format!("{place}: {problem}")),
            );
        }
    }
    assert!(count > 0, "no page has a configuration");
    problems
}

fn configuration(text: &str) -> Vec<String> {
    let document = match Document::parse("example.yaml", text.as_bytes()) {
        Ok(document) => document,
        Err(error) => return vec![error.to_string()],
    };
    let kind = text
        .lines()
        .find_map(|line| line.strip_prefix("kind: "))
        .unwrap_or_default();
    let mut problems = Vec::new();
    let loaded = match kind.trim() {
        "ExporterConfig" => ExporterConfig::from_document(&document).map(|(config, warnings)| {
            unknown_types(&config.export, &mut problems);
            warnings
        }),
        "ClientConfig" => ClientConfig::from_document(&document).map(|(_, warnings)| warnings),
        "UserConfig" => UserConfig::from_document(&document).map(|(_, warnings)| warnings),
        // Applied to a controller by the tests of the login.
        "ExporterAccessPolicy" => return Vec::new(),
        other => {
            return vec![format!("`kind: {other}` is none of ours")];
        }
    };
    match loaded {
        Ok(warnings) => problems.extend(warnings.iter().map(ToString::to_string)),
        Err(error) => problems.push(error.to_string()),
    }
    problems
}

/// Types of the example crate are shown in its guide.
fn unknown_types(export: &ExportMap, problems: &mut Vec<String>) {
    for (name, node) in export.iter() {
        match node {
            ExportNode::Driver {
                driver_type,
                children,
                ..
            } => {
                let known = driver_all::registry().get(driver_type).is_some()
                    || driver_type.starts_with("example_lamp.");
                if !known {
                    problems.push(format!("driver `{name}`: there is no type `{driver_type}`"));
                }
                unknown_types(children, problems);
            }
            ExportNode::Group { children, .. } => unknown_types(children, problems),
            ExportNode::Reference { .. } => {}
        }
    }
}
