//! Identifiers, labels, selectors and durations: the small words every other crate speaks.
//!
//! No IO and no async. Start reading at [`TimeSpan`] for the duration grammar, at [`Selector`] for
//! what `-l` accepts and at [`ids`] for the newtypes.

pub mod ids;
mod labels;
pub mod resource;
mod secret;
mod selector;
mod time_span;

pub use ids::{
    Alias, ClientName, DriverUuid, ExporterName, IdError, LeaseName, Namespace, SessionId,
};
pub use jiff::{SignedDuration, Timestamp};
pub use labels::{LabelError, Labels};
pub use secret::{REDACTED, Secret};
pub use selector::{Selector, SelectorError, SelectorTerm, fuzz_selector};
pub use time_span::{ParsedTimeSpan, TimeSpan, TimeSpanError};
