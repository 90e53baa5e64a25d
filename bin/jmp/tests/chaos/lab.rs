//! A controller, routers and exporters, each a real program, and the credentials of their clients.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jmp_client::{Admin, Controller};
use jmp_config::{AccessConfig, AccessKind, Secret, Tls};
use jmp_wire::endpoint::{CallerKind, Connector, Credentials, Endpoint, ServerTrust};
use jmp_wire::tls::Trust;
use serde_json::json;
use tokio::net::TcpStream;

use crate::faults::Target;
use crate::network::{Network, Place};
use crate::part::{Part, Recipe, Shared, end_of};
use crate::shells::Shell;
use crate::support::{User, program};

/// In the environment of every process of a lab, with a value of its own.
pub const MARK: &str = "JMP_CHAOS_LAB";
/// Exporters of a lab, and clients that use the library.
pub const EXPORTERS: usize = 3;
pub const WORKERS: usize = 4;
/// Places: the controller, two routers, the exporters, `jmp shell`.
pub const PLACES: usize = 4 + EXPORTERS;
/// How long a program may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Who tries every exporter at the end.
pub const PROBE: &str = "probe";
/// The client of the `jmp shell` processes.
pub const SHELL: &str = "shell";

/// A lab at work.
pub struct Lab {
    pub user: User,
    pub mark: String,
    pub controller: Part,
    pub routers: Vec<Part>,
    pub exporters: Vec<Part>,
    pub shell: Arc<Shell>,
    endpoints: Vec<SocketAddr>,
    cables: bool,
    admin: AccessConfig,
    tokens: Vec<(String, String)>,
}

/// What everything in a lab needs while it is made.
struct Making<'a> {
    user: &'a User,
    network: &'a Network,
    environment: Vec<(String, PathBuf)>,
}

// === impl Lab ===

impl Lab {
    /// Starts everything, with one router or two, and waits until all of it works.
    pub async fn start(network: &Network, mark: String, routers: usize) -> Self {
        let user = User::new();
        let mut environment: Vec<(String, PathBuf)> = user
            .environment()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        environment.push((MARK.to_owned(), mark.clone().into()));
        let making = Making {
            user: &user,
            network,
            environment,
        };
        let place = network.place(1);
        let address = place.address();
        let controller = making.controller(place, address);
        let mut endpoints = vec![address];
        let file = user.path("controller/admin.yaml");
        let (config, admin) = connect(&file, &controller.shared).await;
        let mut parts = Vec::new();
        for number in 0..routers {
            let place = network.place(2 + number);
            let address = place.address();
            let (name, token) = create(&admin, "Router", &format!("r{number}"), &json!({})).await;
            parts.push(making.router(place, address, &name, &token, &config));
            endpoints.push(address);
        }
        for router in &parts {
            router.shared.until_said("router ", START_LIMIT).await;
        }
        let mut exporters = Vec::new();
        for number in 0..EXPORTERS {
            let labels = json!({"lab": "chaos", "site": format!("s{}", number % 2)});
            let (name, token) = create(&admin, "Exporter", &format!("e{number}"), &labels).await;
            exporters.push(making.exporter(number, &name, &token, &config));
        }
        let mut tokens = Vec::new();
        let workers = (0..WORKERS).map(|number| format!("w{number}"));
        for name in workers.chain([PROBE.to_owned(), SHELL.to_owned()]) {
            tokens.push(create(&admin, "Client", &name, &json!({})).await);
        }
        let shell = making.shell(&tokens, &config);
        for exporter in &exporters {
            exporter
                .shared
                .until_said("is registered", START_LIMIT)
                .await;
        }
        Self {
            mark,
            controller,
            routers: parts,
            exporters,
            shell,
            endpoints,
            cables: network.has_cables(),
            admin: config,
            tokens,
            user,
        }
    }

    pub fn has_cables(&self) -> bool {
        self.cables
    }

    pub fn part(&self, target: Target) -> &Shared {
        match target {
            Target::Controller => &self.controller.shared,
            Target::Router(number) => &self.routers[number].shared,
            Target::Exporter(number) => &self.exporters[number].shared,
            Target::Shell | Target::Worker(_) => unreachable!("no part of the lab"),
        }
    }

    pub fn place(&self, target: Target) -> &Place {
        match target {
            Target::Shell => &self.shell.place,
            target => &self.part(target).recipe.place,
        }
    }

    /// The controller as that client sees it, with connections of its own.
    pub fn client(&self, name: &str) -> Controller {
        let token = self.tokens.iter().find(|(known, _)| known == name);
        let endpoint = self.admin.endpoint.parse().unwrap();
        let credentials = Credentials {
            kind: CallerKind::Client,
            namespace: "default".to_owned(),
            name: name.to_owned(),
            token: token.unwrap().1.clone(),
        };
        Controller::new(connector(&self.admin), endpoint, &credentials).unwrap()
    }

    pub fn store(&self) -> PathBuf {
        self.user.path("controller/store.sqlite")
    }

    /// What the drivers of an exporter wrote down.
    pub fn calls(&self, exporter: usize) -> PathBuf {
        self.user.path(&format!("e{exporter}.calls"))
    }

    /// Parts that ended when nobody made them, or did not end when they were asked to.
    pub fn complaints(&self) -> Vec<String> {
        let parts = [&self.controller].into_iter();
        let parts = parts.chain(&self.routers).chain(&self.exporters);
        parts
            .flat_map(|part| part.shared.complaints.lock().unwrap().clone())
            .collect()
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let parts = [&self.controller].into_iter();
        let parts = parts.chain(&self.routers).chain(&self.exporters);
        let mut text = String::new();
        for part in parts {
            let recipe = &part.shared.recipe;
            let _ = writeln!(text, "--- {}\n{}", recipe.name, end_of(&recipe.log));
        }
        text
    }

    /// Ends everything politely: exporters, then routers, then the controller.
    pub async fn stop(&self) {
        for parts in [&self.exporters, &self.routers] {
            futures::future::join_all(parts.iter().map(Part::stop)).await;
        }
        self.controller.stop().await;
    }

    /// Whoever still listens where the lab did.
    pub async fn listening(&self) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        for endpoint in &self.endpoints {
            let attempt = TcpStream::connect(endpoint);
            if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(2), attempt).await {
                found.push(*endpoint);
            }
        }
        found
    }
}

fn connector(config: &AccessConfig) -> Connector {
    let authority = config.tls.ca.as_deref();
    Connector::new(ServerTrust::configured(false, authority, Trust::System).unwrap())
}

/// Waits until the controller lets its administrator in.
async fn connect(file: &Path, controller: &Shared) -> (AccessConfig, Admin) {
    let connecting = async {
        loop {
            if let Ok(config) = AccessConfig::load(file, AccessKind::Admin) {
                let endpoint: Endpoint = config.endpoint.parse().unwrap();
                let credentials = Credentials {
                    kind: CallerKind::Admin,
                    namespace: "default".to_owned(),
                    name: config.name.clone(),
                    token: config.token.expose().to_owned(),
                };
                let admin = Admin::connect(&connector(&config), &endpoint, &credentials).await;
                if let Ok(admin) = admin {
                    return (config, admin);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(START_LIMIT, connecting).await {
        Ok(connected) => connected,
        Err(_) => panic!("no controller: {}", end_of(&controller.recipe.log)),
    }
}

/// Makes an object; its name and token.
async fn create(
    admin: &Admin,
    kind: &str,
    name: &str,
    labels: &serde_json::Value,
) -> (String, String) {
    let manifest = json!({
        "apiVersion": jmp_types::resource::API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": "default", "labels": labels},
    });
    let created = admin.create(&manifest).await.unwrap();
    (name.to_owned(), created.credential.unwrap().token)
}

// === impl Making ===

impl Making<'_> {
    fn start(&self, name: &str, place: Place, arguments: &[&str]) -> Part {
        Part::start(Recipe {
            name: name.to_owned(),
            place,
            program: program().to_owned(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            environment: self.environment.clone(),
            log: self.user.path(&format!("{name}.log")),
        })
    }

    fn controller(&self, place: Place, address: SocketAddr) -> Part {
        let data = self.user.path("controller").display().to_string();
        let address = address.to_string();
        let arguments = [
            "controller",
            "run",
            "--data-directory",
            &data,
            "--listen",
            &address,
            "--public-endpoint",
            &address,
            "--login-listen",
            "none",
            "--metrics-listen",
            "none",
            "--no-router",
        ];
        self.start("controller", place, &arguments)
    }

    fn router(
        &self,
        place: Place,
        address: SocketAddr,
        name: &str,
        token: &str,
        admin: &AccessConfig,
    ) -> Part {
        let file = self.user.path(&format!("{name}.yaml"));
        let join = AccessConfig {
            kind: AccessKind::Router,
            name: name.to_owned(),
            endpoint: admin.endpoint.clone(),
            tls: Tls {
                ca: admin.tls.ca.clone(),
                insecure: None,
            },
            token: Secret::new(token),
        };
        join.save(&file).unwrap();
        let (file, address) = (file.display().to_string(), address.to_string());
        let label = format!("site=s{}", &name[1..]);
        let arguments = [
            "router",
            "run",
            "--join",
            &file,
            "--listen",
            &address,
            "--public-endpoint",
            &address,
            "--metrics-listen",
            "none",
            "--label",
            &label,
        ];
        self.start(name, place, &arguments)
    }

    fn exporter(&self, number: usize, name: &str, token: &str, admin: &AccessConfig) -> Part {
        // One has nothing to do around a lease, one has a little, one fails now and then.
        let hooks = match number {
            0 => "",
            1 => {
                "hooks:\n  beforeLease: {script: 'sleep 0.2'}\n  afterLease: {script: 'sleep 0.3'}\n"
            }
            _ => {
                "hooks:\n  afterLease: {script: 'exit $(($(date +%N | cut -c1) % 2))', onFailure: warn}\n"
            }
        };
        let calls = self.user.path(&format!("{name}.calls"));
        let text = format!(
            "apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{namespace: default, name: {name}}}
{}{hooks}export:
  power: {{type: jumpstarter_driver_power.driver.MockPower}}
  echo: {{type: jumpstarter_driver_network.driver.EchoNetwork}}
  serial:
    type: jumpstarter_driver_pyserial.driver.PySerial
    config: {{url: 'loop://'}}
  sh:
    type: jumpstarter_driver_shell.driver.Shell
    config:
      shell: [sh, -c]
      methods:
        mark: 'echo \"$1 $2 $(date +%s%3N)\" >> {}'
",
            access(token, admin),
            calls.display()
        );
        let file = self.user.exporter(name, &text).display().to_string();
        let place = self.network.place(4 + number);
        self.start(name, place, &["run", "--exporter-config", &file])
    }

    fn shell(&self, tokens: &[(String, String)], admin: &AccessConfig) -> Arc<Shell> {
        let token = tokens.iter().find(|(name, _)| name == SHELL);
        let text = format!(
            "apiVersion: jumpstarter.dev/v1alpha1
kind: ClientConfig
metadata: {{namespace: default, name: {SHELL}}}
{}drivers: {{unsafe: true}}
",
            access(&token.unwrap().1, admin)
        );
        self.user
            .write(&format!("config/clients/{SHELL}.yaml"), &text);
        Arc::new(Shell::new(
            self.network.place(PLACES),
            self.environment.clone(),
            self.user.path("shell.calls"),
            self.user.path("shell.log"),
        ))
    }
}

fn access(token: &str, admin: &AccessConfig) -> String {
    let authority = admin.tls.ca.as_deref().unwrap();
    let endpoint = &admin.endpoint;
    format!("endpoint: {endpoint}\ntls: {{ca: {authority}}}\ntoken: {token}\n")
}
