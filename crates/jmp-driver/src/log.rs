//! The session log: every subscriber gets every line, with history.
//!
//! Upstream keeps one queue that all subscribers drain, so each line reaches only one of them.
//! Here lines go into one bounded ring; each subscriber has its own place in it. A subscriber
//! that falls behind by a whole ring is told how many lines it lost.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures::Stream;
use tokio::sync::watch;

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For the author of a driver.
    Debug,
    /// What happened.
    Info,
    /// Worth a look.
    Warning,
    /// Something failed.
    Error,
}

impl Severity {
    /// The word on the wire, the names of Python's logging.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

/// Where a line comes from; the numbers are those of the wire's `LogSource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// A driver.
    Driver = 1,
    /// The beforeLease hook.
    BeforeLeaseHook = 2,
    /// The afterLease hook.
    AfterLeaseHook = 3,
    /// The exporter itself.
    System = 4,
}

/// One line of the session log.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// When it was written.
    pub time: SystemTime,
    /// How important it is.
    pub severity: Severity,
    /// Who wrote it.
    pub source: LogSource,
    /// Name of the logger, for example `driver.MockPower`.
    pub logger: Arc<str>,
    /// The text.
    pub message: String,
}

struct Ring {
    records: VecDeque<Arc<LogRecord>>,
    bytes: usize,
    /// Number of the first record in the ring, counted from the start of the session.
    first: u64,
}

/// The log of one session.
#[derive(Clone)]
pub struct LogHub {
    ring: Arc<Mutex<Ring>>,
    /// Count of records so far. Waiting subscribers watch it.
    written: Arc<watch::Sender<u64>>,
    /// The same count, published only with warnings and errors, so that somebody who wants no
    /// more than those is not woken by every line.
    loud: Arc<watch::Sender<u64>>,
    capacity: usize,
}

/// Lines kept for late and slow subscribers.
const DEFAULT_CAPACITY: usize = 16 * 1024;
/// Text kept, in bytes, whatever the number of lines.
const TEXT_LIMIT: usize = 4 * 1024 * 1024;

impl Default for LogHub {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl fmt::Debug for LogHub {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LogHub").finish_non_exhaustive()
    }
}

// === impl LogHub ===

impl LogHub {
    /// A log that keeps at most `capacity` lines.
    pub fn new(capacity: usize) -> Self {
        Self {
            ring: Arc::new(Mutex::new(Ring {
                records: VecDeque::new(),
                bytes: 0,
                first: 0,
            })),
            written: Arc::new(watch::Sender::new(0)),
            loud: Arc::new(watch::Sender::new(0)),
            capacity: capacity.max(1),
        }
    }

    /// Adds a line.
    pub fn write(&self, record: LogRecord) {
        let is_loud = record.severity >= Severity::Warning;
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.bytes += record.message.len();
        ring.records.push_back(Arc::new(record));
        while ring.records.len() > self.capacity
            || (ring.bytes > TEXT_LIMIT && ring.records.len() > 1)
        {
            if let Some(dropped) = ring.records.pop_front() {
                ring.bytes -= dropped.message.len();
                ring.first += 1;
            }
        }
        let written = ring.first + ring.records.len() as u64;
        drop(ring);
        if is_loud {
            self.loud.send_replace(written);
        }
        self.written.send_replace(written);
    }

    /// A named source of lines.
    pub fn logger(&self, name: impl Into<Arc<str>>, source: LogSource) -> Logger {
        Logger {
            hub: self.clone(),
            name: name.into(),
            source,
        }
    }

    /// All lines that are still kept, then each new one. Ends when the last handle of the log
    /// is gone.
    pub fn subscribe(&self) -> impl Stream<Item = Arc<LogRecord>> + Send + 'static {
        self.subscribe_from(Severity::Debug)
    }

    /// Like [`LogHub::subscribe`], for lines of at least this severity.
    pub fn subscribe_from(
        &self,
        least: Severity,
    ) -> impl Stream<Item = Arc<LogRecord>> + Send + 'static {
        let ring = Arc::clone(&self.ring);
        let mut written = if least >= Severity::Warning {
            self.loud.subscribe()
        } else {
            self.written.subscribe()
        };
        async_stream::stream! {
            let mut next = 0;
            loop {
                let target = *written.borrow_and_update();
                while next < target {
                    let (record, lost) = {
                        let ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
                        let lost = ring.first.saturating_sub(next);
                        next += lost;
                        (ring.records.get((next - ring.first) as usize).cloned(), lost)
                    };
                    if lost > 0 {
                        yield Arc::new(lost_lines(lost));
                    }
                    let Some(record) = record else { break };
                    next += 1;
                    if record.severity >= least {
                        yield record;
                    }
                }
                if written.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

fn lost_lines(count: u64) -> LogRecord {
    LogRecord {
        time: SystemTime::now(),
        severity: Severity::Warning,
        source: LogSource::System,
        logger: "jumpstarter.log".into(),
        message: format!("{count} log lines were dropped because this reader was too slow"),
    }
}

/// Writes lines under one name.
#[derive(Debug, Clone)]
pub struct Logger {
    hub: LogHub,
    name: Arc<str>,
    source: LogSource,
}

// === impl Logger ===

impl Logger {
    /// The same log under another name.
    pub fn named(&self, name: impl Into<Arc<str>>) -> Self {
        Self {
            hub: self.hub.clone(),
            name: name.into(),
            source: self.source,
        }
    }

    /// Writes a line.
    pub fn log(&self, severity: Severity, message: impl Into<String>) {
        let message = message.into();
        let name: &str = &self.name;
        match severity {
            Severity::Debug => tracing::debug!(target: "driver", logger = name, "{message}"),
            Severity::Info => tracing::info!(target: "driver", logger = name, "{message}"),
            Severity::Warning => tracing::warn!(target: "driver", logger = name, "{message}"),
            Severity::Error => tracing::error!(target: "driver", logger = name, "{message}"),
        }
        self.hub.write(LogRecord {
            time: SystemTime::now(),
            severity,
            source: self.source,
            logger: Arc::clone(&self.name),
            message,
        });
    }

    /// Writes a line for authors of drivers.
    pub fn debug(&self, message: impl Into<String>) {
        self.log(Severity::Debug, message);
    }

    /// Writes what happened.
    pub fn info(&self, message: impl Into<String>) {
        self.log(Severity::Info, message);
    }

    /// Writes something worth a look.
    pub fn warning(&self, message: impl Into<String>) {
        self.log(Severity::Warning, message);
    }

    /// Writes a failure.
    pub fn error(&self, message: impl Into<String>) {
        self.log(Severity::Error, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    #[tokio::test]
    async fn every_subscriber_gets_every_line_with_history() {
        let hub = LogHub::new(100);
        let logger = hub.logger("test", LogSource::Driver);
        logger.info("one");
        let first = hub.subscribe();
        logger.info("two");
        let second = hub.subscribe();
        logger.info("three");
        drop(logger);
        for subscriber in [first.boxed(), second.boxed()] {
            let lines: Vec<_> = subscriber
                .take(3)
                .map(|record| record.message.clone())
                .collect()
                .await;
            assert_eq!(lines, ["one", "two", "three"]);
        }
    }

    #[tokio::test]
    async fn quiet_lines_do_not_reach_those_who_want_warnings() {
        let hub = LogHub::new(100);
        let logger = hub.logger("test", LogSource::Driver);
        let mut subscriber = Box::pin(hub.subscribe_from(Severity::Warning));
        logger.info("one");
        assert!(futures::poll!(subscriber.next()).is_pending());
        logger.info("two");
        assert!(futures::poll!(subscriber.next()).is_pending());
        logger.warning("three");
        logger.info("four");
        logger.error("five");
        for expected in ["three", "five"] {
            assert_eq!(subscriber.next().await.unwrap().message, expected);
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_lost() {
        let hub = LogHub::new(10);
        let logger = hub.logger("test", LogSource::Driver);
        let subscriber = hub.subscribe();
        for number in 0..10_000 {
            logger.info(format!("line {number}"));
        }
        let lines: Vec<_> = subscriber
            .take(11)
            .map(|record| record.message.clone())
            .collect()
            .await;
        assert!(lines[0].starts_with("9990 log lines were dropped"));
        assert_eq!(lines[10], "line 9999");
    }
}
