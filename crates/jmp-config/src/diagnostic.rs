//! Messages that point: file, line, column, key path, what was expected, what to write.
//!
//! The first line reads well aloud and stands alone; the source line with a caret and the help follow.
//! Nothing a secret key holds is ever shown, also not in the source line.

use std::fmt;
use std::sync::Arc;

use crate::document::{Location, Source, Span};
use crate::redact;

/// The longest piece of a source line that is shown, in characters.
const SHOWN_WIDTH: usize = 100;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but something in it has no effect or should be written differently.
    Warning,
}

/// One message about a file.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    severity: Severity,
    source: Arc<Source>,
    span: Option<Span>,
    path: String,
    message: String,
    nearest: Option<String>,
    help: Option<String>,
    related: Option<(Span, String)>,
}

/// All that is wrong with one file, in the order of the file. Never empty.
#[derive(Debug, Clone)]
pub struct ConfigError {
    diagnostics: Vec<Diagnostic>,
}

// === impl Diagnostic ===

impl Diagnostic {
    pub(crate) fn new(
        severity: Severity,
        source: &Arc<Source>,
        span: Option<Span>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            source: Arc::clone(source),
            span,
            path: String::new(),
            message: redact::printable(&message.into()),
            nearest: None,
            help: None,
            related: None,
        }
    }

    pub(crate) fn error(
        source: &Arc<Source>,
        span: Option<Span>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Error, source, span, message)
    }

    pub(crate) fn with_path<T: AsRef<str>>(mut self, path: &[T]) -> Self {
        self.path = join_path(path);
        self
    }

    /// Adds the valid word that comes nearest, said as a question after the message.
    #[must_use]
    pub fn with_nearest(mut self, nearest: Option<&str>) -> Self {
        self.nearest = nearest.map(str::to_owned);
        self
    }

    /// Adds what to do, in a line of its own.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(redact::printable(&help.into()));
        self
    }

    pub(crate) fn with_related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related = Some((span, label.into()));
        self
    }

    /// The same message as a warning.
    #[must_use]
    pub fn as_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Where it is, if it is about a place.
    #[must_use]
    pub fn location(&self) -> Option<Location> {
        self.span.map(|span| Location {
            file: self.source.name().to_owned(),
            line: span.line,
            column: span.column,
        })
    }

    /// The dotted key path it is about, empty for the file as a whole.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The message alone, without place and help.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The valid word that comes nearest to what was written.
    #[must_use]
    pub fn nearest(&self) -> Option<&str> {
        self.nearest.as_deref()
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    fn write_snippet(
        &self,
        formatter: &mut fmt::Formatter<'_>,
        span: Span,
        label: &str,
        gutter: usize,
    ) -> fmt::Result {
        let Some(line) = self.source.line(span.line) else {
            return Ok(());
        };
        let above = self.source.lines_above(span.line);
        let shown: Vec<char> = redact::line_in_context(line, above).chars().collect();
        let column = usize::try_from(span.column).unwrap_or(usize::MAX).max(1) - 1;
        let column = column.min(shown.len());
        let start = if shown.len() <= SHOWN_WIDTH {
            0
        } else {
            column.saturating_sub(SHOWN_WIDTH / 2)
        };
        let end = shown.len().min(start + SHOWN_WIDTH);
        let text: String = shown[start..end].iter().collect();
        let width = usize::try_from(span.width).unwrap_or(1);
        let carets = "^".repeat(width.clamp(1, (end.max(column + 1) - column).max(1)));
        let number = span.line;
        write!(formatter, "\n{number:>gutter$} | {}", text.trim_end())?;
        write!(
            formatter,
            "\n{:>gutter$} | {}{carets}",
            "",
            " ".repeat(column - start)
        )?;
        if label.is_empty() {
            Ok(())
        } else {
            write!(formatter, " {label}")
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", redact::printable(self.source.name()))?;
        if let Some(span) = self.span {
            write!(formatter, ":{}:{}", span.line, span.column)?;
        }
        write!(formatter, ": {}", self.message)?;
        if let Some(nearest) = &self.nearest {
            write!(formatter, "; did you mean `{nearest}`?")?;
        }
        let widest = self.related.as_ref().map_or(0, |(span, _)| span.line);
        let gutter = self
            .span
            .map_or(0, |span| span.line)
            .max(widest)
            .to_string()
            .len();
        if let Some((span, label)) = &self.related {
            self.write_snippet(formatter, *span, label, gutter)?;
        }
        if let Some(span) = self.span {
            self.write_snippet(formatter, span, "", gutter)?;
        }
        if let Some(help) = &self.help {
            write!(formatter, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

// === impl ConfigError ===

impl ConfigError {
    pub(crate) fn from_diagnostics(diagnostics: Vec<Diagnostic>) -> Option<Self> {
        (!diagnostics.is_empty()).then_some(Self { diagnostics })
    }

    /// The messages, at least one.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl From<Diagnostic> for ConfigError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            diagnostics: vec![diagnostic],
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n\n")?;
            }
            fmt::Display::fmt(diagnostic, formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// `export.power.config`, with keys that hold dots or spaces in quotes.
pub(crate) fn join_path<T: AsRef<str>>(path: &[T]) -> String {
    let mut joined = String::new();
    for step in path {
        let step = step.as_ref();
        if !joined.is_empty() {
            joined.push('.');
        }
        if step.is_empty() || step.contains(['.', ' ']) {
            joined.push_str(&format!("{step:?}"));
        } else {
            joined.push_str(step);
        }
    }
    joined
}
