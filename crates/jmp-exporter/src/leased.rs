//! An exporter that a controller hands out (facts: protocol 7.2).
//!
//! All decisions are [`jmp_lease::step`]'s. Around it: [`uplink`] hears from the controller which
//! lease there is, [`reporter`] tells it what happens, [`tunnels`] connects clients, and the
//! [`actor`] compares what is wanted with what is, after every event. None of them ends a session
//! because the controller is away: only what the controller says does.

mod actor;
mod controller;
mod reporter;
mod tunnels;
mod uplink;

use std::path::PathBuf;

use jmp_driver::{NodeSpec, Registry};
use jmp_lease::Event;
use jmp_proto::v1::DriverInstanceReport;
use jmp_wire::endpoint::CredentialsError;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

pub use controller::ControllerOptions;

use crate::hooks::HookScripts;
use actor::{Actor, Message};

/// Messages to the actor that may wait; those who send more wait themselves.
const MAILBOX: usize = 32;

/// What an exporter offers and where.
#[derive(Clone)]
pub struct LeasedOptions {
    /// The controller.
    pub controller: ControllerOptions,
    /// Drivers that can be named.
    pub registry: Registry,
    /// The devices; opened anew for each lease.
    pub root: NodeSpec,
    /// What they look like, from a session that was opened to see that they work, see
    /// [`crate::Session::reports`].
    pub reports: Vec<DriverInstanceReport>,
    /// Text for people who open a shell.
    pub motd: String,
    /// Scripts around each lease.
    pub hooks: HookScripts,
    /// A directory that comes first on the PATH of hooks: the one that holds `j`.
    pub programs: Option<PathBuf>,
    /// A private directory for the sockets of hooks and the like.
    pub directory: PathBuf,
    /// End with exit code 0 when the first lease ends.
    pub exit_on_lease_end: bool,
}

/// A running exporter. Dropping it abandons everything without ceremony.
#[derive(Debug)]
pub struct LeasedExporter {
    events: mpsc::Sender<Message>,
    progress: watch::Receiver<LeasedProgress>,
    actor: AbortOnDropHandle<Ended>,
}

/// How far an exporter has come with its controller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LeasedProgress {
    /// Nothing is known yet.
    #[default]
    Connecting,
    /// The controller cannot be reached, for this reason; there will be more attempts.
    Waiting(String),
    /// The controller knows this exporter.
    Registered,
}

/// How an exporter ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Exit code of the process.
    pub code: u8,
    /// Why, if the controller refused it.
    pub refused: Option<String>,
}

/// A way to end the exporter from elsewhere, such as a signal handler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LeasedShutdown(mpsc::Sender<Message>);

// === impl LeasedExporter ===

impl LeasedExporter {
    /// Starts it. Nothing of the controller is needed for that: it is looked for from then on.
    ///
    /// # Errors
    ///
    /// If the credentials have characters that cannot be sent.
    pub fn start(options: LeasedOptions) -> Result<Self, CredentialsError> {
        let (events, mailbox) = mpsc::channel(MAILBOX);
        let (progress, watched) = watch::channel(LeasedProgress::default());
        let actor = Actor::new(options, events.downgrade(), mailbox, progress)?;
        Ok(Self {
            events,
            progress: watched,
            actor: AbortOnDropHandle::new(tokio::spawn(actor.live())),
        })
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<LeasedProgress> {
        self.progress.clone()
    }

    /// Ends the exporter from elsewhere.
    #[must_use]
    pub fn shutdown_handle(&self) -> LeasedShutdown {
        LeasedShutdown(self.events.clone())
    }

    /// Waits until the exporter has ended, with its devices closed and all hooks gone. Can be
    /// cancelled and called again.
    ///
    /// # Panics
    ///
    /// If the exporter itself did.
    pub async fn finished(&mut self) -> Ended {
        match (&mut self.actor).await {
            Ok(ended) => ended,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Ended {
                code: 1,
                refused: None,
            },
        }
    }
}

// === impl LeasedShutdown ===

impl LeasedShutdown {
    /// Asks the exporter to end: now, or after the present lease. Asking again to end now skips
    /// the clean-up that runs.
    pub async fn request(&self, graceful: bool, exit_code: u8) {
        let event = Event::ShutdownRequested {
            graceful,
            exit_code,
        };
        // An exporter that has ended needs no asking.
        let _ = self.0.send(Message::Event(event)).await;
    }
}
