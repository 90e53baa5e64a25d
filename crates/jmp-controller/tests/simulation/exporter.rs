//! Exporter processes as they were released, with their habits and defects (facts: protocol 6.5,
//! 7.2). They outlive nothing: killing one aborts its task and breaks its connections.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::HeaderMap;
use jmp_proto::v1;
use jmp_proto::v1::ExporterStatus;
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_wire::connection::{Connection, TCP_KEEP_ALIVE};
use jmp_wire::endpoint::{CONTROLLER_KEEP_ALIVE, CallerKind, Connector, Credentials, bearer};
use jmp_wire::rpc;
use tokio::task::JoinSet;

use super::dice::Dice;
use super::ledger::Ledger;
use super::network::{CONTROLLER, Network};

/// How long a call may take.
const CALL: Duration = Duration::from_secs(10);

/// How old it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// 0.7: never reports, restarts when a lease ends.
    Silent,
    /// 0.8, 0.9 without hooks.
    Plain,
    /// 0.9 with hooks, which may fail in all the ways that it has.
    Hooks,
}

/// What every life of one exporter has in common.
#[derive(Clone)]
pub struct Device {
    pub name: String,
    pub age: Age,
    pub token: String,
    pub network: Arc<Network>,
    pub ledger: Arc<Ledger>,
}

/// One process.
struct Process {
    device: Device,
    dice: Dice,
    connector: Connector,
    connection: Arc<Mutex<Option<Connection>>>,
    session: Option<Session>,
    /// What the controller said last.
    wanted: Option<String>,
    /// What is still to be done, in order.
    plan: std::collections::VecDeque<(Duration, Act)>,
}

/// The lease that a process serves, by its own belief.
struct Session {
    lease: String,
    /// Dropped, it serves nobody.
    _tasks: JoinSet<()>,
}

#[derive(Clone, Debug)]
enum Act {
    Report(ExporterStatus, &'static str),
    Release(String),
    /// The session is gone, a new one can begin.
    Idle,
    Exit,
}

/// Runs one process until it exits by itself.
pub async fn run(device: Device, life: u64, seed: u64) {
    let dice = Dice::of(seed, &format!("{} life {life}", device.name));
    let connector = device.network.connector(&device.name);
    let mut process = Process {
        device,
        dice,
        connector,
        connection: Arc::default(),
        session: None,
        wanted: None,
        plan: std::collections::VecDeque::new(),
    };
    let mut first = true;
    loop {
        if process.keep(&mut first).await {
            return;
        }
        let pause = process.dice.milliseconds(300, 3000);
        // What is planned goes on without the controller.
        let rest = tokio::time::Instant::now() + pause;
        while let Ok(act) = tokio::time::timeout_at(rest, process.next()).await {
            if process.act(act).await {
                return;
            }
        }
    }
}

// === impl Process ===

impl Process {
    /// Connects, and obeys until the connection is lost; whether the process exits.
    async fn keep(&mut self, first: &mut bool) -> bool {
        let Some(mut api) = self.connect().await else {
            return false;
        };
        if *first {
            if !self.register(&mut api).await {
                return false;
            }
            *first = false;
            if self.device.age != Age::Silent {
                self.report(ExporterStatus::Available, "registered and available")
                    .await;
            }
        }
        let opening =
            tokio::time::timeout(Duration::from_secs(30), api.status(v1::StatusRequest {}));
        let Ok(Ok(answer)) = opening.await else {
            return false;
        };
        let mut stream = answer.into_inner();
        loop {
            tokio::select! {
                biased;
                heard = stream.message() => match heard {
                    Ok(Some(heard)) => self.hear(heard),
                    Ok(None) | Err(_) => return false,
                },
                act = self.next() => {
                    if self.act(act).await {
                        return true;
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> Option<ControllerServiceClient<Connection>> {
        let credentials = Credentials {
            kind: CallerKind::Exporter,
            namespace: "default".into(),
            name: self.device.name.clone(),
            token: self.device.token.clone(),
        };
        let metadata = credentials.metadata().unwrap();
        let endpoint = CONTROLLER.parse().unwrap();
        let connecting = self
            .connector
            .connect(&endpoint, metadata, CONTROLLER_KEEP_ALIVE);
        let connection = connecting.await.ok()?;
        *self.connection.lock().unwrap() = Some(connection.clone());
        Some(api(&connection))
    }

    async fn register(&mut self, api: &mut ControllerServiceClient<Connection>) -> bool {
        let report = v1::DriverInstanceReport {
            uuid: "root".into(),
            ..v1::DriverInstanceReport::default()
        };
        let request = v1::RegisterRequest {
            reports: vec![report],
            ..v1::RegisterRequest::default()
        };
        let registered = tokio::time::timeout(CALL, api.register(request)).await;
        matches!(registered, Ok(Ok(_)))
    }

    /// Hears from its Status stream. A lease that changes without leased=false between goes unnoticed.
    fn hear(&mut self, heard: v1::StatusResponse) {
        let lease = heard.lease_name.filter(|_| heard.leased);
        let name = &self.device.name;
        self.device
            .ledger
            .note(|| format!("{name} hears {lease:?}"));
        self.wanted.clone_from(&lease);
        match (lease, &self.session) {
            (Some(lease), Some(session)) if session.lease != lease => {
                self.device.ledger.problem(format!(
                    "{name} is told of {lease} right after {}",
                    session.lease
                ));
            }
            (Some(lease), None) if self.plan.is_empty() => self.begin(lease),
            (None, Some(_)) => self.end(),
            _ => {}
        }
    }

    fn begin(&mut self, lease: String) {
        use ExporterStatus as S;
        let mut tasks = JoinSet::new();
        let listener = Listener {
            device: self.device.clone(),
            connector: self.connector.clone(),
            connection: Arc::clone(&self.connection),
            lease: lease.clone(),
        };
        tasks.spawn(listener.run());
        self.session = Some(Session {
            lease: lease.clone(),
            _tasks: tasks,
        });
        let took = self.dice.milliseconds(10, 500);
        match self.device.age {
            Age::Silent => {}
            Age::Plain => self.after(took, Act::Report(S::LeaseReady, "Ready for commands")),
            Age::Hooks => {
                self.after(
                    Duration::ZERO,
                    Act::Report(S::BeforeLeaseHook, "beforeLease"),
                );
                match self.fate(12) {
                    // endLease: released a second later.
                    0 => {
                        self.after(took, Act::Report(S::BeforeLeaseHookFailed, "exit 1"));
                        self.after(Duration::from_secs(1), Act::Release(lease));
                        self.after(Duration::from_millis(100), Act::Report(S::Available, ""));
                    }
                    // Internal error: nothing follows.
                    1 => self.after(took, Act::Report(S::BeforeLeaseHookFailed, "internal")),
                    // exit: keeps the lease until it ends.
                    2 => self.after(took, Act::Report(S::Offline, "hook failed, exiting")),
                    _ => self.after(took, Act::Report(S::LeaseReady, "Ready for commands")),
                }
            }
        }
    }

    fn end(&mut self) {
        use ExporterStatus as S;
        // Nobody is served any more.
        self.session = None;
        self.plan.clear();
        let took = self.dice.milliseconds(10, 1500);
        match self.device.age {
            Age::Silent => self.after(took, Act::Exit),
            Age::Plain => {
                self.after(took, Act::Report(S::Available, "Available for new lease"));
                self.after(Duration::from_millis(200), Act::Idle);
            }
            Age::Hooks => {
                self.after(Duration::ZERO, Act::Report(S::AfterLeaseHook, "afterLease"));
                match self.fate(10) {
                    // AVAILABLE is forgotten, though the next lease is taken.
                    0 => self.after(took, Act::Report(S::AfterLeaseHookFailed, "exit 1")),
                    1 => self.after(took, Act::Exit),
                    _ => self.after(took, Act::Report(S::Available, "Available for new lease")),
                }
                self.after(Duration::from_millis(200), Act::Idle);
            }
        }
    }

    /// What a hook does; in the end they work.
    fn fate(&mut self, below: u64) -> u64 {
        let fate = self.dice.below(below);
        if self.device.network.is_calm() {
            below
        } else {
            fate
        }
    }

    fn after(&mut self, time: Duration, act: Act) {
        self.plan.push_back((time, act));
    }

    /// The next act, when it is due. Can be cancelled, with the time beginning anew then.
    async fn next(&mut self) -> Act {
        let Some((time, _)) = self.plan.front() else {
            return std::future::pending().await;
        };
        tokio::time::sleep(*time).await;
        // It stays planned until it is done: a session cannot begin before.
        self.plan.front().unwrap().1.clone()
    }

    /// Does it; whether the process exits.
    async fn act(&mut self, act: Act) -> bool {
        match act {
            Act::Report(status, text) => self.report(status, text).await,
            Act::Release(lease) => {
                let request = v1::ReleaseLeaseRequest { name: lease };
                if let Some(mut api) = self.api() {
                    let _ = tokio::time::timeout(CALL, api.release_lease(request)).await;
                }
            }
            Act::Idle => {}
            Act::Exit => return true,
        }
        self.plan.pop_front();
        if self.plan.is_empty()
            && self.session.is_none()
            && let Some(lease) = self.wanted.clone()
        {
            self.begin(lease);
        }
        false
    }

    fn api(&self) -> Option<ControllerServiceClient<Connection>> {
        self.connection.lock().unwrap().as_ref().map(api)
    }

    /// Reports once; what is lost is lost.
    async fn report(&mut self, status: ExporterStatus, text: &str) {
        if !self.device.network.is_calm() && self.dice.percent(3) {
            return;
        }
        let name = &self.device.name;
        self.device
            .ledger
            .note(|| format!("{name} reports {status:?}"));
        let Some(mut api) = self.api() else { return };
        let request = v1::ReportStatusRequest {
            status: status.into(),
            message: Some(text.to_owned()),
            release_lease: None,
        };
        let mut again = api.clone();
        let _ = tokio::time::timeout(CALL, api.report_status(request.clone())).await;
        // Repeated, as by a retry whose first attempt did get through.
        if !self.device.network.is_calm() && self.dice.percent(5) {
            let _ = tokio::time::timeout(CALL, again.report_status(request)).await;
        }
    }
}

fn api(connection: &Connection) -> ControllerServiceClient<Connection> {
    ControllerServiceClient::with_origin(connection.clone(), connection.origin())
}

/// Takes the tunnels of one lease.
struct Listener {
    device: Device,
    connector: Connector,
    connection: Arc<Mutex<Option<Connection>>>,
    lease: String,
}

// === impl Listener ===

impl Listener {
    async fn run(self) {
        let mut tunnels = JoinSet::new();
        loop {
            let connection = self.connection.lock().unwrap().clone();
            if let Some(connection) = connection {
                self.listen(&connection, &mut tunnels).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn listen(&self, connection: &Connection, tunnels: &mut JoinSet<()>) {
        let request = v1::ListenRequest {
            lease_name: self.lease.clone(),
        };
        let Ok(stream) = api(connection).listen(request).await else {
            return;
        };
        let mut stream = stream.into_inner();
        while let Ok(Some(asked)) = stream.message().await {
            let serve = serve(
                self.device.clone(),
                self.connector.clone(),
                self.lease.clone(),
                asked,
            );
            tunnels.spawn(serve);
            while tunnels.try_join_next().is_some() {}
        }
    }
}

/// Answers the lines of one client: who was meant, and who answers.
async fn serve(device: Device, connector: Connector, lease: String, asked: v1::ListenResponse) {
    let Ok(endpoint) = asked.router_endpoint.parse() else {
        return device
            .ledger
            .problem(format!("router '{}'", asked.router_endpoint));
    };
    let connecting = connector.connect(&endpoint, HeaderMap::new(), TCP_KEEP_ALIVE);
    let Ok(connection) = connecting.await else {
        return;
    };
    let mut tunnel = rpc::start_stream(&connection, bearer(&asked.router_token).unwrap());
    // Exporters serve HTTP/2, where the server speaks unasked; clients wait for that.
    let greeting = format!("{}\n", device.name);
    if tunnel.writer.send(greeting.into()).await.is_err() {
        return;
    }
    let mut rest = Vec::new();
    while let Some(Ok(chunk)) = tunnel.reader.next().await {
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line);
            if !text.starts_with(&format!("{lease} ")) {
                let name = &device.name;
                device
                    .ledger
                    .problem(format!("{name} serves {lease} and gets '{text}'"));
            }
            let answer = format!("{} {lease} {text}", device.name);
            if tunnel.writer.send(answer.into()).await.is_err() {
                return;
            }
        }
    }
}
