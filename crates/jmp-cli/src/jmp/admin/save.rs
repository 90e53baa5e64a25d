//! Credentials become configuration files: with `create --save`, `import` and `rotate --save`.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use jmp_config::{
    AccessConfig, AccessKind, ClientConfig, DriverAdmission, ExporterConfig, Metadata, Secret, Tls,
};
use jmp_proto::jmp::v1::Credential;
use jmp_types::Alias;

use super::target::Target;
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::lease::view::{local_time, timestamp};
use crate::jmp::prompt::{self, Question};
use crate::output::{self, Format};

/// The command that writes a configuration for an object that is there.
pub fn import_command(kind: &str, name: &str, namespace: &str) -> String {
    let namespace = match namespace {
        "" | "default" => String::new(),
        other => format!(" --namespace {other}"),
    };
    let kind = kind.to_ascii_lowercase();
    format!("jmp admin import {kind} {name}{namespace}")
}

/// What is written for a new client or exporter, and where.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SaveArgs {
    /// Save a configuration of this name for this user
    #[arg(short, long)]
    save: bool,

    /// Write the configuration to this file instead
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Driver client classes that a client may load, comma-separated globs
    #[arg(short, long)]
    allow: Option<String>,

    /// Let a client load all driver client classes
    #[arg(long = "unsafe")]
    unsafe_all: bool,

    /// Let the configuration not check the controller's certificate
    #[arg(short = 'k', long, alias = "insecure-tls-config")]
    insecure_tls: bool,
}

const IMPORT_EXAMPLES: &str = "\
Examples:
  jmp admin import client hello --unsafe
  jmp admin import exporter bench-3 --out bench-3.yaml";

/// Write a configuration for a client or exporter that is there
#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub struct ImportArgs {
    #[command(subcommand)]
    command: ImportCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ImportCommand {
    /// Write a client configuration
    #[command(visible_aliases = ["clients", "c"], after_help = IMPORT_EXAMPLES)]
    Client {
        /// The client
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        save: SaveArgs,
    },
    /// Write an exporter configuration
    #[command(visible_aliases = ["exporters", "e"], after_help = IMPORT_EXAMPLES)]
    Exporter {
        /// The exporter
        #[arg(value_name = "NAME", default_value = "default")]
        name: String,
        #[command(flatten)]
        save: SaveArgs,
    },
}

const ROTATE_EXAMPLES: &str = "\
Examples:
  jmp admin rotate client hello --save
  jmp admin rotate exporter bench-3 --out bench-3.yaml";

/// Give out a new token; all earlier ones stop working at once
#[derive(Debug, clap::Args)]
#[command(after_help = ROTATE_EXAMPLES)]
pub struct RotateArgs {
    #[command(subcommand)]
    command: RotateCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RotateCommand {
    /// A new token for a client
    #[command(visible_aliases = ["clients", "c"], after_help = ROTATE_EXAMPLES)]
    Client(Rotate),
    /// A new token for an exporter
    #[command(visible_aliases = ["exporters", "e"], after_help = ROTATE_EXAMPLES)]
    Exporter(Rotate),
    /// A new token for a router
    #[command(visible_aliases = ["routers"], after_help = ROTATE_EXAMPLES)]
    Router(RotateAccess),
    /// A new token for an administrator
    #[command(visible_aliases = ["admin", "admins", "administrators"], after_help = ROTATE_EXAMPLES)]
    Administrator(RotateAccess),
}

#[derive(Debug, clap::Args)]
struct Rotate {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,

    /// Put the new token into this user's configuration of that name
    #[arg(short, long)]
    save: bool,

    /// Put the new token into this configuration
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct RotateAccess {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,

    /// Write the file that lets it in here, mode 0600
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

// === impl SaveArgs ===

impl SaveArgs {
    /// Finds out, before anything is made, whether it could be saved.
    pub fn check(&self, kind: &str, name: &str, globals: &Globals) -> Result<(), CliError> {
        if self.insecure_tls
            && !globals.nointeractive
            && !prompt::confirm(
                "Certificates will not be checked, so anybody can pose as the controller. Continue?",
                globals,
            )?
        {
            return Err(CliError::new("Aborted!").with_hint("--nointeractive skips the question"));
        }
        if !self.save || self.out.is_some() {
            return Ok(());
        }
        let alias = alias(name)?;
        let store = globals.store();
        let (path, kind) = match kind {
            "Client" => (store.client_path(&alias), jmp_config::Kind::Client),
            _ => (store.exporter_path(&alias), jmp_config::Kind::Exporter),
        };
        if path.exists() {
            let alias = alias.to_string();
            return Err(jmp_config::Error::Exists { kind, alias, path }.into());
        }
        Ok(())
    }

    /// Writes the configuration if that was asked for, or if the person says yes now.
    pub fn save(
        &self,
        kind: &str,
        name: &str,
        namespace: &str,
        credential: &Credential,
        globals: &Globals,
    ) -> Result<(), CliError> {
        let wanted = self.save
            || self.out.is_some()
            || (globals.output.is_none()
                && prompt::confirm("Save a configuration with its credential here?", globals)?);
        if !wanted {
            if globals.output.is_none() {
                output::note(&format!(
                    "no configuration was saved; `{}` writes one",
                    import_command(kind, name, namespace)
                ));
            }
            return Ok(());
        }
        let path = match kind {
            "Client" => self.client(name, namespace, credential, globals)?,
            _ => self.exporter(name, namespace, credential, globals)?,
        };
        match globals.output {
            Some(Format::Path) => output::print(&format!("{}\n", path.display()))?,
            Some(_) => {}
            None => output::note(&format!("saved {}", path.display())),
        }
        Ok(())
    }

    fn client(
        &self,
        name: &str,
        namespace: &str,
        credential: &Credential,
        globals: &Globals,
    ) -> Result<PathBuf, CliError> {
        let mut unsafe_all = self.unsafe_all;
        let allow = match &self.allow {
            Some(allow) => allow.clone(),
            None if unsafe_all || !globals.interactive() => String::new(),
            None => {
                let question = Question {
                    text: "Allowed driver clients, comma-separated, or UNSAFE for all",
                    option: "--allow",
                    default: Some("UNSAFE"),
                    secret: false,
                };
                prompt::value(None, question, globals)?
            }
        };
        let globs: Vec<String> = allow
            .split(',')
            .map(str::trim)
            .filter(|glob| !glob.is_empty())
            .map(str::to_owned)
            .collect();
        unsafe_all |= globs.iter().any(|glob| glob == "UNSAFE");
        let config = ClientConfig {
            metadata: metadata(name, namespace),
            endpoint: Some(credential.endpoint.clone()),
            tls: self.tls(credential),
            token: Some(Secret::new(&*credential.token)),
            drivers: DriverAdmission {
                allow: Some(globs.into_iter().filter(|glob| glob != "UNSAFE").collect()),
                unsafe_all: Some(unsafe_all),
            },
            ..ClientConfig::default()
        };
        let store = globals.store();
        match &self.out {
            Some(path) => {
                store.save_client_file(path, &config)?;
                Ok(path.clone())
            }
            None => Ok(store.create_client(&alias(name)?, &config)?),
        }
    }

    fn exporter(
        &self,
        name: &str,
        namespace: &str,
        credential: &Credential,
        globals: &Globals,
    ) -> Result<PathBuf, CliError> {
        let config = ExporterConfig {
            metadata: metadata(name, namespace),
            endpoint: Some(credential.endpoint.clone()),
            tls: self.tls(credential),
            token: Some(Secret::new(&*credential.token)),
            ..ExporterConfig::default()
        };
        let store = globals.store();
        match &self.out {
            Some(path) => {
                store.save_exporter_file(path, &config)?;
                Ok(path.clone())
            }
            None => Ok(store.create_exporter(&alias(name)?, &config)?),
        }
    }

    fn tls(&self, credential: &Credential) -> Tls {
        Tls {
            insecure: self.insecure_tls.then_some(true),
            ..trusted(credential)
        }
    }
}

fn metadata(name: &str, namespace: &str) -> Metadata {
    Metadata {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
    }
}

fn trusted(credential: &Credential) -> Tls {
    let authority = credential.certificate_authority.as_str();
    Tls {
        ca: (!authority.is_empty())
            .then(|| base64::engine::general_purpose::STANDARD.encode(authority)),
        insecure: None,
    }
}

fn alias(name: &str) -> Result<Alias, CliError> {
    name.parse()
        .map_err(|error| CliError::usage(format!("no configuration can have this name: {error}")))
}

/// Writes the file that lets a router or administrator in.
pub fn access(
    kind: &str,
    name: &str,
    path: &Path,
    credential: &Credential,
) -> Result<(), CliError> {
    let config = AccessConfig {
        kind: match kind {
            "Router" => AccessKind::Router,
            _ => AccessKind::Admin,
        },
        name: name.to_owned(),
        endpoint: credential.endpoint.clone(),
        tls: trusted(credential),
        token: Secret::new(&*credential.token),
    };
    Ok(config.save(path)?)
}

/// Runs `jmp admin import`.
pub async fn import(
    arguments: ImportArgs,
    target: &Target,
    globals: &Globals,
) -> Result<u8, CliError> {
    let (kind, name, mut save) = match arguments.command {
        ImportCommand::Client { name, save } => ("Client", name, save),
        ImportCommand::Exporter { name, save } => ("Exporter", name, save),
    };
    save.save = true;
    save.check(kind, &name, globals)?;
    let resource = target.name(&kind.to_ascii_lowercase(), &name);
    let credential = target.admin.credential(resource).await?;
    save.save(kind, &name, &target.namespace, &credential, globals)?;
    Ok(exit::OK)
}

/// Runs `jmp admin rotate`.
pub async fn rotate(
    arguments: RotateArgs,
    target: &Target,
    globals: &Globals,
) -> Result<u8, CliError> {
    let (kind, name) = match &arguments.command {
        RotateCommand::Client(rotate) => ("client", &rotate.name),
        RotateCommand::Exporter(rotate) => ("exporter", &rotate.name),
        RotateCommand::Router(rotate) => ("router", &rotate.name),
        RotateCommand::Administrator(rotate) => ("admin", &rotate.name),
    };
    let credential = target.admin.rotate(target.name(kind, name)).await?;
    let path = match &arguments.command {
        RotateCommand::Client(rotate) => {
            renew(rotate, &credential, jmp_config::Store::client_path, globals)?
        }
        RotateCommand::Exporter(rotate) => renew(
            rotate,
            &credential,
            jmp_config::Store::exporter_path,
            globals,
        )?,
        RotateCommand::Router(rotate) => {
            access("Router", name, &rotate.out, &credential)?;
            Some(rotate.out.clone())
        }
        RotateCommand::Administrator(rotate) => {
            access("Administrator", name, &rotate.out, &credential)?;
            Some(rotate.out.clone())
        }
    };
    let expiry = credential.expiry.as_ref().and_then(timestamp);
    let until = expiry.map(|time| format!(", good until {}", local_time(time)));
    output::note(&format!(
        "{kind} {name} has a new token{}",
        until.unwrap_or_default()
    ));
    match (path, globals.output) {
        (_, Some(Format::Name)) => output::print(&format!("{}\n", super::full_name(kind, name)))?,
        (Some(path), _) => output::note(&format!("saved {}", path.display())),
        // Somebody has to get it; on standard output it can be piped to where it belongs.
        (None, _) => output::print(&format!("{}\n", credential.token))?,
    }
    Ok(exit::OK)
}

/// Puts the new token where it was asked for.
fn renew(
    rotate: &Rotate,
    credential: &Credential,
    own: impl FnOnce(&jmp_config::Store, &Alias) -> PathBuf,
    globals: &Globals,
) -> Result<Option<PathBuf>, CliError> {
    let store = globals.store();
    let path = match (&rotate.out, rotate.save) {
        (Some(path), _) => path.clone(),
        (None, true) => own(&store, &alias(&rotate.name)?),
        (None, false) => return Ok(None),
    };
    store.replace_token(&path, &Secret::new(&*credential.token))?;
    Ok(Some(path))
}
