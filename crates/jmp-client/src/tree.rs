//! The devices of a session as a client sees them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jmp_driver::DriverHandle;
pub use jmp_driver::node::MethodInfo;
use jmp_proto::v1;
use jmp_wire::connection::Connection;
use uuid::Uuid;

use crate::allow::AllowList;
use crate::error::{Error, Result};
use crate::remote::RemoteTarget;

/// Label that holds the dotted client class.
pub const CLIENT_LABEL: &str = "jumpstarter.dev/client";
/// Label that holds the name under the parent.
pub const NAME_LABEL: &str = "jumpstarter.dev/name";

#[derive(Debug)]
struct Inner {
    name: String,
    path: String,
    uuid: Uuid,
    class: String,
    labels: BTreeMap<String, String>,
    description: Option<String>,
    methods_description: BTreeMap<String, String>,
    children: Vec<Device>,
    allowed: bool,
    handle: DriverHandle,
}

/// A device: one entry of the exporter's report. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Device(Arc<Inner>);

// === impl Device ===

impl Device {
    /// Name under the parent; empty for the root.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Dot-separated names from the root; empty for the root.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The driver instance. A reference has the one of its target.
    pub fn uuid(&self) -> Uuid {
        self.0.uuid
    }

    /// Dotted client class, which says what the device can do.
    pub fn class(&self) -> &str {
        &self.0.class
    }

    /// Labels, those of the protocol included.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.0.labels
    }

    /// Text of the exporter's administrator.
    pub fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// Help for methods or commands from the exporter's configuration.
    pub fn methods_description(&self) -> &BTreeMap<String, String> {
        &self.0.methods_description
    }

    /// The children in the order of the exporter's configuration.
    pub fn children(&self) -> &[Device] {
        &self.0.children
    }

    /// Whether the allow list covers the client class.
    pub fn is_allowed(&self) -> bool {
        self.0.allowed
    }

    /// A device below this one by its dot-separated path.
    ///
    /// # Errors
    ///
    /// If there is none; the message lists what there is.
    pub fn find(&self, path: &str) -> Result<&Device> {
        let mut device = self;
        for name in path.split('.').filter(|name| !name.is_empty()) {
            let child = device.children().iter().find(|child| child.name() == name);
            device = child.ok_or_else(|| {
                let names: Vec<_> = device.children().iter().map(Device::name).collect();
                let place = match device.path() {
                    "" => "the exporter".to_owned(),
                    path => format!("`{path}`"),
                };
                Error::NoDevice {
                    path: path.to_owned(),
                    known: match names.as_slice() {
                        [] => format!("{place} has no devices"),
                        names => format!("{place} has {}", names.join(", ")),
                    },
                }
            })?;
        }
        Ok(device)
    }

    /// The device without types.
    ///
    /// # Errors
    ///
    /// If the allow list does not cover its class.
    pub fn handle(&self) -> Result<DriverHandle> {
        if self.0.allowed {
            Ok(self.0.handle.clone())
        } else {
            Err(Error::NotAllowed {
                path: self.0.path.clone(),
                class: self.0.class.clone(),
            })
        }
    }

    /// The device with a typed client, for example `PowerClient`.
    ///
    /// # Errors
    ///
    /// If the allow list does not cover its class.
    pub fn client<C: From<DriverHandle>>(&self) -> Result<C> {
        self.handle().map(C::from)
    }

    /// This device and all below it, parents first.
    pub fn walk(&self) -> Vec<&Device> {
        let mut all = vec![self];
        let mut next = 0;
        while let Some(device) = all.get(next).copied() {
            let below = next + 1;
            for (offset, child) in device.children().iter().enumerate() {
                all.insert(below + offset, child);
            }
            next += 1;
        }
        all
    }
}

/// Builds the tree of a report: each entry hangs on the most recently listed entry with the
/// uuid of its parent, because references repeat uuids (facts: protocol 5.2).
pub(crate) fn build(
    reports: Vec<v1::DriverInstanceReport>,
    connection: &Connection,
    allow: &AllowList,
) -> Result<Device> {
    let mut last_seen: HashMap<&str, usize> = HashMap::new();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); reports.len()];
    let mut root = None;
    for (index, report) in reports.iter().enumerate() {
        match report
            .parent_uuid
            .as_deref()
            .filter(|uuid| !uuid.is_empty())
        {
            None if root.is_none() => root = Some(index),
            None => return Err(Error::Report("it has two roots".into())),
            Some(parent) => {
                let parent = last_seen.get(parent).ok_or_else(|| {
                    Error::Report(format!("entry {index} names an unknown parent"))
                })?;
                children[*parent].push(index);
            }
        }
        last_seen.insert(&report.uuid, index);
    }
    let root = root.ok_or_else(|| Error::Report("it has no root".into()))?;
    let mut paths = vec![String::new(); reports.len()];
    for (index, below) in children.iter().enumerate() {
        for child in below {
            let name = label(&reports[*child], NAME_LABEL);
            paths[*child] = match paths[index].as_str() {
                "" => name.to_owned(),
                path => format!("{path}.{name}"),
            };
        }
    }
    let mut built: Vec<Option<Device>> = vec![None; reports.len()];
    // Parents are listed first, so going backwards makes children first.
    for (index, report) in reports.iter().enumerate().rev() {
        let below = children[index]
            .iter()
            .filter_map(|child| built[*child].take())
            .collect();
        let path = std::mem::take(&mut paths[index]);
        built[index] = Some(device(report, path, below, connection, allow)?);
    }
    built[root]
        .take()
        .ok_or_else(|| Error::Report("it has no root".into()))
}

fn label<'a>(report: &'a v1::DriverInstanceReport, name: &str) -> &'a str {
    report.labels.get(name).map_or("", String::as_str)
}

fn device(
    report: &v1::DriverInstanceReport,
    path: String,
    children: Vec<Device>,
    connection: &Connection,
    allow: &AllowList,
) -> Result<Device> {
    let uuid: Uuid = report
        .uuid
        .parse()
        .map_err(|error| Error::Report(format!("uuid `{}`: {error}", report.uuid)))?;
    let class = label(report, CLIENT_LABEL).to_owned();
    let target = RemoteTarget::new(connection.clone(), uuid, &report.uuid);
    Ok(Device(Arc::new(Inner {
        name: label(report, NAME_LABEL).to_owned(),
        path,
        uuid,
        allowed: allow.allows(&class),
        class,
        labels: report.labels.clone().into_iter().collect(),
        description: report.description.clone(),
        methods_description: report.methods_description.clone().into_iter().collect(),
        children,
        handle: DriverHandle::new(target),
    })))
}
