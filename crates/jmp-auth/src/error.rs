//! Why a token is not accepted.

use jmp_types::Timestamp;

/// Why a token is not accepted. No variant carries anything of the token but times.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a signed token, or one with a claim of the wrong type.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Signed in a way that is not accepted here, or not at all.
    #[error("the token's signature algorithm is not accepted")]
    WrongAlgorithm,
    /// Signed by somebody else, or changed.
    #[error(
        "the token's signature is not valid: another controller issued it, or its key was replaced"
    )]
    BadSignature,
    /// Somebody else issued it.
    #[error("the token has the wrong issuer")]
    WrongIssuer,
    /// Meant for something else.
    #[error("the token is meant for another audience")]
    WrongAudience,
    /// Too late. Shipped clients offer to log in again when they read the first four words.
    #[error("token is expired (since {since})")]
    Expired {
        /// When it ended.
        since: Timestamp,
    },
    /// Too early: one of the clocks is wrong.
    #[error("the token is not valid before {from}; compare the clocks of the hosts")]
    NotYetValid {
        /// When it begins.
        from: Timestamp,
    },
    /// Signed properly for somebody of an unknown kind.
    #[error("the token speaks for nobody that is known here")]
    UnknownSubject,
}
