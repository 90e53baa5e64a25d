//! What goes into a [`Pool`](super::Pool) and what comes out of it.

use std::collections::BTreeMap;
use std::time::Duration;

use jmp_types::Timestamp;
use jmp_types::resource::{AccessPolicy, Client, Device, Exporter, Key, Kind, Lease};

use crate::status::ExporterStatus;
use crate::time::Moment;

/// The time, twice: leases begin and end by the wall clock, which may jump; everything that the
/// pool waits for on its own account goes by the monotonic clock, so that no jump can wedge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall clock.
    pub wall: Timestamp,
    /// Monotonic clock of this process.
    pub monotonic: Moment,
}

/// Limits and delays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most tags on one lease.
    pub max_tags: usize,
    /// Most leases of one client that have not ended.
    pub max_live_leases: usize,
    /// Longest duration that a lease may ask for.
    pub max_duration: Duration,
    /// How long an exporter may be without an open Status stream before it counts as offline.
    pub offline_after: Duration,
    /// How long an exporter that reports has to confirm AVAILABLE by a new report, once it was told
    /// that it is not leased, before an AVAILABLE from before that counts.
    pub settle_reporting: Duration,
    /// The same for an exporter that never reported anything (0.7).
    pub settle_silent: Duration,
    /// How long LEASE_READY may stay without a lease before the report of its end counts as lost.
    pub cleaning_limit: Duration,
    /// How long a hook may run without a lease before the exporter is flagged.
    pub hook_limit: Duration,
    /// After how long a failed hook without a lease no longer keeps the exporter from being leased
    /// (0.9.0 stays in that state for ever, though it would accept a lease: protocol 6.5).
    pub failed_hook_delay: Duration,
    /// How long an exporter has to release the lease whose hook failed.
    pub failed_lease_limit: Duration,
    /// How long a lease may wait for an exporter.
    pub pending_limit: Duration,
    /// The bug to plant, for tests that show that it is found.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub fault: Option<super::fault::Fault>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_tags: 10,
            max_live_leases: 1000,
            max_duration: Duration::from_secs(10 * 365 * 24 * 3600),
            offline_after: Duration::from_secs(60),
            settle_reporting: Duration::from_secs(2),
            settle_silent: Duration::from_secs(3),
            cleaning_limit: Duration::from_secs(120),
            hook_limit: Duration::from_secs(30 * 60),
            failed_hook_delay: Duration::from_secs(10),
            failed_lease_limit: Duration::from_secs(30),
            pending_limit: Duration::from_secs(24 * 3600),
            #[cfg(any(test, feature = "planted-bugs"))]
            fault: None,
        }
    }
}

/// Something that happened. Events may be lost, repeated or late; the next one, or a deadline,
/// repairs what that left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An administrator made or changed an exporter. Identity, labels (without the process' own),
    /// `spec`, credential and endpoint are taken from it, what is known about the process is kept.
    ExporterPut(Box<Exporter>),
    /// An exporter was deleted; its lease ends.
    ExporterDeleted(Key),
    /// A client was made or changed.
    ClientPut(Box<Client>),
    /// A client was deleted; its leases end.
    ClientDeleted(Key),
    /// A policy was made or changed.
    PolicyPut(Box<AccessPolicy>),
    /// A policy was deleted.
    PolicyDeleted(Key),
    /// An exporter process called Register: it is new, or came back.
    Registered {
        /// Who.
        exporter: Key,
        /// Of these only those that belong to the process count
        /// ([`PROCESS_LABEL_PREFIX`](jmp_types::resource::PROCESS_LABEL_PREFIX)).
        labels: BTreeMap<String, String>,
        /// The device tree.
        devices: Vec<Device>,
    },
    /// An exporter process said goodbye.
    Unregistered {
        /// Who.
        exporter: Key,
        /// Its words; may be empty.
        reason: String,
    },
    /// An exporter reported its status.
    StatusReported {
        /// Who.
        exporter: Key,
        /// The status.
        status: ExporterStatus,
        /// Its words.
        message: String,
    },
    /// An exporter opened a Status stream. Numbers grow; the newest stream is the one that counts.
    Connected {
        /// Who.
        exporter: Key,
        /// Number of the stream.
        connection: u64,
    },
    /// A Status stream closed.
    Disconnected {
        /// Who.
        exporter: Key,
        /// Number of the stream.
        connection: u64,
    },
    /// A notice was handed to the transport of a Status stream: one from [`Effect::Notify`], or the
    /// first message of the stream, which is what [`Pool::notice`](super::Pool::notice) says then.
    NoticeDelivered {
        /// Who.
        exporter: Key,
        /// Number of the stream.
        connection: u64,
        /// The notice as it was sent.
        notice: Notice,
    },
    /// Nothing but the passing of time.
    Tick,
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A new lease. It comes back assigned, waiting, scheduled, or already ended as unsatisfiable.
    Create(Box<NewLease>),
    /// Other times, another holder, tags or context.
    Update(Box<LeaseUpdate>),
    /// The end of a lease.
    Release {
        /// Who wants it.
        actor: Actor,
        /// Which one. One that is not in the pool is `NotFound`: look for an ended one in the store,
        /// and decide there what a repetition answers.
        lease: Key,
        /// Name of the call, for the refusal (`ReleaseLease permission denied`).
        method: &'static str,
    },
}

/// Who acts on a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A client; must hold the lease.
    Client(Key),
    /// An exporter; must be the one that is assigned.
    Exporter(Key),
    /// May do everything.
    Administrator,
}

/// A duration as it comes off the wire: seconds and nanoseconds, of any sign and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenDuration {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, of the same sign.
    pub nanoseconds: i32,
}

/// A lease that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewLease {
    /// Its name: what the client chose, else one that the caller made (UUIDv7). The caller checks
    /// that no ended lease in the store has it.
    pub name: String,
    /// Its identity, made by the caller.
    pub uid: String,
    /// Who holds it; also says the namespace.
    pub client: Option<Key>,
    /// Label selector in the client's words.
    pub selector: String,
    /// The one exporter that will do; empty is the same as none.
    pub exporter_name: Option<String>,
    /// How long.
    pub duration: Option<GivenDuration>,
    /// Not before.
    pub begin_time: Option<Timestamp>,
    /// Not after.
    pub end_time: Option<Timestamp>,
    /// A disabled exporter will do, if named.
    pub allow_disabled: bool,
    /// For filters and accounts.
    pub tags: BTreeMap<String, String>,
    /// For the exporter and the logs.
    pub context: BTreeMap<String, String>,
}

/// Changes of a lease; `None` leaves things as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseUpdate {
    /// Who wants it.
    pub actor: Actor,
    /// Which lease.
    pub lease: Key,
    /// Not before; only while it has not begun.
    pub begin_time: Option<Timestamp>,
    /// Not after.
    pub end_time: Option<Timestamp>,
    /// How long.
    pub duration: Option<GivenDuration>,
    /// The new holder.
    pub client: Option<Key>,
    /// Tags, if it has none yet.
    pub tags: Option<BTreeMap<String, String>>,
    /// Context, if it has none yet.
    pub context: Option<BTreeMap<String, String>>,
}

/// What an exporter's Status stream should say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// Whether a lease holds it.
    pub leased: bool,
    /// Name of the lease, if any.
    pub lease: Option<String>,
    /// Name of its holder, if any.
    pub client: Option<String>,
    /// The holder's words.
    pub context: BTreeMap<String, String>,
    /// Grows with every change; tells a confirmation of this notice from one of an older, equal one.
    /// Not for the wire.
    pub sequence: u64,
}

/// Something to be done, in this order: saves (durable before anything else happens), then notices,
/// then the rest. If a save fails, drop the pool and rebuild it with
/// [`Pool::restore`](super::Pool::restore) from what the store has, then tell it again which streams are open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the lease. If `status.ended`, the pool has forgotten it.
    SaveLease(Box<Lease>),
    /// Write the exporter, if it exists. The resource version is the one that was put last.
    SaveExporter(Box<Exporter>),
    /// Say this on the Status stream, if one is open. A notice that was not sent yet may be replaced
    /// by the next: the pool never counts on one that was not confirmed.
    Notify {
        /// To whom.
        exporter: Key,
        /// What.
        notice: Notice,
    },
    /// End the tunnels of the lease, and those that are still to come with older tokens.
    CloseTunnels {
        /// Which lease.
        lease: Key,
        /// Shown to both peers.
        reason: String,
    },
    /// Something that people want to read under the object, later.
    Record(Record),
    /// A lease got its exporter.
    Acquired {
        /// Which lease.
        lease: Key,
        /// Since it was made, or since its begin.
        waited: Duration,
    },
    /// A lease will never get an exporter.
    Failed {
        /// Which lease.
        lease: Key,
        /// Reason of its condition.
        reason: String,
    },
    /// A lease that had an exporter is over.
    Ended {
        /// Which lease.
        lease: Key,
        /// Its exporter.
        exporter: Key,
        /// From assignment to end, by the wall clock.
        held: Duration,
    },
}

/// One entry of an object's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Kind of the object.
    pub kind: Kind,
    /// The object.
    pub key: Key,
    /// One word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Somebody should look at this.
    pub warning: bool,
}

/// When [`Pool::step`](super::Pool::step) has something to do at the latest; [`Event::Tick`] will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// By the wall clock. Look again after a jump of it, and at least every few seconds.
    pub wall: Option<Timestamp>,
    /// By the monotonic clock.
    pub monotonic: Option<Moment>,
}

/// Where a waiting lease stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// One-based place among the leases that compete for the same exporters.
    pub position: usize,
    /// How many they are.
    pub length: usize,
    /// The exporters that it may get, with what keeps each of them busy; at most
    /// [`MAX_CANDIDATES`](super::MAX_CANDIDATES).
    pub candidates: Vec<Candidate>,
    /// When an exporter will be free at the latest, if nobody extends a lease.
    pub estimate: Option<Timestamp>,
}

/// An exporter that a waiting lease may get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the exporter.
    pub exporter: String,
    /// Why it is not free, for people.
    pub reason: String,
    /// Who has it, or will.
    pub client: Option<String>,
    /// The lease of that client.
    pub lease: Option<String>,
    /// Until when at most.
    pub until: Option<Timestamp>,
}

/// What an exporter waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// For people.
    pub what: String,
    /// How long it does so already.
    pub since: Duration,
    /// How long it will at most; `None` when only a person can change that (it is offline, disabled
    /// or flagged).
    pub at_most: Option<Duration>,
}

/// The kinds of refusals, after the status codes that they become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// INVALID_ARGUMENT.
    InvalidArgument,
    /// NOT_FOUND, or UNKNOWN where shipped clients are used to that.
    NotFound,
    /// UNKNOWN with a text that contains `permission denied` (facts: controller 4).
    PermissionDenied,
    /// FAILED_PRECONDITION.
    FailedPrecondition,
    /// ALREADY_EXISTS, or UNKNOWN.
    AlreadyExists,
    /// RESOURCE_EXHAUSTED.
    ResourceExhausted,
}

/// Why a command was not carried out. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people, and for programs that match on parts of it.
    pub text: String,
}

impl Refusal {
    /// A refusal of that kind.
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// Why a Dial may not go through now (facts: controller 4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialRefusal {
    /// There is no such lease in the pool: never was, or ended. UNKNOWN.
    NoLease(String),
    /// The lease is somebody else's. UNKNOWN with `permission denied`.
    NotHolder(String),
    /// No exporter yet. UNKNOWN with `lease not active`.
    NotActive(String),
    /// The exporter has not taken the lease yet; wait for a change of it for up to 30 s, then
    /// FAILED_PRECONDITION with `not ready`.
    NotReady(String),
    /// Offline, or its hook failed. FAILED_PRECONDITION.
    Unusable(String),
}

impl DialRefusal {
    /// What to tell the caller.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::NoLease(text)
            | Self::NotHolder(text)
            | Self::NotActive(text)
            | Self::NotReady(text)
            | Self::Unusable(text) => text,
        }
    }
}

/// How many there are of what, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leases that begin later.
    pub scheduled: usize,
    /// Leases that wait for an exporter.
    pub waiting: usize,
    /// Leases that have one.
    pub active: usize,
    /// Exporters.
    pub exporters: usize,
    /// Exporters that could be leased now.
    pub available: usize,
    /// Exporters that are not offline.
    pub online: usize,
}
