//! Credentials: issuing, rotating and revoking the tokens of those who hold one.
//!
//! Tokens are not stored. What is stored says which of them are good: the identifier of the object,
//! which is part of every token, and the generation of its credential. So a "present" token cannot be
//! shown again; who needs it a second time gets a further one of the same generation, which ends with
//! the others.

use std::sync::Arc;
use std::time::Duration;

use jmp_auth::{IdentityKind, IssuedToken};
use jmp_types::Timestamp;
use jmp_types::resource::{Administrator, Client, CredentialRecord, Exporter, Key, Kind, Router};
use tonic::Status;
use uuid::Uuid;

use crate::audit::{self, Entry};
use crate::authentication::subject;
use crate::context::Context;
use crate::engine::Stored;
use crate::names::DEFAULT_NAMESPACE;
use crate::view::Viewed;

/// How long the old token of somebody who rotates its own stays good: calls and streams that are
/// under way can move to the new one. An administrator's rotation has no such time.
pub const OVERLAP: Duration = Duration::from_secs(60);
/// The name of the first administrator.
pub const FIRST_ADMINISTRATOR: &str = "root";

/// Objects with a credential.
pub trait Holder: Viewed + Default + PartialEq {
    /// What tokens call the kind.
    const IDENTITY: IdentityKind;
    /// What is known of its tokens.
    fn credential(&self) -> &CredentialRecord;
    /// The same, to be changed.
    fn credential_mut(&mut self) -> &mut CredentialRecord;
    /// Notes the public address of the controller.
    fn set_endpoint(&mut self, endpoint: &str);
    /// Notes when the last token ends.
    fn set_expiry(&mut self, _expires_at: Option<Timestamp>) {}
}

macro_rules! holder {
    ($type:ident $(, $expiry:item)?) => {
        impl Holder for $type {
            const IDENTITY: IdentityKind = IdentityKind::$type;
            fn credential(&self) -> &CredentialRecord {
                &self.status.credential
            }
            fn credential_mut(&mut self) -> &mut CredentialRecord {
                &mut self.status.credential
            }
            fn set_endpoint(&mut self, endpoint: &str) {
                endpoint.clone_into(&mut self.status.endpoint);
            }
            $($expiry)?
        }
    };
}

holder!(Exporter);
holder!(
    Client,
    fn set_expiry(&mut self, expires_at: Option<Timestamp>) {
        self.status.token_expires_at = expires_at;
    }
);
holder!(
    Administrator,
    fn set_expiry(&mut self, expires_at: Option<Timestamp>) {
        self.status.token_expires_at = expires_at;
    }
);
holder!(
    Router,
    fn set_expiry(&mut self, expires_at: Option<Timestamp>) {
        self.status.token_expires_at = expires_at;
    }
);

/// What becomes of the tokens that are out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// They stay good beside the new one.
    Further,
    /// They end after that time, at once when it is zero.
    Rotate(Duration),
}

/// The credential of a new object.
fn first_record(kind: IdentityKind, name: &str) -> CredentialRecord {
    CredentialRecord {
        name: format!("{name}-{}", kind.word()),
        generation: 1,
        ..CredentialRecord::default()
    }
}

// === impl Context ===

impl Context {
    /// A new token for the object with that key.
    ///
    /// # Errors
    ///
    /// NOT_FOUND, FAILED_PRECONDITION for a further token of a revoked credential, and those of every
    /// change.
    pub async fn issue<T: Holder>(
        &self,
        key: &Key,
        renewal: Renewal,
    ) -> Result<(Arc<T>, IssuedToken), Status> {
        let (wanted, now) = (key.clone(), self.now());
        self.issue_for(key, move |present: Option<&T>| {
            let mut object = present.ok_or_else(|| missing(T::KIND, &wanted))?.clone();
            renew(&mut object, renewal, now)?;
            Ok(object)
        })
        .await
    }

    /// Makes the object and its first token, in one write.
    ///
    /// # Errors
    ///
    /// ALREADY_EXISTS and those of every change.
    pub async fn create_with_token<T: Holder>(
        &self,
        object: T,
    ) -> Result<(Arc<T>, IssuedToken), Status> {
        let key = object.metadata().key();
        let wanted = key.clone();
        let endpoint = self.settings.endpoint.clone();
        self.issue_for(&key, move |present: Option<&T>| {
            if present.is_some() {
                return Err(exists(T::KIND, &wanted));
            }
            Ok(fresh(object, &endpoint))
        })
        .await
    }

    async fn issue_for<T: Holder>(
        &self,
        key: &Key,
        prepare: impl FnOnce(Option<&T>) -> Result<T, Status> + Send + 'static,
    ) -> Result<(Arc<T>, IssuedToken), Status> {
        let issued = Arc::new(std::sync::OnceLock::new());
        let slot = Arc::clone(&issued);
        let (issuer, now, wanted) = (self.issuer.clone(), self.now(), key.clone());
        let stored = self
            .engine
            .change::<T>(key, move |present| {
                let mut object = prepare(present)?;
                let subject = subject(T::IDENTITY, &wanted, &object.metadata().uid);
                let token = issuer
                    .issue(&subject, object.credential().generation, now)
                    .map_err(|error| Status::internal(error.to_string()))?;
                token
                    .token_id
                    .clone_into(&mut object.credential_mut().token_id);
                object.set_expiry(Some(token.expires_at));
                // The closure runs once.
                let _ = slot.set(token);
                Ok(Some(object))
            })
            .await?;
        let (Stored::Created(object) | Stored::Updated(object) | Stored::Unchanged(object)) =
            stored
        else {
            return Err(missing(T::KIND, key));
        };
        let token = issued
            .get()
            .cloned()
            .ok_or_else(|| Status::internal("no token was issued"))?;
        Ok((object, token))
    }

    /// Ends all tokens of the object with that key, if that is `allowed` when nothing else changes.
    ///
    /// # Errors
    ///
    /// NOT_FOUND, those of `allowed` and of every change.
    pub async fn revoke<T: Holder>(
        &self,
        key: &Key,
        allowed: impl FnOnce() -> Result<(), Status> + Send + 'static,
    ) -> Result<Arc<T>, Status> {
        let wanted = key.clone();
        let stored = self
            .engine
            .change::<T>(key, move |present| {
                let mut object = present.ok_or_else(|| missing(T::KIND, &wanted))?.clone();
                allowed()?;
                let credential = object.credential_mut();
                if !credential.revoked {
                    credential.generation += 1;
                    credential.revoked = true;
                    credential.previous_until = None;
                    credential.token_id.clear();
                    object.set_expiry(None);
                }
                Ok(Some(object))
            })
            .await?;
        match stored {
            Stored::Created(object) | Stored::Updated(object) | Stored::Unchanged(object) => {
                Ok(object)
            }
            Stored::Deleted(_) | Stored::Absent => Err(missing(T::KIND, key)),
        }
    }

    /// Makes the object of that name if there is none, and issues a token for it: how a controller
    /// gives its own router a credential.
    ///
    /// # Errors
    ///
    /// Those of every change.
    pub async fn ensure_credential<T: Holder>(&self, name: &str) -> Result<IssuedToken, Status> {
        let key = Key::new(DEFAULT_NAMESPACE, name);
        let wanted = key.clone();
        let (endpoint, now) = (self.settings.endpoint.clone(), self.now());
        let issued = self.issue_for(&key, move |present: Option<&T>| {
            let Some(present) = present else {
                let mut object = T::default();
                wanted.name.clone_into(&mut object.metadata_mut().name);
                wanted
                    .namespace
                    .clone_into(&mut object.metadata_mut().namespace);
                return Ok(fresh(object, &endpoint));
            };
            let mut object = present.clone();
            renew(&mut object, Renewal::Further, now)?;
            Ok(object)
        });
        Ok(issued.await?.1)
    }
}

/// The object as it begins: with an identifier, which its token needs, and a credential.
fn fresh<T: Holder>(mut object: T, endpoint: &str) -> T {
    let name = object.metadata().name.clone();
    object.metadata_mut().uid = Uuid::new_v4().to_string();
    *object.credential_mut() = first_record(T::IDENTITY, &name);
    object.set_endpoint(endpoint);
    object
}

/// Makes the first administrator, `root`, if there is none at all; returns its token then.
///
/// # Errors
///
/// Those of every change.
pub async fn bootstrap_administrator(context: &Context) -> Result<Option<IssuedToken>, Status> {
    if !context.view.list::<Administrator>(None).is_empty() {
        return Ok(None);
    }
    let token = context
        .ensure_credential::<Administrator>(FIRST_ADMINISTRATOR)
        .await?;
    let key = Key::new(DEFAULT_NAMESPACE, FIRST_ADMINISTRATOR);
    let mut entry = Entry::own("CreateResource", audit::resource("admin", &key));
    entry.detail = format!("first administrator, token {}", token.token_id);
    context.record(entry, Ok(())).await?;
    Ok(Some(token))
}

fn renew<T: Holder>(object: &mut T, renewal: Renewal, now: Timestamp) -> Result<(), Status> {
    let name = object.metadata().name.clone();
    let credential = object.credential_mut();
    match renewal {
        Renewal::Further if credential.revoked => Err(Status::failed_precondition(format!(
            "all tokens of {name} are revoked: rotate its credential to get a new one"
        ))),
        Renewal::Further => Ok(()),
        Renewal::Rotate(overlap) => {
            credential.generation += 1;
            credential.previous_until = (!overlap.is_zero() && !credential.revoked)
                .then(|| now.checked_add(overlap).ok())
                .flatten();
            credential.revoked = false;
            Ok(())
        }
    }
}

/// There is such an object already.
#[must_use]
pub fn exists(kind: Kind, key: &Key) -> Status {
    Status::already_exists(format!(
        "{} {key} exists already",
        crate::manifest::word(kind)
    ))
}

/// There is no such object.
#[must_use]
pub fn missing(kind: Kind, key: &Key) -> Status {
    Status::not_found(format!(
        "{} {key} does not exist",
        crate::manifest::word(kind)
    ))
}
