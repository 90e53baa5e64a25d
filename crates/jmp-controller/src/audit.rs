//! The record of everything that somebody changed, or tried to: who, when, from where, what, with
//! which result.
//!
//! Of a change that was made the row is on disk before the caller hears of it. Rows of refused calls
//! are written as far as that is possible, and not without limit: refusing costs a caller nothing, and
//! the disk is finite. Wrap a handler with [`Context::audited`]; those that learn only while they work
//! what they work on use [`Entry`].
//!
//! Nothing of a token but its identifier gets here. Texts of callers are cut.

use std::future::Future;

use jmp_auth::IdentityKind;
use jmp_store::AuditRecord;
use jmp_types::resource::Key;
use tonic::{Code, Request, Status};

use crate::authentication::Caller;
use crate::context::{Context, Peer};
use crate::engine::store_failure;

/// The longest text of a caller in a row, characters.
const TEXT_LIMIT: usize = 256;
/// Who did it when that could not be told.
const NOBODY: &str = "-";

/// A row in the making.
#[derive(Clone, Debug)]
pub struct Entry {
    actor: String,
    token_id: String,
    peer: String,
    /// Whom the row counts for when it is about a refusal.
    source: String,
    action: &'static str,
    /// What it is done to, for example `lease default/018f…`.
    pub resource: String,
    /// More about it, for people. Never a secret.
    pub detail: String,
}

// === impl Entry ===

impl Entry {
    /// For a call whose caller is known.
    #[must_use]
    pub fn new(caller: &Caller, action: &'static str, resource: impl Into<String>) -> Self {
        Self {
            actor: caller.identity(),
            token_id: caller.token_id.clone(),
            peer: caller.peer.text(),
            source: caller.identity(),
            action,
            resource: resource.into(),
            detail: String::new(),
        }
    }

    /// For a call whose caller could not be told.
    #[must_use]
    pub fn anonymous<T>(
        request: &Request<T>,
        action: &'static str,
        resource: impl Into<String>,
    ) -> Self {
        let peer = Peer::of(request).ok();
        let of_peer = |text: fn(&Peer) -> String| peer.as_ref().map_or_else(|| NOBODY.into(), text);
        Self {
            actor: NOBODY.to_owned(),
            token_id: String::new(),
            peer: of_peer(Peer::text),
            source: of_peer(Peer::network),
            action,
            resource: resource.into(),
            detail: String::new(),
        }
    }

    /// For something that the controller did by itself.
    #[must_use]
    pub fn own(action: &'static str, resource: impl Into<String>) -> Self {
        Self {
            actor: "controller".to_owned(),
            token_id: String::new(),
            peer: NOBODY.to_owned(),
            source: "controller".to_owned(),
            action,
            resource: resource.into(),
            detail: String::new(),
        }
    }

    fn record(self, context: &Context, status: Option<&Status>) -> AuditRecord {
        let detail = match status {
            Some(status) if self.detail.is_empty() => status.message().to_owned(),
            Some(status) => format!("{}: {}", self.detail, status.message()),
            None => self.detail,
        };
        AuditRecord {
            // The sink gives the number.
            number: 0,
            time: context.now(),
            actor: cut(&self.actor),
            token_id: cut(&self.token_id),
            peer: cut(&self.peer),
            action: self.action.to_owned(),
            resource: cut(&self.resource),
            result: jmp_wire::rpc::code_name(status.map_or(Code::Ok, Status::code)).to_owned(),
            detail: cut(&detail),
        }
    }
}

// === impl Context ===

impl Context {
    /// Does `work` for the caller and leaves a row about it.
    ///
    /// # Errors
    ///
    /// Those of `work`, and that the row of a change could not be written.
    pub async fn audited<T>(
        &self,
        caller: &Caller,
        action: &'static str,
        resource: impl Into<String>,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let entry = Entry::new(caller, action, resource);
        let result = work.await;
        self.record(entry, result).await
    }

    /// Writes the row of a call that had that result, and passes the result on.
    ///
    /// # Errors
    ///
    /// Those of the result, and that the row of a change could not be written: the change was made then.
    pub async fn record<T>(&self, entry: Entry, result: Result<T, Status>) -> Result<T, Status> {
        let Err(status) = &result else {
            let action = entry.action;
            let written = self.audit.append_audit(vec![entry.record(self, None)]);
            return match written.await {
                Ok(_) => result,
                Err(error) => {
                    let failure = store_failure(&error);
                    tracing::error!(action, %error, "a change was made but is not in the audit record");
                    Err(Status::new(
                        failure.code(),
                        format!(
                            "{action} was carried out, but its audit record could not be written: {}",
                            failure.message()
                        ),
                    ))
                }
            };
        };
        if self.has_room_for_refusal(&entry) {
            let row = entry.record(self, Some(status));
            if let Err(error) = self.audit.append_audit(vec![row]).await {
                tracing::debug!(%error, "a refused call is not in the audit record");
            }
        }
        result
    }

    fn has_room_for_refusal(&self, entry: &Entry) -> bool {
        let guards = &self.guards;
        guards.refusals.take(entry.source.clone()).is_ok()
            && (entry.actor != NOBODY || guards.strangers.take(()).is_ok())
    }

    /// Refuses a changing call that makes no sense, whoever sent it. The row says who, if that can be told.
    ///
    /// # Errors
    ///
    /// Always: `refused`, or that the caller does so too often.
    pub async fn senseless<T, R>(
        &self,
        request: &Request<T>,
        allowed: &[IdentityKind],
        action: &'static str,
        refused: Status,
    ) -> Result<R, Status> {
        let (entry, refused) = match self.caller(request, allowed) {
            Ok(caller) => {
                let limited = self.guards.changes.check(caller.identity());
                (
                    Entry::new(&caller, action, ""),
                    limited.err().unwrap_or(refused),
                )
            }
            Err(_) => (Entry::anonymous(request, action, ""), refused),
        };
        self.record(entry, Err(refused)).await
    }

    /// The caller of a changing call; a refused one leaves a row.
    ///
    /// # Errors
    ///
    /// As [`Context::caller`].
    pub async fn audited_caller<T>(
        &self,
        request: &Request<T>,
        allowed: &[IdentityKind],
        action: &'static str,
        resource: &str,
    ) -> Result<Caller, Status> {
        let caller = self.caller(request, allowed);
        if caller.is_ok() {
            return caller;
        }
        let entry = Entry::anonymous(request, action, resource);
        self.record(entry, caller).await
    }
}

/// `lease default/name`: how rows name objects.
#[must_use]
pub fn resource(word: &str, key: &Key) -> String {
    format!("{word} {key}")
}

fn cut(text: &str) -> String {
    let clean = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    text.chars().take(TEXT_LIMIT).map(clean).collect()
}
