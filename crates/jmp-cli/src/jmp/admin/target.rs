//! Which controller `jmp admin` means, and as whom.

use std::path::PathBuf;

use jmp_client::Admin;
use jmp_config::{AccessConfig, AccessKind, Environment, ProcessEnvironment};
use jmp_proto::jmp::v1::ResourceName;
use jmp_wire::endpoint::{CallerKind, Connector, Credentials, Endpoint, ServerTrust};

use crate::error::CliError;
use crate::jmp::Globals;

/// Namespace of those who do not say.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Options that all administrative commands share.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AdminArgs {
    /// Administrator's configuration by file
    #[arg(long, value_name = "FILE", global = true)]
    pub admin_config: Option<PathBuf>,

    /// Namespace of the object
    #[arg(short = 'n', long, global = true, value_name = "NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,

    /// For a controller in Kubernetes, which this version cannot administer
    #[arg(long, global = true, hide = true)]
    kubeconfig: Option<PathBuf>,

    /// For a controller in Kubernetes, which this version cannot administer
    #[arg(long, global = true, hide = true)]
    context: Option<String>,
}

/// A controller that was reached as an administrator.
pub struct Target {
    /// The connection.
    pub admin: Admin,
    /// Namespace of the objects that are meant.
    pub namespace: String,
}

/// Where an administrator's configuration was found.
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Why this one.
    pub source: &'static str,
}

/// The file that lets an administrator in: flag, then variable, then the one of this user.
pub fn find(flag: Option<&PathBuf>, globals: &Globals) -> Found {
    if let Some(path) = flag {
        let source = "--admin-config";
        return Found {
            path: path.clone(),
            source,
        };
    }
    match ProcessEnvironment.filled("JMP_ADMIN_CONFIG") {
        Some(path) => Found {
            path: path.into(),
            source: "environment JMP_ADMIN_CONFIG",
        },
        None => Found {
            path: globals.store().paths().admin_config(),
            source: "default",
        },
    }
}

// === impl AdminArgs ===

impl AdminArgs {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When there is no such configuration, or no such controller.
    pub async fn connect(&self, globals: &Globals) -> Result<Target, CliError> {
        if self.kubeconfig.is_some() || self.context.is_some() {
            return Err(CliError::usage(
                "--kubeconfig and --context are for a controller in Kubernetes, which this version cannot \
                 administer",
            )
            .with_hint("leave them out to administer the controller of `jmp controller run`"));
        }
        let found = find(self.admin_config.as_ref(), globals);
        if !found.path.exists() {
            return Err(CliError::new(format!(
                "there is no administrator's configuration {} ({})",
                found.path.display(),
                found.source
            ))
            .with_hint(
                "`jmp controller run` writes it on the controller's host; copy it here, or name one with \
                 --admin-config FILE",
            ));
        }
        let mut config = AccessConfig::load(&found.path, AccessKind::Admin)?;
        if let Some(endpoint) = &globals.endpoint {
            config.endpoint.clone_from(endpoint);
        }
        Ok(Target {
            admin: connect(&config).await?,
            namespace: self.namespace.clone(),
        })
    }
}

/// Connects with the credentials of a file.
///
/// # Errors
///
/// When the file cannot be used, or the controller cannot be reached.
pub async fn connect(config: &AccessConfig) -> Result<Admin, CliError> {
    let endpoint: Endpoint = config
        .endpoint
        .parse()
        .map_err(|error| CliError::new(format!("{error}")))?;
    let insecure = config.tls.insecure.unwrap_or(false);
    let fallback = jmp_client::trust_from_environment()?;
    let trust = ServerTrust::configured(insecure, config.tls.ca.as_deref(), fallback)
        .map_err(|error| CliError::new(error.to_string()))?;
    let credentials = Credentials {
        kind: CallerKind::Admin,
        namespace: DEFAULT_NAMESPACE.to_owned(),
        name: config.name.clone(),
        token: config.token.expose().to_owned(),
    };
    Ok(Admin::connect(&Connector::new(trust), &endpoint, &credentials).await?)
}

// === impl Target ===

impl Target {
    /// Addresses an object of the namespace that is meant.
    pub fn name(&self, kind: &str, name: &str) -> ResourceName {
        ResourceName {
            kind: kind.to_owned(),
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        }
    }
}
