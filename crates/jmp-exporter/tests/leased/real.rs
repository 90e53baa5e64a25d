//! The same with the real controller: what it says and what the exporter does fit together.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use jmp_auth::{IdentityKeys, Secret, TunnelKeys};
use jmp_client::{AllowList, Client, Dial, Dialer, Io};
use jmp_controller::clock::SystemClock;
use jmp_controller::credentials::bootstrap_administrator;
use jmp_controller::settings::Settings;
use jmp_controller::{Controller, Parts};
use jmp_exporter::{ControllerOptions, LeasedExporter, LeasedProgress};
use jmp_interfaces::power::PowerClient;
use jmp_lease::OnFailure;
use jmp_proto::jmp::v1::admin_service_client::AdminServiceClient;
use jmp_proto::jmp::v1::{CreateResourceRequest, Resource};
use jmp_proto::jumpstarter::client::v1::client_service_client::ClientServiceClient;
use jmp_proto::jumpstarter::client::v1::{
    CreateLeaseRequest, DeleteLeaseRequest, GetExporterRequest, Lease,
};
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_proto::v1::{DialRequest, ExporterStatus};
use jmp_router::{
    ControlOptions, Keys, Listener, Router, RouterHandle, RouterOptions, Tls, TlsDial,
};
use jmp_store::MemoryStore;
use jmp_wire::connection::{Connection, TCP_KEEP_ALIVE};
use jmp_wire::endpoint::{CallerKind, Connector, Credentials, ServerTrust, bearer};
use jmp_wire::rpc;
use jmp_wire::tls::{TlsAcceptor, pinned_client};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::support::{LIMIT, certificate, echo, exporter, hook, talk};

struct Lab {
    store: Arc<MemoryStore>,
    identity: Arc<IdentityKeys>,
    tunnels: Arc<TunnelKeys>,
    acceptor: TlsAcceptor,
    connector: Connector,
    port: u16,
    running: Option<(Arc<Controller>, tokio::task::JoinHandle<()>)>,
    root: String,
    client: String,
    exporter: LeasedExporter,
    directory: tempfile::TempDir,
    _router: RouterHandle,
}

async fn controller(
    store: &Arc<MemoryStore>,
    identity: &Arc<IdentityKeys>,
    tunnels: &Arc<TunnelKeys>,
) -> Arc<Controller> {
    let parts = Parts {
        store: Arc::clone(store),
        identity_keys: Arc::clone(identity),
        tunnel_keys: Arc::clone(tunnels),
        authority: String::new(),
        signer: None,
        settings: Settings::default(),
        pool: jmp_lease::pool::Settings::default(),
        clock: Arc::new(SystemClock),
    };
    Arc::new(Controller::start(parts).await.unwrap())
}

fn serve(
    controller: &Arc<Controller>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
) -> tokio::task::JoinHandle<()> {
    let controller = Arc::clone(controller);
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((io, address)) = listener.accept().await {
            let (acceptor, controller) = (acceptor.clone(), Arc::clone(&controller));
            connections.spawn(async move {
                if let Ok(io) = acceptor.accept(io).await {
                    controller.serve_io(io, Some(address.ip())).await;
                }
            });
        }
    })
}

impl Lab {
    async fn start(script: &str) -> Self {
        jmp_process::testing::install_supervisor();
        let directory = tempfile::tempdir().unwrap();
        let (acceptor, pem) = certificate(directory.path());
        let connector = Connector::new(ServerTrust::Authorities(pem.clone().into()));
        let store = Arc::new(MemoryStore::new());
        let identity = Arc::new(IdentityKeys::generate().unwrap());
        let tunnels = Arc::new(TunnelKeys::generate().unwrap());
        let controller = controller(&store, &identity, &tunnels).await;
        let root = bootstrap_administrator(controller.context()).await;
        let root = root.unwrap().expect("the first").token.expose().to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = serve(&controller, listener, acceptor.clone());
        let endpoint = format!("localhost:{port}");
        let admin = connect(&connector, port, CallerKind::Admin, "root", &root).await;
        let router = create(&admin, "Router", "r1", json!({})).await;
        let token = create(&admin, "Exporter", "bench", json!({"board": "x"})).await;
        let client = create(&admin, "Client", "me", json!({})).await;
        let sockets = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let router_port = sockets.local_addr().unwrap().port();
        let mut options = RouterOptions::new(
            Listener::tcp(sockets).unwrap(),
            Tls::Config(acceptor.config().clone()),
            Keys::FromController,
        );
        options.control = Some(ControlOptions {
            dial: Arc::new(TlsDial {
                endpoint: endpoint.clone(),
                connector: pinned_client(pem.as_bytes()).unwrap(),
            }),
            controller: endpoint.clone(),
            credential: Secret::new(router),
            name: "r1".into(),
            endpoint: format!("localhost:{router_port}"),
            labels: std::collections::HashMap::new(),
            instance: "1".into(),
            version: "test".into(),
            report_every: Duration::from_secs(1),
        });
        let credentials = Credentials {
            kind: CallerKind::Exporter,
            namespace: "default".into(),
            name: "bench".into(),
            token,
        };
        let to = ControllerOptions {
            endpoint: endpoint.parse().unwrap(),
            credentials,
            connector: connector.clone(),
        };
        let hooks = [None, hook(script, OnFailure::Warn)];
        let exporter = exporter(directory.path(), to, hooks, false).await;
        Self {
            store,
            identity,
            tunnels,
            acceptor,
            connector,
            port,
            running: Some((controller, task)),
            root,
            client,
            exporter,
            directory,
            _router: Router::start(options, CancellationToken::new()).unwrap(),
        }
    }

    async fn kill(&mut self) {
        let (controller, task) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
        drop(controller);
    }

    async fn restart(&mut self) {
        let controller = controller(&self.store, &self.identity, &self.tunnels).await;
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        let task = serve(&controller, listener, self.acceptor.clone());
        self.running = Some((controller, task));
    }

    async fn client(&self) -> Connection {
        connect(
            &self.connector,
            self.port,
            CallerKind::Client,
            "me",
            &self.client,
        )
        .await
    }

    /// Asks until there is an answer: everything is on its way.
    async fn lease(&self, name: &str) -> Client {
        let connection = self.client().await;
        let origin = connection.origin();
        let mut calls = ClientServiceClient::with_origin(connection, origin);
        let request = CreateLeaseRequest {
            parent: "namespaces/default".into(),
            lease_id: name.into(),
            lease: Some(Lease {
                selector: "board=x".into(),
                duration: Some(prost_types::Duration {
                    seconds: 600,
                    nanos: 0,
                }),
                ..Lease::default()
            }),
        };
        calls.create_lease(request).await.unwrap();
        self.connect(name).await
    }

    async fn connect(&self, lease: &str) -> Client {
        let mut last = String::new();
        let connecting = async {
            loop {
                let way = Dialled {
                    controller: self.client().await,
                    connector: self.connector.clone(),
                    lease: lease.to_owned(),
                };
                match Client::connect_with(Dialer::new(way), &AllowList::Unsafe).await {
                    Ok(client) => return client,
                    Err(error) => last = format!("{error:?}"),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let connected = tokio::time::timeout(LIMIT, connecting).await;
        connected.unwrap_or_else(|_| panic!("the exporter cannot be reached: {last}"))
    }

    async fn delete(&self, lease: &str) {
        let connection = self.client().await;
        let origin = connection.origin();
        let name = format!("namespaces/default/leases/{lease}");
        let mut calls = ClientServiceClient::with_origin(connection, origin);
        calls
            .delete_lease(DeleteLeaseRequest { name })
            .await
            .unwrap();
    }

    async fn status(&self, wanted: ExporterStatus) {
        let connection = self.client().await;
        let origin = connection.origin();
        let mut calls = ClientServiceClient::with_origin(connection, origin);
        let name = "namespaces/default/exporters/bench".to_owned();
        let mut last = String::new();
        let waiting = async {
            loop {
                let request = GetExporterRequest {
                    name: name.clone(),
                    ..GetExporterRequest::default()
                };
                let found = calls.get_exporter(request).await.unwrap().into_inner();
                if found.status() == wanted {
                    return;
                }
                last = format!("{:?} {}", found.status(), found.status_message);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting)
            .await
            .unwrap_or_else(|_| panic!("the controller never sees {wanted:?}, but {last}"));
    }
}

async fn connect(
    connector: &Connector,
    port: u16,
    kind: CallerKind,
    name: &str,
    token: &str,
) -> Connection {
    let credentials = Credentials {
        kind,
        namespace: "default".into(),
        name: name.into(),
        token: token.into(),
    };
    let endpoint = format!("localhost:{port}").parse().unwrap();
    let metadata = credentials.metadata().unwrap();
    let connecting = connector.connect(&endpoint, metadata, TCP_KEEP_ALIVE);
    connecting.await.unwrap()
}

async fn create(admin: &Connection, kind: &str, name: &str, labels: Value) -> String {
    let manifest = json!({
        "apiVersion": "jumpstarter.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
    });
    let request = CreateResourceRequest {
        resource: Some(Resource {
            manifest: manifest.to_string(),
        }),
    };
    let mut calls = AdminServiceClient::with_origin(admin.clone(), admin.origin());
    let created = calls.create_resource(request).await.unwrap().into_inner();
    created.credential.unwrap().token
}

struct Dialled {
    controller: Connection,
    connector: Connector,
    lease: String,
}

#[async_trait]
impl Dial for Dialled {
    async fn dial(&self) -> std::io::Result<Pin<Box<dyn Io>>> {
        let origin = self.controller.origin();
        let mut calls = ControllerServiceClient::with_origin(self.controller.clone(), origin);
        let request = DialRequest {
            lease_name: self.lease.clone(),
        };
        let way = calls.dial(request).await.map_err(std::io::Error::other)?;
        let way = way.into_inner();
        let endpoint = way.router_endpoint.parse().unwrap();
        let connecting = self
            .connector
            .connect(&endpoint, HeaderMap::new(), TCP_KEEP_ALIVE);
        let connection = connecting.await.map_err(std::io::Error::other)?;
        let stream = rpc::start_stream(&connection, bearer(&way.router_token).unwrap());
        Ok(Box::pin(stream.guarded(connection).into_io()))
    }

    fn target(&self) -> String {
        self.lease.clone()
    }
}

#[tokio::test]
async fn two_leases_of_the_real_controller() {
    let mut lab = Lab::start("echo $LEASE_NAME $CLIENT_NAME >> $D/after").await;
    let first = lab.lease("a").await;
    lab.status(ExporterStatus::LeaseReady).await;
    let power: PowerClient = first.device("power").unwrap().client().unwrap();
    power.on().await.unwrap();
    lab.delete("a").await;
    let second = lab.lease("b").await;
    talk(&mut echo(&second).await, "b").await;
    power.on().await.unwrap_err();
    // The exporter gives the lease back itself.
    second.end_session().await.unwrap().unwrap();
    let third = lab.lease("c").await;
    talk(&mut echo(&third).await, "c").await;
    lab.exporter.shutdown_handle().request(false, 143).await;
    let ended = tokio::time::timeout(LIMIT, lab.exporter.finished()).await;
    assert_eq!(ended.unwrap().code, 143);
    lab.status(ExporterStatus::Offline).await;
    let after = std::fs::read_to_string(lab.directory.path().join("after")).unwrap();
    assert_eq!(after, "a me\nb me\nc me\n");
    assert!(!lab.root.is_empty());
}

/// The controller's limit for exporters that do not say that they heard of the end is two seconds.
#[tokio::test]
async fn the_next_lease_begins_at_once() {
    let lab = Lab::start("true").await;
    for name in ["a", "b", "c", "d"] {
        let client = lab.lease(name).await;
        client.end_session().await.unwrap().unwrap();
        lab.status(ExporterStatus::Available).await;
        lab.delete(name).await;
    }
    let begun = tokio::time::Instant::now();
    lab.lease("e").await;
    assert!(begun.elapsed() < Duration::from_millis(1500));
}

#[tokio::test]
async fn the_real_controller_is_killed_during_a_lease() {
    let mut lab = Lab::start("true").await;
    let client = lab.lease("a").await;
    let mut stream = echo(&client).await;
    talk(&mut stream, "before").await;
    for _ in 0..2 {
        lab.kill().await;
        for word in ["one", "two", "three"] {
            talk(&mut stream, word).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        lab.restart().await;
        talk(&mut echo(&lab.connect("a").await).await, "new").await;
        talk(&mut stream, "after").await;
    }
    assert_eq!(
        *lab.exporter.progress().borrow(),
        LeasedProgress::Registered
    );
    lab.status(ExporterStatus::LeaseReady).await;
    lab.delete("a").await;
    lab.status(ExporterStatus::Available).await;
    talk(&mut echo(&lab.lease("b").await).await, "next").await;
}

#[tokio::test]
async fn a_failing_hook_after_the_lease_keeps_nobody_from_the_next() {
    let mut lab = Lab::start("echo no cable; exit 3").await;
    lab.lease("a").await;
    lab.delete("a").await;
    talk(&mut echo(&lab.lease("b").await).await, "b").await;
    // The controller hears of the second failure only when it is back.
    lab.kill().await;
    lab.restart().await;
    lab.status(ExporterStatus::LeaseReady).await;
    lab.delete("b").await;
    lab.status(ExporterStatus::Available).await;
    talk(&mut echo(&lab.lease("c").await).await, "c").await;
}
