//! A scripted controller, a real router, and a real client behind it.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use http::HeaderMap;
use jmp_auth::{TunnelEnds, TunnelIssuer, TunnelKeys};
use jmp_client::{AllowList, Client, Dial, Dialer, Io};
use jmp_driver::{ByteStream, Driver, Interface, NodeSpec, OpenContext, Registry, interface};
use jmp_exporter::{
    ControllerOptions, HookScript, HookScripts, LeasedExporter, LeasedOptions, Session,
    SessionOptions,
};
use jmp_lease::{ExporterStatus, OnFailure};
use jmp_proto::v1::controller_service_server::{ControllerService, ControllerServiceServer};
use jmp_proto::v1::*;
use jmp_router::{Clock, Keys, Listener, Router, RouterHandle, RouterOptions, SystemClock, Tls};
use jmp_wire::connection::{TCP_KEEP_ALIVE, serve};
use jmp_wire::endpoint::{CallerKind, Connector, Credentials, Endpoint, ServerTrust, bearer};
use jmp_wire::rpc;
use jmp_wire::tls::TlsAcceptor;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::{Code, Request, Response, Status};

/// Longest time a test waits for anything.
pub const LIMIT: Duration = Duration::from_secs(20);

// === a driver ===

/// A stream that answers with what it gets.
#[interface(client = "test.client.EchoClient")]
trait Echo: Send + Sync + 'static {
    #[stream]
    async fn connect(&self) -> jmp_driver::Result<ByteStream>;
}

struct Mirror;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct MirrorConfig {
    /// Cannot be opened while this file exists.
    #[serde(default)]
    broken: Option<std::path::PathBuf>,
}

impl Echo for Mirror {
    async fn connect(&self) -> jmp_driver::Result<ByteStream> {
        let (near, far) = ByteStream::pair(4);
        Ok(ByteStream {
            reader: near.reader,
            writer: far.writer,
        })
    }
}

impl Driver for Mirror {
    const TYPES: &'static [&'static str] = &["test.driver.Mirror"];
    const SUMMARY: &'static str = "Echo";
    type Config = MirrorConfig;

    async fn open(config: MirrorConfig, _: OpenContext) -> jmp_driver::Result<Self> {
        match config.broken {
            Some(path) if path.exists() => Err(jmp_driver::Error::other("the mirror is broken")),
            _ => Ok(Self),
        }
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![echo_interface()]
    }
}

// === the controller ===

/// What a scripted controller was told, and what it answers.
#[derive(Default)]
pub struct Script {
    pub registrations: usize,
    pub unregistered: Vec<String>,
    /// Status, message, release_lease.
    pub reports: Vec<(ExporterStatus, String, bool)>,
    pub released: Vec<String>,
    pub listens: HashMap<String, mpsc::UnboundedSender<ListenResponse>>,
    pub listened: usize,
    pub status_streams: usize,
    /// Answers to all calls of this name (`Register`, …).
    pub refusals: HashMap<&'static str, Status>,
    pub metadata: HeaderMap,
}

#[derive(Clone)]
pub struct Desk {
    script: Arc<Mutex<Script>>,
    wanted: watch::Sender<StatusResponse>,
    changed: Arc<watch::Sender<()>>,
}

impl Desk {
    fn new() -> Self {
        Self {
            script: Arc::default(),
            wanted: watch::Sender::default(),
            changed: Arc::new(watch::Sender::new(())),
        }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn called<T>(&self, name: &'static str, request: &Request<T>) -> Result<(), Status> {
        let mut script = self.script();
        script.metadata = request.metadata().as_ref().clone();
        match script.refusals.get(name) {
            Some(status) => Err(status.clone()),
            None => Ok(()),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script());
        self.changed.send_replace(());
    }

    /// Waits until the script is so.
    pub async fn until<T>(&self, what: &str, is: impl Fn(&Script) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                if let Some(found) = is(&self.script()) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(found) => found,
            Err(_) => panic!("never: {what}; reports: {:?}", self.script().reports),
        }
    }

    /// Waits for a status after the first `skip` reports; its position and message.
    pub async fn reported(&self, skip: usize, status: ExporterStatus) -> (usize, String) {
        self.until(status.name(), |script| {
            let mut after = script.reports.iter().enumerate().skip(skip);
            let (at, (_, message, _)) = after.find(|(_, report)| report.0 == status)?;
            Some((at, message.clone()))
        })
        .await
    }

    /// All statuses, without repetitions.
    pub fn statuses(&self) -> Vec<&'static str> {
        let script = self.script();
        let mut names: Vec<_> = script
            .reports
            .iter()
            .map(|report| report.0.name())
            .collect();
        names.dedup();
        names
    }

    pub fn lease(&self, name: &str, client: &str) {
        self.wanted.send_replace(StatusResponse {
            leased: true,
            lease_name: Some(name.into()),
            client_name: Some(client.into()),
            ..StatusResponse::default()
        });
    }

    pub fn unlease(&self) {
        self.wanted.send_replace(StatusResponse::default());
    }
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ControllerService for Desk {
    type ListenStream = Messages<ListenResponse>;
    type StatusStream = Messages<StatusResponse>;

    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        self.called("Register", &request)?;
        assert_eq!(request.get_ref().reports.len(), 3, "root, power, echo");
        self.note(|script| script.registrations += 1);
        Ok(Response::new(Default::default()))
    }

    async fn unregister(
        &self,
        request: Request<UnregisterRequest>,
    ) -> Result<Response<UnregisterResponse>, Status> {
        self.called("Unregister", &request)?;
        self.note(|script| script.unregistered.push(request.into_inner().reason));
        Ok(Response::new(Default::default()))
    }

    async fn report_status(
        &self,
        request: Request<ReportStatusRequest>,
    ) -> Result<Response<ReportStatusResponse>, Status> {
        self.called("ReportStatus", &request)?;
        let request = request.into_inner();
        let status = ExporterStatus::ALL[usize::try_from(request.status).unwrap()];
        let message = request.message.unwrap_or_default();
        let release = request.release_lease.unwrap_or_default();
        self.note(|script| script.reports.push((status, message, release)));
        Ok(Response::new(Default::default()))
    }

    async fn listen(
        &self,
        request: Request<ListenRequest>,
    ) -> Result<Response<Self::ListenStream>, Status> {
        self.called("Listen", &request)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        self.note(|script| {
            script.listened += 1;
            script
                .listens
                .insert(request.into_inner().lease_name, sender);
        });
        let messages = futures::stream::unfold(receiver, |mut receiver| async {
            let message = receiver.recv().await?;
            Some((Ok(message), receiver))
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        self.called("Status", &request)?;
        self.note(|script| script.status_streams += 1);
        let mut receiver = self.wanted.subscribe();
        receiver.mark_changed();
        let messages = futures::stream::unfold(receiver, |mut receiver| async {
            receiver.changed().await.ok()?;
            let message = receiver.borrow_and_update().clone();
            Some((Ok(message), receiver))
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn dial(&self, _: Request<DialRequest>) -> Result<Response<DialResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_lease(
        &self,
        _: Request<GetLeaseRequest>,
    ) -> Result<Response<GetLeaseResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn request_lease(
        &self,
        _: Request<RequestLeaseRequest>,
    ) -> Result<Response<RequestLeaseResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn release_lease(
        &self,
        request: Request<ReleaseLeaseRequest>,
    ) -> Result<Response<ReleaseLeaseResponse>, Status> {
        self.called("ReleaseLease", &request)?;
        let name = request.into_inner().name;
        self.note(|script| script.released.push(name));
        Ok(Response::new(Default::default()))
    }

    async fn list_leases(
        &self,
        _: Request<ListLeasesRequest>,
    ) -> Result<Response<ListLeasesResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

// === the lab ===

/// Everything together. Hooks find `$D`, a directory for files.
pub struct Lab {
    pub desk: Desk,
    pub exporter: LeasedExporter,
    pub directory: tempfile::TempDir,
    pub router: RouterHandle,
    acceptor: TlsAcceptor,
    port: u16,
    serving: Option<AbortOnDropHandle<()>>,
    issuer: TunnelIssuer,
    connector: Connector,
}

#[derive(Default)]
pub struct Setup {
    pub before: Option<HookScript>,
    pub after: Option<HookScript>,
    pub exit_on_lease_end: bool,
    /// Calls that are refused from the start.
    pub refusals: HashMap<&'static str, Status>,
    /// Trust a certificate of nobody.
    pub stranger: bool,
}

pub fn hook(script: &str, on_failure: OnFailure) -> Option<HookScript> {
    Some(HookScript {
        script: script.into(),
        exec: None,
        timeout: Duration::from_secs(30),
        on_failure,
    })
}

pub fn certificate(directory: &Path) -> (TlsAcceptor, String) {
    let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap().pem();
    let place = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let acceptor = jmp_wire::tls::server(
        &place("certificate", &certificate),
        &place("key", &key.serialize_pem()),
    );
    (acceptor.unwrap(), certificate)
}

fn driver(type_name: &str, config: serde_json::Value) -> NodeSpec {
    NodeSpec::Driver {
        type_name: type_name.into(),
        config,
        description: None,
        methods_description: std::collections::BTreeMap::new(),
        children: Vec::new(),
    }
}

fn devices(directory: &Path) -> (Registry, NodeSpec) {
    let mut registry = Registry::new();
    driver_composite::register(&mut registry);
    driver_power::register(&mut registry);
    registry.add::<Mirror>();
    let power = driver(
        "jumpstarter_driver_power.driver.MockPower",
        serde_json::Value::Null,
    );
    let broken = serde_json::json!({"broken": directory.join("broken")});
    let root = NodeSpec::Group {
        description: None,
        children: vec![
            ("power".into(), power),
            ("echo".into(), driver("test.driver.Mirror", broken)),
        ],
    };
    (registry, root)
}

/// Starts an exporter with a power switch and an echo.
pub async fn exporter(
    directory: &Path,
    controller: ControllerOptions,
    hooks: [Option<HookScript>; 2],
    exit_on_lease_end: bool,
) -> LeasedExporter {
    let (registry, root) = devices(directory);
    let open = Session::open(&registry, &root, SessionOptions::default());
    let session = open.await.unwrap();
    let reports = session.reports();
    session.close().await;
    let [before_lease, after_lease] = hooks.map(|hook| {
        hook.map(|hook| HookScript {
            script: format!("D={}\n{}", directory.display(), hook.script),
            ..hook
        })
    });
    let options = LeasedOptions {
        controller,
        registry,
        root,
        reports,
        motd: String::new(),
        hooks: HookScripts {
            before_lease,
            after_lease,
        },
        programs: None,
        directory: directory.to_owned(),
        exit_on_lease_end,
    };
    LeasedExporter::start(options).unwrap()
}

impl Lab {
    pub async fn start(setup: Setup) -> Self {
        jmp_process::testing::install_supervisor();
        let directory = tempfile::tempdir().unwrap();
        let (acceptor, mut pem) = certificate(directory.path());
        let desk = Desk::new();
        desk.script().refusals = setup.refusals;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Some(answer(listener, acceptor.clone(), desk.clone()));
        let keys = TunnelKeys::open(&directory.path().join("tunnel-keys")).unwrap();
        let issuer = TunnelIssuer::new(Arc::new(keys.clone()));
        let sockets = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let options = RouterOptions::new(
            Listener::tcp(sockets).unwrap(),
            Tls::Config(acceptor.config().clone()),
            Keys::Fixed(keys),
        );
        let router = Router::start(options, CancellationToken::new()).unwrap();
        if setup.stranger {
            pem = certificate(tempfile::tempdir().unwrap().path()).1;
        }
        let connector = Connector::new(ServerTrust::Authorities(pem.into()));
        let controller = ControllerOptions {
            endpoint: format!("localhost:{port}").parse().unwrap(),
            credentials: Credentials {
                kind: CallerKind::Exporter,
                namespace: "lab".into(),
                name: "bench".into(),
                token: "t0ken".into(),
            },
            connector: connector.clone(),
        };
        let hooks = [setup.before, setup.after];
        let exporter = exporter(directory.path(), controller, hooks, setup.exit_on_lease_end).await;
        Self {
            desk,
            exporter,
            directory,
            router,
            acceptor,
            port,
            serving,
            issuer,
            connector,
        }
    }

    /// All connections break, and nobody listens any more.
    pub async fn kill_controller(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
        self.desk.script().listens.clear();
    }

    pub async fn restart_controller(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.serving = Some(answer(listener, self.acceptor.clone(), self.desk.clone()));
    }

    /// Waits until the exporter listens for clients of the lease.
    pub async fn listening(&self, lease: &str) -> mpsc::UnboundedSender<ListenResponse> {
        let find = |script: &Script| {
            let listen = script.listens.get(lease)?;
            (!listen.is_closed()).then(|| listen.clone())
        };
        self.desk.until("listening", find).await
    }

    /// A client behind the router.
    pub async fn client(&self, lease: &str) -> Client {
        let way = Tunnels {
            listen: self.listening(lease).await,
            issuer: self.issuer.clone(),
            lease: lease.into(),
            connector: self.connector.clone(),
            router: format!("localhost:{}", self.router.local_addr().unwrap().port()),
        };
        Client::connect_with(Dialer::new(way), &AllowList::Unsafe)
            .await
            .unwrap()
    }

    /// A tunnel whose client never comes.
    pub async fn ghost(&self, lease: &str) {
        let listen = self.listening(lease).await;
        let tokens = tokens(&self.issuer, lease);
        listen
            .send(ListenResponse {
                router_endpoint: format!("localhost:{}", self.router.local_addr().unwrap().port()),
                router_token: tokens.exporter.token.expose().to_owned(),
            })
            .unwrap();
    }

    pub async fn shut_down(&mut self, graceful: bool) -> jmp_exporter::Ended {
        self.exporter.shutdown_handle().request(graceful, 143).await;
        self.finished().await
    }

    pub async fn finished(&mut self) -> jmp_exporter::Ended {
        let ended = tokio::time::timeout(LIMIT, self.exporter.finished()).await;
        ended.expect("the exporter ends")
    }

    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }
}

fn tokens(issuer: &TunnelIssuer, lease: &str) -> jmp_auth::TunnelTokens {
    let ends = TunnelEnds {
        lease,
        client: "client:lab:me",
        exporter: "exporter:lab:bench",
    };
    issuer.issue(ends, SystemClock.now()).unwrap()
}

/// The client's end.
struct Tunnels {
    listen: mpsc::UnboundedSender<ListenResponse>,
    issuer: TunnelIssuer,
    lease: String,
    connector: Connector,
    router: String,
}

#[async_trait]
impl Dial for Tunnels {
    async fn dial(&self) -> std::io::Result<Pin<Box<dyn Io>>> {
        let tokens = tokens(&self.issuer, &self.lease);
        let asked = ListenResponse {
            router_endpoint: self.router.clone(),
            router_token: tokens.exporter.token.expose().to_owned(),
        };
        self.listen
            .send(asked)
            .map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        let endpoint: Endpoint = self.router.parse().unwrap();
        let connecting = self
            .connector
            .connect(&endpoint, HeaderMap::new(), TCP_KEEP_ALIVE);
        let connection = connecting.await.map_err(std::io::Error::other)?;
        let metadata = bearer(tokens.client.token.expose()).unwrap();
        let stream = rpc::start_stream(&connection, metadata);
        Ok(Box::pin(stream.guarded(connection).into_io()))
    }

    fn target(&self) -> String {
        self.router.clone()
    }
}

fn answer(listener: TcpListener, acceptor: TlsAcceptor, desk: Desk) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        // Aborted with this task, connections break as if the process were killed.
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((io, _)) = listener.accept().await {
            let (acceptor, desk) = (acceptor.clone(), desk.clone());
            connections.spawn(async move {
                let Ok(io) = acceptor.accept(io).await else {
                    return;
                };
                let tasks = TaskTracker::new();
                let service = hyper::service::service_fn(move |request| {
                    let mut server = ControllerServiceServer::new(desk.clone());
                    async move { tower_service::Service::call(&mut server, request).await }
                });
                let _ = serve(io, service, &tasks, None, std::future::pending()).await;
            });
        }
    }))
}

pub fn refusals(
    refused: impl IntoIterator<Item = (&'static str, Code, &'static str)>,
) -> HashMap<&'static str, Status> {
    let refused = refused.into_iter();
    refused
        .map(|(call, code, text)| (call, Status::new(code, text)))
        .collect()
}

/// A byte stream of the echo device.
pub async fn echo(client: &Client) -> ByteStream {
    let echo = client.device("echo").unwrap().handle().unwrap();
    echo.open_stream("connect").await.unwrap()
}

/// Sends and wants the same back.
pub async fn talk(stream: &mut ByteStream, word: &'static str) {
    use futures::SinkExt;
    stream.writer.send(word.into()).await.unwrap();
    let answer = tokio::time::timeout(LIMIT, stream.reader.next()).await;
    assert_eq!(answer.expect("an answer").unwrap().unwrap(), word);
}
