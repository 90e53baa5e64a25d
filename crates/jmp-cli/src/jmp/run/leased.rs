//! `jmp run` with a controller.

use jmp_config::{EffectiveExporter, Secret};
use jmp_exporter::{
    ControllerOptions, Ended, LeasedExporter, LeasedOptions, LeasedProgress, SessionOptions,
};
use jmp_wire::endpoint::{CallerKind, Connector, Credentials, Endpoint, ServerTrust};
use serde_json::json;

use super::notify::notify;
use super::signals::Signals;
use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::exporter::{node_spec, open_session};
use crate::jmp::runtime_directory::RuntimeDirectory;
use crate::output::{self, Format};

/// Overrides the name that certificates are checked for, as gRPC programs do.
const SERVER_NAME_OPTION: &str = "grpc.ssl_target_name_override";

/// Runs an exporter until it is stopped or refused.
///
/// # Errors
///
/// When its configuration or its devices cannot be used, or the controller refuses it.
pub async fn run(
    exporter: &EffectiveExporter,
    exit_on_lease_end: bool,
    globals: &Globals,
) -> Result<u8, CliError> {
    let controller = controller(exporter)?;
    let mut signals = Signals::catch()?;
    let config = &exporter.file.config;
    // Only to see that the devices work, and what they look like; each lease opens them anew.
    let opening = open_session(&exporter.file, SessionOptions::default());
    let session = tokio::select! {
        session = opening => session?,
        stop = signals.next() => return Ok(stop.exit_code),
    };
    let reports = session.reports();
    session.close().await;
    if config.export.is_empty() {
        output::warn(&format!(
            "exporter {} has no devices, so that it cannot be leased: add them under `export` in {}, and start \
             it again",
            controller.credentials.name,
            exporter.file.path.display()
        ));
    }
    let directory = RuntimeDirectory::new()?;
    let running = LeasedExporter::start(LeasedOptions {
        controller: controller.clone(),
        registry: driver_all::registry(),
        root: node_spec(config),
        reports,
        motd: config.motd.clone().unwrap_or_default(),
        hooks: super::hooks(config),
        programs: Some(directory.path().join("bin")),
        directory: directory.path().to_owned(),
        exit_on_lease_end: exit_on_lease_end || config.exit_on_lease_end,
    });
    let running = running.map_err(|error| CliError::new(error.to_string()))?;
    let ended = attend(running, signals, &controller, globals).await?;
    match ended.refused {
        None => Ok(ended.code),
        Some(reason) => Err(CliError::new(format!(
            "controller {} refuses exporter {}: {reason}",
            controller.endpoint, controller.credentials.name
        ))
        .with_code(ended.code)),
    }
}

/// Passes signals on and says what happens, until the end.
async fn attend(
    mut running: LeasedExporter,
    mut signals: Signals,
    controller: &ControllerOptions,
    globals: &Globals,
) -> Result<Ended, CliError> {
    let shutdown = running.shutdown_handle();
    let mut progress = running.progress();
    loop {
        tokio::select! {
            ended = running.finished() => return Ok(ended),
            stop = signals.next() => {
                notify("STOPPING=1");
                tracing::info!("stopping because of {}", stop.name);
                shutdown.request(stop.graceful, stop.exit_code).await;
            }
            Ok(()) = progress.changed() => match &*progress.borrow_and_update() {
                LeasedProgress::Connecting => {}
                // It does its work: a service manager need not wait for the controller's host.
                LeasedProgress::Waiting(reason) => notify(&format!(
                    "READY=1\nSTATUS=waiting for the controller: {}",
                    reason.replace('\n', " ")
                )),
                LeasedProgress::Registered => {
                    notify("READY=1\nSTATUS=registered");
                    announce(controller, globals)?;
                }
            },
        }
    }
}

/// Says that the controller knows the exporter.
fn announce(controller: &ControllerOptions, globals: &Globals) -> Result<(), CliError> {
    let Credentials {
        name, namespace, ..
    } = &controller.credentials;
    let shown = json!({
        "exporter": name,
        "namespace": namespace,
        "controller": controller.endpoint.to_string(),
    });
    match globals.output {
        Some(Format::Json) => output::print(&output::json(&shown)),
        Some(Format::Yaml) => output::print(&output::yaml(&shown)?),
        Some(Format::Name | Format::Path) => output::print(&format!("{name}\n")),
        None => output::print(&format!(
            "exporter {name} is registered with {}\n",
            controller.endpoint
        )),
    }
}

/// Where the controller is and who we are.
fn controller(exporter: &EffectiveExporter) -> Result<ControllerOptions, CliError> {
    let file = exporter.file.path.display();
    let missing = |what: &str| {
        CliError::new(format!("{file}: the exporter has no {what}")).with_hint(
            "an administrator gets them with `jmp admin create exporter NAME --save`; without a \
             controller: `jmp run … --tls-grpc-listener PORT`, or `jmp shell --exporter ALIAS`",
        )
    };
    let endpoint = exporter.endpoint.value.as_deref();
    let endpoint = endpoint.ok_or_else(|| missing("`endpoint`: endpoint or token not set"));
    let endpoint: Endpoint = endpoint?
        .parse()
        .map_err(|error| CliError::new(format!("{file}: {error}")))?;
    let token = exporter.token.value.as_ref();
    let token = token.filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| missing("`token`: endpoint or token not set"))?;
    let name = exporter.name.value.clone();
    let credentials = Credentials {
        kind: CallerKind::Exporter,
        namespace: exporter.namespace.value.clone().unwrap_or_default(),
        name: name.unwrap_or_default(),
        token: Secret::expose(token).to_owned(),
    };
    let fallback =
        jmp_client::trust_from_environment().map_err(|error| CliError::new(error.to_string()))?;
    let trust = ServerTrust::configured(
        exporter.tls_insecure.value,
        exporter.tls_ca.value.as_deref(),
        fallback,
    )
    .map_err(|error| CliError::new(format!("{file}: {error}")))?;
    let server_name = exporter.grpc_options.value.get(SERVER_NAME_OPTION);
    let server_name = server_name.and_then(|name| name.as_str().map(str::to_owned));
    Ok(ControllerOptions {
        endpoint,
        credentials,
        connector: Connector::with_server_name(trust, server_name),
    })
}
