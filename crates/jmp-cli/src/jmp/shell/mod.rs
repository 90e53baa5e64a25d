//! `jmp shell`: a shell, or one command, with the devices of an exporter at hand.
//!
//! [`choose`] decides where the devices are: here ([`local`]), behind a direct listener ([`direct`]), in
//! the session of `jmp local start`, or leased from a controller ([`leased`]).

mod direct;
pub(crate) mod launch;
mod leased;
mod local;
mod logs;

use std::ffi::OsString;
use std::path::PathBuf;

use jmp_config::{EffectiveClient, EffectiveExporter, Environment, Flags, ProcessEnvironment};
use jmp_types::TimeSpan;

use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::exporter::ExporterArgs;
use crate::jmp::lease::arguments::pair;
use crate::output;
use launch::Launch;

const EXAMPLES: &str = "\
Examples:
  jmp shell --exporter example-local                  a shell with the devices of an exporter
  jmp shell --exporter example-local -- j power on    one command; its exit code is kept
  jmp shell --exporter-config ./exporter.yaml ls -l
  jmp shell --tls-grpc lab.example.com:1234 --passphrase-file ~/lab.secret

Exit codes:
  the one of COMMAND or of the shell, 128 + N when signal N ended it;
  127 or 126 when COMMAND is not found or cannot be run; 1 when there is no session;
  2 for a wrong command line, and when jmp itself was told to stop by a signal";

/// Start a shell or a command that can use the devices of an exporter
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Command to run instead of a shell, with its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,

    #[command(flatten)]
    exporter: ExporterArgs,

    /// Show the exporter's own log on standard error, not only hooks and warnings
    #[arg(long)]
    exporter_logs: bool,

    #[command(flatten)]
    direct: DirectArgs,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Options for an exporter that listens for its clients itself.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Direct connection")]
struct DirectArgs {
    /// Connect directly to the listener of an exporter
    #[arg(long, value_name = "HOST:PORT")]
    tls_grpc: Option<String>,

    /// Connect without TLS
    #[arg(long, requires = "tls_grpc", conflicts_with = "tls_ca")]
    tls_grpc_insecure: bool,

    /// Trust only the certificates in this PEM file, instead of those of the system
    #[arg(long, requires = "tls_grpc", value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// The listener's passphrase; better in the variable JMP_GRPC_PASSPHRASE, which others cannot see
    #[arg(long)]
    passphrase: Option<String>,

    /// File that holds the passphrase; blanks around it do not count
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase")]
    passphrase_file: Option<PathBuf>,
}

/// Options for an exporter that is leased from a controller.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Through a controller")]
struct RemoteArgs {
    /// Client configuration by name
    #[arg(long, value_name = "ALIAS", conflicts_with_all = ["client_config", "exporter", "exporter_config"])]
    client: Option<String>,

    /// Client configuration by file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exporter", "exporter_config"])]
    client_config: Option<PathBuf>,

    /// Use this lease
    #[arg(long, value_name = "NAME")]
    lease: Option<String>,

    /// Lease an exporter with these labels, such as board=foo,!broken; all given must hold
    #[arg(short = 'l', long)]
    selector: Vec<String>,

    /// Lease the exporter of this name
    #[arg(short = 'n', long, alias = "exporter-name", value_name = "EXPORTER")]
    name: Option<String>,

    /// How long to lease it, such as 30m, 1h30m or 01:30:00 (default 30m)
    #[arg(long, value_parser = TimeSpan::parse, allow_hyphen_values = true)]
    duration: Option<TimeSpan>,

    /// Extend the lease by this whenever it is about to end while the program still runs
    #[arg(long, value_parser = TimeSpan::parse, value_name = "DURATION")]
    extend: Option<TimeSpan>,

    /// For filters and accounts of a new lease; may be repeated
    #[arg(long = "tag", value_parser = pair, value_name = "KEY=VALUE")]
    tags: Vec<(String, String)>,

    /// For the exporter of a new lease and its logs; may be repeated
    #[arg(long = "context", value_parser = pair, value_name = "KEY=VALUE")]
    context: Vec<(String, String)>,

    /// Take the exporter given with -n even if it is out of service
    #[arg(long, requires = "name")]
    allow_disabled: bool,

    /// How long to wait for a lease
    #[arg(long, value_parser = TimeSpan::parse, value_name = "DURATION")]
    acquisition_timeout: Option<TimeSpan>,

    /// How long to try other exporters
    #[arg(long, value_parser = TimeSpan::parse, value_name = "DURATION")]
    retry_timeout: Option<TimeSpan>,

    /// How long to try to reach an exporter
    #[arg(long, value_parser = TimeSpan::parse, value_name = "DURATION")]
    dial_timeout: Option<TimeSpan>,
}

// === impl RemoteArgs ===

impl RemoteArgs {
    /// The options that were given, by name.
    fn given(&self) -> Vec<&'static str> {
        [
            ("--client", self.client.is_some()),
            ("--client-config", self.client_config.is_some()),
            ("--lease", self.lease.is_some()),
            ("--selector", !self.selector.is_empty()),
            ("--name", self.name.is_some()),
            ("--duration", self.duration.is_some()),
            ("--extend", self.extend.is_some()),
            ("--tag", !self.tags.is_empty()),
            ("--context", !self.context.is_empty()),
            ("--allow-disabled", self.allow_disabled),
            ("--acquisition-timeout", self.acquisition_timeout.is_some()),
            ("--retry-timeout", self.retry_timeout.is_some()),
            ("--dial-timeout", self.dial_timeout.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }

    /// The client configuration that counts, with what these options override.
    fn load(&self, globals: &Globals) -> Result<EffectiveClient, CliError> {
        let limit = |span: Option<TimeSpan>, name: &str| {
            let span = span.map(TimeSpan::to_duration).transpose();
            span.map_err(|error| CliError::usage(format!("{name}: {error}")))
        };
        let flags = Flags {
            alias: self.client.clone(),
            path: self.client_config.clone(),
            lease: self.lease.clone(),
            acquisition_timeout: limit(self.acquisition_timeout, "--acquisition-timeout")?,
            retry_timeout: limit(self.retry_timeout, "--retry-timeout")?,
            dial_timeout: limit(self.dial_timeout, "--dial-timeout")?,
            ..globals.flags()
        };
        Ok(globals
            .store()
            .effective_client(&ProcessEnvironment, &flags)?)
    }
}

/// Where the devices are.
enum Target {
    /// In this process.
    Local(Box<EffectiveExporter>),
    /// Behind a direct listener.
    Direct(direct::Listener),
    /// In the session of `jmp local start`.
    Background(jmp_client::LocalSession),
    /// Behind a controller.
    Leased(Box<EffectiveClient>),
}

/// Runs the command.
///
/// # Errors
///
/// When there is no session, or the program cannot be started in it.
pub async fn run(arguments: Args, globals: &Globals) -> Result<u8, CliError> {
    let target = choose(&arguments, globals)?;
    let launch = Launch::new(arguments.command.clone(), uses_profiles(globals));
    let filter = logs::Filter::new(globals.log_level, arguments.exporter_logs);
    match target {
        Target::Local(exporter) => local::run(*exporter, launch, filter).await,
        Target::Direct(listener) => direct::run(listener, launch, filter).await,
        Target::Background(session) => background(session, launch).await,
        Target::Leased(client) => {
            leased::run(&arguments.remote, &client, launch, filter, globals).await
        }
    }
}

/// Runs a shell in a session that somebody else keeps.
async fn background(session: jmp_client::LocalSession, mut launch: Launch) -> Result<u8, CliError> {
    output::note(&format!(
        "using the background session of exporter {} (`jmp local stop` ends it)",
        session.exporter
    ));
    launch.variable("JUMPSTARTER_HOST", session.socket.as_os_str());
    let directory = crate::jmp::runtime_directory::RuntimeDirectory::new()?;
    launch
        .run("local", &directory, std::future::pending())
        .await
}

fn choose(arguments: &Args, globals: &Globals) -> Result<Target, CliError> {
    let remote = arguments.remote.given();
    if let Some(address) = &arguments.direct.tls_grpc {
        ignored(&remote, "with --tls-grpc");
        return direct::Listener::new(address, &arguments.direct).map(Target::Direct);
    }
    if let Some(exporter) = arguments.exporter.load(globals)? {
        ignored(&remote, "for an exporter on this machine");
        return Ok(Target::Local(Box::new(exporter)));
    }
    if !remote.is_empty() {
        let client = arguments.remote.load(globals)?;
        return Ok(Target::Leased(Box::new(client)));
    }
    if let Some(session) = jmp_client::local::find() {
        return Ok(Target::Background(session));
    }
    if is_remote_by_default(globals)? {
        let client = arguments.remote.load(globals)?;
        return Ok(Target::Leased(Box::new(client)));
    }
    only_exporter(globals).map(|exporter| Target::Local(Box::new(exporter)))
}

fn ignored(options: &[&str], why: &str) {
    if !options.is_empty() {
        let verb = if options.len() == 1 { "has" } else { "have" };
        output::warn(&format!("{} {verb} no effect {why}", options.join(", ")));
    }
}

/// Whether this is a shell through a controller although no option says so.
fn is_remote_by_default(globals: &Globals) -> Result<bool, CliError> {
    let variables = [
        "JMP_LEASE",
        "JMP_CLIENT",
        "JMP_CLIENT_CONFIG",
        "JMP_ENDPOINT",
    ];
    let set = |name: &&str| ProcessEnvironment.filled(name).is_some();
    Ok(globals.endpoint.is_some()
        || variables.iter().any(set)
        || globals.store().current_client()?.is_some())
}

/// Local mode without an option, as documented for machines without a client: the exporter there is.
fn only_exporter(globals: &Globals) -> Result<EffectiveExporter, CliError> {
    let store = globals.store();
    let listed = store.list_exporters()?;
    let paths = store.paths();
    match listed.as_slice() {
        [only] => {
            let alias = only.alias.to_string();
            output::note(&format!("using exporter {alias}, the only one configured"));
            let chosen = ExporterArgs {
                exporter: Some(alias),
                exporter_config: None,
            };
            chosen
                .load(globals)?
                .ok_or_else(|| CliError::new("the exporter configuration has gone"))
        }
        [] => Err(CliError::usage(
            "say which devices to use: --exporter ALIAS, --exporter-config FILE or --tls-grpc HOST:PORT",
        )
        .with_hint(format!(
            "there is no exporter configuration in {} or {}; `jmp demo --keep` shows a simulated board",
            paths.user_exporters().display(),
            paths.system_exporters.display()
        ))),
        several => {
            let names: Vec<String> = several.iter().map(|file| file.alias.to_string()).collect();
            Err(CliError::usage("say which exporter to use with --exporter ALIAS")
                .with_hint(format!("configured are {}", names.join(", "))))
        }
    }
}

/// `shell.use_profiles` of the client configuration, if there is one that can be read.
fn uses_profiles(globals: &Globals) -> bool {
    globals
        .store()
        .effective_client(&ProcessEnvironment, &Flags::default())
        .is_ok_and(|client| client.use_profiles.value)
}

/// The old form, `jmp exporter shell -c FILE`.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct OldArgs {
    #[command(subcommand)]
    command: OldCommand,
}

#[derive(Debug, clap::Subcommand)]
enum OldCommand {
    /// Old form of `jmp shell --exporter-config FILE`
    #[command(visible_aliases = ["sh", "s"])]
    Shell {
        /// Exporter configuration by file
        #[arg(
            short = 'c',
            long = "config",
            alias = "exporter-config",
            value_name = "FILE"
        )]
        config: Option<PathBuf>,
        /// Exporter configuration by name
        #[arg(long = "exporter", value_name = "ALIAS", conflicts_with = "config")]
        exporter: Option<String>,
        /// Command to run instead of a shell, with its arguments
        #[arg(trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
}

/// Runs the old form.
///
/// # Errors
///
/// As [`run`].
pub async fn run_old(arguments: OldArgs, globals: &Globals) -> Result<u8, CliError> {
    let OldCommand::Shell {
        config,
        exporter,
        command,
    } = arguments.command;
    let arguments = Args {
        exporter: ExporterArgs {
            exporter,
            exporter_config: config,
        },
        direct: DirectArgs::default(),
        remote: RemoteArgs::default(),
        exporter_logs: false,
        command,
    };
    run(arguments, globals).await
}
