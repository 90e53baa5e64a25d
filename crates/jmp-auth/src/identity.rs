//! Identity tokens: what clients, exporters, administrators and routers show to the controller
//! (facts: controller 5.4).

use std::sync::Arc;
use std::time::Duration;

use jmp_types::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::jws::{self, Expected, Parts};
use crate::{IdentityKeys, KeyGenerationError, Secret, Subject, TokenError};

/// `iss` of identity tokens. Nothing listens there: it is the name that shipped controllers use.
pub const IDENTITY_ISSUER: &str = "https://localhost:8085";
/// `aud` of identity tokens.
pub const IDENTITY_AUDIENCE: &str = "jumpstarter";
/// How long an identity token lives unless configured: 365 days.
pub const IDENTITY_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How far the clock that issued a token may be ahead of the one that verifies it, in seconds.
pub const CLOCK_LEEWAY_SECONDS: i64 = 60;

const EXPECTED: Expected = Expected {
    issuer: IDENTITY_ISSUER,
    audience: IDENTITY_AUDIENCE,
    early_seconds: CLOCK_LEEWAY_SECONDS,
    late_seconds: 0,
};

/// Issues identity tokens.
#[derive(Clone, Debug)]
pub struct IdentityIssuer {
    keys: Arc<IdentityKeys>,
    lifetime: Duration,
}

/// Verifies identity tokens.
#[derive(Clone, Debug)]
pub struct IdentityVerifier {
    keys: Arc<IdentityKeys>,
}

/// A fresh token and what to remember of it.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The token. It is not stored anywhere.
    pub token: Secret,
    /// Its identifier (`jti`), for the audit.
    pub token_id: String,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What a verified identity token says.
///
/// The caller still has to compare `subject.uid` with the object's and `generation` with its credential record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityClaims {
    /// Who.
    pub subject: Subject,
    /// Identifier of the token. Tokens of shipped controllers have none.
    pub token_id: Option<String>,
    /// Generation of the credential. Tokens of shipped controllers have none.
    pub generation: Option<u64>,
    /// When it was issued.
    pub issued_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Signed with the key of a shipped controller ([`IdentityKeys::with_legacy`]).
    pub legacy: bool,
}

#[derive(Serialize)]
struct Issued<'a> {
    iss: &'static str,
    aud: [&'static str; 1],
    sub: String,
    iat: i64,
    exp: i64,
    jti: &'a str,
    #[serde(rename = "gen")]
    generation: u64,
}

// === impl IdentityIssuer ===

impl IdentityIssuer {
    /// Tokens of the newest of these keys, with the default lifetime.
    #[must_use]
    pub fn new(keys: Arc<IdentityKeys>) -> Self {
        Self {
            keys,
            lifetime: IDENTITY_LIFETIME,
        }
    }

    /// With another lifetime; whole seconds count, and at least one.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime.max(Duration::from_secs(1));
        self
    }

    /// A token for `subject` under the present `generation` of its credential.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes.
    pub fn issue(
        &self,
        subject: &Subject,
        generation: u64,
        now: Timestamp,
    ) -> Result<IssuedToken, KeyGenerationError> {
        let token_id = Uuid::new_v4().to_string();
        let (issued_at, expires_at) = lifetime(now, self.lifetime);
        let input = jws::signing_input(
            "ES256",
            &Issued {
                iss: IDENTITY_ISSUER,
                aud: [IDENTITY_AUDIENCE],
                sub: subject.to_string(),
                iat: issued_at.as_second(),
                exp: expires_at.as_second(),
                jti: &token_id,
                generation,
            },
        );
        let signature = self.keys.sign(input.as_bytes())?;
        Ok(IssuedToken {
            token: Secret::new(jws::signed(&input, &signature)),
            token_id,
            issued_at,
            expires_at,
        })
    }
}

/// Begin and end in whole seconds; an end that no calendar knows becomes the last moment there is.
pub(crate) fn lifetime(now: Timestamp, lifetime: Duration) -> (Timestamp, Timestamp) {
    let whole = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    let begin = now.as_second();
    let length = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    (whole(begin), whole(begin.saturating_add(length)))
}

// === impl IdentityVerifier ===

impl IdentityVerifier {
    /// Accepts tokens that one of these keys signed.
    #[must_use]
    pub fn new(keys: Arc<IdentityKeys>) -> Self {
        Self { keys }
    }

    /// What the token says, if it is good at `now`.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with it; the signature comes first, so that later complaints are about tokens of ours.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<IdentityClaims, TokenError> {
        let parts = Parts::split(token)?;
        if parts.algorithm != "ES256" {
            return Err(TokenError::WrongAlgorithm);
        }
        let legacy = self
            .keys
            .verify(parts.signed.as_bytes(), &parts.signature)?;
        let claims = parts.claims()?;
        let expires_at = claims.check(&EXPECTED, now)?;
        let subject = claims
            .sub
            .and_then(|subject| subject.parse().ok())
            .ok_or(TokenError::UnknownSubject)?;
        Ok(IdentityClaims {
            subject,
            token_id: claims.jti,
            generation: claims.generation,
            issued_at: claims.iat,
            expires_at,
            legacy,
        })
    }
}
