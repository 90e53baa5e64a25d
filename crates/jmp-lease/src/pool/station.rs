//! One exporter as the controller sees it.

use std::collections::BTreeSet;
use std::time::Duration;

use jmp_types::Timestamp;
use jmp_types::resource::Exporter;

use super::api::{Notice, Settings};
use crate::status::ExporterStatus;
use crate::time::Moment;

/// An exporter, what is known about its process, and whose turn it is.
#[derive(Clone, Debug)]
pub(super) struct Station {
    pub(super) object: Exporter,
    /// The Status stream that counts.
    pub(super) connection: Option<u64>,
    /// The highest number of a stream so far.
    pub(super) newest: Option<u64>,
    /// Since when there is no stream.
    pub(super) silent_since: Moment,
    /// What it reported last; `None` when it never did, or not since it registered or came back.
    pub(super) word: Option<ExporterStatus>,
    /// Since when that is its word.
    pub(super) word_since: Moment,
    /// It is connected, or was a moment ago, and does not say that it is offline.
    pub(super) online: bool,
    pub(super) turn: Turn,
    /// What its stream should say.
    pub(super) notice: Notice,
    /// Names of the policies that are about it.
    pub(super) policies: Vec<String>,
    /// Begin, end and name of the leases that it is kept for.
    pub(super) calendar: BTreeSet<(Timestamp, Timestamp, String)>,
    /// It is in the index of those that could be leased now.
    pub(super) indexed: bool,
    pub(super) timer: Option<Moment>,
}

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A lease's.
    Held {
        lease: String,
        /// Its hook failed: when the lease ends at the latest, and what the exporter said.
        failed: Option<(Moment, String)>,
    },
    /// Nobody's.
    Idle(Idle),
}

/// What is known about an exporter that is nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Idle {
    /// Since when.
    pub(super) since: Moment,
    /// When the present stream said that it is not leased.
    pub(super) told: Option<Moment>,
    /// It is done with the use before.
    pub(super) settled: bool,
    /// Why only a person, or a new word of it, can bring it back.
    pub(super) flagged: Option<String>,
    /// Name of the lease before.
    pub(super) after: Option<String>,
}

/// What a deadline of a station brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No stream for too long.
    Offline,
    /// Nothing came that would contradict its being available.
    Settled,
    /// The report of the end is lost, or never comes.
    Presumed,
    /// A hook takes too long.
    HookTooLong,
    /// The stream takes no message.
    NotTold,
    /// It keeps a lease whose hook failed.
    FailedLease,
}

// === impl Station ===

impl Station {
    pub(super) fn new(object: Exporter, now: Moment, sequence: u64) -> Self {
        let word = word(&object.status.exporter_status);
        Self {
            connection: None,
            newest: None,
            silent_since: now,
            word,
            word_since: now,
            online: super::exporters::says_online(&object),
            turn: Turn::Idle(Idle::new(now, None)),
            notice: Notice {
                sequence,
                ..Notice::default()
            },
            policies: Vec::new(),
            calendar: BTreeSet::new(),
            indexed: false,
            timer: None,
            object,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.object.metadata.name
    }

    pub(super) fn is_registered(&self) -> bool {
        !self.object.status.devices.is_empty()
    }

    pub(super) fn holder(&self) -> Option<&str> {
        match &self.turn {
            Turn::Held { lease, .. } => Some(lease),
            Turn::Idle(_) => None,
        }
    }

    pub(super) fn idle(&self) -> Option<&Idle> {
        match &self.turn {
            Turn::Idle(idle) => Some(idle),
            Turn::Held { .. } => None,
        }
    }

    pub(super) fn idle_mut(&mut self) -> Option<&mut Idle> {
        match &mut self.turn {
            Turn::Idle(idle) => Some(idle),
            Turn::Held { .. } => None,
        }
    }

    /// Whether a lease could have it now, apart from its being in service.
    pub(super) fn is_ready(&self) -> bool {
        let Turn::Idle(idle) = &self.turn else {
            return false;
        };
        self.connection.is_some()
            && self.is_registered()
            && idle.told.is_some()
            && idle.settled
            && idle.flagged.is_none()
            && matches!(self.word, None | Some(ExporterStatus::Available))
    }

    /// The next thing that happens without anybody's doing.
    pub(super) fn overdue(&self, settings: &Settings) -> Option<(Moment, Overdue)> {
        if self.connection.is_none() {
            let at = self.silent_since + settings.offline_after;
            let failing = self.failing().map(|until| (until, Overdue::FailedLease));
            let silent = self.online.then_some((at, Overdue::Offline));
            return [failing, silent]
                .into_iter()
                .flatten()
                .min_by_key(|one| one.0);
        }
        let idle = match &self.turn {
            Turn::Held { .. } => {
                return self.failing().map(|until| (until, Overdue::FailedLease));
            }
            Turn::Idle(idle) => idle,
        };
        if idle.flagged.is_some() || !self.is_registered() {
            return None;
        }
        let Some(told) = idle.told else {
            let since = idle.since.max(self.silent_since);
            return Some((since + settings.cleaning_limit, Overdue::NotTold));
        };
        let since = told.max(self.word_since);
        let settle = |span: Duration| (!idle.settled).then_some((told + span, Overdue::Settled));
        match self.word {
            None | Some(ExporterStatus::Unspecified) => settle(settings.settle_silent),
            Some(ExporterStatus::Available) => settle(settings.settle_reporting),
            Some(ExporterStatus::Offline) => None,
            Some(ExporterStatus::LeaseReady) => {
                Some((since + settings.cleaning_limit, Overdue::Presumed))
            }
            Some(ExporterStatus::BeforeLeaseHook | ExporterStatus::AfterLeaseHook) => {
                Some((since + settings.hook_limit, Overdue::HookTooLong))
            }
            Some(ExporterStatus::BeforeLeaseHookFailed | ExporterStatus::AfterLeaseHookFailed) => {
                (!planted!(settings, NoHookDeadline))
                    .then_some((since + settings.failed_hook_delay, Overdue::Presumed))
            }
        }
    }

    fn failing(&self) -> Option<Moment> {
        match &self.turn {
            Turn::Held { failed, .. } => failed.as_ref().map(|(until, _)| *until),
            Turn::Idle(_) => None,
        }
    }

    /// Puts what is known about the process into the object.
    pub(super) fn set_word(&mut self, word: Option<ExporterStatus>, message: &str, now: Moment) {
        if self.word != word {
            self.word_since = now;
        }
        self.word = word;
        let name = word.map_or("", ExporterStatus::stored_name);
        self.object.status.exporter_status = name.to_owned();
        self.object.status.status_message = message.to_owned();
    }
}

// === impl Idle ===

impl Idle {
    pub(super) fn new(since: Moment, after: Option<String>) -> Self {
        Self {
            since,
            told: None,
            settled: false,
            flagged: None,
            after,
        }
    }
}

/// A stored status; a word that we do not know counts as none.
pub(super) fn word(stored: &str) -> Option<ExporterStatus> {
    ExporterStatus::ALL
        .into_iter()
        .find(|status| status.stored_name() == stored)
        .filter(|status| *status != ExporterStatus::Unspecified)
}
