//! A configuration file's text and where things stand in it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::{ConfigError, Diagnostic};
use crate::node::{Node, Value};
use crate::reader;

/// A file's name and text, shared by everything that points into it.
///
/// `Debug` shows the name only: the text may hold tokens.
pub struct Source {
    name: String,
    text: String,
}

impl Source {
    pub(crate) fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            text: text.into(),
        })
    }

    /// The file's name as people know it, usually its path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line with that number, counted from 1.
    #[must_use]
    pub fn line(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.text.lines().nth(index)
    }

    /// The lines above that one, from the nearest upward.
    pub(crate) fn lines_above(&self, number: u32) -> impl Iterator<Item = &str> {
        let index = usize::try_from(number).unwrap_or(usize::MAX).max(1) - 1;
        let lines: Vec<&str> = self.text.lines().take(index).collect();
        lines.into_iter().rev()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Source").field(&self.name).finish()
    }
}

/// A stretch of one line: line and column count from 1, columns and width in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Characters to underline, at least 1.
    pub width: u32,
}

/// A place in a file, in the form editors understand: `file:line:column`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file's name.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Which end of an entry a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// The key, for keys that should not be there or are misspelt.
    Key,
    /// The value, for values of the wrong type.
    Value,
}

/// A file read into a located tree.
#[derive(Debug, Clone)]
pub struct Document {
    source: Arc<Source>,
    root: Node,
}

impl Document {
    /// Reads one YAML document out of `bytes`; `name` appears in errors.
    ///
    /// # Errors
    /// [`ConfigError`] for text that is not UTF-8, not YAML, has duplicate keys or a second document,
    /// or goes beyond the limits against hostile files (4 MiB, 64 levels, a budget for aliases).
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, ConfigError> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => return Err(not_utf8(name, bytes, error.valid_up_to())),
        };
        let source = Source::new(name, text);
        let root = reader::read(&source)?;
        Ok(Self { source, root })
    }

    /// A document without text, standing for a configuration made by the program.
    #[must_use]
    pub fn synthetic(name: &str) -> Self {
        Self {
            source: Source::new(name, ""),
            root: Node::null(),
        }
    }

    /// The file's name and text.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The top of the tree.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The node at `path`; members of sequences are numbered from 0.
    #[must_use]
    pub fn get<T: AsRef<str>>(&self, path: &[T]) -> Option<&Node> {
        self.walk(path)
            .and_then(|walk| walk.complete.then_some(walk.node))
    }

    /// Where `path` stands, or the nearest thing above it that is there; `None` only when not even
    /// the first key is in the file.
    #[must_use]
    pub fn locate<T: AsRef<str>>(&self, path: &[T], spot: Spot) -> Option<Location> {
        self.span_of(path, spot).map(|span| Location {
            file: self.source.name.clone(),
            line: span.line,
            column: span.column,
        })
    }

    /// A message pointing at `path`, see [`Document::locate`].
    #[must_use]
    pub fn error_at<T: AsRef<str>>(
        &self,
        path: &[T],
        spot: Spot,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::error(&self.source, self.span_of(path, spot), message).with_path(path)
    }

    pub(crate) fn span_of<T: AsRef<str>>(&self, path: &[T], spot: Spot) -> Option<Span> {
        let walk = self.walk(path)?;
        Some(match (spot, walk.key) {
            (Spot::Key, Some(key)) if walk.complete => key,
            // Something is missing below: the enclosing key is the best place to look at.
            (_, Some(key)) if !walk.complete => key,
            _ => walk.node.span,
        })
    }

    fn walk<T: AsRef<str>>(&self, path: &[T]) -> Option<Walk<'_>> {
        let mut walk = Walk {
            node: &self.root,
            key: None,
            complete: true,
        };
        for (depth, step) in path.iter().enumerate() {
            let step = step.as_ref();
            let next = match &walk.node.value {
                Value::Mapping(mapping) => mapping
                    .entry(step)
                    .map(|entry| (&entry.value, Some(entry.key.span))),
                Value::Sequence(items) => step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|item| (item, None)),
                Value::Scalar(_) => None,
            };
            match next {
                Some((node, key)) => {
                    walk.node = node;
                    walk.key = key.or(walk.key);
                }
                None if depth == 0 => return None,
                None => {
                    walk.complete = false;
                    break;
                }
            }
        }
        Some(walk)
    }
}

struct Walk<'a> {
    node: &'a Node,
    key: Option<Span>,
    complete: bool,
}

/// The name a path has in messages.
pub(crate) fn path_name(path: &Path) -> String {
    path.display().to_string()
}

fn not_utf8(name: &str, bytes: &[u8], valid: usize) -> ConfigError {
    // The part before the bad byte is what can be shown.
    let text = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let source = Source::new(name, text.as_ref());
    let span = Span {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column).unwrap_or(u32::MAX),
        width: 1,
    };
    Diagnostic::error(&source, Some(span), "the file is not UTF-8 text")
        .with_help("save it as UTF-8")
        .into()
}
