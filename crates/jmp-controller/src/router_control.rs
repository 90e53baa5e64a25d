//! The service that routers join.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jmp_auth::IdentityKind;
use jmp_auth::pki::ServerNames;
use jmp_proto::jmp::v1 as proto;
use jmp_proto::jmp::v1::router_control_service_server::RouterControlService;
use jmp_proto::jmp::v1::router_instruction::Instruction;
use jmp_proto::jmp::v1::router_message::Message;
use jmp_types::resource::{Client, Exporter, Key, Lease};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use crate::audit::{self, Entry};
use crate::authentication::Caller;
use crate::context::Context;
use crate::credentials::Holder;
use crate::routers::{self, Ends, Joined};
use crate::view::View;

/// What rows call it that a router is given the keys of tunnels.
const ACTION: &str = "JoinRouter";
/// How long a router may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// How often a router hears the time: its clock may be set while it is connected.
const TIME_AGAIN: Duration = Duration::from_secs(60);
/// How often it gets another certificate, which is good for a year.
const CERTIFICATE_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// The service.
#[derive(Clone)]
pub struct RouterControl {
    context: Arc<Context>,
}

/// Forgets the router when its stream ends.
struct Leave {
    context: Arc<Context>,
    number: u64,
}

// === impl RouterControl ===

impl RouterControl {
    /// The service over that context.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Keys and time, and a certificate for the `endpoint` of the router if one is due.
    fn welcome(
        &self,
        endpoint: &str,
        certificate: bool,
    ) -> Result<proto::RouterInstruction, Status> {
        let context = &self.context;
        let now = context.now();
        let mut welcome = proto::RouterWelcome {
            token_keys: context.tunnel_keys.expose(),
            time: Some(crate::convert::timestamp(now)),
            ..proto::RouterWelcome::default()
        };
        if let Some(authority) = context.signer.as_ref().filter(|_| certificate) {
            let host = host(endpoint);
            let names = ServerNames::new([host, "localhost", "127.0.0.1"]).map_err(|error| {
                Status::invalid_argument(format!("endpoint of the router: {error}"))
            })?;
            let leaf = authority
                .issue(&names, now)
                .map_err(|error| Status::internal(error.to_string()))?;
            welcome.certificate_chain = leaf.chain_pem.clone();
            welcome.private_key = leaf.key_pem.expose().to_owned();
        }
        Ok(proto::RouterInstruction {
            instruction: Some(Instruction::Welcome(welcome)),
        })
    }

    /// Leaves a row about a router that joins. Tunnels must not depend on there being room for it.
    async fn note(&self, caller: &Caller, hello: &proto::RouterHello) {
        let mut entry = Entry::new(caller, ACTION, audit::resource("router", &caller.key));
        entry.detail = format!("serves at {}", hello.endpoint);
        if let Err(status) = self.context.record(entry, Ok(())).await {
            tracing::warn!(%status, "a router joined");
        }
        let (router, endpoint) = (&hello.name, &hello.endpoint);
        tracing::info!(router, endpoint, "router joined");
    }

    /// What a router is told, for as long as it is heard.
    fn speak(
        self,
        welcome: proto::RouterInstruction,
        joined: Joined,
        endpoint: String,
        messages: Streaming<proto::RouterMessage>,
    ) -> impl Stream<Item = Result<proto::RouterInstruction, Status>> + Send {
        let Joined {
            number,
            backlog,
            mut instructions,
            stop,
        } = joined;
        let context = Arc::clone(&self.context);
        let leave = Leave {
            context: Arc::clone(&context),
            number,
        };
        async_stream::stream! {
            let _leave = leave;
            yield Ok(welcome);
            for close in backlog {
                yield Ok(close);
            }
            let mut certified = Instant::now();
            let mut told = certified;
            let heard = hear(Arc::clone(&context), number, messages);
            let mut heard = std::pin::pin!(heard);
            loop {
                tokio::select! {
                    next = instructions.recv() => match next {
                        Some(next) => yield Ok(next),
                        // Forgotten, which another stream of the router did.
                        None => {
                            yield Err(replaced());
                            return;
                        }
                    },
                    status = &mut heard => {
                        tracing::info!(%status, "router left");
                        return;
                    }
                    () = tokio::time::sleep_until(told + TIME_AGAIN) => {
                        told = Instant::now();
                        let is_due = told - certified >= CERTIFICATE_AGAIN;
                        match self.welcome(&endpoint, is_due) {
                            Ok(again) => yield Ok(again),
                            Err(status) => tracing::error!(%status, "a router gets no certificate"),
                        }
                        if is_due {
                            certified = told;
                        }
                    }
                    () = stop.cancelled() => {
                        yield Err(replaced());
                        return;
                    }
                    () = context.stopping.cancelled() => {
                        let status = Status::unavailable("the controller is stopping");
                        yield Err(status);
                        return;
                    }
                }
            }
        }
    }
}

/// The host of `host:port`, without brackets.
fn host(endpoint: &str) -> &str {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

// === impl Leave ===

impl Drop for Leave {
    fn drop(&mut self) {
        self.context.routers.leave(self.number);
    }
}

fn replaced() -> Status {
    Status::unavailable("this stream of the router was replaced or revoked")
}

/// Whom a lease joins, or why it may not.
fn ends(context: &Context, lease: &Key) -> Result<Ends, &'static str> {
    let found = context.view.get::<Lease>(lease).ok_or(routers::OVER)?;
    let (client, exporter) = (found.client(), found.exporter().ok_or(routers::OVER)?);
    let view = &context.view;
    if is_revoked::<Client>(view, &client) || is_revoked::<Exporter>(view, &exporter) {
        return Err(routers::REVOKED);
    }
    Ok(Ends {
        namespace: lease.namespace.clone(),
        client: client.name,
        exporter: exporter.name,
    })
}

fn is_revoked<T: Holder>(view: &View, key: &Key) -> bool {
    view.get::<T>(key)
        .is_none_or(|holder| holder.credential().revoked)
}

/// Hears the router until its stream ends or breaks.
async fn hear(
    context: Arc<Context>,
    number: u64,
    mut messages: Streaming<proto::RouterMessage>,
) -> Status {
    loop {
        let message = match messages.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Status::ok("the router left"),
            Err(status) => return status,
        };
        match message.message {
            Some(Message::Load(load)) => {
                context
                    .routers
                    .loaded(number, load, |lease| ends(&context, lease));
            }
            Some(Message::Ended(ended)) => {
                let usage = ended.r#use.unwrap_or_default();
                context.routers.ended(&usage, |lease| ends(&context, lease));
            }
            Some(Message::Hello(_)) => return Status::invalid_argument("a second hello"),
            None => {}
        }
    }
}

/// The first message of a router.
async fn hello(
    messages: &mut Streaming<proto::RouterMessage>,
) -> Result<proto::RouterHello, Status> {
    let first = tokio::time::timeout(HELLO, messages.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the router said no hello"))??;
    let Some(Message::Hello(hello)) = first.and_then(|first| first.message) else {
        return Err(Status::invalid_argument(
            "the first message of a router must be its hello",
        ));
    };
    if hello.endpoint.is_empty() {
        return Err(Status::invalid_argument(
            "the router's hello lacks its public endpoint",
        ));
    }
    Ok(hello)
}

#[tonic::async_trait]
impl RouterControlService for RouterControl {
    type ConnectStream =
        Pin<Box<dyn Stream<Item = Result<proto::RouterInstruction, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<proto::RouterMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let context = Arc::clone(&self.context);
        let kinds = [IdentityKind::Router];
        let caller: Caller = context.audited_caller(&request, &kinds, ACTION, "").await?;
        let mut messages = request.into_inner();
        let hello = hello(&mut messages).await?;
        let endpoint = hello.endpoint.clone();
        let welcome = self.welcome(&endpoint, true)?;
        self.note(&caller, &hello).await;
        let joined = context.routers.join(&caller, hello);
        let outgoing = self.clone().speak(welcome, joined, endpoint, messages);
        Ok(Response::new(outgoing.boxed()))
    }
}
