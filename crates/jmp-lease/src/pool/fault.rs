//! Bugs that can be planted, so that tests show that they would be found.

/// One planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Assigns again without having said `leased=false`.
    SkipDelivery,
    /// Leases do not end at their time.
    ForgetExpiry,
    /// Does not look whether the exporter is taken.
    DoubleAssign,
    /// Others get what is reserved.
    IgnoreReservation,
    /// A restart forgets a lease.
    LoseOnRestore,
    /// The close of an old stream counts for the new one.
    CloseOfOldStream,
    /// An exporter is never done cleaning up.
    NeverClean,
    /// Priorities do not count.
    IgnorePriority,
    /// `leased=false` is not sent.
    DropNotice,
    /// An AVAILABLE from before the end of the lease counts at once.
    StaleReport,
    /// A failed hook keeps the exporter for ever.
    NoHookDeadline,
    /// The name of a lease comes before its age.
    NameBeforeAge,
    /// Waiting leases wait for ever.
    NoPendingLimit,
    /// A lease that becomes possible by a policy is not looked at.
    ForgetPolicyChange,
    /// The save of an assignment is left out.
    UnsavedAssignment,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::SkipDelivery,
        Self::ForgetExpiry,
        Self::DoubleAssign,
        Self::IgnoreReservation,
        Self::LoseOnRestore,
        Self::CloseOfOldStream,
        Self::NeverClean,
        Self::IgnorePriority,
        Self::DropNotice,
        Self::StaleReport,
        Self::NoHookDeadline,
        Self::NameBeforeAge,
        Self::NoPendingLimit,
        Self::ForgetPolicyChange,
        Self::UnsavedAssignment,
    ];
}
