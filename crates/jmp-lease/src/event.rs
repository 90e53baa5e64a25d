//! What happens to an exporter, and what it then asks for.

use crate::hook::{Hook, HookOutcome, HookRun};
use crate::status::ExporterStatus;

/// How a session is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// `jmp shell --exporter`: one person, no lease, no hooks.
    Local,
    /// `jmp run --tls-grpc-listener`: no controller; whoever connects uses it in turn.
    Direct,
    /// A controller hands it out.
    Leased,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The controller knows this exporter.
    Registered,
    /// The drivers are up and the session serves. A repetition while a session is active (the
    /// controller says leased=true more than once) changes nothing.
    SessionStarted {
        /// How it will be used.
        mode: Mode,
    },
    /// The drivers did not come up, or the session broke down.
    SessionFailed {
        /// How it was to be used.
        mode: Mode,
        /// What a person should read.
        reason: String,
    },
    /// A hook ended.
    HookFinished {
        /// The number that came with [`Effect::RunHook`].
        run: HookRun,
        /// How it ended.
        outcome: HookOutcome,
    },
    /// A client called EndSession; answered with [`Effect::ReplyEndSession`].
    EndSessionRequested,
    /// The controller ended the lease (released, deleted, expired).
    LeaseEnded,
    /// The process was asked to end.
    ShutdownRequested {
        /// After the current lease (SIGHUP), instead of now (SIGTERM, SIGINT, SIGQUIT).
        graceful: bool,
        /// The exit code for that.
        exit_code: u8,
    },
    /// Nothing but the passing of time.
    Tick,
}

/// One update of the reported status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// The status from now on.
    pub status: ExporterStatus,
    /// The status before it.
    pub previous: ExporterStatus,
    /// What a person should read.
    pub message: String,
    /// Number of updates so far, this one included.
    pub version: u64,
}

/// The answer to EndSession.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndSessionReply {
    /// Whether the session ends, or is ending already.
    pub success: bool,
    /// What a person should read.
    pub message: String,
}

/// Something to be done, in this order. Failures of effects are no news for the machine, except
/// that a hook that cannot be run has finished with a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer the EndSession call that caused this step. Always the first effect.
    ReplyEndSession(EndSessionReply),
    /// Make the status visible: to GetStatus at once, to the controller if there is one.
    ReportStatus(StatusUpdate),
    /// Run this hook; report [`Event::HookFinished`] with the same number, also on its timeout.
    RunHook {
        /// Which one.
        hook: Hook,
        /// Number of the run.
        run: HookRun,
    },
    /// Kill this run with everything it started, before the next effect.
    CancelHook {
        /// Number of the run.
        run: HookRun,
    },
    /// End the byte streams that clients opened: the session is no longer theirs.
    CloseClientStreams,
    /// Ask the controller to end the lease.
    ReleaseLease,
    /// Close the session and its drivers, as far as they came up.
    CloseSession,
    /// Tell the controller that this exporter leaves.
    Unregister,
    /// End the process. Always the last effect.
    ExitProcess(u8),
}
