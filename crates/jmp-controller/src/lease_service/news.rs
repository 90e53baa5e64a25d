//! The changes that one watching caller hears of, for as long as its token is good.

use std::sync::Arc;
use std::time::Duration;

use jmp_auth::{IdentityKind, Place};
use jmp_types::Timestamp;
use jmp_types::resource::{Administrator, Client, CredentialRecord};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tonic::Status;

use crate::authentication::Caller;
use crate::context::Context;
use crate::view::{Change, Item};

/// How often the end of a token is compared with a clock that may be set.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// What there is to hear.
#[derive(Debug)]
pub enum Heard {
    /// One change.
    Change(Box<Change>),
    /// Some were missed: list again.
    Missed,
    /// The deadline that was asked for has come.
    Pause,
}

/// The changes of the view for one caller.
pub struct News {
    context: Arc<Context>,
    changes: Receiver<Change>,
    caller: Caller,
    /// When the token ends, as far as is known.
    ends: Timestamp,
    _place: Place<String>,
}

// === impl News ===

impl News {
    /// From now on.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED when the caller listens too often already.
    pub fn of(context: Arc<Context>, caller: &Caller) -> Result<Self, Status> {
        let place = crate::limits::watch(&context.guards.watches, caller.identity())?;
        let news = Self {
            changes: context.view.subscribe(),
            ends: caller.expires_at,
            caller: caller.clone(),
            _place: place,
            context,
        };
        Ok(news)
    }

    /// The next change, or [`Heard::Pause`] at the deadline.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE when the controller stops; when the token ended or was revoked, what a new call with it
    /// would be told.
    pub async fn next(&mut self, deadline: Option<Instant>) -> Result<Heard, Status> {
        loop {
            let check = self.check()?;
            let pause = deadline.map_or(check, |deadline| deadline.min(check));
            let stopping = self.context.stopping.clone();
            tokio::select! {
                // Credentials first: nothing is told to those whose token was revoked.
                biased;
                () = stopping.cancelled() => {
                    return Err(Status::unavailable("the controller is stopping; watch again in a moment"));
                }
                heard = self.changes.recv() => match heard {
                    Ok(change) => {
                        self.mind(&change)?;
                        return Ok(Heard::Change(Box::new(change)));
                    }
                    Err(RecvError::Lagged(_)) => {
                        self.look_up()?;
                        return Ok(Heard::Missed);
                    }
                    Err(RecvError::Closed) => {
                        return Err(Status::unavailable("the controller is stopping"));
                    }
                },
                () = tokio::time::sleep_until(pause) => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Ok(Heard::Pause);
                    }
                }
            }
        }
    }

    /// When to compare the clock with the end of the token.
    fn check(&self) -> Result<Instant, Status> {
        let left = self.ends.duration_since(self.context.now());
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => Ok(Instant::now() + left.min(CLOCK_CHECK)),
            _ if self.ends < self.caller.expires_at => Err(revoked()),
            // What shipped clients look for.
            _ => Err(Status::unknown("token is expired: the watch ended with it")),
        }
    }

    /// Looks whether the change is about the caller itself.
    fn mind(&mut self, change: &Change) -> Result<(), Status> {
        let (uid, credential) = match (&change.item, self.caller.kind) {
            (Item::Client(object), IdentityKind::Client)
                if object.metadata.key() == self.caller.key =>
            {
                (&object.metadata.uid, &object.status.credential)
            }
            (Item::Administrator(object), IdentityKind::Administrator)
                if object.metadata.key() == self.caller.key =>
            {
                (&object.metadata.uid, &object.status.credential)
            }
            _ => return Ok(()),
        };
        if change.deleted {
            return Err(revoked());
        }
        let (uid, credential) = (uid.clone(), credential.clone());
        self.judge(&uid, &credential)
    }

    /// The same without knowing the change.
    fn look_up(&mut self) -> Result<(), Status> {
        let key = &self.caller.key;
        let found = match self.caller.kind {
            IdentityKind::Administrator => {
                self.context.view.get::<Administrator>(key).map(|object| {
                    (
                        object.metadata.uid.clone(),
                        object.status.credential.clone(),
                    )
                })
            }
            _ => self.context.view.get::<Client>(key).map(|object| {
                (
                    object.metadata.uid.clone(),
                    object.status.credential.clone(),
                )
            }),
        };
        let (uid, credential) = found.ok_or_else(revoked)?;
        self.judge(&uid, &credential)
    }

    fn judge(&mut self, uid: &str, credential: &CredentialRecord) -> Result<(), Status> {
        if uid != self.caller.uid || !credential.accepts(self.caller.generation, self.context.now())
        {
            return Err(revoked());
        }
        // After a rotation by the holder the old token is good for a moment only.
        if self.caller.generation < credential.generation
            && let Some(until) = credential.previous_until
        {
            self.ends = self.ends.min(until);
        }
        Ok(())
    }
}

fn revoked() -> Status {
    Status::permission_denied("permission denied: the token was revoked; the watch ended with it")
}
