//! What can be wrong with certificates.

use std::path::{Path, PathBuf};

use jmp_types::Timestamp;

use crate::FileError;

/// What can be wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file of keys or certificates cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that the configuration names is missing.
    #[error("there is no {what} at {path}; correct the configured path", path = path.display())]
    Missing {
        /// What belongs there.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The certificate of our authority is there, but its key is not.
    #[error(
        "{certificate} is there but its key {key} is not; restore the key from a backup, or remove the certificate \
         to get a new authority, which every client has to trust anew",
        certificate = certificate.display(), key = key.display()
    )]
    KeyLost {
        /// The certificate.
        certificate: PathBuf,
        /// Where the key was.
        key: PathBuf,
    },
    /// The certificate is not for this key.
    #[error("the certificate {certificate} does not belong to the key {key}", certificate = certificate.display(), key = key.display())]
    KeyMismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The certificate has ended.
    #[error("the certificate {path} expired at {at}; install a new one", path = path.display())]
    Expired {
        /// The certificate.
        path: PathBuf,
        /// When it ended.
        at: Timestamp,
    },
    /// The certificate begins in the future.
    #[error("the certificate {path} is not valid before {from}; compare the clocks, or install another", path = path.display())]
    NotYetValid {
        /// The certificate.
        path: PathBuf,
        /// When it begins.
        from: Timestamp,
    },
    /// Clients would refuse the certificate under the name by which they reach the server.
    #[error(
        "the certificate {path} is not for `{name}`, the name by which clients reach this server; \
         install one that has it among its alternative names, or configure the endpoint that it is for",
        path = path.display()
    )]
    WrongName {
        /// The certificate.
        path: PathBuf,
        /// The name of the endpoint.
        name: String,
    },
    /// A name is neither a DNS name nor an address.
    #[error(
        "`{name}` is neither a host name nor an address, so that no certificate can be made for it"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// A certificate or key that did not come from a file is unusable.
    #[error("the {what} cannot be used: {reason}")]
    Unusable {
        /// What it is.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

impl PkiError {
    pub(crate) fn unusable(what: &'static str, reason: impl ToString) -> Self {
        Self::Unusable {
            what,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn malformed(path: &Path, what: &'static str, reason: impl ToString) -> Self {
        FileError::malformed(path, what, reason).into()
    }
}
