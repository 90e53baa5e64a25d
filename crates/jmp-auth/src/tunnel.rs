//! Tunnel tokens: what the two peers of a tunnel show to a router (facts: controller 5.6, protocol 9.1).

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::SignedDuration;
use jmp_types::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::identity::{CLOCK_LEEWAY_SECONDS, lifetime};
use crate::jws::{self, Expected, Parts};
use crate::{IssuedToken, KeyGenerationError, Secret, TokenError, TunnelKeys};

/// `iss` of tunnel tokens.
pub const TUNNEL_ISSUER: &str = "https://jumpstarter.dev/stream";
/// `aud` of tunnel tokens.
pub const TUNNEL_AUDIENCE: &str = "https://jumpstarter.dev/router";
/// How long a tunnel token lives unless configured: 30 minutes. Streams outlive it.
pub const TUNNEL_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// The longest `sub`, `jti`, `lease` and `owner` that are accepted, in bytes.
const MAX_CLAIM_BYTES: usize = 1024;

/// Issuer's and router's clocks may differ by the leeway, either way.
const EXPECTED: Expected = Expected {
    issuer: TUNNEL_ISSUER,
    audience: TUNNEL_AUDIENCE,
    early_seconds: CLOCK_LEEWAY_SECONDS,
    late_seconds: CLOCK_LEEWAY_SECONDS,
};

/// Which end of a tunnel a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelRole {
    /// The one that leases.
    Client,
    /// The one that serves.
    Exporter,
}

/// Between whom a tunnel is.
#[derive(Clone, Copy, Debug)]
pub struct TunnelEnds<'a> {
    /// Name of the lease, with its namespace where names are not unique without: the router closes by it.
    pub lease: &'a str,
    /// The client, as [`crate::Subject::identity`] names it.
    pub client: &'a str,
    /// The exporter, likewise.
    pub exporter: &'a str,
}

/// The two tokens of one tunnel. Each is good for one use.
#[derive(Clone, Debug)]
pub struct TunnelTokens {
    /// What the two have in common (`sub`).
    pub stream: String,
    /// For the client.
    pub client: IssuedToken,
    /// For the exporter.
    pub exporter: IssuedToken,
}

/// Issues tunnel tokens.
#[derive(Clone, Debug)]
pub struct TunnelIssuer {
    keys: Arc<TunnelKeys>,
    lifetime: Duration,
}

/// Verifies tunnel tokens. Keys and clock can be corrected while it is in use.
#[derive(Debug)]
pub struct TunnelVerifier {
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    keys: TunnelKeys,
    /// What to add to the local time.
    offset: SignedDuration,
}

/// What a verified tunnel token says.
///
/// Tokens of a shipped controller have neither role nor lease nor owner, and both ends show the same token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelClaims {
    /// Identifier of the tunnel: its two ends are joined by it.
    pub stream: String,
    /// Which end.
    pub role: Option<TunnelRole>,
    /// Lease.
    pub lease: Option<String>,
    /// Identity of the holder, for limits per identity.
    pub owner: Option<String>,
    /// Identifier of the token.
    pub token_id: Option<String>,
    /// When it was issued.
    pub issued_at: Option<Timestamp>,
    /// When it ends, in the issuer's time.
    pub expires_at: Timestamp,
}

#[derive(Serialize)]
struct Issued<'a> {
    iss: &'static str,
    aud: [&'static str; 1],
    sub: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: &'a str,
    role: &'static str,
    lease: &'a str,
    owner: &'a str,
}

// === impl TunnelRole ===

impl TunnelRole {
    /// The value of the claim `role`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Exporter => "exporter",
        }
    }

    /// The end that joins this one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Exporter,
            Self::Exporter => Self::Client,
        }
    }
}

// === impl TunnelIssuer ===

impl TunnelIssuer {
    /// Tokens of the newest of these keys, with the default lifetime.
    #[must_use]
    pub fn new(keys: Arc<TunnelKeys>) -> Self {
        Self {
            keys,
            lifetime: TUNNEL_LIFETIME,
        }
    }

    /// With another lifetime; whole seconds count, and at least one.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime.max(Duration::from_secs(1));
        self
    }

    /// Two tokens for a new tunnel.
    ///
    /// # Errors
    ///
    /// If there is no key.
    pub fn issue(
        &self,
        ends: TunnelEnds<'_>,
        now: Timestamp,
    ) -> Result<TunnelTokens, KeyGenerationError> {
        let stream = Uuid::new_v4().to_string();
        let token = |role| self.token(&stream, role, ends, now);
        Ok(TunnelTokens {
            client: token(TunnelRole::Client)?,
            exporter: token(TunnelRole::Exporter)?,
            stream,
        })
    }

    fn token(
        &self,
        stream: &str,
        role: TunnelRole,
        ends: TunnelEnds<'_>,
        now: Timestamp,
    ) -> Result<IssuedToken, KeyGenerationError> {
        let token_id = Uuid::new_v4().to_string();
        let (issued_at, expires_at) = lifetime(now, self.lifetime);
        let input = jws::signing_input(
            "HS256",
            &Issued {
                iss: TUNNEL_ISSUER,
                aud: [TUNNEL_AUDIENCE],
                sub: stream,
                iat: issued_at.as_second(),
                nbf: issued_at.as_second(),
                exp: expires_at.as_second(),
                jti: &token_id,
                role: role.as_str(),
                lease: ends.lease,
                owner: match role {
                    TunnelRole::Client => ends.client,
                    TunnelRole::Exporter => ends.exporter,
                },
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

// === impl TunnelVerifier ===

impl TunnelVerifier {
    /// Accepts tokens that one of these keys signed.
    #[must_use]
    pub fn new(keys: TunnelKeys) -> Self {
        Self {
            state: RwLock::new(State {
                keys,
                offset: SignedDuration::ZERO,
            }),
        }
    }

    /// Takes other keys from now on.
    pub fn replace_keys(&self, keys: TunnelKeys) {
        self.change(|state| state.keys = keys);
    }

    /// Learns how far the local clock is off: the issuer said `issuer` when the local clock said `local`.
    pub fn learn_time(&self, issuer: Timestamp, local: Timestamp) {
        self.change(|state| state.offset = issuer.duration_since(local));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The issuer's time when the local clock says `local`; for [`crate::UsedTokens`] too.
    #[must_use]
    pub fn issuer_time(&self, local: Timestamp) -> Timestamp {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        local.saturating_add(state.offset).unwrap_or(local)
    }

    /// What the token says, if it is good when the local clock says `local`.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with it.
    pub fn verify(&self, token: &str, local: Timestamp) -> Result<TunnelClaims, TokenError> {
        let now = self.issuer_time(local);
        let parts = Parts::split(token)?;
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .keys
            .verify(&parts.algorithm, parts.signed.as_bytes(), &parts.signature)?;
        let claims = parts.claims()?;
        let expires_at = claims.check(&EXPECTED, now)?;
        let role = match claims.role.as_deref() {
            None => None,
            Some("client") => Some(TunnelRole::Client),
            Some("exporter") => Some(TunnelRole::Exporter),
            Some(_) => return Err(TokenError::UnknownSubject),
        };
        let stream = claims
            .sub
            .filter(|stream| !stream.is_empty())
            .ok_or(TokenError::UnknownSubject)?;
        let found = TunnelClaims {
            stream,
            role,
            lease: claims.lease,
            owner: claims.owner,
            token_id: claims.jti,
            issued_at: claims.iat,
            expires_at,
        };
        found.refuse_long_claims()?;
        Ok(found)
    }
}

// === impl TunnelClaims ===

impl TunnelClaims {
    fn refuse_long_claims(&self) -> Result<(), TokenError> {
        let texts = [&self.lease, &self.owner, &self.token_id];
        let too_long = texts
            .into_iter()
            .flatten()
            .chain([&self.stream])
            .any(|text| text.len() > MAX_CLAIM_BYTES);
        if too_long {
            return Err(TokenError::Malformed("one of its claims is too long"));
        }
        Ok(())
    }
}
