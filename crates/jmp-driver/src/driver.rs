//! What the author of a driver writes.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use prost_types::Value;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::error::Result;
use crate::handle::DriverHandle;
use crate::interface::Interface;
use crate::log::Logger;
use crate::node::{Child, DriverNode, Link, MethodInfo, NodeInfo};

/// What happens to a key in `config` that the driver does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownKeys {
    /// The exporter refuses the configuration and names the nearest key.
    #[default]
    Refuse,
    /// A warning: where shipped exporters ignore such keys, files that work there work here.
    Warn,
}

/// A driver: its configuration, its interfaces and how it is opened.
///
/// The interfaces themselves are traits made with [`macro@crate::interface`]; a driver implements
/// one or more of them and lists them in [`Driver::interfaces`].
pub trait Driver: Sized + Send + Sync + 'static {
    /// Dotted types under which configuration files name the driver; the first is canonical.
    const TYPES: &'static [&'static str];

    /// One line for lists.
    const SUMMARY: &'static str;

    /// What to do with keys in `config` that [`Driver::Config`] does not have.
    const UNKNOWN_KEYS: UnknownKeys = UnknownKeys::Refuse;

    /// The `config` of the driver. Doc comments of the fields are the reference manual.
    type Config: DeserializeOwned + JsonSchema + Send;

    /// Opens the device. Dropping the future gives up.
    ///
    /// # Errors
    ///
    /// Whatever keeps the device from being used; the session does not start then.
    fn open(
        config: Self::Config,
        context: OpenContext,
    ) -> impl Future<Output = Result<Self>> + Send;

    /// The interfaces, first match wins when two have a method of one name and kind.
    fn interfaces() -> Vec<Interface<Self>>;

    /// Dotted path of the client class; by default the one of the first interface.
    fn client(&self) -> String {
        Self::interfaces()
            .first()
            .map_or_else(String::new, |first| first.descriptor.client.to_owned())
    }

    /// Labels that the driver adds to its report.
    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Help for methods; configured help comes first.
    fn methods_description(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Methods that are known only at run time, for `Describe`.
    fn dynamic_methods(&self) -> Vec<MethodInfo> {
        Vec::new()
    }

    /// Calls a method that no interface has; `None` if there is no such method.
    fn call_dynamic(
        &self,
        method: &str,
        arguments: Vec<Value>,
    ) -> impl Future<Output = Option<Result<Value>>> + Send {
        let _ = (method, arguments);
        async { None }
    }

    /// Brings the device into its first state, at the start of a session.
    ///
    /// # Errors
    ///
    /// The session does not start.
    fn reset(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Lets go of the device, at the end of a session.
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// What a driver finds when it is opened.
pub struct OpenContext {
    /// Path of the node, child names from the root.
    pub path: Vec<String>,
    /// Writes to the session log, source DRIVER.
    pub log: Logger,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    pub(crate) children: Arc<std::sync::Mutex<Vec<Child>>>,
}

// === impl OpenContext ===

impl OpenContext {
    fn children(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        self.children
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A configured child, to be used through the clients of its interfaces. A reference works
    /// once the whole tree stands, so not before `reset`.
    pub fn child(&self, name: &str) -> Option<DriverHandle> {
        self.children()
            .iter()
            .find(|child| child.name == name)
            .map(|child| DriverHandle::local(child.link.clone()))
    }

    /// Names of the children so far, in order.
    pub fn child_names(&self) -> Vec<String> {
        self.children()
            .iter()
            .map(|child| child.name.clone())
            .collect()
    }

    /// Adds a child that this driver makes itself. A configured child of that name stays
    /// and the new one is dropped.
    pub fn adopt<T: Driver>(&self, name: &str, driver: T) -> DriverHandle {
        let mut children = self.children();
        if let Some(configured) = children.iter().find(|child| child.name == name) {
            return DriverHandle::local(configured.link.clone());
        }
        let node = DriverNode::new(driver, NodeInfo::default(), Vec::new());
        let link = Link::Owned(Arc::new(node));
        children.push(Child {
            name: name.to_owned(),
            link: link.clone(),
        });
        DriverHandle::local(link)
    }

    /// A logger for a child that this driver makes itself.
    pub fn logger(&self, name: &str) -> Logger {
        self.log.named(format!("driver.{name}"))
    }
}
