//! Certificates: an authority of our own, and what servers present.
//!
//! [`Authority`] signs, [`ServerCertificate`] is what one server presents and keeps fresh, [`AuthorityPin`] is how a
//! client recognises an authority that it was told of by a person.

mod authority;
mod der;
mod error;
mod names;
mod pin;
mod server;

pub(crate) use der::validity;

pub use authority::{Authority, Leaf};
pub use error::PkiError;
pub use names::{ServerNames, host_name};
pub use pin::{AuthorityPin, PinError, pinned_client_config};
pub use server::{Protocols, Refreshed, ServerCertificate};
