//! From an exporter configuration to an open session: shared by `shell`, `run` and `local`.

use std::path::PathBuf;

use driver_all::registry;
use jmp_config::{
    ConfigError, Diagnostic, EffectiveExporter, ExportMap, ExportNode, ExporterConfig, Flags,
    Loaded, ProcessEnvironment, Spot,
};
use jmp_driver::NodeSpec;
use jmp_driver::tree::{BuildError, BuildWarning};
use jmp_exporter::{Session, SessionOptions};

use crate::error::CliError;
use crate::jmp::Globals;
use crate::output;

/// Options that choose an exporter configuration.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ExporterArgs {
    /// Exporter configuration by name, see `jmp config exporter list`
    #[arg(long, value_name = "ALIAS")]
    pub exporter: Option<String>,

    /// Exporter configuration by file
    #[arg(long, value_name = "FILE", conflicts_with = "exporter")]
    pub exporter_config: Option<PathBuf>,
}

// === impl ExporterArgs ===

impl ExporterArgs {
    /// Loads the configuration that was chosen and shows its warnings; `None` when none was chosen.
    ///
    /// # Errors
    ///
    /// When the file is missing (with the near names) or wrong (with line and column).
    pub fn load(&self, globals: &Globals) -> Result<Option<EffectiveExporter>, CliError> {
        let flags = Flags {
            alias: self.exporter.clone(),
            path: self.exporter_config.clone(),
            ..globals.flags()
        };
        let effective = globals
            .store()
            .effective_exporter(&ProcessEnvironment, &flags)?;
        if let Some(effective) = &effective {
            for warning in &effective.file.warnings {
                output::warn(&warning.to_string());
            }
        }
        Ok(effective)
    }
}

/// What to build for a configuration: the root group with its description.
pub fn node_spec(config: &ExporterConfig) -> NodeSpec {
    NodeSpec::Group {
        description: config.description.clone(),
        children: children(&config.export),
    }
}

fn children(map: &ExportMap) -> Vec<(String, NodeSpec)> {
    map.iter()
        .map(|(name, node)| (name.to_owned(), node_of(node)))
        .collect()
}

fn node_of(node: &ExportNode) -> NodeSpec {
    match node {
        ExportNode::Driver {
            driver_type,
            config,
            children: below,
            description,
            methods_description,
            ..
        } => NodeSpec::Driver {
            type_name: driver_type.clone(),
            config: config.clone(),
            description: description.clone(),
            methods_description: methods_description.clone(),
            children: children(below),
        },
        ExportNode::Group {
            children: below,
            description,
            ..
        } => NodeSpec::Group {
            description: description.clone(),
            children: children(below),
        },
        ExportNode::Reference { target, .. } => NodeSpec::Reference {
            path: target.clone(),
        },
    }
}

/// Opens the devices of a configuration and shows what was ignored in it.
///
/// # Errors
///
/// The first driver that cannot be opened, with file, line and column of what is wrong.
pub async fn open_session(
    file: &Loaded<ExporterConfig>,
    options: SessionOptions,
) -> Result<Session, CliError> {
    let session = Session::open(&registry(), &node_spec(&file.config), options)
        .await
        .map_err(|error| build_error(file, &error))?;
    for warning in session.warnings() {
        output::warn(&ignored_key(file, warning).to_string());
    }
    Ok(session)
}

/// What is wrong with a driver entry, pointing into the file.
pub fn build_error(file: &Loaded<ExporterConfig>, error: &BuildError) -> CliError {
    if error.path.is_empty() {
        return CliError::new(format!("{}: {}", file.path.display(), error.error));
    }
    let message = format!("driver `{}`: {}", error.path.join("."), error.error);
    let document = &file.document;
    let diagnostic = match &error.config_path {
        Some(keys) => {
            ExporterConfig::parameter_error(document, &error.path, keys, Spot::Value, message)
        }
        None => {
            let key = if is_reference(&file.config.export, &error.path) {
                "ref"
            } else {
                "type"
            };
            ExporterConfig::entry_error(document, &error.path, key, message)
        }
    };
    ConfigError::from(diagnostic).into()
}

fn is_reference(map: &ExportMap, path: &[String]) -> bool {
    let Some((name, below)) = path.split_first() else {
        return false;
    };
    match map.get(name) {
        Some(ExportNode::Reference { .. }) => below.is_empty(),
        Some(ExportNode::Driver { children, .. } | ExportNode::Group { children, .. }) => {
            is_reference(children, below)
        }
        None => false,
    }
}

fn ignored_key(file: &Loaded<ExporterConfig>, warning: &BuildWarning) -> Diagnostic {
    let problem = &warning.warning;
    let message = format!("driver `{}`: {}", warning.path.join("."), problem.message);
    ExporterConfig::parameter_error(
        &file.document,
        &warning.path,
        &problem.path,
        Spot::Key,
        message,
    )
    .with_nearest(problem.nearest.as_deref())
    .as_warning()
}
