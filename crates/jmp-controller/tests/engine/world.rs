//! Controllers over a store that outlives them, routers made of a stream, and raw connections.

use std::sync::Arc;
use std::time::Duration;

use jmp_auth::{IdentityKeys, TunnelKeys};
use jmp_controller::admin_service::BackupSource;
use jmp_controller::clock::VirtualClock;
use jmp_controller::credentials::bootstrap_administrator;
use jmp_controller::settings::Settings;
use jmp_controller::{Controller, Parts};
use jmp_proto::jmp::v1::router_control_service_client::RouterControlServiceClient;
use jmp_proto::jmp::v1::router_instruction::Instruction;
use jmp_proto::jmp::v1::router_message::Message;
use jmp_proto::jmp::v1::{
    CloseTunnels, RouterHello, RouterInstruction, RouterLoad, RouterMessage, RouterWelcome,
};
use jmp_proto::v1;
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_store::{AuditSink, EventSink, Store};
use jmp_types::Timestamp;
use jmp_wire::connection::Connection;
use serde_json::json;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::lab::{Device, Lab, START, manifest, named};

/// What survives a controller.
pub struct World<S> {
    pub store: Arc<S>,
    pub clock: Arc<VirtualClock>,
    pub settings: Settings,
    identity: Arc<IdentityKeys>,
    tunnel: Arc<TunnelKeys>,
    root: String,
}

impl<S> World<S>
where
    S: Store + AuditSink + EventSink + BackupSource + 'static,
{
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            clock: Arc::new(VirtualClock::new(Timestamp::from_second(START).unwrap())),
            settings: Settings::default(),
            identity: Arc::new(IdentityKeys::generate().unwrap()),
            tunnel: Arc::new(TunnelKeys::generate().unwrap()),
            root: String::new(),
        }
    }

    /// Another controller over the same store.
    pub async fn start(&mut self) -> Lab {
        let controller = Controller::start(Parts {
            store: Arc::clone(&self.store),
            identity_keys: Arc::clone(&self.identity),
            tunnel_keys: Arc::clone(&self.tunnel),
            authority: "AUTHORITY".into(),
            signer: None,
            settings: self.settings.clone(),
            pool: jmp_lease::pool::Settings::default(),
            clock: Arc::clone(&self.clock) as _,
        })
        .await
        .unwrap();
        let first = bootstrap_administrator(controller.context()).await.unwrap();
        if let Some(token) = first {
            token.token.expose().clone_into(&mut self.root);
        }
        Lab {
            controller,
            clock: Arc::clone(&self.clock),
            root: self.root.clone(),
        }
    }
}

/// The calls of an exporter or client of before `ClientService`.
pub async fn controller_calls(
    lab: &Lab,
    kind: &str,
    name: &str,
    token: &str,
) -> ControllerServiceClient<Connection> {
    let connection = lab.identified(kind, ("default", name), token).await;
    let origin = connection.origin();
    ControllerServiceClient::with_origin(connection, origin)
}

pub fn register() -> v1::RegisterRequest {
    let report = v1::DriverInstanceReport {
        uuid: "root".into(),
        ..v1::DriverInstanceReport::default()
    };
    v1::RegisterRequest {
        reports: vec![report],
        ..v1::RegisterRequest::default()
    }
}

pub fn dial(lease: &str) -> v1::DialRequest {
    v1::DialRequest {
        lease_name: lease.into(),
    }
}

/// Opens the Listen stream of a lease.
pub async fn listen(device: &mut Device, lease: &str) -> Streaming<v1::ListenResponse> {
    let request = v1::ListenRequest {
        lease_name: lease.into(),
    };
    device.calls.listen(request).await.unwrap().into_inner()
}

/// The end of a stream: its status, or `None` for an end without one. Messages before it are skipped.
pub async fn end<T>(stream: &mut Streaming<T>) -> Option<Status> {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

/// Nothing comes for that long.
pub async fn silent<T: std::fmt::Debug>(stream: &mut Streaming<T>, time: Duration) {
    let heard = tokio::time::timeout(time, stream.message()).await;
    assert!(heard.is_err(), "{heard:?}");
}

/// A router as the controller knows it.
pub struct FakeRouter {
    pub welcome: RouterWelcome,
    pub token: String,
    messages: mpsc::Sender<RouterMessage>,
    /// Closes the connection when it is dropped.
    _calls: RouterControlServiceClient<Connection>,
    instructions: Streaming<RouterInstruction>,
}

impl FakeRouter {
    /// Makes the router's object, and joins.
    pub async fn new(lab: &Lab, name: &str, labels: &[(&str, &str)]) -> Self {
        let token = lab.create(manifest("Router", name, json!({}))).await.token;
        Self::join(lab, name, &token, labels).await.unwrap()
    }

    /// Joins with a token.
    pub async fn join(
        lab: &Lab,
        name: &str,
        token: &str,
        labels: &[(&str, &str)],
    ) -> Result<Self, Status> {
        let connection = lab.identified("Router", ("default", name), token).await;
        let origin = connection.origin();
        let mut calls = RouterControlServiceClient::with_origin(connection, origin);
        let (messages, outgoing) = mpsc::channel(64);
        let hello = RouterHello {
            name: name.into(),
            endpoint: format!("{name}.example:8083"),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            instance: format!("{name}-1"),
            version: String::new(),
        };
        let first = RouterMessage {
            message: Some(Message::Hello(hello)),
        };
        messages.send(first).await.unwrap();
        let outgoing = futures::stream::unfold(outgoing, |mut outgoing| async {
            outgoing.recv().await.map(|next| (next, outgoing))
        });
        let mut instructions = calls.connect(outgoing).await?.into_inner();
        let welcome = instructions
            .message()
            .await?
            .and_then(|next| next.instruction);
        let Some(Instruction::Welcome(welcome)) = welcome else {
            panic!("no welcome: {welcome:?}");
        };
        Ok(Self {
            welcome,
            token: token.to_owned(),
            messages,
            _calls: calls,
            instructions,
        })
    }

    pub async fn say(&self, message: Message) {
        let message = RouterMessage {
            message: Some(message),
        };
        self.messages.send(message).await.unwrap();
        // Until it was heard.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    pub async fn load(&self, load: RouterLoad) {
        self.say(Message::Load(load)).await;
    }

    /// What is to be closed next.
    pub async fn closing(&mut self) -> CloseTunnels {
        let next = tokio::time::timeout(Duration::from_secs(5), self.order());
        match next.await.expect("an instruction in time") {
            Instruction::Close(close) => close,
            other => panic!("no tunnels to close: {other:?}"),
        }
    }

    /// Nothing is to be done.
    pub async fn quiet(&mut self) {
        let heard = tokio::time::timeout(Duration::from_millis(200), self.order()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    /// The next instruction that is no welcome; those are said again now and then.
    async fn order(&mut self) -> Instruction {
        loop {
            match self.instruction().await {
                Instruction::Welcome(_) => {}
                order => return order,
            }
        }
    }

    pub async fn instruction(&mut self) -> Instruction {
        let next = tokio::time::timeout(Duration::from_secs(300), self.instructions.message());
        let next = next.await.expect("an instruction in time");
        next.unwrap().unwrap().instruction.unwrap()
    }

    /// Why the stream ended.
    pub async fn ended(&mut self) -> Option<Status> {
        end(&mut self.instructions).await
    }
}

/// The stream that a tunnel token is for.
pub fn stream_of(token: &str) -> String {
    let payload = token.split('.').nth(1).unwrap();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = base64::Engine::decode(&engine, payload).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    claims["sub"].as_str().unwrap().to_owned()
}

/// Takes a lease with a client that exists, and lets the exporter be ready for it.
pub async fn leased(
    lab: &Lab,
    device: &mut Device,
    client: &str,
    token: &str,
    board: &str,
) -> String {
    let mut calls = lab.client_with(client, token).await;
    let asked = crate::lab::ask(&format!("board={board}"));
    let lease = calls.create_lease(asked).await.unwrap().into_inner();
    let name = lease.name.rsplit('/').next().unwrap().to_owned();
    let notice = device.leased(true).await;
    assert_eq!(notice.lease_name.as_deref(), Some(name.as_str()));
    device.report(v1::ExporterStatus::LeaseReady).await;
    name
}

pub async fn release(lab: &Lab, client: &str, token: &str, lease: &str) {
    let mut calls = controller_calls(lab, "Client", client, token).await;
    let request = v1::ReleaseLeaseRequest { name: lease.into() };
    calls.release_lease(request).await.unwrap();
}

pub async fn revoke(lab: &Lab, kind: &str, name: &str) {
    let mut admin = lab.admin().await;
    admin.revoke_credential(named(kind, name)).await.unwrap();
}
