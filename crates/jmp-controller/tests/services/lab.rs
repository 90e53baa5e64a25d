//! A controller with people and exporters around it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use jmp_auth::pki::Authority;
use jmp_auth::{IdentityKeys, TunnelKeys};
use jmp_controller::clock::VirtualClock;
use jmp_controller::credentials::bootstrap_administrator;
use jmp_controller::settings::Settings;
use jmp_controller::{Controller, Parts};
use jmp_proto::jmp::v1::admin_service_client::AdminServiceClient;
use jmp_proto::jmp::v1::lease_service_client::LeaseServiceClient;
use jmp_proto::jmp::v1::{
    ApplyResourceRequest, ApplyResourceResponse, CreateResourceRequest, Credential, Resource,
    ResourceName,
};
use jmp_proto::jumpstarter::client::v1::client_service_client::ClientServiceClient;
use jmp_proto::jumpstarter::client::v1::{CreateLeaseRequest, GetLeaseRequest, Lease};
use jmp_proto::v1;
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_store::MemoryStore;
use jmp_types::Timestamp;
use jmp_wire::connection::Connection;
use serde_json::{Value, json};
use tonic::{Code, Status, Streaming};

/// When virtual time begins.
pub const START: i64 = 1_800_000_000;

pub struct Lab {
    pub controller: Controller,
    pub clock: Arc<VirtualClock>,
    pub root: String,
}

/// An exporter process: its Status stream is open as long as this lives.
pub struct Device {
    pub calls: ControllerServiceClient<Connection>,
    pub status: Streaming<v1::StatusResponse>,
}

impl Lab {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        Self::signing(settings, None).await
    }

    /// With an authority that signs for routers.
    pub async fn signing(settings: Settings, signer: Option<Arc<Authority>>) -> Self {
        let clock = Arc::new(VirtualClock::new(Timestamp::from_second(START).unwrap()));
        let controller = Controller::start(Parts {
            store: Arc::new(MemoryStore::new()),
            identity_keys: Arc::new(IdentityKeys::generate().unwrap()),
            tunnel_keys: Arc::new(TunnelKeys::generate().unwrap()),
            authority: "AUTHORITY".into(),
            signer,
            settings,
            pool: jmp_lease::pool::Settings::default(),
            clock: Arc::clone(&clock) as _,
        })
        .await
        .unwrap();
        let root = bootstrap_administrator(controller.context())
            .await
            .unwrap()
            .expect("the first administrator");
        Self {
            controller,
            clock,
            root: root.token.expose().to_owned(),
        }
    }

    /// A connection whose calls carry these words.
    pub async fn connect(&self, words: &[(&'static str, &str)]) -> Connection {
        self.connect_from([192, 0, 2, 7].into(), words).await
    }

    pub async fn connect_from(
        &self,
        address: std::net::IpAddr,
        words: &[(&'static str, &str)],
    ) -> Connection {
        let (ours, theirs) = tokio::io::duplex(1024 * 1024);
        self.controller.accept_io(theirs, Some(address));
        let mut metadata = HeaderMap::new();
        for (key, value) in words {
            metadata.insert(*key, HeaderValue::from_str(value).unwrap());
        }
        Connection::handshake(ours, "controller", metadata, None)
            .await
            .unwrap()
    }

    pub async fn identified(&self, kind: &str, key: (&str, &str), token: &str) -> Connection {
        self.connect(&[
            ("authorization", &format!("Bearer {token}")),
            ("jumpstarter-kind", kind),
            ("jumpstarter-namespace", key.0),
            ("jumpstarter-name", key.1),
        ])
        .await
    }

    pub async fn admin(&self) -> AdminServiceClient<Connection> {
        self.admin_with(&self.root).await
    }

    pub async fn admin_with(&self, token: &str) -> AdminServiceClient<Connection> {
        let connection = self.identified("Admin", ("default", "root"), token).await;
        let origin = connection.origin();
        AdminServiceClient::with_origin(connection, origin)
    }

    /// Makes an object; the credential of those that have one.
    pub async fn create(&self, manifest: Value) -> Credential {
        let request = CreateResourceRequest {
            resource: Some(resource(&manifest)),
        };
        let created = self.admin().await.create_resource(request).await;
        created.unwrap().into_inner().credential.unwrap_or_default()
    }

    pub async fn apply(&self, manifest: Value) -> Result<ApplyResourceResponse, Status> {
        let request = ApplyResourceRequest {
            resource: Some(resource(&manifest)),
        };
        let applied = self.admin().await.apply_resource(request).await;
        applied.map(tonic::Response::into_inner)
    }

    /// Makes a client; its service and its token.
    pub async fn client(&self, name: &str) -> (ClientServiceClient<Connection>, String) {
        let token = self.create(manifest("Client", name, json!({}))).await.token;
        (self.client_with(name, &token).await, token)
    }

    pub async fn client_with(&self, name: &str, token: &str) -> ClientServiceClient<Connection> {
        let connection = self.identified("Client", ("default", name), token).await;
        let origin = connection.origin();
        ClientServiceClient::with_origin(connection, origin)
    }

    pub async fn watcher(&self, name: &str, token: &str) -> LeaseServiceClient<Connection> {
        let connection = self.identified("Client", ("default", name), token).await;
        let origin = connection.origin();
        LeaseServiceClient::with_origin(connection, origin)
    }

    /// Makes an exporter with the label `board` and starts its process.
    pub async fn exporter(&self, name: &str, board: &str) -> Device {
        let token = self.registered(name, board).await;
        self.start(name, &token).await
    }

    /// Makes an exporter without a process; its token.
    pub async fn registered(&self, name: &str, board: &str) -> String {
        let mut made = manifest("Exporter", name, json!({}));
        made["metadata"]["labels"] = json!({ "board": board });
        self.create(made).await.token
    }

    pub async fn start(&self, name: &str, token: &str) -> Device {
        let connection = self.identified("Exporter", ("default", name), token).await;
        let origin = connection.origin();
        let mut calls = ControllerServiceClient::with_origin(connection, origin);
        let report = v1::DriverInstanceReport {
            uuid: "root".into(),
            ..v1::DriverInstanceReport::default()
        };
        let register = v1::RegisterRequest {
            reports: vec![report],
            ..v1::RegisterRequest::default()
        };
        calls.register(register).await.unwrap();
        let mut status = calls
            .status(v1::StatusRequest {})
            .await
            .unwrap()
            .into_inner();
        status.message().await.unwrap();
        let mut device = Device { calls, status };
        device.report(v1::ExporterStatus::Available).await;
        device
    }

    pub async fn stop(self) {
        self.controller.stop().await;
    }
}

impl Device {
    pub async fn report(&mut self, status: v1::ExporterStatus) {
        let report = v1::ReportStatusRequest {
            status: status.into(),
            ..v1::ReportStatusRequest::default()
        };
        self.calls.report_status(report).await.unwrap();
    }

    /// Waits until the exporter hears that it is leased or not.
    pub async fn leased(&mut self, leased: bool) -> v1::StatusResponse {
        loop {
            let heard = self.status.message().await.unwrap().expect("a message");
            if heard.leased == leased {
                return heard;
            }
        }
    }
}

pub fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    let mut made = json!({
        "apiVersion": "jumpstarter.dev/v1alpha1",
        "kind": kind,
        "metadata": { "name": name },
    });
    if spec != json!({}) {
        made["spec"] = spec;
    }
    made
}

pub fn resource(manifest: &Value) -> Resource {
    Resource {
        manifest: manifest.to_string(),
    }
}

pub fn named(kind: &str, name: &str) -> ResourceName {
    ResourceName {
        kind: kind.into(),
        namespace: String::new(),
        name: name.into(),
    }
}

/// A request for half an hour of such a board.
pub fn ask(selector: &str) -> CreateLeaseRequest {
    CreateLeaseRequest {
        parent: "namespaces/default".into(),
        lease_id: String::new(),
        lease: Some(Lease {
            selector: selector.into(),
            duration: Some(seconds(1800)),
            // What released clients send when they mean none.
            exporter_name: Some(String::new()),
            ..Lease::default()
        }),
    }
}

pub fn seconds(count: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: count,
        nanos: 0,
    }
}

/// That many seconds after the start.
pub fn after(count: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: START + count,
        nanos: 0,
    }
}

pub fn get(name: &str) -> GetLeaseRequest {
    GetLeaseRequest { name: name.into() }
}

/// The call was refused like that.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(
    result: Result<tonic::Response<T>, Status>,
    code: Code,
    text: &str,
) {
    let status = result.expect_err("a refusal");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(text), "{status:?}");
}

/// Waits for the lease to have that condition.
pub async fn until_ready(calls: &mut ClientServiceClient<Connection>, name: &str) -> Lease {
    for _ in 0..100 {
        let lease = calls.get_lease(get(name)).await.unwrap().into_inner();
        if lease
            .exporter
            .as_deref()
            .is_some_and(|name| !name.is_empty())
        {
            return lease;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("lease {name} got no exporter");
}
