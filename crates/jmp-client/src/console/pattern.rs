//! What a console is expected to show.

use std::fmt;

use bytes::{Bytes, BytesMut};
use regex::bytes::Regex;

/// A text or a regular expression to wait for.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// These bytes.
    Literal(Bytes),
    /// The first match of this expression. It is tried each time something arrives, so let it end
    /// with what follows the part you want: `([0-9]+) mV`, not `[0-9]+`.
    Regex(Regex),
}

/// A part of the output, and what came before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Output since the match before this one.
    pub before: Bytes,
    /// What matched.
    pub matched: Bytes,
    /// The groups of a regular expression in order, `None` for those that took no part; the first
    /// is group 1.
    pub groups: Vec<Option<Bytes>>,
}

// === impl Match ===

impl Match {
    /// What matched as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.matched).into_owned()
    }

    /// What came before as text; bytes that are no UTF-8 are replaced.
    pub fn before_text(&self) -> String {
        String::from_utf8_lossy(&self.before).into_owned()
    }

    /// A group of the regular expression as text, counted from 1; `None` if there is none or it
    /// took no part.
    pub fn group(&self, number: usize) -> Option<String> {
        let group = self.groups.get(number.checked_sub(1)?)?.as_ref()?;
        Some(String::from_utf8_lossy(group).into_owned())
    }
}

/// Where a pattern was found.
pub(super) struct Found {
    start: usize,
    end: usize,
    groups: Vec<Option<(usize, usize)>>,
}

// === impl Found ===

impl Found {
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Takes the match, and what comes before it, out of the buffer.
    pub(super) fn take(self, buffer: &mut BytesMut) -> Match {
        let taken = buffer.split_to(self.end).freeze();
        let groups = self.groups.into_iter();
        Match {
            before: taken.slice(..self.start),
            matched: taken.slice(self.start..),
            groups: groups
                .map(|group| group.map(|(start, end)| taken.slice(start..end)))
                .collect(),
        }
    }
}

// === impl Pattern ===

impl Pattern {
    /// A regular expression.
    ///
    /// # Errors
    ///
    /// If it cannot be understood.
    pub fn regex(expression: &str) -> Result<Self, regex::Error> {
        Regex::new(expression).map(Self::Regex)
    }

    /// The first place, given that no match starts before `seen` except across it.
    pub(super) fn find(&self, buffer: &[u8], seen: usize) -> Option<Found> {
        match self {
            Self::Literal(literal) => {
                let from = (seen + 1).saturating_sub(literal.len()).min(buffer.len());
                let start = from + position(&buffer[from..], literal)?;
                Some(Found {
                    start,
                    end: start + literal.len(),
                    groups: Vec::new(),
                })
            }
            Self::Regex(regex) => {
                let captures = regex.captures(buffer)?;
                let whole = captures.get(0)?;
                let groups = captures.iter().skip(1);
                Some(Found {
                    start: whole.start(),
                    end: whole.end(),
                    groups: groups
                        .map(|group| group.map(|group| (group.start(), group.end())))
                        .collect(),
                })
            }
        }
    }
}

fn position(buffer: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    buffer
        .windows(wanted.len())
        .position(|window| window == wanted)
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(literal) => write!(formatter, "\"{}\"", literal.escape_ascii()),
            Self::Regex(regex) => write!(formatter, "/{regex}/"),
        }
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self::Literal(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Self::Literal(text.into())
    }
}

impl From<&[u8]> for Pattern {
    fn from(bytes: &[u8]) -> Self {
        Self::Literal(Bytes::copy_from_slice(bytes))
    }
}

impl From<Regex> for Pattern {
    fn from(regex: Regex) -> Self {
        Self::Regex(regex)
    }
}
