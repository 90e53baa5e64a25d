//! Identifiers, labels and durations: no IO, no async
