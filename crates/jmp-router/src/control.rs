//! The router's side of the control service: it reports, and learns keys, time and orders.
//!
//! Losing the controller changes nothing for tunnels: this task connects again and reports again.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use jmp_auth::pki::{Leaf, Protocols, ServerCertificate};
use jmp_auth::{Secret, TunnelKeys};
use jmp_proto::jmp::v1::router_control_service_client::RouterControlServiceClient;
use jmp_proto::jmp::v1::router_instruction::Instruction;
use jmp_proto::jmp::v1::router_message::Message;
use jmp_proto::jmp::v1::{
    CloseTunnels, RouterHello, RouterInstruction, RouterMessage, RouterWelcome,
};
use jmp_types::Timestamp;
use jmp_wire::backoff::Backoff;
use jmp_wire::connection::{Connection, KeepAlive};
use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::options::{Closing, ControlOptions};
use crate::relay::Relay;

/// How long the controller may take to accept, to answer and to take a report.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// No pause between two attempts is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Reports on their way to the controller.
const AHEAD: usize = 16;
/// A clock that is off by more is worth a warning.
const NOTABLE_OFFSET_SECONDS: i64 = 5;

/// The controller should notice a dead router, and the router a dead controller, within this.
const KEEP_ALIVE: KeepAlive = KeepAlive {
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(15),
};

/// The control task of a router.
pub(crate) struct Control {
    relay: Arc<Relay>,
    options: ControlOptions,
    metadata: HeaderMap,
    /// The welcome's keys are wanted.
    wants_keys: bool,
    /// Where the welcome's certificate goes, if it is wanted.
    certificate: Option<watch::Sender<Option<Arc<ServerConfig>>>>,
    stop: CancellationToken,
}

/// A session that began with a welcome.
struct Opened {
    sender: mpsc::Sender<RouterMessage>,
    instructions: Streaming<RouterInstruction>,
    /// Its last handle closes it.
    _connection: Connection,
}

/// Why a session with the controller is over.
enum End {
    /// The router stops.
    Stopped,
    /// It broke.
    Failed(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

// === impl Control ===

impl Control {
    /// # Errors
    ///
    /// If credential or name cannot be sent as metadata.
    pub(crate) fn new(
        relay: Arc<Relay>,
        options: ControlOptions,
        wants_keys: bool,
        certificate: Option<watch::Sender<Option<Arc<ServerConfig>>>>,
        stop: CancellationToken,
    ) -> Result<Self, &'static str> {
        let mut metadata = HeaderMap::new();
        let bearer = format!("Bearer {}", options.credential.expose());
        let mut bearer = HeaderValue::from_str(&bearer)
            .map_err(|_| "the join credential has characters that no token has")?;
        bearer.set_sensitive(true);
        metadata.insert(header::AUTHORIZATION, bearer);
        let name = HeaderValue::from_str(&options.name)
            .map_err(|_| "the name of the router has characters that no name may have")?;
        metadata.insert("jumpstarter-name", name);
        metadata.insert("jumpstarter-kind", HeaderValue::from_static("Router"));
        // Where controllers keep their routers; every caller has to name a namespace.
        let namespace = HeaderValue::from_static("default");
        metadata.insert("jumpstarter-namespace", namespace);
        Ok(Self {
            relay,
            options,
            metadata,
            wants_keys,
            certificate,
            stop,
        })
    }

    /// Keeps a session with the controller until told to stop.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        while !self.stop.is_cancelled() {
            let mut welcomed = false;
            let end = self.session(&mut welcomed).await;
            self.relay.metrics.controller.set(0);
            let End::Failed(status) = end else { return };
            if welcomed {
                backoff.reset();
            }
            let pause = backoff.pause();
            tracing::warn!(
                controller = self.options.controller,
                code = ?status.code(),
                reason = status.message(),
                again_in = ?pause,
                "no connection to the controller; tunnels go on"
            );
            self.stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await;
        }
    }

    async fn session(&self, welcomed: &mut bool) -> End {
        let opening = self.stop.run_until_cancelled(self.open());
        let opened = match opening.await {
            None => return End::Stopped,
            Some(Err(status)) => return End::Failed(status),
            Some(Ok(opened)) => opened,
        };
        *welcomed = true;
        self.relay.metrics.controller.set(1);
        tracing::info!(
            controller = self.options.controller,
            "welcomed by the controller"
        );
        self.converse(opened).await
    }

    /// Connects, says hello and waits for the welcome.
    async fn open(&self) -> Result<Opened, Status> {
        let io = within("connecting", self.options.dial.dial())
            .await?
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let handshake = Connection::handshake(
            io,
            &self.options.controller,
            self.metadata.clone(),
            Some(KEEP_ALIVE),
        );
        let connection = within("the HTTP/2 handshake", handshake).await??;
        let (sender, mut messages) = mpsc::channel(AHEAD);
        let hello = RouterHello {
            name: self.options.name.clone(),
            endpoint: self.options.endpoint.clone(),
            labels: self.options.labels.clone().into_iter().collect(),
            instance: self.options.instance.clone(),
            version: self.options.version.clone(),
        };
        send(&sender, Message::Hello(hello)).await?;
        let origin = connection.origin();
        let mut client = RouterControlServiceClient::with_origin(connection.clone(), origin);
        let outbound = futures::stream::poll_fn(move |context| messages.poll_recv(context));
        let answer = within("the answer to the hello", client.connect(outbound)).await??;
        let mut instructions = answer.into_inner();
        let first = within("the welcome", instructions.message()).await??;
        match first.and_then(|first| first.instruction) {
            Some(Instruction::Welcome(welcome)) => self.welcome(&welcome)?,
            _ => {
                return Err(Status::internal(
                    "the controller's first word was not a welcome",
                ));
            }
        }
        Ok(Opened {
            sender,
            instructions,
            _connection: connection,
        })
    }

    async fn converse(&self, opened: Opened) -> End {
        let Opened {
            sender,
            mut instructions,
            _connection,
        } = opened;
        let mut reports = tokio::time::interval(self.options.report_every);
        reports.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = self.stop.cancelled() => {
                    // The last report; what cannot be said any more is lost with the router.
                    let _ = self.report(&sender, true).await;
                    drop(sender);
                    let rest = async { while let Ok(Some(_)) = instructions.message().await {} };
                    let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
                    return End::Stopped;
                }
                instruction = instructions.message() => match instruction {
                    Ok(Some(instruction)) => self.obey(instruction),
                    Ok(None) => Err(Status::unavailable("the controller ended the conversation")),
                    Err(status) => Err(status),
                },
                _ = reports.tick() => self.report(&sender, true).await,
                () = self.relay.news.notified() => {
                    let draining = self.relay.stats().draining;
                    self.report(&sender, draining).await
                }
            };
            if let Err(status) = done {
                return End::Failed(status);
            }
        }
    }

    /// Tells which tunnels have ended, and the load if asked to.
    async fn report(&self, sender: &mpsc::Sender<RouterMessage>, load: bool) -> Result<(), Status> {
        loop {
            // A place first: what is taken from the relay is certainly sent.
            let place = within("taking a report", sender.reserve())
                .await?
                .map_err(|_| Status::unavailable("the connection is gone"))?;
            let message = match self.relay.take_ended() {
                Some(ended) => Message::Ended(ended),
                None if load => Message::Load(self.relay.load()),
                None => return Ok(()),
            };
            let last = matches!(message, Message::Load(_));
            place.send(RouterMessage {
                message: Some(message),
            });
            if last {
                return Ok(());
            }
        }
    }

    fn obey(&self, instruction: RouterInstruction) -> Result<(), Status> {
        match instruction.instruction {
            Some(Instruction::Welcome(welcome)) => self.welcome(&welcome),
            Some(Instruction::Close(CloseTunnels {
                lease,
                stream,
                reason,
            })) => {
                let ended = self.relay.close(&Closing {
                    lease: lease.clone(),
                    stream: stream.clone(),
                    reason: reason.clone(),
                });
                // Every lease ends with this, most without an open tunnel.
                if ended > 0 {
                    tracing::info!(
                        lease,
                        stream,
                        reason,
                        ended,
                        "the controller closed tunnels"
                    );
                } else {
                    tracing::debug!(lease, stream, reason, "no tunnel to close");
                }
                Ok(())
            }
            Some(Instruction::Drain(_)) => {
                tracing::info!("the controller asked to drain");
                self.relay.begin_drain();
                Ok(())
            }
            // A newer controller may say more than this version understands.
            None => Ok(()),
        }
    }

    fn welcome(&self, welcome: &RouterWelcome) -> Result<(), Status> {
        if let Some(certificate) = &self.certificate {
            self.install(certificate, welcome)?;
        }
        if self.wants_keys {
            let keys = TunnelKeys::from_secrets(&welcome.token_keys)
                .map_err(|error| Status::internal(format!("the controller's welcome: {error}")))?;
            self.relay.set_keys(keys);
        }
        let time = welcome
            .time
            .as_ref()
            .and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
        if let Some(time) = time {
            let offset = self.relay.learn_time(time);
            if offset.abs() > NOTABLE_OFFSET_SECONDS {
                tracing::warn!(
                    offset_seconds = offset,
                    "this host's clock differs from the controller's; tokens are checked by the \
                     controller's"
                );
            }
        }
        Ok(())
    }

    fn install(
        &self,
        certificate: &watch::Sender<Option<Arc<ServerConfig>>>,
        welcome: &RouterWelcome,
    ) -> Result<(), Status> {
        if welcome.certificate_chain.is_empty() && certificate.borrow().is_some() {
            return Ok(());
        }
        let key = Secret::new(&*welcome.private_key);
        let made = Leaf::from_pem(&welcome.certificate_chain, &key)
            .and_then(|leaf| ServerCertificate::given(leaf).server_config(Protocols::Grpc));
        let config = made.map_err(|error| {
            Status::failed_precondition(format!(
                "the controller's welcome: {error}; give this router a certificate of its own"
            ))
        })?;
        certificate.send_replace(Some(config));
        Ok(())
    }
}

async fn send(sender: &mpsc::Sender<RouterMessage>, message: Message) -> Result<(), Status> {
    let message = RouterMessage {
        message: Some(message),
    };
    let sent = sender.send(message).await;
    sent.map_err(|_| Status::unavailable("the connection is gone"))
}

/// Waits for one step of the conversation.
async fn within<T>(what: &str, step: impl Future<Output = T>) -> Result<T, Status> {
    tokio::time::timeout(PATIENCE, step).await.map_err(|_| {
        Status::deadline_exceeded(format!("{what} took longer than {} s", PATIENCE.as_secs()))
    })
}
