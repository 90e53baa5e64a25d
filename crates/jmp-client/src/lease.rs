//! Waiting for a lease, and knowing when it ends.

use std::time::Duration;

use futures::StreamExt;
use jmp_proto::jmp::v1::{LeaseState, Queue};
use jmp_proto::jumpstarter::client::v1 as wire;
use jmp_proto::v1::Condition;
use jmp_types::Timestamp;
use jmp_wire::backoff::Backoff;
use tokio::time::Instant;

use crate::controller::Controller;
use crate::error::{Error, Result};

/// Between two looks at a lease of a controller that cannot tell by itself.
const POLL: Duration = Duration::from_secs(1);
/// Reason with which old controllers say that no exporter is there at present (facts: protocol 8.1).
const NO_EXPORTER: &str = "NoExporter";

/// Where a lease stands, decided from its conditions in the order that all clients use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It waits; the message says for what.
    Waiting(String),
    /// Its exporter is assigned.
    Ready,
    /// It will never be ready, or is over: reason and message.
    Over(String, String),
    /// An old controller found no exporter; asking again may help.
    AskAgain(String),
}

/// The time by this machine's clock, for comparing with the times of leases.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The last part of a resource name such as `namespaces/NS/leases/NAME`.
#[must_use]
pub fn short_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The condition of that type.
#[must_use]
pub fn condition<'a>(lease: &'a wire::Lease, kind: &str) -> Option<&'a Condition> {
    lease
        .conditions
        .iter()
        .find(|condition| condition.r#type() == kind)
}

/// Reads the conditions of a lease.
#[must_use]
pub fn standing(lease: &wire::Lease) -> Standing {
    let is = |kind: &str, status: &str| {
        condition(lease, kind).filter(|condition| condition.status() == status)
    };
    let over = |condition: &Condition| {
        Standing::Over(
            condition.reason().to_owned(),
            condition.message().to_owned(),
        )
    };
    if is("Ready", "True").is_some() && lease.effective_end_time.is_none() {
        return Standing::Ready;
    }
    if let Some(unsatisfiable) = is("Unsatisfiable", "True") {
        return match unsatisfiable.reason() {
            NO_EXPORTER => Standing::AskAgain(unsatisfiable.message().to_owned()),
            _ => over(unsatisfiable),
        };
    }
    for (kind, status) in [
        ("Invalid", "True"),
        ("Pending", "False"),
        ("Ready", "False"),
    ] {
        if let Some(condition) = is(kind, status) {
            return over(condition);
        }
    }
    if lease.effective_end_time.is_some() {
        return Standing::Over("Ended".into(), "the lease has ended".into());
    }
    let message = is("Pending", "True").map_or("", |condition| condition.message());
    Standing::Waiting(message.to_owned())
}

/// When the lease ends at the latest, as far as is known.
#[must_use]
pub fn end(lease: &wire::Lease) -> Option<Timestamp> {
    let time = |time: &prost_types::Timestamp| Timestamp::new(time.seconds, time.nanos).ok();
    if let Some(end) = lease
        .effective_end_time
        .as_ref()
        .or(lease.end_time.as_ref())
    {
        return time(end);
    }
    // A window that was asked for ends when it ends, however late the exporter came.
    let begin = match (&lease.begin_time, &lease.effective_begin_time) {
        (Some(begin), _) | (None, Some(begin)) => time(begin)?,
        (None, None) => return None,
    };
    let duration = lease.duration.as_ref()?;
    begin
        .checked_add(jmp_types::SignedDuration::new(
            duration.seconds,
            duration.nanos,
        ))
        .ok()
}

/// Waits until the lease is ready. `progress` hears of every change while it waits.
///
/// # Errors
///
/// When the lease is over or will never be ready, or is not ready after `limit`. The lease is left
/// as it is; whoever made it decides what becomes of it.
pub async fn wait_until_ready(
    controller: &Controller,
    name: &str,
    limit: Duration,
    mut progress: impl FnMut(&wire::Lease, Option<&Queue>),
) -> Result<wire::Lease> {
    let deadline = Instant::now() + limit;
    let mut last: Option<String> = None;
    let waiting = async {
        let mut states = States::new(controller, name);
        loop {
            let state = states.next().await?;
            let Some(lease) = state.lease else { continue };
            match standing(&lease) {
                Standing::Ready => return Ok(lease),
                Standing::Over(reason, message) => {
                    return Err(Error::LeaseOver {
                        name: name.to_owned(),
                        reason,
                        message,
                    });
                }
                Standing::AskAgain(message) => {
                    return Err(Error::LeaseOver {
                        name: name.to_owned(),
                        reason: NO_EXPORTER.to_owned(),
                        message,
                    });
                }
                Standing::Waiting(message) => last = Some(message),
            }
            progress(&lease, state.queue.as_ref());
        }
    };
    let result = tokio::time::timeout_at(deadline, waiting).await;
    result.unwrap_or_else(|_| {
        Err(Error::LeaseTimeout {
            name: name.to_owned(),
            limit,
            message: last.unwrap_or_default(),
        })
    })
}

/// The states of one lease, for as long as the controller knows it: watched where it can be watched,
/// polled otherwise, through any number of lost connections.
pub struct States<'a> {
    controller: &'a Controller,
    name: &'a str,
    watch: Option<Watch>,
    polling: bool,
    asked: bool,
    failed: bool,
    backoff: Backoff,
}

type Watch = std::pin::Pin<Box<dyn futures::Stream<Item = Result<LeaseState>> + Send>>;

// === impl States ===

impl<'a> States<'a> {
    /// Nothing is asked before the first state is wanted.
    #[must_use]
    pub fn new(controller: &'a Controller, name: &'a str) -> Self {
        Self {
            controller,
            name,
            watch: None,
            polling: false,
            asked: false,
            failed: false,
            backoff: Backoff::reconnect(),
        }
    }

    /// The next state: at once the first time, then after a change (or a second, when polling). Can be
    /// cancelled and called again.
    ///
    /// # Errors
    ///
    /// What asking again cannot mend: the lease is unknown, or the token is refused.
    pub async fn next(&mut self) -> Result<LeaseState> {
        loop {
            if let Some(watch) = &mut self.watch {
                match watch.next().await {
                    Some(Ok(state)) => {
                        self.succeeded();
                        return Ok(state);
                    }
                    Some(Err(error)) if !error.is_transient() => return Err(error),
                    // The end of a watch is the end of the lease or of the controller: look again.
                    Some(Err(_)) | None => {
                        self.watch = None;
                        self.failed = true;
                    }
                }
            }
            if self.failed || (self.polling && self.asked) {
                tokio::time::sleep(self.pause()).await;
            }
            match self.ask().await {
                Ok(Some(state)) => {
                    self.succeeded();
                    return Ok(state);
                }
                Ok(None) => {}
                Err(error) if error.is_transient() => {
                    self.failed = true;
                    tracing::debug!(%error, lease = self.name, "looking at the lease failed; trying again");
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn succeeded(&mut self) {
        self.asked = true;
        self.failed = false;
        self.backoff.reset();
    }

    async fn ask(&mut self) -> Result<Option<LeaseState>> {
        if !self.polling {
            match self.controller.watch_lease(self.name).await? {
                Some(watch) => {
                    self.watch = Some(watch);
                    return Ok(None);
                }
                None => self.polling = true,
            }
        }
        let lease = self.controller.lease(self.name).await?;
        Ok(Some(LeaseState {
            lease: Some(lease),
            queue: None,
        }))
    }

    fn pause(&mut self) -> Duration {
        if self.failed {
            self.backoff.pause()
        } else {
            POLL
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(conditions: &[(&str, &str, &str)]) -> wire::Lease {
        let conditions = conditions.iter().map(|(kind, status, reason)| Condition {
            r#type: Some((*kind).into()),
            status: Some((*status).into()),
            reason: Some((*reason).into()),
            message: Some("m".into()),
            ..Default::default()
        });
        wire::Lease {
            conditions: conditions.collect(),
            ..Default::default()
        }
    }

    #[test]
    fn conditions_are_read_in_the_order_of_all_clients() {
        let over = |reason: &str| Standing::Over(reason.into(), "m".into());
        let cases = [
            (vec![], Standing::Waiting(String::new())),
            (
                vec![("Pending", "True", "Offline")],
                Standing::Waiting("m".into()),
            ),
            (
                vec![
                    ("Pending", "True", "NotAvailable"),
                    ("Ready", "True", "Ready"),
                ],
                Standing::Ready,
            ),
            (
                vec![("Unsatisfiable", "True", "NoAccess")],
                over("NoAccess"),
            ),
            (
                vec![("Unsatisfiable", "True", "NoExporter")],
                Standing::AskAgain("m".into()),
            ),
            (
                vec![("Invalid", "True", "InvalidSelector")],
                over("InvalidSelector"),
            ),
            (
                vec![
                    ("Pending", "True", "NotAvailable"),
                    ("Ready", "False", "Released"),
                ],
                over("Released"),
            ),
        ];
        for (conditions, expected) in cases {
            assert_eq!(standing(&lease(&conditions)), expected, "{conditions:?}");
        }
    }

    #[test]
    fn a_window_ends_when_it_ends() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let mut lease = wire::Lease {
            duration: Some(prost_types::Duration {
                seconds: 60,
                nanos: 0,
            }),
            effective_begin_time: at(100),
            ..Default::default()
        };
        assert_eq!(end(&lease).map(Timestamp::as_second), Some(160));
        lease.begin_time = at(90);
        assert_eq!(end(&lease).map(Timestamp::as_second), Some(150));
        lease.end_time = at(140);
        assert_eq!(end(&lease).map(Timestamp::as_second), Some(140));
        assert_eq!(end(&wire::Lease::default()), None);
    }

    #[test]
    fn names() {
        assert_eq!(short_name("namespaces/a/leases/b"), "b");
        assert_eq!(short_name("b"), "b");
    }
}
