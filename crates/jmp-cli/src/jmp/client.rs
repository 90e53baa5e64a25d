//! Which client of which controller a command acts as.

use std::path::PathBuf;

use jmp_client::Controller;
use jmp_config::{EffectiveClient, Flags, ProcessEnvironment};
use jmp_wire::endpoint::{CallerKind, Connector, Credentials, Endpoint, ServerTrust};

use crate::error::CliError;
use crate::jmp::Globals;

/// Options that choose a client configuration.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ClientArgs {
    /// Client configuration by name
    #[arg(long, value_name = "ALIAS", conflicts_with = "client_config")]
    pub client: Option<String>,

    /// Client configuration by file
    #[arg(long, value_name = "FILE")]
    pub client_config: Option<PathBuf>,
}

// === impl ClientArgs ===

impl ClientArgs {
    /// The overrides that these options make, with those of all commands.
    pub fn flags(&self, globals: &Globals) -> Flags {
        Flags {
            alias: self.client.clone(),
            path: self.client_config.clone(),
            ..globals.flags()
        }
    }

    /// The configuration that counts.
    ///
    /// # Errors
    ///
    /// When it is missing or wrong.
    pub fn load(&self, globals: &Globals) -> Result<EffectiveClient, CliError> {
        let flags = self.flags(globals);
        Ok(globals
            .store()
            .effective_client(&ProcessEnvironment, &flags)?)
    }

    /// The controller, as this client. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the configuration is missing, wrong or incomplete.
    pub fn controller(&self, globals: &Globals) -> Result<Controller, CliError> {
        controller(&self.load(globals)?)
    }
}

/// The controller of a client configuration.
///
/// # Errors
///
/// When the configuration says too little, or its addresses and certificates cannot be read.
pub fn controller(client: &EffectiveClient) -> Result<Controller, CliError> {
    let missing = |what: &str, variable: &str| {
        let whose = match &client.file {
            Some(file) => format!("the client configuration {} has", file.path.display()),
            None => "there is no client configuration, and".to_owned(),
        };
        CliError::new(format!("{whose} no {what}")).with_hint(format!(
            "choose a client with --client ALIAS or `jmp config client use ALIAS`, make one with \
             `jmp login` or `jmp admin create client NAME --save`, or set {variable}"
        ))
    };
    let text = |value: &Option<String>, what, variable| {
        value.clone().ok_or_else(|| missing(what, variable))
    };
    let address = text(&client.endpoint.value, "endpoint", "JMP_ENDPOINT")?;
    let name = text(&client.name.value, "name", "JMP_NAME")?;
    let token = client.token.value.as_ref();
    let token = token.ok_or_else(|| missing("token", "JMP_TOKEN"))?;
    let namespace = client.namespace.value.clone();
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let fallback = jmp_client::trust_from_environment()?;
    let insecure = client.tls_insecure.value;
    let trust = ServerTrust::configured(insecure, client.tls_ca.value.as_deref(), fallback)
        .map_err(|error| CliError::new(error.to_string()))?;
    let endpoint: Endpoint = address
        .parse()
        .map_err(|error| CliError::new(format!("{error}")))?;
    let credentials = Credentials {
        kind: CallerKind::Client,
        namespace,
        name,
        token: token.expose().to_owned(),
    };
    let server_name = client
        .grpc_options
        .value
        .get("grpc.ssl_target_name_override");
    let connector = Connector::with_server_name(
        trust,
        server_name
            .and_then(|name| name.as_str())
            .map(str::to_owned),
    );
    Controller::new(connector, endpoint, &credentials)
        .map_err(|error| CliError::new(error.to_string()))
}
