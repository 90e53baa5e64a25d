//! What a token says about itself, without verifying it: for those who hold it.

use jmp_types::Timestamp;

use crate::jws::Parts;

/// What a token says about itself. Nobody verified it: for showing to its holder, never for a decision about
/// somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peeked {
    /// `sub`.
    pub subject: Option<String>,
    /// `iss`.
    pub issuer: Option<String>,
    /// `aud`.
    pub audiences: Vec<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// `iat`.
    pub issued_at: Option<Timestamp>,
    /// `exp`.
    pub expires_at: Option<Timestamp>,
}

/// What the token says about itself; `None` if it is opaque, which is no fault.
#[must_use]
pub fn peek(token: &str) -> Option<Peeked> {
    let claims = Parts::split(token).ok()?.claims().ok()?;
    Some(Peeked {
        subject: claims.sub,
        issuer: claims.iss,
        audiences: claims.aud.0,
        token_id: claims.jti,
        issued_at: claims.iat,
        expires_at: claims.exp,
    })
}

/// When the token ends; `None` if it is opaque or does not say.
#[must_use]
pub fn peek_expiry(token: &str) -> Option<Timestamp> {
    peek(token)?.expires_at
}
