//! Dial: a tunnel between a client and the exporter of its lease (facts: controller 4.5, 7).

use std::sync::Arc;

use jmp_auth::{IdentityKind, Subject, TunnelEnds};
use jmp_lease::pool::DialRefusal;
use jmp_proto::v1;
use jmp_types::resource::{Client, Exporter, Key};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tonic::{Request, Status};

use super::Controllers;
use crate::authentication::Caller;
use crate::exporter_sessions::HandOverError;
use crate::routers::Ends;
use crate::view::{Change, Item};

// === impl Controllers ===

impl Controllers {
    pub(super) async fn do_dial(
        &self,
        request: Request<v1::DialRequest>,
    ) -> Result<v1::DialResponse, Status> {
        let caller = self.context.caller(&request, &[IdentityKind::Client])?;
        let name = request.into_inner().lease_name;
        if name.is_empty() {
            return Err(Status::unknown("empty lease name"));
        }
        crate::names::check_length(&name)?;
        let lease = Key::new(caller.key.namespace.clone(), name);
        let deadline = Instant::now() + self.context.settings.dial_wait;
        self.context.guards.dials.check(caller.identity())?;
        let mut news = self.context.view.subscribe();
        let work = async {
            let exporter = self
                .wait_for_gate(&caller, &lease, &mut news, deadline)
                .await?;
            self.watched(&caller, &lease, &exporter, &mut news, deadline)
                .await
        };
        tokio::select! {
            result = work => result,
            () = self.context.stopping.cancelled() => {
                Err(Status::unavailable("the controller is stopping"))
            }
        }
    }

    /// Connects while the lease stays what it is and its holder may use it.
    async fn watched(
        &self,
        caller: &Caller,
        lease: &Key,
        exporter: &Key,
        news: &mut broadcast::Receiver<Change>,
        deadline: Instant,
    ) -> Result<v1::DialResponse, Status> {
        let connected = self.connect(caller, lease, exporter, deadline);
        let mut connected = std::pin::pin!(connected);
        loop {
            tokio::select! {
                result = &mut connected => return result,
                // The lease may end, or change hands, while its exporter is waited for.
                change = news.recv() => {
                    self.still_good(caller, &change)?;
                    if concerns(&change, lease, exporter)? {
                        match self.gate(caller, lease).await? {
                            Ok(_) | Err(DialRefusal::NotReady(_)) => {}
                            Err(refusal) => return Err(refused(&refusal)),
                        }
                    }
                }
            }
        }
    }

    /// Whoever's token is revoked while it waits gets no tunnel.
    fn still_good(
        &self,
        caller: &Caller,
        change: &Result<Change, RecvError>,
    ) -> Result<(), Status> {
        let about = match change {
            Ok(change) => matches!(&change.item, Item::Client(found) if found.key() == caller.key),
            Err(_) => true,
        };
        if !about {
            return Ok(());
        }
        let found = self.context.view.get::<Client>(&caller.key);
        let is_good = found.is_some_and(|client| {
            let credential = &client.status.credential;
            client.metadata.uid == caller.uid
                && credential.accepts(caller.generation, self.context.now())
        });
        if is_good {
            return Ok(());
        }
        Err(Status::permission_denied(
            "permission denied: the token was revoked",
        ))
    }

    async fn gate(&self, caller: &Caller, lease: &Key) -> Result<Result<Key, DialRefusal>, Status> {
        self.context.engine.dial_gate(lease, &caller.key).await
    }

    /// Waits until the exporter has taken the lease.
    async fn wait_for_gate(
        &self,
        caller: &Caller,
        lease: &Key,
        news: &mut broadcast::Receiver<Change>,
        deadline: Instant,
    ) -> Result<Key, Status> {
        loop {
            let refusal = match self.gate(caller, lease).await? {
                Ok(exporter) => return Ok(exporter),
                Err(refusal) => refusal,
            };
            if !matches!(refusal, DialRefusal::NotReady(_)) {
                return Err(refused(&refusal));
            }
            let exporter = self
                .context
                .view
                .get::<jmp_types::resource::Lease>(lease)
                .and_then(|lease| lease.exporter())
                .unwrap_or_else(|| lease.clone());
            loop {
                let change = tokio::time::timeout_at(deadline, news.recv()).await;
                let Ok(change) = change else {
                    return Err(refused(&refusal));
                };
                self.still_good(caller, &change)?;
                if concerns(&change, lease, &exporter)? {
                    break;
                }
            }
        }
    }

    /// Chooses a router, makes the tokens, and hands the exporter its own.
    async fn connect(
        &self,
        caller: &Caller,
        lease: &Key,
        exporter: &Key,
        deadline: Instant,
    ) -> Result<v1::DialResponse, Status> {
        let context = &self.context;
        let found: Arc<Exporter> = context
            .view
            .get(exporter)
            .ok_or_else(|| Status::unknown(format!("exporter {exporter} not found")))?;
        let router = context
            .routers
            .choose(&found.metadata.labels)
            .ok_or_else(|| Status::unavailable(context.routers.why_none()))?;
        let subject = Subject::exporter(&exporter.namespace, &exporter.name, "");
        let tokens = context
            .tunnels
            .issue(
                TunnelEnds {
                    lease: &lease.to_string(),
                    client: &caller.identity(),
                    exporter: &subject.identity(),
                },
                context.now(),
            )
            .map_err(|error| Status::internal(error.to_string()))?;
        let ends = Ends {
            namespace: lease.namespace.clone(),
            client: caller.key.name.clone(),
            exporter: exporter.name.clone(),
        };
        context.routers.opened(&tokens.stream, lease, ends);
        let response = v1::ListenResponse {
            router_endpoint: router.endpoint.clone(),
            router_token: tokens.exporter.token.expose().to_owned(),
        };
        context
            .exporters
            .hand_over(lease, response, deadline)
            .await
            .map_err(|error| {
                context.routers.forget(&tokens.stream);
                not_handed_over(error, &lease.name)
            })?;
        tracing::debug!(%lease, %exporter, router = router.name, "tunnel");
        Ok(v1::DialResponse {
            router_endpoint: router.endpoint,
            router_token: tokens.client.token.expose().to_owned(),
        })
    }
}

/// Whether a piece of news is about the lease or its exporter. Who missed some looks again.
fn concerns(
    change: &Result<Change, RecvError>,
    lease: &Key,
    exporter: &Key,
) -> Result<bool, Status> {
    match change {
        Ok(change) => Ok(match &change.item {
            Item::Lease(object) => object.key() == *lease,
            Item::Exporter(object) => object.key() == *exporter,
            _ => false,
        }),
        Err(RecvError::Lagged(_)) => Ok(true),
        Err(RecvError::Closed) => Err(Status::unavailable("the controller is stopping")),
    }
}

fn refused(refusal: &DialRefusal) -> Status {
    let text = refusal.text();
    match refusal {
        DialRefusal::NoLease(_) | DialRefusal::NotHolder(_) | DialRefusal::NotActive(_) => {
            Status::unknown(text)
        }
        DialRefusal::NotReady(_) | DialRefusal::Unusable(_) => Status::failed_precondition(text),
    }
}

fn not_handed_over(error: HandOverError, lease: &str) -> Status {
    match error {
        HandOverError::NotListening => {
            Status::unavailable(format!("exporter is not listening on lease {lease}"))
        }
        HandOverError::Full => Status::resource_exhausted(format!(
            "too many tunnels wait for the exporter of lease {lease}"
        )),
    }
}
