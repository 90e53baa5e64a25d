//! What clients were promised: every call that changes something, with what became of it.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Milliseconds since 1970 by the clock that all programs of the lab share.
pub type Time = i64;

pub fn now() -> Time {
    jmp_types::Timestamp::now().as_millisecond()
}

/// What is known about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent; no answer says what became of it.
    Unknown,
    /// It was answered with success.
    Acknowledged,
    /// It was answered with an error that says that nothing was done.
    Refused,
}

/// A value that a client wanted a lease to have.
#[derive(Clone, Debug)]
pub struct Wanted<T> {
    pub value: T,
    pub outcome: Outcome,
    pub asked: Time,
}

/// One lease.
#[derive(Clone, Debug)]
pub struct LeaseEntry {
    pub created: Outcome,
    /// In seconds, the first one included.
    pub durations: Vec<Wanted<u64>>,
    /// The first one included.
    pub owners: Vec<Wanted<String>>,
    pub deleted: Option<Wanted<()>>,
}

/// One driver call.
#[derive(Clone, Debug)]
pub struct CallEntry {
    pub lease: String,
    pub exporter: String,
    pub outcome: Outcome,
}

/// Something that should not end by itself did.
#[derive(Clone, Debug)]
pub struct Break {
    pub what: String,
    pub lease: String,
    pub exporter: String,
    pub since: Time,
    pub at: Time,
    pub text: String,
}

/// A byte stream, when it was over.
#[derive(Clone, Debug)]
pub struct Stream {
    pub since: Time,
    pub until: Time,
    pub lines: u64,
}

/// Everything that was noted in a round.
#[derive(Clone, Debug, Default)]
pub struct Book {
    pub leases: BTreeMap<String, LeaseEntry>,
    pub calls: BTreeMap<String, CallEntry>,
    pub breaks: Vec<Break>,
    /// No way to an exporter within the client's patience.
    pub lost_ways: Vec<Break>,
    pub streams: Vec<Stream>,
    /// What is wrong by itself.
    pub violations: Vec<String>,
    pub shells: u64,
    pub transfers: u64,
}

/// Filled by all clients of a round.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Book>);

// === impl Ledger ===

impl Ledger {
    pub fn note<T>(&self, note: impl FnOnce(&mut Book) -> T) -> T {
        note(&mut self.0.lock().unwrap())
    }

    pub fn violation(&self, text: String) {
        self.note(|book| book.violations.push(text));
    }

    pub fn creating(&self, lease: &str, owner: &str, duration: u64) {
        let asked = now();
        let entry = LeaseEntry {
            created: Outcome::Unknown,
            durations: vec![Wanted {
                value: duration,
                outcome: Outcome::Acknowledged,
                asked,
            }],
            owners: vec![Wanted {
                value: owner.to_owned(),
                outcome: Outcome::Acknowledged,
                asked,
            }],
            deleted: None,
        };
        self.note(|book| book.leases.insert(lease.to_owned(), entry));
    }

    /// Changes what is known about a lease that was asked for here.
    pub fn lease(&self, lease: &str, change: impl FnOnce(&mut LeaseEntry)) {
        self.note(|book| change(book.leases.get_mut(lease).unwrap()));
    }

    pub fn calling(&self, call: &str, lease: &str, exporter: &str) {
        let entry = CallEntry {
            lease: lease.to_owned(),
            exporter: exporter.to_owned(),
            outcome: Outcome::Unknown,
        };
        self.note(|book| book.calls.insert(call.to_owned(), entry));
    }

    pub fn called(&self, call: &str) {
        self.note(|book| {
            let entry = book.calls.get_mut(call).unwrap();
            entry.outcome = Outcome::Acknowledged;
        });
    }
}

/// What the error of a call to the controller says about its effect.
pub fn outcome_of(error: &jmp_client::Error) -> Outcome {
    match error {
        jmp_client::Error::Refused { .. } if !error.is_transient() => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

impl<T> Wanted<T> {
    pub fn of(value: T) -> Self {
        Self {
            value,
            outcome: Outcome::Unknown,
            asked: now(),
        }
    }
}
