//! Who calls (facts: controller 5.1, 5.2).
//!
//! The steps and their codes are those of shipped controllers: a bad token is UNKNOWN with a text that
//! people read, someone else's token is PERMISSION_DENIED.

use http::HeaderMap;
use jmp_auth::metadata::{self, Attributes, MetadataError};
use jmp_auth::{IdentityClaims, IdentityKind, Secret, Subject};
use jmp_types::Timestamp;
use jmp_types::resource::{Administrator, Client, CredentialRecord, Exporter, Key, Router};
use tonic::{Code, Request, Status};

use crate::context::{Context, Peer};
use crate::names::DEFAULT_NAMESPACE;

/// How the text about a token that was good begins; shipped clients match on it (facts: controller 4).
const EXPIRED: &str = "token is expired";

/// Somebody whose token was accepted.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What it is.
    pub kind: IdentityKind,
    /// Its object. Administrators and routers live in the default namespace.
    pub key: Key,
    /// Identifier of the object.
    pub uid: String,
    /// Identifier of the token; empty for one of a shipped controller.
    pub token_id: String,
    /// When the token ends.
    pub expires_at: Timestamp,
    /// Generation of the credential that the token belongs to.
    pub generation: u64,
    /// Where the call comes from.
    pub peer: Peer,
}

// === impl Caller ===

impl Caller {
    /// `client:default:hello`, `admin:root`: for the audit, limits and tunnel tokens.
    #[must_use]
    pub fn identity(&self) -> String {
        self.subject().identity()
    }

    /// Who the token speaks for.
    #[must_use]
    pub fn subject(&self) -> Subject {
        subject(self.kind, &self.key, &self.uid)
    }
}

/// The subject of tokens for an object.
#[must_use]
pub fn subject(kind: IdentityKind, key: &Key, uid: &str) -> Subject {
    match kind {
        IdentityKind::Client => Subject::client(&key.namespace, &key.name, uid),
        IdentityKind::Exporter => Subject::exporter(&key.namespace, &key.name, uid),
        IdentityKind::Administrator => Subject::administrator(&key.name, uid),
        IdentityKind::Router => Subject::router(&key.name, uid),
    }
}

/// Identifier and credential of an object.
struct Holder {
    uid: String,
    credential: CredentialRecord,
}

// === impl Context ===

impl Context {
    /// Who sent the request.
    ///
    /// # Errors
    ///
    /// As [`Context::authenticate`].
    pub fn caller<T>(
        &self,
        request: &Request<T>,
        allowed: &[IdentityKind],
    ) -> Result<Caller, Status> {
        let peer = Peer::of(request)?;
        self.authenticate(request.metadata().as_ref(), &peer, allowed)
    }

    /// Who presents these headers; must be of one of the `allowed` kinds.
    ///
    /// # Errors
    ///
    /// The codes and texts of facts, controller 5.1. RESOURCE_EXHAUSTED for an address that failed too often.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        allowed: &[IdentityKind],
    ) -> Result<Caller, Status> {
        let address = peer.network();
        let result = self.verify(headers, peer, allowed);
        let Err(status) = &result else {
            peer.known.cancel();
            return result;
        };
        // Mistakes of the metadata cost nothing to find; tokens do, and they can be guessed at. An
        // expired one was good: whoever has it must hear so, also behind an address that others share.
        let expired = status.message().starts_with(EXPIRED);
        if status.code() != Code::InvalidArgument
            && !expired
            && let Err(wait) = self.failures.take(address.clone())
        {
            return Err(Status::resource_exhausted(format!(
                "too many failed authentications from {address}: try again in {} s",
                wait.as_secs() + 1
            )));
        }
        let kind = headers
            .get(metadata::KIND)
            .and_then(|kind| kind.to_str().ok())
            .filter(|kind| *kind == "Exporter")
            .map_or("client", |_| "exporter");
        tracing::info!(
            peer = address,
            error = status.message(),
            "{kind} authentication failed"
        );
        result
    }

    fn verify(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        allowed: &[IdentityKind],
    ) -> Result<Caller, Status> {
        let pairs: Vec<(&str, &[u8])> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let token = metadata::bearer(pairs.iter().copied()).map_err(|error| refused(&error))?;
        let claims = self.claims(&token)?;
        // Routers say nothing of themselves but the kind: the token names them.
        let attributes = match claims.subject.kind {
            IdentityKind::Router => Attributes {
                kind: IdentityKind::Router,
                namespace: DEFAULT_NAMESPACE.to_owned(),
                name: Some(claims.subject.name.clone()),
            },
            _ => Attributes::read(pairs.iter().copied()).map_err(|error| refused(&error))?,
        };
        if !allowed.contains(&attributes.kind) {
            let expected = allowed.first().copied().unwrap_or(IdentityKind::Client);
            let error = attributes.require_kind(expected).err();
            return Err(error.map_or_else(
                || Status::invalid_argument("object kind mismatch"),
                |error| refused(&error),
            ));
        }
        let name = attributes
            .required_name()
            .map_err(|error| refused(&error))?;
        let namespace = if attributes.kind.is_namespaced() {
            attributes.namespace.as_str()
        } else {
            DEFAULT_NAMESPACE
        };
        let key = Key::new(namespace, name);
        let denied = || {
            refused(&MetadataError::Denied {
                kind: attributes.kind,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        };
        let holder = self
            .holder(attributes.kind, &key)
            .ok_or_else(|| not_found(attributes.kind, &key))?;
        if claims.subject != subject(attributes.kind, &key, &holder.uid) {
            return Err(denied());
        }
        let generation = claims.generation.unwrap_or_default();
        if !holder.credential.accepts(generation, self.now()) {
            return Err(Status::permission_denied(format!(
                "{}: the token was revoked; get a new one from an administrator",
                denied().message()
            )));
        }
        Ok(Caller {
            kind: attributes.kind,
            key,
            uid: holder.uid,
            token_id: claims.token_id.unwrap_or_default(),
            expires_at: claims.expires_at,
            generation,
            peer: peer.clone(),
        })
    }

    /// Whether somebody of ours could have sent these headers; [`Context::authenticate`] decides.
    pub(crate) fn shows_good_token(&self, headers: &HeaderMap) -> bool {
        let pairs = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        metadata::bearer(pairs).is_ok_and(|token| self.claims(&token).is_ok())
    }

    fn claims(&self, token: &Secret) -> Result<IdentityClaims, Status> {
        self.verifier
            .verify(token.expose(), self.now())
            .map_err(|error| Status::new(code(error.code()), error.to_string()))
    }

    fn holder(&self, kind: IdentityKind, key: &Key) -> Option<Holder> {
        Some(match kind {
            IdentityKind::Client => {
                let found = self.view.get::<Client>(key)?;
                Holder {
                    uid: found.metadata.uid.clone(),
                    credential: found.status.credential.clone(),
                }
            }
            IdentityKind::Exporter => {
                let found = self.view.get::<Exporter>(key)?;
                Holder {
                    uid: found.metadata.uid.clone(),
                    credential: found.status.credential.clone(),
                }
            }
            IdentityKind::Administrator => {
                let found = self.view.get::<Administrator>(key)?;
                Holder {
                    uid: found.metadata.uid.clone(),
                    credential: found.status.credential.clone(),
                }
            }
            IdentityKind::Router => {
                let found = self.view.get::<Router>(key)?;
                Holder {
                    uid: found.metadata.uid.clone(),
                    credential: found.status.credential.clone(),
                }
            }
        })
    }
}

fn not_found(kind: IdentityKind, key: &Key) -> Status {
    Status::not_found(format!("{} {key} does not exist", kind.word()))
}

fn refused(error: &MetadataError) -> Status {
    Status::new(code(error.code()), error.to_string())
}

fn code(code: metadata::Code) -> Code {
    match code {
        metadata::Code::Unknown => Code::Unknown,
        metadata::Code::InvalidArgument => Code::InvalidArgument,
        metadata::Code::PermissionDenied => Code::PermissionDenied,
        metadata::Code::Unauthenticated => Code::Unauthenticated,
    }
}
