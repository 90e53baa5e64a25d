//! Pure decisions about leases: what an exporter does next, what its hooks may do, and, in
//! [`pool`], what a controller does: who gets which exporter when.
//!
//! Nothing here reads a clock, waits, or talks to anybody. An adapter feeds [`Event`]s and the
//! time into [`step()`], carries out the [`Effect`]s in their order, and comes back no later than
//! [`Exporter::deadline`]. Start reading at [`Exporter`]; the decisions are argued in
//! `docs/design/0003-exporter-status.md`.
//!
//! # The states of an exporter
//!
//! | phase | status | leaves on | deadline |
//! |---|---|---|---|
//! | idle | AVAILABLE | session started: *before* or *ready* | none: nothing is pending |
//! | before | BEFORE_LEASE_HOOK | hook finished: *ready*, *failed*; if the lease is over by then: *after* | hook timeout + margin |
//! | ready | LEASE_READY | EndSession, lease end, shutdown: *after*, or on as if it had run | none: the holder's time, ended by the controller |
//! | after | AFTER_LEASE_HOOK | hook finished: *ended*, *idle*, next turn, *failed* | hook timeout + margin |
//! | failed | BEFORE_/AFTER_LEASE_HOOK_FAILED | time: *ended*, *idle*, next turn, *leaving* | long enough for pollers to see it |
//! | ended | AVAILABLE | lease end, new lease, time: *idle* | release after a pause, then give up |
//! | leaving | OFFLINE | lease end, time: *stopped* | waits for the released lease to end |
//! | stopped | OFFLINE | never | none: the process ends |
//!
//! | mode | hooks | EndSession | endLease of a failed hook | end |
//! |---|---|---|---|---|
//! | local | none | refused | - | shutdown |
//! | direct | both, once a turn | ends the turn; the next one starts at once | before: process ends, 1; after: next turn | shutdown, after afterLease |
//! | leased | both | ends the lease: released a moment later | lease released | controller, or shutdown |
//!
//! After any fault and its deadlines the exporter is AVAILABLE, or LEASE_READY (direct and local),
//! or OFFLINE with a message that says why. `tests/properties.rs` checks that over random histories.

mod event;
mod exporter;
mod gate;
mod hook;
pub mod pool;
mod status;
mod step;
mod time;

pub use event::{Effect, EndSessionReply, Event, Mode, StatusUpdate};
pub use exporter::{
    AVAILABLE_MESSAGE, AfterFailure, Exporter, FAILURE_SHOWN, HOOK_MARGIN, Phase, READY_MESSAGE,
    REGISTERED_MESSAGE, RELEASE_LIMIT, RELEASE_PAUSE,
};
pub use gate::{Origin, Refusal, allows_driver_call, gate};
pub use hook::{
    DEFAULT_HOOK_TIMEOUT, DEFAULT_INTERPRETER, HOOK_WARNING_PREFIX, Hook, HookOutcome, HookPolicy,
    HookRun, Hooks, OnFailure, hook_environment, hook_invocation,
};
pub use status::{ExporterStatus, UnknownStatus};
pub use step::step;
pub use time::Moment;
