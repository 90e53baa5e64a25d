//! The status words that exporters, clients and controllers share.

use std::fmt;

/// What an exporter says about itself. Numbers and names are those of the wire (protocol 1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ExporterStatus {
    /// Nothing was said.
    #[default]
    Unspecified = 0,
    /// Not serving; the message says why.
    Offline = 1,
    /// Ready for a lease.
    Available = 2,
    /// The beforeLease hook runs.
    BeforeLeaseHook = 3,
    /// The holder of the lease may use the devices.
    LeaseReady = 4,
    /// The afterLease hook runs.
    AfterLeaseHook = 5,
    /// The beforeLease hook failed and its policy forbids to go on.
    BeforeLeaseHookFailed = 6,
    /// The afterLease hook failed and its policy asks for attention.
    AfterLeaseHookFailed = 7,
}

impl ExporterStatus {
    /// Every status, in the order of the numbers.
    pub const ALL: [Self; 8] = [
        Self::Unspecified,
        Self::Offline,
        Self::Available,
        Self::BeforeLeaseHook,
        Self::LeaseReady,
        Self::AfterLeaseHook,
        Self::BeforeLeaseHookFailed,
        Self::AfterLeaseHookFailed,
    ];

    /// The name in logs, without the prefix that the wire's enum carries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::Offline => "OFFLINE",
            Self::Available => "AVAILABLE",
            Self::BeforeLeaseHook => "BEFORE_LEASE_HOOK",
            Self::LeaseReady => "LEASE_READY",
            Self::AfterLeaseHook => "AFTER_LEASE_HOOK",
            Self::BeforeLeaseHookFailed => "BEFORE_LEASE_HOOK_FAILED",
            Self::AfterLeaseHookFailed => "AFTER_LEASE_HOOK_FAILED",
        }
    }

    /// The name that the controller stores.
    #[must_use]
    pub fn stored_name(self) -> &'static str {
        match self {
            Self::Unspecified => "Unspecified",
            Self::Offline => "Offline",
            Self::Available => "Available",
            Self::BeforeLeaseHook => "BeforeLeaseHook",
            Self::LeaseReady => "LeaseReady",
            Self::AfterLeaseHook => "AfterLeaseHook",
            Self::BeforeLeaseHookFailed => "BeforeLeaseHookFailed",
            Self::AfterLeaseHookFailed => "AfterLeaseHookFailed",
        }
    }
}

impl fmt::Display for ExporterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<ExporterStatus> for i32 {
    fn from(status: ExporterStatus) -> Self {
        status as Self
    }
}

/// A number that stands for no status we know; a newer peer may have more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownStatus(pub i32);

impl fmt::Display for UnknownStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown exporter status {}", self.0)
    }
}

impl std::error::Error for UnknownStatus {}

impl TryFrom<i32> for ExporterStatus {
    type Error = UnknownStatus;

    fn try_from(number: i32) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| i32::from(*status) == number)
            .ok_or(UnknownStatus(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_wire() {
        for (number, status) in (0..).zip(ExporterStatus::ALL) {
            assert_eq!(i32::from(status), number);
            assert_eq!(ExporterStatus::try_from(number), Ok(status));
        }
        assert_eq!(ExporterStatus::try_from(8), Err(UnknownStatus(8)));
        assert_eq!(i32::from(ExporterStatus::AfterLeaseHookFailed), 7);
    }

    #[test]
    fn stored_names_are_the_same_words() {
        for status in ExporterStatus::ALL {
            let squeezed = status.name().replace('_', "");
            assert!(status.stored_name().eq_ignore_ascii_case(&squeezed));
        }
    }
}
