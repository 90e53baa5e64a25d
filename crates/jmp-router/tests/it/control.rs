//! The router and its controller, the latter played by the test.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use jmp_auth::Secret;
use jmp_auth::pki::{Authority, ServerNames};
use jmp_proto::jmp::v1::router_control_service_server::{
    RouterControlService, RouterControlServiceServer,
};
use jmp_proto::jmp::v1::router_instruction::Instruction;
use jmp_proto::jmp::v1::router_message::Message;
use jmp_proto::jmp::v1::{
    CloseTunnels, DrainRouter, RouterInstruction, RouterMessage, RouterWelcome,
};
use jmp_router::{ControlOptions, Dialling, Io, Keys, Tls};
use jmp_types::Timestamp;
use jmp_wire::connection::Connection;
use jmp_wire::tls::{Trust, client, server_name};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status, Streaming};
use tower_service::Service;

use crate::support::{LEASE, Peer, Rig, bearer, keys, refused, soon, tokens};

/// One session of the router, as the controller sees it.
struct Session {
    metadata: http::HeaderMap,
    messages: Streaming<RouterMessage>,
    instructions: Option<mpsc::Sender<Result<RouterInstruction, Status>>>,
}

/// Hands every session to the test.
#[derive(Clone)]
struct Controller(mpsc::Sender<Session>);

#[async_trait::async_trait]
impl RouterControlService for Controller {
    type ConnectStream = BoxStream<'static, Result<RouterInstruction, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<RouterMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (instructions, mut orders) = mpsc::channel(8);
        let (metadata, _, messages) = request.into_parts();
        let session = Session {
            metadata: metadata.into_headers(),
            messages,
            instructions: Some(instructions),
        };
        let handed = self.0.send(session).await;
        handed.map_err(|_| Status::unavailable("the test is over"))?;
        let orders = futures::stream::poll_fn(move |context| orders.poll_recv(context));
        Ok(Response::new(orders.boxed()))
    }
}

impl Session {
    async fn order(&self, instruction: Instruction) {
        let instruction = RouterInstruction {
            instruction: Some(instruction),
        };
        let instructions = self.instructions.as_ref().expect("open");
        soon(instructions.send(Ok(instruction)))
            .await
            .expect("open");
    }

    async fn welcome(&self, ahead_seconds: i64) {
        let time = Timestamp::now();
        let time = prost_types::Timestamp {
            seconds: time.as_second() + ahead_seconds,
            nanos: 0,
        };
        let welcome = RouterWelcome {
            token_keys: keys().expose(),
            time: Some(time),
            ..RouterWelcome::default()
        };
        self.order(Instruction::Welcome(welcome)).await;
    }

    async fn next(&mut self) -> Message {
        let message = soon(self.messages.message()).await.expect("open");
        message.and_then(|message| message.message).expect("one")
    }

    /// The next message that `pick` wants.
    async fn wait<T>(&mut self, pick: impl Fn(Message) -> Option<T>) -> T {
        soon(async {
            loop {
                if let Some(found) = pick(self.next().await) {
                    return found;
                }
            }
        })
        .await
    }
}

/// A router in memory that joins a controller in memory.
fn rig() -> (Rig, mpsc::Receiver<Session>, TaskTracker) {
    rig_with(Tls::None)
}

fn rig_with(tls: Tls) -> (Rig, mpsc::Receiver<Session>, TaskTracker) {
    let (sessions, arrivals) = mpsc::channel(1);
    let tasks = TaskTracker::new();
    let serving = tasks.clone();
    let dial = move || -> Dialling {
        if sessions.is_closed() {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        }
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let service = RouterControlServiceServer::new(Controller(sessions.clone()));
        let service = hyper::service::service_fn(move |request| service.clone().call(request));
        let calls = serving.clone();
        serving.spawn(async move {
            // How it ends is the test's doing.
            let _ = jmp_wire::connection::serve(
                theirs,
                service,
                &calls,
                None,
                std::future::pending::<()>(),
            )
            .await;
        });
        Box::pin(async move { Ok(Box::new(ours) as Io) })
    };
    let rig = Rig::with(|options| {
        options.keys = Keys::FromController;
        options.tls = tls;
        options.control = Some(ControlOptions {
            dial: Arc::new(dial),
            controller: "controller".into(),
            credential: Secret::new("join-me"),
            name: "router-1".into(),
            endpoint: "router.example:8083".into(),
            labels: HashMap::from([("site".into(), "lab".into())]),
            instance: "instance-1".into(),
            version: "0".into(),
            report_every: Duration::from_secs(3),
        });
    });
    (rig, arrivals, tasks)
}

async fn session(arrivals: &mut mpsc::Receiver<Session>) -> Session {
    let mut session = soon(arrivals.recv()).await.expect("a session");
    let Message::Hello(hello) = session.next().await else {
        panic!("the first word is not hello");
    };
    assert_eq!(hello.name, "router-1");
    assert_eq!(hello.endpoint, "router.example:8083");
    assert_eq!(hello.labels["site"], "lab");
    session
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_before_the_welcome() {
    let (rig, mut arrivals, _tasks) = rig();
    let early = rig.peer(tokens().client.token.expose()).await;
    refused(early, Code::Unavailable, "has not reached its controller");
    assert!(!rig.router.stats().ready);
    let session = session(&mut arrivals).await;
    assert_eq!(session.metadata["authorization"], "Bearer join-me");
    assert_eq!(session.metadata["jumpstarter-kind"], "Router");
    session.welcome(0).await;
    soon(rig.router.ready()).await;
    rig.pair().await;
}

#[tokio::test(start_paused = true)]
async fn load_and_ends_are_reported_and_orders_obeyed() {
    let (rig, mut arrivals, _tasks) = rig();
    let mut session = session(&mut arrivals).await;
    session.welcome(0).await;
    soon(rig.router.ready()).await;
    let (mut client, mut exporter) = rig.pair().await;
    client.send("12345").await;
    exporter.receive(5).await;
    exporter.send("123").await;
    client.receive(3).await;
    let load = session
        .wait(|message| match message {
            Message::Load(load) if load.tunnels == 1 => Some(load),
            _ => None,
        })
        .await;
    assert_eq!(load.bytes_forwarded, 8);
    assert_eq!(load.r#use[0].lease, LEASE);
    assert_eq!(load.r#use[0].bytes_to_exporter, 5);
    assert_eq!(load.r#use[0].bytes_to_client, 3);
    session
        .order(Instruction::Close(CloseTunnels {
            lease: LEASE.into(),
            reason: "the lease was transferred".into(),
            ..CloseTunnels::default()
        }))
        .await;
    client.expect(Code::PermissionDenied, "transferred").await;
    exporter.expect(Code::PermissionDenied, "transferred").await;
    let before = tokio::time::Instant::now();
    let ended = session
        .wait(|message| match message {
            Message::Ended(ended) => Some(ended),
            _ => None,
        })
        .await;
    assert!(before.elapsed() < Duration::from_secs(1), "at once");
    assert_eq!(ended.reason, "the lease was transferred");
    assert_eq!(ended.r#use.expect("use").bytes_to_exporter, 5);
    session.order(Instruction::Drain(DrainRouter {})).await;
    session
        .wait(|message| match message {
            Message::Load(load) if load.draining => Some(()),
            _ => None,
        })
        .await;
    refused(
        rig.peer(tokens().client.token.expose()).await,
        Code::Unavailable,
        "draining",
    );
}

#[tokio::test(start_paused = true)]
async fn losing_the_controller_changes_nothing_for_tunnels() {
    let (rig, mut arrivals, _tasks) = rig();
    let first = session(&mut arrivals).await;
    first.welcome(0).await;
    soon(rig.router.ready()).await;
    let (client, mut exporter) = rig.pair().await;
    drop(first);
    for _ in 0..5 {
        // Attempts in between are not answered, which the router has to notice by itself.
        let unanswered = session(&mut arrivals).await;
        client.send("still").await;
        assert_eq!(exporter.receive(5).await, "still");
        drop(unanswered);
    }
    // New ones come in, too: the keys are known.
    let (mut late, other) = rig.pair().await;
    other.send("new").await;
    assert_eq!(late.receive(3).await, "new");
    // What ended in between is told.
    drop((client, exporter));
    rig.until(|stats| stats.tunnels == 1).await;
    let mut again = session(&mut arrivals).await;
    again.welcome(0).await;
    again
        .wait(|message| matches!(message, Message::Ended(_)).then_some(()))
        .await;
    let load = again
        .wait(|message| match message {
            Message::Load(load) => Some(load),
            _ => None,
        })
        .await;
    assert_eq!(load.tunnels, 1);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_is_an_hour_ahead_is_believed() {
    let (rig, mut arrivals, _tasks) = rig();
    let session = session(&mut arrivals).await;
    session.welcome(3600).await;
    soon(rig.router.ready()).await;
    refused(
        rig.peer(tokens().client.token.expose()).await,
        Code::Unauthenticated,
        "token is expired",
    );
}

#[tokio::test]
async fn the_welcome_brings_certificate_and_keys_and_later_ones_replace_them() {
    let (rig, mut arrivals, _tasks) = rig_with(Tls::FromController);
    let session = session(&mut arrivals).await;
    let now = Timestamp::now();
    let authority = Authority::in_memory(now).expect("authority");
    let names = ServerNames::new(["router.example"]).expect("names");
    let leaf = authority.issue(&names, now).expect("certificate");
    let mut welcome = RouterWelcome {
        token_keys: vec![b"yesterday's".to_vec()],
        certificate_chain: leaf.chain_pem,
        private_key: leaf.key_pem.expose().to_owned(),
        ..RouterWelcome::default()
    };
    session.order(Instruction::Welcome(welcome.clone())).await;
    soon(rig.router.ready()).await;
    let trust = Trust::Authorities(authority.certificate_pem().into());
    let connector = client(&trust).expect("TLS");
    let io = rig.dialer.dial("test").await.expect("accepted");
    let io = soon(connector.connect(server_name("router.example").expect("name"), io)).await;
    let connection = Connection::handshake(
        io.expect("the certificate of the welcome"),
        "router.example",
        http::HeaderMap::new(),
        None,
    );
    let connection = soon(connection).await.expect("HTTP/2");
    let pair = tokens();
    let open = || Peer::open(connection.clone(), bearer(pair.client.token.expose()));
    refused(open().await, Code::Unauthenticated, "signature");
    // Rotated: the certificate stays when the welcome has none.
    welcome.token_keys.insert(0, keys().expose().remove(0));
    welcome.certificate_chain.clear();
    session.order(Instruction::Welcome(welcome)).await;
    soon(async {
        while open().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
