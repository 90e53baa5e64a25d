//! `jmp controller run`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use jmp_auth::pki::{Authority, Protocols, ServerCertificate, ServerNames, host_name};
use jmp_auth::{IdentityKeys, TunnelKeys};
use jmp_config::{AccessConfig, AccessKind, Secret};
use jmp_controller::clock::SystemClock;
use jmp_controller::login::{self, LoginService, LoginSettings};
use jmp_controller::settings::Settings;
use jmp_controller::{Controller, Parts, credentials};
use jmp_store::SqliteStore;
use jmp_types::resource::{Administrator, Key, Router};
use jmp_types::{TimeSpan, Timestamp};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::announce::{announce, bind, public};
use super::data::{DataDirectory, access};
use super::local_router::LocalRouter;
use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::globals::{LogLevel, log_from};
use crate::jmp::run::notify::notify;
use crate::jmp::run::signals::Signals;

/// Name of the router that the controller starts.
const LOCAL_ROUTER: &str = "local";

const EXAMPLES: &str = "\
Examples:
  jmp controller run
  jmp controller run --endpoint lab.example.com:8082 --name lab.example.com
  jmp controller run --data-directory /srv/jumpstarter --lease-retention 90d";

/// Run the controller until it is stopped
///
/// The first start makes everything that is needed in the data directory: the store, keys, an
/// authority with a certificate, and the first administrator, whose credential is saved for
/// `jmp admin`. A router is started beside it unless there is one already.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where everything is kept [default: $JMP_DATA_DIRECTORY, /var/lib/jumpstarter for root, else
    /// ~/.local/share/jumpstarter/controller]
    #[arg(long, value_name = "DIRECTORY")]
    data_directory: Option<PathBuf>,

    /// Where exporters and clients connect
    #[arg(long, value_name = "[HOST:]PORT", default_value = "0.0.0.0:8082")]
    listen: String,

    /// Public address of the controller, for credentials [default: this host and the port]
    #[arg(
        long = "public-endpoint",
        visible_alias = "public",
        value_name = "HOST:PORT"
    )]
    public_endpoint: Option<String>,

    /// Where `jmp login` asks, or `none`
    #[arg(long, value_name = "[HOST:]PORT", default_value = "0.0.0.0:8086")]
    login_listen: String,

    /// Where metrics and health are, over plain HTTP, or `none`
    #[arg(long, value_name = "[HOST:]PORT", default_value = "127.0.0.1:8080")]
    metrics_listen: String,

    /// Where the router that is started beside listens
    #[arg(long, value_name = "[HOST:]PORT", default_value = "0.0.0.0:8083")]
    router_listen: String,

    /// Public address of that router [default: the controller's host and the router's port]
    #[arg(long, value_name = "HOST:PORT")]
    router_endpoint: Option<String>,

    /// Start no router beside: others join
    #[arg(long)]
    no_router: bool,

    /// Certificate chain, instead of one of the controller's own authority; for its router, too
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of that certificate
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Another name or address by which the controller is reached; can be repeated
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,

    /// How long ended leases are kept
    #[arg(long, value_name = "DURATION", default_value = "30d")]
    lease_retention: TimeSpan,
}

/// The listeners, bound before anything is made.
struct Listeners {
    grpc: TcpListener,
    login: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

/// What servers present.
struct Identity {
    certificate: Arc<ServerCertificate>,
    authority: Option<Arc<Authority>>,
}

/// Runs the command.
///
/// # Errors
///
/// When the controller cannot be started.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    if globals.log_level.is_none() {
        log_from(LogLevel::Info);
    }
    let mut signals = Signals::catch()?;
    let data = DataDirectory::open(arguments.data_directory.as_deref())?;
    let public = arguments.public(globals)?;
    let listeners = Listeners::bind(&arguments, &data).await?;
    let address = listeners.grpc.local_addr()?;
    let endpoint = match public {
        Some(endpoint) => endpoint,
        None => join(&public_host(address.ip()).await, address.port()),
    };
    let identity = Identity::open(&arguments, &data, &endpoint)?;
    let controller = start(&arguments, &data, &endpoint, &identity).await?;
    let stop = CancellationToken::new();
    let mut facts = Map::new();
    let mut sentences = vec![format!("controller {endpoint}, listening on {address}")];
    facts.insert("endpoint".into(), endpoint.clone().into());
    facts.insert("address".into(), address.to_string().into());
    let data_directory = data.path().display().to_string();
    sentences.push(format!("data in {data_directory}"));
    facts.insert("dataDirectory".into(), data_directory.into());
    admit_administrator(
        &controller,
        &data,
        &endpoint,
        globals,
        &mut facts,
        &mut sentences,
    )
    .await?;
    write_join_file(&controller, &data, address, &mut facts).await?;
    controller
        .serve_tls(listeners.grpc, &identity.certificate)
        .map_err(told)?;
    if let Some(listener) = listeners.metrics {
        let address = controller.serve_metrics(listener)?;
        facts.insert("metrics".into(), address.to_string().into());
    }
    let login = listeners
        .login
        .map(|listener| serve_login(listener, &identity, &endpoint, &stop, &mut facts))
        .transpose()?;
    if let Some(authority) = &identity.authority {
        let pin = authority.ca_pin().to_string();
        sentences.push(format!("authority {pin}"));
        facts.insert("caPin".into(), pin.into());
    }
    let router = if arguments.no_router {
        None
    } else {
        let endpoint = arguments.router_endpoint.clone();
        let host = endpoint
            .is_none()
            .then(|| host_of(&endpoint_host_source(&facts)));
        Some(LocalRouter::start(
            &data,
            &arguments.router_listen,
            endpoint,
            host,
            arguments
                .tls_cert
                .as_deref()
                .zip(arguments.tls_key.as_deref()),
        )?)
    };
    announce(globals.output, facts, &endpoint, &sentences)?;
    notify("READY=1");
    let code = signals.next().await;
    notify("STOPPING=1");
    tracing::info!("stopping because of {}", code.name);
    stop.cancel();
    let (_, ()) = tokio::join!(
        async {
            if let Some(router) = router {
                router.stop().await;
            }
        },
        controller.stop()
    );
    if let Some(login) = login {
        let _ = login.await;
    }
    Ok(crate::exit::OK)
}

fn endpoint_host_source(facts: &Map<String, Value>) -> String {
    facts["endpoint"].as_str().unwrap_or_default().to_owned()
}

/// Opens the store and starts to decide.
async fn start(
    arguments: &Args,
    data: &DataDirectory,
    endpoint: &str,
    identity: &Identity,
) -> Result<Controller, CliError> {
    let path = data.store();
    refuse_emptied(data)?;
    let opening = tokio::task::spawn_blocking(move || {
        SqliteStore::open(path, &jmp_store::Options::default())
    });
    let store = opening.await.map_err(told)?.map_err(told)?;
    let settings = Settings {
        endpoint: endpoint.to_owned(),
        lease_retention: arguments
            .lease_retention
            .to_duration()
            .map_err(|error| CliError::usage(format!("--lease-retention: {error}")))?,
        ..Settings::default()
    };
    let authority = identity.authority.as_ref();
    Controller::start(Parts {
        store: Arc::new(store),
        identity_keys: Arc::new(IdentityKeys::open(&data.identity_keys()).map_err(told)?),
        tunnel_keys: Arc::new(TunnelKeys::open(&data.tunnel_keys()).map_err(told)?),
        authority: authority.map_or_else(String::new, |ca| ca.certificate_pem().to_owned()),
        signer: authority.cloned(),
        settings,
        pool: jmp_lease::pool::Settings::default(),
        clock: Arc::new(SystemClock),
    })
    .await
    .map_err(told)
}

/// A store that was cut to nothing would begin anew, without anybody in it: the first administrator's
/// file is written after the store.
fn refuse_emptied(data: &DataDirectory) -> Result<(), CliError> {
    let path = data.store();
    let is_empty = std::fs::metadata(&path).is_ok_and(|found| found.len() == 0);
    if !is_empty || !data.admin().exists() {
        return Ok(());
    }
    Err(CliError::new(format!(
        "the store {} is empty, though there was a controller in this directory: put a backup back with \
         `jmp controller restore BACKUP`, or remove the file to begin anew",
        path.display()
    )))
}

/// Makes the first administrator, and keeps the files that let it in up to date.
async fn admit_administrator(
    controller: &Controller,
    data: &DataDirectory,
    endpoint: &str,
    globals: &Globals,
    facts: &mut Map<String, Value>,
    sentences: &mut Vec<String>,
) -> Result<(), CliError> {
    let context = controller.context();
    let own = data.admin();
    let user = globals.store().paths().admin_config();
    let made = credentials::bootstrap_administrator(context)
        .await
        .map_err(|status| CliError::new(status.message()))?;
    let is_first = made.is_some();
    let token = match made {
        Some(issued) => issued.token.expose().to_owned(),
        None => match AccessConfig::load(&own, AccessKind::Admin) {
            Ok(config) => config.token.expose().to_owned(),
            // Moved elsewhere, which is a good idea.
            Err(_) => return Ok(()),
        },
    };
    let config = access(
        AccessKind::Admin,
        credentials::FIRST_ADMINISTRATOR,
        endpoint,
        &context.authority,
        &token,
    );
    if !AccessConfig::load(&own, AccessKind::Admin).is_ok_and(|present| present == config) {
        config.save(&own)?;
    }
    if !is_first && !is_good(controller, &config.token) {
        facts.insert("adminConfig".into(), own.display().to_string().into());
        facts.insert("adminCredential".into(), "no longer good".into());
        sentences.push(format!(
            "administrator's credential {}: no longer good, it was rotated or revoked; another administrator \
             makes a new one (jmp admin rotate administrator {} --out FILE)",
            own.display(),
            credentials::FIRST_ADMINISTRATOR
        ));
        return Ok(());
    }
    let present = AccessConfig::load(&user, AccessKind::Admin);
    let is_ours = present
        .as_ref()
        .is_ok_and(|present| present.token == config.token);
    if is_ours || is_first && !user.exists() {
        config.save(&user)?;
        facts.insert("adminConfig".into(), user.display().to_string().into());
        sentences.push(format!("`jmp admin` works for you: {}", user.display()));
    } else {
        facts.insert("adminConfig".into(), own.display().to_string().into());
        sentences.push(format!("administrator's credential: {}", own.display()));
    }
    if is_first {
        sentences.push(
            "next: jmp admin create exporter NAME --label KEY=VALUE --save; jmp run --exporter NAME".into(),
        );
        sentences.push(
            "      jmp admin create client NAME --save --unsafe; jmp shell --client NAME".into(),
        );
    }
    Ok(())
}

/// Whether a token of the first administrator is its present one.
fn is_good(controller: &Controller, token: &Secret) -> bool {
    let view = &controller.context().view;
    let key = Key::new(
        jmp_controller::names::DEFAULT_NAMESPACE,
        credentials::FIRST_ADMINISTRATOR,
    );
    let Some(object) = view.get::<Administrator>(&key) else {
        return false;
    };
    let now = controller.context().now();
    let verifier = &controller.context().verifier;
    let claims = verifier.verify(token.expose(), now);
    let generation = claims.ok().and_then(|claims| claims.generation);
    generation.is_some_and(|generation| object.status.credential.accepts(generation, now))
}

/// What routers on this host join with.
async fn write_join_file(
    controller: &Controller,
    data: &DataDirectory,
    address: SocketAddr,
    facts: &mut Map<String, Value>,
) -> Result<(), CliError> {
    let context = controller.context();
    let issued = context
        .ensure_credential::<Router>(LOCAL_ROUTER)
        .await
        .map_err(|status| {
            CliError::new(format!(
                "the router of this host gets no credential: {}",
                status.message()
            ))
        })?;
    let reached = join(&near(address.ip()).to_string(), address.port());
    let token = issued.token.expose();
    let path = data.router();
    // With a public certificate only the public name will do.
    let reached = if context.authority.is_empty() {
        context.settings.endpoint.clone()
    } else {
        reached
    };
    let config = access(
        AccessKind::Router,
        LOCAL_ROUTER,
        &reached,
        &context.authority,
        token,
    );
    config.save(&path)?;
    facts.insert("joinFile".into(), path.display().to_string().into());
    Ok(())
}

fn serve_login(
    listener: TcpListener,
    identity: &Identity,
    endpoint: &str,
    stop: &CancellationToken,
    facts: &mut Map<String, Value>,
) -> Result<tokio::task::JoinHandle<std::io::Result<()>>, CliError> {
    let address = listener.local_addr()?;
    facts.insert("login".into(), address.to_string().into());
    let authority = identity.authority.as_ref();
    let service = LoginService::new(&LoginSettings {
        grpc_endpoint: endpoint.to_owned(),
        router_endpoint: None,
        namespace: Settings::default().namespace,
        certificate_authority: authority
            .map_or_else(String::new, |ca| ca.certificate_pem().to_owned()),
        pin: authority.map(|ca| ca.ca_pin().to_string()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    let config = identity
        .certificate
        .server_config(Protocols::GrpcOrHttp)
        .map_err(told)?;
    let tls = jmp_wire::tls::TlsAcceptor::from(config);
    let stop = stop.clone();
    Ok(tokio::spawn(async move {
        login::serve(listener, &tls, Arc::new(service), stop).await
    }))
}

/// An address of this host at which a listener on `address` is reached from this host.
fn near(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// How others reach a listener on `address`: by the name of this host if that can be looked up.
async fn public_host(address: IpAddr) -> String {
    if !address.is_unspecified() {
        return address.to_string();
    }
    let Some(name) = host_name() else {
        return "localhost".to_owned();
    };
    let found = tokio::net::lookup_host((name.as_str(), 0)).await;
    if found.is_ok_and(|mut found| found.next().is_some()) {
        name
    } else {
        "localhost".to_owned()
    }
}

/// `host:port`, with brackets where they are needed.
pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The host of `host:port`, without brackets.
pub(in crate::jmp) fn host_of(endpoint: &str) -> String {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned()
}

fn told(error: impl std::fmt::Display) -> CliError {
    CliError::new(error.to_string())
}

// === impl Args ===

impl Args {
    /// The public address of the controller, if one is given; that of the router is looked at, too.
    fn public(&self, globals: &Globals) -> Result<Option<String>, CliError> {
        if let Some(router) = &self.router_endpoint {
            public("--router-endpoint", router)?;
        }
        match (&self.public_endpoint, &globals.endpoint) {
            (Some(given), _) => public("--public-endpoint", given).map(Some),
            (None, Some(given)) => public("--endpoint", given).map(Some),
            (None, None) => Ok(None),
        }
    }
}

// === impl Listeners ===

impl Listeners {
    async fn bind(arguments: &Args, data: &DataDirectory) -> Result<Self, CliError> {
        let any = "0.0.0.0";
        // The router binds its port itself; that it cannot is better known now than from its log.
        if !arguments.no_router && !LocalRouter::lives(data) {
            drop(bind("--router-listen", &arguments.router_listen, any).await?);
        }
        let grpc = bind("--listen", &arguments.listen, any)
            .await?
            .ok_or_else(|| CliError::usage("the controller needs --listen"))?;
        Ok(Self {
            grpc,
            login: bind("--login-listen", &arguments.login_listen, any).await?,
            metrics: bind("--metrics-listen", &arguments.metrics_listen, "127.0.0.1").await?,
        })
    }
}

// === impl Identity ===

impl Identity {
    fn open(arguments: &Args, data: &DataDirectory, endpoint: &str) -> Result<Self, CliError> {
        let now = Timestamp::now();
        let host = host_of(endpoint);
        if let (Some(chain), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) {
            let certificate =
                ServerCertificate::from_files(chain, key, &host, now).map_err(told)?;
            return Ok(Self {
                certificate: Arc::new(certificate),
                authority: None,
            });
        }
        let authority = Arc::new(Authority::open(data.path(), now).map_err(told)?);
        let names =
            ServerNames::of_this_machine(arguments.names.iter().chain([&host])).map_err(told)?;
        let certificate =
            ServerCertificate::from_authority(Arc::clone(&authority), data.path(), names, now)
                .map_err(told)?;
        Ok(Self {
            certificate: Arc::new(certificate),
            authority: Some(authority),
        })
    }
}
