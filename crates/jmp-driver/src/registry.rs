//! The drivers an exporter knows: an explicit list, no linker magic.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use schemars::Schema;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::config::{self, ConfigProblem, Warning};
use crate::driver::{Driver, OpenContext, UnknownKeys};
use crate::error::Error;
use crate::interface::InterfaceDescriptor;
use crate::node::{DriverNode, NodeInfo, NodeRef};

/// Why a driver could not be opened.
#[derive(Debug)]
pub enum OpenFailure {
    /// Its `config` is wrong.
    Config(ConfigProblem),
    /// The driver itself refused.
    Driver(Error),
}

/// What a configuration says about one driver.
#[derive(Debug, Clone, Default)]
pub struct DriverSettings {
    /// The `config` mapping.
    pub config: Json,
    /// Text for people.
    pub description: Option<String>,
    /// Help for single methods.
    pub methods_description: BTreeMap<String, String>,
}

type OpenFunction = fn(
    DriverSettings,
    OpenContext,
) -> BoxFuture<'static, Result<(NodeRef, Vec<Warning>), OpenFailure>>;

/// A registered driver.
#[derive(Clone)]
pub struct DriverEntry {
    /// Dotted types; the first is canonical.
    pub types: &'static [&'static str],
    /// One line for lists.
    pub summary: &'static str,
    /// Schema of its `config`.
    pub schema: fn() -> Schema,
    /// Its interfaces.
    pub interfaces: fn() -> Vec<&'static InterfaceDescriptor>,
    open: OpenFunction,
}

// === impl DriverEntry ===

impl DriverEntry {
    /// The entry of the driver type `T`.
    pub fn of<T: Driver>() -> Self {
        Self {
            types: T::TYPES,
            summary: T::SUMMARY,
            schema: || schemars::schema_for!(T::Config),
            interfaces: || {
                T::interfaces()
                    .iter()
                    .map(|interface| interface.descriptor)
                    .collect()
            },
            open: |settings, context| Box::pin(open::<T>(settings, context)),
        }
    }

    /// The last segment of the canonical type, for example `MockPower`.
    pub fn name(&self) -> &'static str {
        let canonical = self.types.first().copied().unwrap_or_default();
        canonical.rsplit('.').next().unwrap_or(canonical)
    }

    /// Opens an instance.
    ///
    /// # Errors
    ///
    /// If the configuration does not fit or the driver refuses.
    pub async fn open(
        &self,
        settings: DriverSettings,
        context: OpenContext,
    ) -> Result<(NodeRef, Vec<Warning>), OpenFailure> {
        (self.open)(settings, context).await
    }
}

async fn open<T: Driver>(
    settings: DriverSettings,
    context: OpenContext,
) -> Result<(NodeRef, Vec<Warning>), OpenFailure> {
    let mut warnings = Vec::new();
    let (common, own) = CommonConfig::split(settings.config).map_err(OpenFailure::Config)?;
    let parsed =
        config::read::<T::Config>(own, T::UNKNOWN_KEYS == UnknownKeys::Warn, &mut warnings)
            .map_err(OpenFailure::Config)?;
    let children = Arc::clone(&context.children);
    let driver = T::open(parsed, context)
        .await
        .map_err(OpenFailure::Driver)?;
    let info = NodeInfo {
        uuid: common.uuid.unwrap_or_else(Uuid::new_v4),
        labels: common.labels,
        description: settings.description.filter(|text| !text.is_empty()),
        methods_description: settings.methods_description,
        ..NodeInfo::default()
    };
    let children = children
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .clone();
    Ok((Arc::new(DriverNode::new(driver, info, children)), warnings))
}

/// Options that every driver takes inside `config` (facts: drivers 0.1).
#[derive(Debug, Default)]
struct CommonConfig {
    labels: BTreeMap<String, String>,
    uuid: Option<Uuid>,
}

impl CommonConfig {
    fn split(config: Json) -> Result<(Self, Json), ConfigProblem> {
        let mut common = Self::default();
        let Json::Object(mut map) = config else {
            return Ok((common, config));
        };
        // The session log carries every level; readers choose.
        map.remove("log_level");
        if let Some(labels) = map.remove("labels") {
            common.labels = config::read(labels, false, &mut Vec::new())
                .map_err(|problem| problem.inside("labels"))?;
        }
        if let Some(uuid) = map.remove("uuid") {
            common.uuid = config::read(uuid, false, &mut Vec::new())
                .map_err(|problem| problem.inside("uuid"))?;
        }
        Ok((common, Json::Object(map)))
    }
}

/// All drivers that configuration files can name.
#[derive(Clone, Default)]
pub struct Registry {
    entries: Vec<DriverEntry>,
}

// === impl Registry ===

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a driver.
    ///
    /// # Panics
    ///
    /// If one of its types is registered already: two drivers cannot share a name.
    pub fn add<T: Driver>(&mut self) -> &mut Self {
        for name in T::TYPES {
            assert!(
                self.get(name).is_none(),
                "driver type `{name}` registered twice"
            );
        }
        self.entries.push(DriverEntry::of::<T>());
        self
    }

    /// All drivers in the order of registration.
    pub fn entries(&self) -> &[DriverEntry] {
        &self.entries
    }

    /// The driver with the given dotted type.
    pub fn get(&self, type_name: &str) -> Option<&DriverEntry> {
        self.entries
            .iter()
            .find(|entry| entry.types.contains(&type_name))
    }

    /// The driver with the given dotted type or bare name, such as `MockPower`.
    pub fn find(&self, name: &str) -> Option<&DriverEntry> {
        self.get(name)
            .or_else(|| self.entries.iter().find(|entry| entry.name() == name))
    }

    /// Types that look like `type_name`, nearest first.
    pub fn nearest(&self, type_name: &str) -> Vec<&'static str> {
        let all = self.entries.iter().flat_map(|entry| entry.types);
        let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_lowercase();
        let mut scored: Vec<(f64, &'static str)> = all
            .map(|candidate| {
                let whole = strsim::jaro_winkler(candidate, type_name);
                let class = strsim::jaro_winkler(&last(candidate), &last(type_name));
                (whole.max(class), *candidate)
            })
            .filter(|(score, _)| *score > 0.85)
            .collect();
        scored.sort_by(|left, right| right.0.total_cmp(&left.0));
        scored.truncate(3);
        scored.into_iter().map(|(_, name)| name).collect()
    }
}
