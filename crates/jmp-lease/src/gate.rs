//! Who may use the devices when.

use std::fmt;

use crate::status::ExporterStatus;

/// Which door a call came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The session socket, a TCP listener or a tunnel: a person or a test.
    Client,
    /// The hook socket, which only hooks know.
    Hook,
}

/// Why a call may not reach a driver now; on the wire FAILED_PRECONDITION with this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status that stands in the way.
    pub status: ExporterStatus,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.status {
            ExporterStatus::BeforeLeaseHook => "its beforeLease hook still runs; try again soon",
            ExporterStatus::AfterLeaseHook => "the session has ended and its afterLease hook runs",
            ExporterStatus::BeforeLeaseHookFailed => {
                "its beforeLease hook failed; see the exporter's log and lease again"
            }
            ExporterStatus::AfterLeaseHookFailed => {
                "the session has ended and its afterLease hook failed"
            }
            ExporterStatus::Offline => "it is going offline",
            _ => "no session is active; acquire a lease first",
        };
        write!(
            f,
            "exporter is not ready (status {}): {advice}",
            self.status
        )
    }
}

impl std::error::Error for Refusal {}

/// Whether a call that reaches a driver is allowed: DriverCall, StreamingDriverCall, the opening
/// of a Stream, and Reset. Everything else is answered in every status.
#[must_use]
pub fn allows_driver_call(status: ExporterStatus, origin: Origin) -> bool {
    match origin {
        Origin::Client => status == ExporterStatus::LeaseReady,
        // LEASE_READY too: what a beforeLease hook left running in the background is its own.
        Origin::Hook => matches!(
            status,
            ExporterStatus::BeforeLeaseHook
                | ExporterStatus::LeaseReady
                | ExporterStatus::AfterLeaseHook
        ),
    }
}

/// [`allows_driver_call`] with the reason.
///
/// # Errors
///
/// The [`Refusal`] to answer with.
pub fn gate(status: ExporterStatus, origin: Origin) -> Result<(), Refusal> {
    if allows_driver_call(status, origin) {
        Ok(())
    } else {
        Err(Refusal { status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_pass_when_ready_and_hooks_while_they_run() {
        let allowed = |origin| -> Vec<&str> {
            let pass = |status: &ExporterStatus| gate(*status, origin).is_ok();
            let all = ExporterStatus::ALL.into_iter().filter(pass);
            all.map(ExporterStatus::name).collect()
        };
        assert_eq!(allowed(Origin::Client), ["LEASE_READY"]);
        assert_eq!(
            allowed(Origin::Hook),
            ["BEFORE_LEASE_HOOK", "LEASE_READY", "AFTER_LEASE_HOOK"]
        );
        let refusal = gate(ExporterStatus::Available, Origin::Client).unwrap_err();
        assert!(refusal.to_string().contains("AVAILABLE"), "{refusal}");
    }
}
