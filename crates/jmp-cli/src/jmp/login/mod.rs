//! `jmp login`: a token becomes a configuration (facts: command line 5).
//!
//! [`target`] reads where to ask, [`discovery`] asks the login endpoint, [`place`] knows the file that is
//! there or will be. The token is shown to the controller before anything is written.

mod discovery;
mod place;
mod target;

use std::path::PathBuf;

use jmp_auth::pki::AuthorityPin;
use jmp_auth::{IdentityKind, Subject};
use jmp_config::{Secret, Tls};
use jmp_types::Timestamp;
use jmp_wire::endpoint::{CallerKind, Connector, Credentials, Endpoint, ServerTrust};

use self::discovery::Trust;
use self::place::{Identity, Known, Place, Role};
use self::target::Target;
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::lease::view::{local_time, span};
use crate::jmp::prompt::{self, Question};
use crate::jmp::signals::unless_cancelled;
use crate::jmp::token::{self, Life, TokenArgs};
use crate::output::{self, Format};

/// Namespace of those who do not say.
const DEFAULT_NAMESPACE: &str = "default";

const EXAMPLES: &str = "\
Examples:
  jmp login hello@lab.example.com:8086 --ca-pin sha256:0123… --unsafe
  jmp login hello@login.example.com --token-file hello.token --allow 'jumpstarter_driver_*'
  jmp login --client hello                              a new token for a configuration that is there
  jmp login lab.example.com:8086 --exporter bench-3 --token-file bench-3.token

The token comes from the administrator of the lab (`jmp admin rotate client NAME` prints one), the pin
is what `jmp controller run` prints at its start.";

/// Log in at a controller with a token, and save what is needed to use it
///
/// HOST is asked for the address of the controller and its authority. The token is tried before
/// anything is saved. If there is a configuration of that name, only its token is replaced.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The login endpoint, and the client's name; without a port 443, else 8086
    #[arg(value_name = "[NAME@]HOST[:PORT]")]
    target: Option<String>,

    #[command(flatten)]
    token: TokenArgs,

    /// Trust the controller whose authority has this pin
    #[arg(long, value_name = "sha256:HEX", conflicts_with = "insecure_tls")]
    ca_pin: Option<AuthorityPin>,

    /// Do not check the certificate of HOST, and trust the authority that it names from then on
    #[arg(short = 'k', long, alias = "insecure-tls-config")]
    insecure_tls: bool,

    /// The controller, if HOST is not to be asked or believed
    #[arg(short, long, id = "endpoint", value_name = "HOST[:PORT]")]
    endpoint: Option<String>,

    /// Namespace of the client or exporter [default: what the token or HOST says]
    #[arg(long)]
    namespace: Option<String>,

    /// Name of the client or exporter in the controller [default: what the token says]
    #[arg(long)]
    name: Option<String>,

    /// Driver client classes that may run here, comma-separated globs
    #[arg(short, long)]
    allow: Option<String>,

    /// Allow all driver client classes
    #[arg(long = "unsafe")]
    unsafe_all: bool,

    /// Client configuration by name [default: the client's name]
    #[arg(long, value_name = "ALIAS", conflicts_with_all = ["client_config", "exporter", "exporter_config"])]
    client: Option<String>,

    /// Client configuration by file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exporter", "exporter_config"])]
    client_config: Option<PathBuf>,

    /// Log an exporter in: configuration by name
    #[arg(long, value_name = "ALIAS", conflicts_with = "exporter_config")]
    exporter: Option<String>,

    /// Log an exporter in: configuration by file
    #[arg(long, value_name = "FILE")]
    exporter_config: Option<PathBuf>,

    #[command(flatten)]
    provider: ProviderArgs,
}

/// Options of shipped versions for logging in through an OpenID Connect provider, told from misspelt ones.
#[derive(Debug, Clone, Default, clap::Args)]
struct ProviderArgs {
    #[arg(long, hide = true)]
    issuer: Option<String>,
    #[arg(long, hide = true)]
    client_id: Option<String>,
    #[arg(long, hide = true)]
    username: Option<String>,
    #[arg(long, hide = true)]
    password: Option<String>,
    #[arg(long, hide = true)]
    connector_id: Option<String>,
    #[arg(long, hide = true)]
    callback_port: Option<u16>,
    #[arg(long, hide = true)]
    offline_access: bool,
    /// Without meaning for tokens of the controller, so it does no harm.
    #[arg(long, hide = true)]
    no_offline_access: bool,
    #[arg(long, hide = true)]
    device_flow: bool,
}

/// Where the controller is, and how it is recognised.
struct Server {
    endpoint: String,
    namespace: Option<String>,
    tls: Tls,
    /// Somebody else who issues tokens for it.
    issuer: Option<String>,
}

// === impl ProviderArgs ===

impl ProviderArgs {
    fn refuse(&self) -> Result<(), CliError> {
        let given = [
            ("--issuer", self.issuer.is_some()),
            ("--client-id", self.client_id.is_some()),
            ("--username", self.username.is_some()),
            ("--password", self.password.is_some()),
            ("--connector-id", self.connector_id.is_some()),
            ("--callback-port", self.callback_port.is_some()),
            ("--offline-access", self.offline_access),
            ("--device-flow", self.device_flow),
        ];
        let given: Vec<&str> = given
            .into_iter()
            .filter_map(|(name, given)| given.then_some(name))
            .collect();
        if given.is_empty() {
            return Ok(());
        }
        Err(CliError::usage(format!(
            "{} is for logging in through an OpenID Connect provider, which this version cannot do",
            given.join(", ")
        ))
        .with_hint(
            "what works is a token of the controller itself: --token-file FILE, --token TOKEN or JMP_TOKEN; \
             an administrator gets one with `jmp admin rotate client NAME`",
        ))
    }
}

/// Runs the command.
///
/// # Errors
///
/// When the controller cannot be found or does not accept the token, or the file cannot be written.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    arguments.provider.refuse()?;
    let target = arguments.target.as_deref().map(Target::parse);
    let target = target.transpose()?;
    if let Some(target) = target.as_ref().filter(|target| target.plain)
        && !arguments.insecure_tls
    {
        return Err(CliError::usage(format!(
            "{} is asked without TLS, so that anybody could answer",
            target.url()
        ))
        .with_hint("use https://, or -k if there is nobody on the way"));
    }
    if arguments.insecure_tls
        && !globals.nointeractive
        && !prompt::confirm(
            "Certificates will not be checked, so anybody can pose as the controller. Continue?",
            globals,
        )?
    {
        return Err(CliError::new("Aborted!").with_hint("--nointeractive skips the question"));
    }
    unless_cancelled(log_in(&arguments, target.as_ref(), globals)).await
}

async fn log_in(
    arguments: &Args,
    target: Option<&Target>,
    globals: &Globals,
) -> Result<u8, CliError> {
    let mut place = arguments.place(target, globals)?;
    let mut known = place
        .as_ref()
        .map(|place| place.known(globals))
        .transpose()?;
    let present = known.as_ref().and_then(Option::as_ref);
    let server = arguments.server(target, present).await?;
    let token = arguments.token(server.as_ref(), globals)?;
    let subject = token::subject(&token);
    check_life(&token)?;
    let role = arguments.role();
    check_kind(subject.as_ref(), role)?;
    let name = arguments.wanted_name(target);
    if place.is_none() {
        let name = name
            .clone()
            .or(subject.as_ref().map(|subject| subject.name.clone()));
        let name = ask(name, "Name of the client", "--name", None, globals)?;
        let chosen = Place::alias(role, &name)?;
        known = Some(chosen.known(globals)?);
        place = Some(chosen);
    }
    let (Some(place), known) = (place, known.flatten()) else {
        return Err(CliError::new("there is no place for the configuration"));
    };
    let (server, identity) = match &known {
        Some(known) => arguments.renewal(known, server, name.as_deref(), subject.as_ref())?,
        None => {
            let server = match server {
                Some(server) => server,
                None => arguments.asked_server(globals).await?,
            };
            let identity = arguments.identity(&place, &server, name, subject.as_ref(), globals)?;
            (server, identity)
        }
    };
    check_subject(subject.as_ref(), &identity)?;
    let drivers = match &known {
        Some(_) => None,
        None => Some(place::admission(role, arguments, globals)?),
    };
    try_token(&server, role, &identity, &token).await?;
    let path = match (&known, drivers) {
        (Some(known), _) => known.renew(&token, arguments.ca_pin.map(|_| &server.tls), globals)?,
        (None, drivers) => place.create(
            &server,
            &identity,
            &token,
            drivers.unwrap_or_default(),
            globals,
        )?,
    };
    tell(&path, &place, &server, &identity, &token, globals)?;
    Ok(exit::OK)
}

// === impl Args ===

impl Args {
    fn role(&self) -> Role {
        if self.exporter.is_some() || self.exporter_config.is_some() {
            Role::Exporter
        } else {
            Role::Client
        }
    }

    fn role_file(&self) -> Option<&PathBuf> {
        self.client_config
            .as_ref()
            .or(self.exporter_config.as_ref())
    }

    fn wanted_name(&self, target: Option<&Target>) -> Option<String> {
        let target = target.and_then(|target| target.name.clone());
        self.name.clone().or(target)
    }

    /// Which file is meant, as far as the command line says.
    fn place(&self, target: Option<&Target>, globals: &Globals) -> Result<Option<Place>, CliError> {
        let role = self.role();
        if let Some(path) = self.role_file() {
            return Ok(Some(Place::file(role, path)));
        }
        let alias = self.client.as_ref().or(self.exporter.as_ref()).cloned();
        if let Some(alias) = alias.or_else(|| self.wanted_name(target)) {
            return Place::alias(role, &alias).map(Some);
        }
        // Without a controller or a name, the present client gets a new token.
        if target.is_none() && self.endpoint.is_none() {
            let current = globals.store().current_client()?;
            return Ok(current.map(|alias| Place::Alias(role, alias)));
        }
        Ok(None)
    }

    /// What the login endpoint or the options say about the controller; nothing if they say nothing.
    async fn server(
        &self,
        target: Option<&Target>,
        known: Option<&Known>,
    ) -> Result<Option<Server>, CliError> {
        let Some(target) = target else {
            return match (&self.endpoint, known) {
                (Some(endpoint), None) => self.told_server(endpoint.clone()).await.map(Some),
                (Some(endpoint), Some(known)) => Ok(Some(Server {
                    endpoint: endpoint.clone(),
                    namespace: None,
                    tls: known.tls.clone(),
                    issuer: None,
                })),
                (None, _) => Ok(None),
            };
        };
        let trust = match (self.ca_pin, self.insecure_tls, known) {
            (Some(pin), ..) => Trust::Pin(pin),
            (None, true, _) => Trust::Anybody,
            (None, false, Some(known)) => known.trust()?,
            (None, false, None) => Trust::Authorities(jmp_client::trust_from_environment()?),
        };
        let answer = discovery::ask(target, &trust).await?;
        let tls = match answer.authority {
            Some(authority) => Tls {
                ca: Some(authority),
                insecure: None,
            },
            None => Tls {
                ca: None,
                insecure: self.insecure_tls.then_some(true),
            },
        };
        Ok(Some(Server {
            endpoint: self.endpoint.clone().unwrap_or(answer.endpoint),
            namespace: answer.namespace,
            tls,
            issuer: answer.issuer,
        }))
    }

    /// The controller that a person or an option names, without a login endpoint.
    async fn told_server(&self, endpoint: String) -> Result<Server, CliError> {
        let ca = match self.ca_pin {
            Some(pin) => Some(discovery::authority(&parsed(&endpoint)?, pin).await?),
            None => None,
        };
        Ok(Server {
            endpoint,
            namespace: None,
            tls: Tls {
                ca,
                insecure: self.insecure_tls.then_some(true),
            },
            issuer: None,
        })
    }

    async fn asked_server(&self, globals: &Globals) -> Result<Server, CliError> {
        let endpoint = ask(
            None,
            "Endpoint of the controller",
            "HOST or --endpoint",
            None,
            globals,
        )?;
        self.told_server(endpoint).await
    }

    fn token(&self, server: Option<&Server>, globals: &Globals) -> Result<Secret, CliError> {
        self.token.find(globals).map_err(|error| {
            match server.and_then(|server| server.issuer.as_deref()) {
                Some(issuer) => error.with_hint(format!(
                    "the controller also takes tokens of {issuer}, which this version cannot get: give one \
                     of the controller itself with --token-file FILE"
                )),
                None => error,
            }
        })
    }

    /// Who logs in for the first time.
    fn identity(
        &self,
        place: &Place,
        server: &Server,
        name: Option<String>,
        subject: Option<&Subject>,
        globals: &Globals,
    ) -> Result<Identity, CliError> {
        let said = subject.map(|subject| subject.name.clone());
        let name = name.or(said).or_else(|| place.name());
        let role = self.role();
        let text = format!("Name of the {}", role.word());
        let name = ask(name, &text, "--name", None, globals)?;
        let namespace = self
            .namespace
            .clone()
            .or_else(|| subject.map(|subject| subject.namespace.clone()))
            .or_else(|| server.namespace.clone());
        let namespace = ask(
            namespace,
            "Namespace",
            "--namespace",
            Some(DEFAULT_NAMESPACE),
            globals,
        )?;
        Ok(Identity { namespace, name })
    }

    /// Checks that the options mean the configuration that is there, of which only the token will change.
    fn renewal(
        &self,
        known: &Known,
        server: Option<Server>,
        name: Option<&str>,
        subject: Option<&Subject>,
    ) -> Result<(Server, Identity), CliError> {
        let path = known.path.display();
        let other = |what: &str, is: &str, given: &str| {
            CliError::new(format!(
                "the configuration {path} is for {what} {is}, not for {given}"
            ))
            .with_hint(
                "make another one with --client ALIAS (--exporter ALIAS), or delete this one first",
            )
        };
        let endpoint = known.endpoint.clone().ok_or_else(|| {
            CliError::new(format!("the configuration {path} has no endpoint"))
                .with_hint("delete it first, and log in again with [NAME@]HOST")
        })?;
        if let Some(server) = &server
            && parsed(&server.endpoint)? != parsed(&endpoint)?
        {
            return Err(other("the controller", &endpoint, &server.endpoint));
        }
        let said = subject.map(|subject| subject.name.as_str());
        let identity = Identity {
            name: known
                .name
                .clone()
                .or(said.map(str::to_owned))
                .unwrap_or_default(),
            namespace: known
                .namespace
                .clone()
                .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        };
        // A name that chose the configuration may be another one than that in the controller.
        let is_meant = self.name.is_some()
            || self.client.is_some()
            || self.exporter.is_some()
            || self.role_file().is_some();
        if let Some(name) = name.filter(|name| is_meant && *name != identity.name) {
            return Err(other("the name", &identity.name, name));
        }
        if let Some(namespace) = self.namespace.as_ref()
            && *namespace != identity.namespace
        {
            return Err(other("the namespace", &identity.namespace, namespace));
        }
        if self.allow.is_some() || self.unsafe_all {
            output::warn(&format!(
                "--allow and --unsafe have no effect: only the token of {path} is replaced"
            ));
        }
        // A pin that was checked just now says more than what is in the file.
        let fresh = server
            .filter(|_| self.ca_pin.is_some())
            .map(|server| server.tls);
        Ok((
            Server {
                endpoint,
                namespace: known.namespace.clone(),
                tls: fresh.unwrap_or_else(|| known.tls.clone()),
                issuer: None,
            },
            identity,
        ))
    }
}

fn ask(
    given: Option<String>,
    text: &str,
    option: &str,
    default: Option<&str>,
    globals: &Globals,
) -> Result<String, CliError> {
    let question = Question {
        text,
        option,
        default,
        secret: false,
    };
    prompt::value(given.filter(|text| !text.is_empty()), question, globals)
}

fn parsed(endpoint: &str) -> Result<Endpoint, CliError> {
    endpoint
        .parse()
        .map_err(|error| CliError::usage(format!("{error}")))
}

fn check_life(token: &Secret) -> Result<(), CliError> {
    let peeked = jmp_auth::peek(token.expose());
    let end = peeked.as_ref().and_then(|token| token.expires_at);
    match (Life::of(peeked.as_ref(), Timestamp::now()), end) {
        (Life::Expired(ago), Some(end)) => Err(CliError::new(format!(
            "this token has expired: it was good until {}, {} ago",
            local_time(end),
            span(ago)
        ))
        .with_hint("an administrator gets a new one with `jmp admin rotate client NAME`")),
        _ => Ok(()),
    }
}

fn check_kind(subject: Option<&Subject>, role: Role) -> Result<(), CliError> {
    let Some(subject) = subject else {
        return Ok(());
    };
    let hint = match (subject.kind, role) {
        (IdentityKind::Client, Role::Client) | (IdentityKind::Exporter, Role::Exporter) => {
            return Ok(());
        }
        (IdentityKind::Exporter, _) => "log an exporter in with --exporter ALIAS",
        (IdentityKind::Client, _) => "log a client in without --exporter and --exporter-config",
        (IdentityKind::Administrator, _) => {
            "`jmp admin` takes it from the file of --admin-config or JMP_ADMIN_CONFIG"
        }
        (IdentityKind::Router, _) => "`jmp router run --join FILE` takes it",
    };
    Err(CliError::new(format!(
        "this token is for {}, not for {} {}",
        subject.identity(),
        role.article(),
        role.word()
    ))
    .with_hint(hint))
}

fn check_subject(subject: Option<&Subject>, identity: &Identity) -> Result<(), CliError> {
    match subject {
        Some(subject)
            if subject.name != identity.name || subject.namespace != identity.namespace =>
        {
            Err(CliError::new(format!(
                "this token is for {}, not for {} in namespace {}",
                subject.identity(),
                identity.name,
                identity.namespace
            ))
            .with_hint("give the token of that one, or leave the name away"))
        }
        _ => Ok(()),
    }
}

/// Shows the token to the controller, which says no to one that is no good.
async fn try_token(
    server: &Server,
    role: Role,
    identity: &Identity,
    token: &Secret,
) -> Result<(), CliError> {
    let fallback = jmp_client::trust_from_environment()?;
    let trust = ServerTrust::configured(
        server.tls.insecure.unwrap_or(false),
        server.tls.ca.as_deref(),
        fallback,
    )
    .map_err(|error| CliError::new(error.to_string()))?;
    let credentials = Credentials {
        kind: match role {
            Role::Client => CallerKind::Client,
            Role::Exporter => CallerKind::Exporter,
        },
        namespace: identity.namespace.clone(),
        name: identity.name.clone(),
        token: token.expose().to_owned(),
    };
    let endpoint = parsed(&server.endpoint)?;
    let tried =
        jmp_client::check_credentials(&Connector::new(trust), &endpoint, &credentials).await;
    tried.map_err(|error| {
        let what = match &error {
            jmp_client::Error::Refused { .. } => format!(
                "the controller {endpoint} does not accept this token for {} {} in namespace {}",
                role.word(),
                identity.name,
                identity.namespace
            ),
            _ => "the token cannot be tried".to_owned(),
        };
        let reason = match &error {
            jmp_client::Error::Refused { message, .. } => message.clone(),
            other => CliError::from_client(other).message().to_owned(),
        };
        let failed = CliError::new(format!("{what}: {reason}; nothing was saved"));
        match (&error, CliError::from_client(&error).hint()) {
            (jmp_client::Error::Refused { .. }, _) => failed.with_hint(format!(
                "check the name and the namespace; an administrator gets a new token with `jmp admin rotate \
                 {} {}`",
                role.word(),
                identity.name
            )),
            (_, Some(hint)) => failed.with_hint(hint),
            (_, None) => failed,
        }
    })
}

fn tell(
    path: &std::path::Path,
    place: &Place,
    server: &Server,
    identity: &Identity,
    token: &Secret,
    globals: &Globals,
) -> Result<(), CliError> {
    let end = jmp_auth::peek_expiry(token.expose());
    let shown = path.display().to_string();
    let data = serde_json::json!({
        "alias": place.alias_text(),
        "path": shown,
        "endpoint": server.endpoint,
        "namespace": identity.namespace,
        "name": identity.name,
        "expiresAt": end.map(|end| end.to_string()),
    });
    match globals.output {
        Some(Format::Json) => return output::print(&output::json(&data)),
        Some(Format::Yaml) => return output::print(&output::yaml(&data)?),
        Some(Format::Path) => return output::print(&format!("{shown}\n")),
        Some(Format::Name) => {
            let name = place.alias_text().unwrap_or(&identity.name).to_owned();
            return output::print(&format!("{name}\n"));
        }
        None => {}
    }
    let until = end.map_or_else(String::new, |end| {
        format!(", good until {}", local_time(end))
    });
    output::note(&format!(
        "logged in at {} as {} {} in namespace {}{until}",
        server.endpoint,
        place.role().word(),
        identity.name,
        identity.namespace
    ));
    output::note(&format!("saved {shown}"));
    match (place.role(), place.alias_text()) {
        (Role::Client, Some(alias)) => {
            output::print(&format!("Set '{alias}' as the default client.\n"))
        }
        _ => Ok(()),
    }
}
