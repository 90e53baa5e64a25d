//! As much Markdown as the checks need.

use std::path::{Path, PathBuf};

/// A page of the repository.
pub struct Page {
    /// Relative to the top of the repository.
    pub path: PathBuf,
    pub text: String,
}

/// A fenced block.
pub struct Block {
    /// Number of its first line, counted from 1.
    pub line: usize,
    /// The word after the fence.
    pub language: String,
    /// `path` of a comment `<!-- from: path -->` right above the block.
    pub from: Option<String>,
    pub text: String,
}

/// All pages of ours, in the order of their paths.
pub fn pages(root: &Path) -> Vec<Page> {
    let mut pages = Vec::new();
    collect(root, Path::new(""), &mut pages);
    pages.sort_by(|left, right| left.path.cmp(&right.path));
    assert!(
        !pages.is_empty(),
        "no page was found below {}",
        root.display()
    );
    pages
}

/// Hidden folders and build results hold pages of others.
fn collect(root: &Path, below: &Path, pages: &mut Vec<Page>) {
    let entries = std::fs::read_dir(root.join(below)).expect("a folder of the repository");
    for entry in entries {
        let entry = entry.expect("an entry of the repository");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = below.join(&name);
        let kind = entry.file_type().expect("the type of an entry");
        if kind.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                collect(root, &path, pages);
            }
        } else if name.ends_with(".md") {
            let text = std::fs::read_to_string(root.join(&path)).expect("a page in UTF-8");
            pages.push(Page { path, text });
        }
    }
}

// === impl Page ===

impl Page {
    /// The fenced blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open: Option<(usize, Block)> = None;
        let mut above = "";
        for (index, line) in self.text.lines().enumerate() {
            let ticks = fence(line);
            match &mut open {
                Some((length, _)) if ticks >= *length && line.trim().len() == ticks => {
                    blocks.extend(open.take().map(|(_, block)| block));
                }
                Some((_, block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                None if ticks >= 3 => {
                    let block = Block {
                        line: index + 1,
                        language: line.trim().trim_start_matches('`').trim().to_owned(),
                        from: above
                            .strip_prefix("<!-- from: ")
                            .and_then(|rest| rest.strip_suffix(" -->"))
                            .map(str::to_owned),
                        text: String::new(),
                    };
                    open = Some((ticks, block));
                }
                None => {}
            }
            above = line.trim();
        }
        assert!(
            open.is_none(),
            "{}: a fence is not closed",
            self.path.display()
        );
        blocks
    }

    /// The lines outside of fenced blocks, with their numbers from 1.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut length = 0;
        let mut prose = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            let ticks = fence(line);
            if length == 0 && ticks >= 3 {
                length = ticks;
            } else if length > 0 && ticks >= length && line.trim().len() == ticks {
                length = 0;
            } else if length == 0 {
                prose.push((index + 1, line));
            }
        }
        prose
    }

    /// The anchors of its headings, as forges make them.
    pub fn anchors(&self) -> Vec<String> {
        self.prose()
            .into_iter()
            .filter(|(_, line)| line.starts_with('#'))
            .map(|(_, line)| anchor(line.trim_start_matches('#').trim()))
            .collect()
    }
}

fn fence(line: &str) -> usize {
    let line = line.trim_start();
    line.len() - line.trim_start_matches('`').len()
}

/// The anchor of a heading.
pub fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ => letter.is_alphanumeric().then_some(letter),
        })
        .collect()
}
