//! Compact signed tokens (RFC 7515, RFC 7519): taking them apart and putting them together.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jmp_types::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use crate::TokenError;

/// The longest token that is looked at, in bytes. Tokens of large identity providers with many groups stay below.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token taken apart. Nothing of it is verified.
pub(crate) struct Parts<'a> {
    pub(crate) algorithm: String,
    /// What the signature covers.
    pub(crate) signed: &'a str,
    pub(crate) signature: Vec<u8>,
    claims: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

/// The claims that we know. Whether they must be there is the verifier's business.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: Option<String>,
    #[serde(default)]
    pub(crate) aud: Audience,
    pub(crate) sub: Option<String>,
    #[serde(default, deserialize_with = "time")]
    pub(crate) iat: Option<Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub(crate) nbf: Option<Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub(crate) exp: Option<Timestamp>,
    pub(crate) jti: Option<String>,
    #[serde(rename = "gen")]
    pub(crate) generation: Option<u64>,
    pub(crate) role: Option<String>,
    pub(crate) lease: Option<String>,
    pub(crate) owner: Option<String>,
}

/// One or several texts.
#[derive(Debug, Default)]
pub(crate) struct Audience(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(one) => Ok(Self(vec![one])),
            serde_json::Value::Array(several) => several
                .into_iter()
                .map(|one| one.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .map(Self)
                .ok_or_else(|| D::Error::custom("an audience that is no text")),
            _ => Err(D::Error::custom("an audience that is no text")),
        }
    }
}

/// Seconds since 1970, whole or not.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    use serde::de::Error;
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let seconds = match number.as_i64() {
        Some(seconds) => seconds,
        None => number
            .as_f64()
            .filter(|seconds| seconds.abs() < 1e15)
            .map(|seconds| seconds.floor() as i64)
            .ok_or_else(|| D::Error::custom("no time"))?,
    };
    Timestamp::from_second(seconds)
        .map(Some)
        .map_err(D::Error::custom)
}

// === impl Parts ===

impl<'a> Parts<'a> {
    pub(crate) fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed("it is too long"));
        }
        let not_three = TokenError::Malformed("it does not have three parts");
        let (signed, signature) = token.rsplit_once('.').ok_or(not_three.clone())?;
        let (header, claims) = signed.split_once('.').ok_or(not_three.clone())?;
        if claims.contains('.') {
            return Err(not_three);
        }
        let header: Header = serde_json::from_slice(&decode(header)?)
            .map_err(|_| TokenError::Malformed("its header cannot be read"))?;
        // An extension that must be understood and is not (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(TokenError::Malformed("its header has an unknown extension"));
        }
        Ok(Self {
            algorithm: header.alg,
            signed,
            signature: decode(signature)?,
            claims: decode(claims)?,
        })
    }

    pub(crate) fn claims(&self) -> Result<Claims, TokenError> {
        let malformed = TokenError::Malformed("its claims cannot be read");
        if self.claims.first() != Some(&b'{') {
            return Err(malformed);
        }
        serde_json::from_slice(&self.claims).map_err(|_| malformed)
    }
}

// === impl Claims ===

impl Claims {
    /// Issuer, audience and times. Without an end a token is not accepted.
    pub(crate) fn check(
        &self,
        expected: &Expected,
        now: Timestamp,
    ) -> Result<Timestamp, TokenError> {
        if self.iss.as_deref() != Some(expected.issuer) {
            return Err(TokenError::WrongIssuer);
        }
        if !self.aud.0.iter().any(|one| one == expected.audience) {
            return Err(TokenError::WrongAudience);
        }
        let expires_at = self.exp.ok_or(TokenError::Malformed("it has no end"))?;
        let now = now.as_second();
        if now >= expires_at.as_second().saturating_add(expected.late_seconds) {
            return Err(TokenError::Expired { since: expires_at });
        }
        for from in [self.nbf, self.iat].into_iter().flatten() {
            if from.as_second() > now.saturating_add(expected.early_seconds) {
                return Err(TokenError::NotYetValid { from });
            }
        }
        Ok(expires_at)
    }
}

/// What a kind of tokens must say.
pub(crate) struct Expected {
    pub(crate) issuer: &'static str,
    pub(crate) audience: &'static str,
    /// Accepted so long before the token begins.
    pub(crate) early_seconds: i64,
    /// Accepted so long after the token ended.
    pub(crate) late_seconds: i64,
}

/// Header and claims, as they are signed.
pub(crate) fn signing_input(algorithm: &str, claims: &impl Serialize) -> String {
    let header = serde_json::json!({"alg": algorithm, "typ": "JWT"});
    // Claims are structs of texts and numbers: their serialisation has no way to fail.
    let claims = serde_json::to_vec(claims).unwrap_or_default();
    format!(
        "{}.{}",
        encode(header.to_string().as_bytes()),
        encode(&claims)
    )
}

pub(crate) fn signed(input: &str, signature: &[u8]) -> String {
    format!("{input}.{}", encode(signature))
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| TokenError::Malformed("it is not base64url"))
}
