//! The configuration that a login writes, or that is there already.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jmp_config::{ClientConfig, DriverAdmission, ExporterConfig, Metadata, Secret, Tls};
use jmp_types::Alias;

use super::discovery::Trust;
use super::{Args, Server};
use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::prompt::{self, Question};
use crate::output;

/// Who logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Somebody who leases.
    Client,
    /// A process beside devices.
    Exporter,
}

/// Its name in the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Where a configuration is, or will be.
#[derive(Debug, Clone)]
pub enum Place {
    /// By name.
    Alias(Role, Alias),
    /// By file.
    File(Role, PathBuf),
}

/// A configuration that is there.
#[derive(Debug, Clone)]
pub struct Known {
    role: Role,
    alias: Option<Alias>,
    /// The file.
    pub path: PathBuf,
    /// Name in the controller.
    pub name: Option<String>,
    /// Namespace in the controller.
    pub namespace: Option<String>,
    /// The controller.
    pub endpoint: Option<String>,
    /// How it is recognised.
    pub tls: Tls,
}

// === impl Role ===

impl Role {
    /// In messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Exporter => "exporter",
        }
    }

    /// Before the word.
    pub fn article(self) -> &'static str {
        match self {
            Self::Client => "a",
            Self::Exporter => "an",
        }
    }
}

// === impl Place ===

impl Place {
    /// The configuration of that name.
    ///
    /// # Errors
    ///
    /// When no file can have the name.
    pub fn alias(role: Role, name: &str) -> Result<Self, CliError> {
        let alias = name.parse().map_err(|error| {
            CliError::usage(format!(
                "no configuration can have the name `{name}`: {error}"
            ))
            .with_hint("choose one with --client ALIAS (--exporter ALIAS)")
        })?;
        Ok(Self::Alias(role, alias))
    }

    /// The configuration in that file.
    pub fn file(role: Role, path: &Path) -> Self {
        Self::File(role, path.to_owned())
    }

    /// Whose it is.
    pub fn role(&self) -> Role {
        match self {
            Self::Alias(role, _) | Self::File(role, _) => *role,
        }
    }

    /// Its name, if it has one.
    pub fn alias_text(&self) -> Option<&str> {
        match self {
            Self::Alias(_, alias) => Some(alias.as_str()),
            Self::File(..) => None,
        }
    }

    /// A name for who is in it.
    pub fn name(&self) -> Option<String> {
        self.alias_text().map(str::to_owned)
    }

    /// What is there.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be used.
    pub fn known(&self, globals: &Globals) -> Result<Option<Known>, CliError> {
        let store = globals.store();
        let path = match self {
            Self::File(_, path) => path.clone(),
            Self::Alias(Role::Client, alias) => store.client_path(alias),
            Self::Alias(Role::Exporter, alias) => match store.find_exporter(alias.as_str()) {
                Ok((path, _)) => path,
                Err(_) => store.exporter_path(alias),
            },
        };
        if !path.exists() {
            return Ok(None);
        }
        let (metadata, endpoint, tls) = match self.role() {
            Role::Client => {
                let config = store.load_client_file(&path)?.config;
                (config.metadata, config.endpoint, config.tls)
            }
            Role::Exporter => {
                let config = store.load_exporter_file(&path)?.config;
                (config.metadata, config.endpoint, config.tls)
            }
        };
        let alias = match self {
            Self::Alias(_, alias) => Some(alias.clone()),
            Self::File(..) => None,
        };
        Ok(Some(Known {
            role: self.role(),
            alias,
            path,
            name: metadata.name,
            namespace: metadata.namespace,
            endpoint: endpoint.filter(|endpoint| !endpoint.is_empty()),
            tls,
        }))
    }

    /// Writes a new configuration, which becomes the current one if it is a client's and has a name.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn create(
        &self,
        server: &Server,
        identity: &Identity,
        token: &Secret,
        drivers: DriverAdmission,
        globals: &Globals,
    ) -> Result<PathBuf, CliError> {
        let metadata = Metadata {
            name: Some(identity.name.clone()),
            namespace: Some(identity.namespace.clone()),
        };
        let store = globals.store();
        if self.role() == Role::Exporter {
            let config = ExporterConfig {
                metadata,
                endpoint: Some(server.endpoint.clone()),
                tls: server.tls.clone(),
                token: Some(token.clone()),
                ..ExporterConfig::default()
            };
            return match self {
                Self::Alias(_, alias) => Ok(store.create_exporter(alias, &config)?),
                Self::File(_, path) => {
                    store.save_exporter_file(path, &config)?;
                    Ok(path.clone())
                }
            };
        }
        let config = ClientConfig {
            metadata,
            endpoint: Some(server.endpoint.clone()),
            tls: server.tls.clone(),
            token: Some(token.clone()),
            drivers,
            ..ClientConfig::default()
        };
        match self {
            Self::Alias(_, alias) => {
                let path = store.create_client(alias, &config)?;
                store.use_client(Some(alias))?;
                Ok(path)
            }
            Self::File(_, path) => {
                store.save_client_file(path, &config)?;
                Ok(path.clone())
            }
        }
    }
}

/// Which driver clients may run: option, else the person's answer. Exporters run none.
///
/// # Errors
///
/// When nobody says.
pub fn admission(
    role: Role,
    arguments: &Args,
    globals: &Globals,
) -> Result<DriverAdmission, CliError> {
    if role == Role::Exporter {
        if arguments.allow.is_some() || arguments.unsafe_all {
            output::warn("--allow and --unsafe have no effect on exporters");
        }
        return Ok(DriverAdmission::default());
    }
    let allow = match (&arguments.allow, arguments.unsafe_all) {
        (Some(allow), _) => allow.clone(),
        (None, true) => String::new(),
        (None, false) => {
            let question = Question {
                text: "Allowed driver clients, comma-separated globs, or UNSAFE for all",
                option: "--allow GLOBS or --unsafe",
                default: globals.interactive().then_some("UNSAFE"),
                secret: false,
            };
            prompt::value(None, question, globals)?
        }
    };
    let globs = allow.split(',').map(str::trim);
    let globs: Vec<&str> = globs.filter(|glob| !glob.is_empty()).collect();
    let unsafe_all = arguments.unsafe_all || globs.contains(&"UNSAFE");
    let globs = globs.into_iter().filter(|glob| *glob != "UNSAFE");
    Ok(DriverAdmission {
        allow: Some(globs.map(str::to_owned).collect()),
        unsafe_all: Some(unsafe_all),
    })
}

// === impl Known ===

impl Known {
    /// How the login endpoint of the same lab is recognised.
    pub fn trust(&self) -> Result<Trust, CliError> {
        let Some(ca) = self.tls.ca.as_deref().filter(|ca| !ca.trim().is_empty()) else {
            let fallback = jmp_client::trust_from_environment()?;
            return Ok(Trust::Authorities(fallback));
        };
        let text: String = ca.split_ascii_whitespace().collect();
        let bundle = STANDARD.decode(text).map_err(|error| {
            CliError::new(format!(
                "`tls.ca` of {} is not base64 of a PEM bundle: {error}",
                self.path.display()
            ))
        })?;
        Ok(Trust::Authorities(jmp_wire::tls::Trust::Authorities(
            bundle,
        )))
    }

    /// Replaces the token, and the authority if a fresh one was proved.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn renew(
        &self,
        token: &Secret,
        proved: Option<&Tls>,
        globals: &Globals,
    ) -> Result<PathBuf, CliError> {
        let store = globals.store();
        if let Some(tls) = proved.filter(|tls| tls.ca != self.tls.ca) {
            if self.role == Role::Exporter {
                return Err(CliError::new(format!(
                    "the controller has another authority than {} says",
                    self.path.display()
                ))
                .with_hint(format!(
                    "nothing was changed; put this into its `tls.ca` if that is right: {}",
                    tls.ca.as_deref().unwrap_or_default()
                )));
            }
            let mut config = store.load_client_file(&self.path)?.config;
            config.tls.clone_from(tls);
            store.save_client_file(&self.path, &config)?;
            output::note("the authority of the controller is new, and was saved");
        }
        store.replace_token(&self.path, token)?;
        if let (Role::Client, Some(alias)) = (self.role, &self.alias) {
            store.use_client(Some(alias))?;
        }
        Ok(self.path.clone())
    }
}
