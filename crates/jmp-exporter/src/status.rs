//! What `GetStatus` tells: the present status, numbered so that a client can see it missed one.

use jmp_lease::ExporterStatus;
use tokio::sync::watch;

/// One version of the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusVersion {
    /// What the exporter is doing.
    pub status: ExporterStatus,
    /// Text for people.
    pub message: String,
    /// Rises by one with each update, identical ones included (facts: protocol 6.2).
    pub version: u64,
    /// The one before; absent until the first update.
    pub previous: Option<ExporterStatus>,
}

/// Holds the status of a session for everybody who wants to know or wait.
#[derive(Debug)]
pub struct StatusBoard(watch::Sender<StatusVersion>);

impl Default for StatusBoard {
    fn default() -> Self {
        Self(watch::Sender::new(StatusVersion {
            status: ExporterStatus::Available,
            message: String::new(),
            version: 0,
            previous: None,
        }))
    }
}

// === impl StatusBoard ===

impl StatusBoard {
    /// Publishes the next version.
    pub fn set(&self, status: ExporterStatus, message: impl Into<String>) {
        self.0.send_modify(|current| {
            current.previous = Some(current.status);
            current.status = status;
            current.message = message.into();
            current.version += 1;
        });
    }

    /// Goes on where the exporter is: numbers never start again with a new session, or a client
    /// could take it for the old one.
    pub(crate) fn resume(&self, exporter: &jmp_lease::Exporter) {
        self.0.send_replace(StatusVersion {
            status: exporter.status(),
            message: exporter.message().to_owned(),
            version: exporter.status_version(),
            previous: exporter.previous_status(),
        });
    }

    /// The present version.
    pub fn get(&self) -> StatusVersion {
        self.0.borrow().clone()
    }

    /// Follows the versions.
    pub fn watch(&self) -> watch::Receiver<StatusVersion> {
        self.0.subscribe()
    }
}
