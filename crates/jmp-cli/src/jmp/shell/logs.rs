//! Which log lines of a session are shown, and how: always on standard error.

use std::pin::Pin;

use futures::{FutureExt, Stream, StreamExt};
use jmp_driver::log::Severity;

use crate::jmp::globals::LogLevel;
use crate::output;

/// What is shown.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    /// Lines of drivers and of the exporter from this level on.
    exporter: LogLevel,
    /// Lines of hooks from this level on.
    hooks: LogLevel,
}

/// A line, wherever it came from.
#[derive(Debug)]
pub struct Line {
    /// `driver`, `beforeLease`, `afterLease` or `system`.
    pub source: &'static str,
    /// How important it is.
    pub level: LogLevel,
    /// The text.
    pub message: String,
}

// === impl Filter ===

impl Filter {
    /// Hooks are always shown, the exporter's warnings too, the rest with `--exporter-logs` or when a
    /// level was asked for.
    pub fn new(level: Option<LogLevel>, exporter_logs: bool) -> Self {
        Self {
            exporter: match (level, exporter_logs) {
                (Some(level), _) => level,
                (None, true) => LogLevel::Info,
                (None, false) => LogLevel::Warning,
            },
            hooks: level.unwrap_or(LogLevel::Info),
        }
    }

    /// The least severity of which a line may be shown in a session without hooks.
    pub fn least(self) -> Severity {
        match self.exporter {
            LogLevel::Debug => Severity::Debug,
            LogLevel::Info => Severity::Info,
            LogLevel::Warning => Severity::Warning,
            LogLevel::Error | LogLevel::Critical => Severity::Error,
        }
    }

    fn admits(self, line: &Line) -> bool {
        let threshold = match line.source {
            "beforeLease" | "afterLease" => self.hooks,
            _ => self.exporter,
        };
        line.level >= threshold
    }
}

/// A log that is shown while something else happens.
pub struct Shown(Pin<Box<dyn Future<Output = ()> + Send>>);

// === impl Shown ===

impl Shown {
    /// Shows those lines of `lines` that `filter` admits.
    pub fn new(lines: impl Stream<Item = Line> + Send + 'static, filter: Filter) -> Self {
        Self(Box::pin(async move {
            let mut lines = std::pin::pin!(lines);
            while let Some(line) = lines.next().await {
                if filter.admits(&line) {
                    output::note(&format!(
                        "[exporter:{}] {} {}",
                        line.source,
                        line.level.as_str(),
                        line.message
                    ));
                }
            }
        }))
    }

    /// Shows lines as they come, until the log ends. Can be cancelled and called again.
    pub async fn follow(&mut self) {
        self.0.as_mut().await;
        // A future that has ended must not be polled again.
        self.0 = Box::pin(std::future::pending());
    }

    /// Shows what has arrived so far.
    pub fn drain(&mut self) {
        if self.0.as_mut().now_or_never().is_some() {
            self.0 = Box::pin(std::future::pending());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_speak_and_drivers_are_quiet_unless_asked() {
        let line = |source, level| Line {
            source,
            level,
            message: String::new(),
        };
        let quiet = Filter::new(None, false);
        assert!(quiet.admits(&line("beforeLease", LogLevel::Info)));
        assert!(!quiet.admits(&line("driver", LogLevel::Info)));
        assert!(quiet.admits(&line("driver", LogLevel::Warning)));
        assert!(Filter::new(None, true).admits(&line("driver", LogLevel::Info)));
        assert!(Filter::new(Some(LogLevel::Debug), false).admits(&line("system", LogLevel::Debug)));
        assert!(!Filter::new(Some(LogLevel::Error), true).admits(&line("driver", LogLevel::Info)));
    }
}
