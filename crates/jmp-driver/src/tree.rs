//! The device tree of a session: built from a description, listed, looked up, reset and closed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Warning;
use crate::driver::OpenContext;
use crate::error::Error;
use crate::log::{LogHub, LogSource};
use crate::node::{Child, Link, NodeInfo, NodeRef, Reference};
use crate::registry::{DriverEntry, DriverSettings, OpenFailure, Registry};

/// Client class of a group, which the root of an exporter is, too.
pub const COMPOSITE_TYPE: &str = "jumpstarter_driver_composite.driver.Composite";

/// What a configuration says about one node of the tree.
#[derive(Debug, Clone)]
pub enum NodeSpec {
    /// A driver and its configured children.
    Driver {
        /// Dotted type.
        type_name: String,
        /// Its `config` mapping.
        config: Json,
        /// Text for people.
        description: Option<String>,
        /// Help for single methods.
        methods_description: BTreeMap<String, String>,
        /// Children in order.
        children: Vec<(String, NodeSpec)>,
    },
    /// Children without a driver of their own.
    Group {
        /// Text for people.
        description: Option<String>,
        /// Children in order.
        children: Vec<(String, NodeSpec)>,
    },
    /// Another name for a node elsewhere.
    Reference {
        /// Dot-separated child names from the root.
        path: String,
    },
}

/// Why a tree could not be built.
#[derive(Debug)]
pub struct BuildError {
    /// The node, child names from the root.
    pub path: Vec<String>,
    /// Keys inside the node's `config`, if the problem is there.
    pub config_path: Option<Vec<String>>,
    /// What is wrong, for a person.
    pub error: Error,
}

impl fmt::Display for BuildError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(formatter, "{}", self.error)
        } else {
            write!(
                formatter,
                "driver `{}`: {}",
                self.path.join("."),
                self.error
            )
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A key that was ignored while a tree was built.
#[derive(Debug, Clone)]
pub struct BuildWarning {
    /// The node, child names from the root.
    pub path: Vec<String>,
    /// What was ignored.
    pub warning: Warning,
}

/// One line of the report.
#[derive(Debug, Clone)]
pub struct Report {
    /// The instance; a reference repeats the one of its target.
    pub uuid: Uuid,
    /// The parent; absent on the root.
    pub parent: Option<Uuid>,
    /// All labels, client class and name included.
    pub labels: BTreeMap<String, String>,
    /// Text for people.
    pub description: Option<String>,
    /// Help for single methods.
    pub methods_description: BTreeMap<String, String>,
}

/// What drivers of a tree share.
#[derive(Clone)]
pub struct Services {
    /// The session log.
    pub log: LogHub,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// A device tree that is open.
pub struct Tree {
    root: NodeRef,
    /// Each distinct node once, children before parents.
    nodes: Vec<NodeRef>,
    index: HashMap<Uuid, NodeRef>,
    reports: Vec<Report>,
    /// Keys that were ignored.
    pub warnings: Vec<BuildWarning>,
}

struct Builder<'a> {
    registry: &'a Registry,
    services: &'a Services,
    warnings: Vec<BuildWarning>,
    /// In order of opening: children first.
    opened: Vec<NodeRef>,
    references: Vec<(Vec<String>, Arc<Reference>)>,
}

// === impl Tree ===

impl Tree {
    /// Opens all drivers of `root`, children first, and resolves references. If one fails, those
    /// that are open are closed again.
    ///
    /// # Errors
    ///
    /// The first driver that cannot be opened, or a reference that leads nowhere or in circles.
    pub async fn build(
        registry: &Registry,
        root: &NodeSpec,
        services: &Services,
    ) -> Result<Self, BuildError> {
        let mut builder = Builder {
            registry,
            services,
            warnings: Vec::new(),
            opened: Vec::new(),
            references: Vec::new(),
        };
        match Self::build_with(&mut builder, root).await {
            Ok(tree) => Ok(tree),
            Err(error) => {
                for node in builder.opened.iter().rev() {
                    node.close().await;
                }
                Err(error)
            }
        }
    }

    async fn build_with(builder: &mut Builder<'_>, root: &NodeSpec) -> Result<Self, BuildError> {
        let root = builder.open(&mut Vec::new(), root).await?;
        builder.resolve(&root)?;
        let nodes = builder.opened.clone();
        let mut reports = Vec::new();
        list(&root, None, None, &mut Vec::new(), &mut reports)?;
        let mut index = HashMap::new();
        for node in &nodes {
            let uuid = node.info().uuid;
            if index.insert(uuid, Arc::clone(node)).is_some() {
                return Err(BuildError {
                    path: Vec::new(),
                    config_path: None,
                    error: Error::configuration(format!("uuid {uuid} is configured twice")),
                });
            }
        }
        Ok(Self {
            root,
            nodes,
            index,
            reports,
            warnings: std::mem::take(&mut builder.warnings),
        })
    }

    /// The root.
    pub fn root(&self) -> &NodeRef {
        &self.root
    }

    /// The node with the given uuid.
    pub fn find(&self, uuid: Uuid) -> Option<&NodeRef> {
        self.index.get(&uuid)
    }

    /// The report: parents before children, children in the order of the configuration.
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// Each distinct node.
    pub fn nodes(&self) -> &[NodeRef] {
        &self.nodes
    }

    /// Resets each node once, children first.
    ///
    /// # Errors
    ///
    /// The first failure, with the type of the driver.
    pub async fn reset(&self) -> Result<(), Error> {
        for node in &self.nodes {
            node.reset()
                .await
                .map_err(|error| error.context(format!("reset of {}", node.info().type_name)))?;
        }
        Ok(())
    }

    /// Closes each node once, parents first.
    pub async fn close(&self) {
        for node in self.nodes.iter().rev() {
            node.close().await;
        }
    }
}

// === impl Builder ===

impl Builder<'_> {
    fn open<'b>(
        &'b mut self,
        path: &'b mut Vec<String>,
        spec: &'b NodeSpec,
    ) -> BoxFuture<'b, Result<NodeRef, BuildError>> {
        Box::pin(async move {
            let (type_name, settings, specs) = match spec {
                NodeSpec::Driver {
                    type_name,
                    config,
                    description,
                    methods_description,
                    children,
                } => {
                    let settings = DriverSettings {
                        config: config.clone(),
                        description: description.clone(),
                        methods_description: methods_description.clone(),
                    };
                    (type_name.as_str(), settings, children)
                }
                NodeSpec::Group {
                    description,
                    children,
                } => {
                    let settings = DriverSettings {
                        description: description.clone(),
                        ..DriverSettings::default()
                    };
                    (COMPOSITE_TYPE, settings, children)
                }
                NodeSpec::Reference { .. } => {
                    return Err(at(
                        path,
                        Error::configuration("the root cannot be a reference"),
                    ));
                }
            };
            let entry = self.entry(path, type_name)?;
            let children = self.children(path, specs).await?;
            self.open_driver(path, &entry, settings, children).await
        })
    }

    async fn children(
        &mut self,
        path: &mut Vec<String>,
        specs: &[(String, NodeSpec)],
    ) -> Result<Vec<Child>, BuildError> {
        let mut children = Vec::with_capacity(specs.len());
        for (name, spec) in specs {
            path.push(name.clone());
            let link = if let NodeSpec::Reference { path: target } = spec {
                let reference = Arc::new(Reference::new(target.clone()));
                self.references.push((path.clone(), Arc::clone(&reference)));
                Link::Reference(reference)
            } else {
                Link::Owned(self.open(path, spec).await?)
            };
            path.pop();
            children.push(Child {
                name: name.clone(),
                link,
            });
        }
        Ok(children)
    }

    fn entry(&self, path: &[String], type_name: &str) -> Result<DriverEntry, BuildError> {
        if let Some(entry) = self.registry.get(type_name) {
            return Ok(entry.clone());
        }
        let mut message = format!("driver type `{type_name}` is not known");
        let near = self.registry.nearest(type_name);
        if near.is_empty() {
            message.push_str("; `jmp driver list` shows all types");
        } else {
            message.push_str(&format!("; did you mean `{}`?", near.join("` or `")));
        }
        Err(at(path, Error::configuration(message)))
    }

    async fn open_driver(
        &mut self,
        path: &[String],
        entry: &DriverEntry,
        settings: DriverSettings,
        children: Vec<Child>,
    ) -> Result<NodeRef, BuildError> {
        let configured = children.len();
        let context = OpenContext {
            path: path.to_vec(),
            log: self
                .services
                .log
                .logger(format!("driver.{}", entry.name()), LogSource::Driver),
            clock: Arc::clone(&self.services.clock),
            children: Arc::new(Mutex::new(children)),
        };
        let opened = entry.open(settings, context).await;
        let (node, warnings) = opened.map_err(|failure| match failure {
            OpenFailure::Driver(error) => at(path, error),
            OpenFailure::Config(problem) => BuildError {
                path: path.to_vec(),
                error: Error::configuration(problem.to_string()),
                config_path: Some(problem.path),
            },
        })?;
        self.warnings
            .extend(warnings.into_iter().map(|warning| BuildWarning {
                path: path.to_vec(),
                warning,
            }));
        // Children that the driver made itself stand behind the configured ones.
        for child in node.children().iter().skip(configured) {
            if let Link::Owned(child) = &child.link {
                self.opened.push(Arc::clone(child));
            }
        }
        self.opened.push(Arc::clone(&node));
        Ok(node)
    }

    /// Gives each reference its target, following references on the way.
    fn resolve(&self, root: &NodeRef) -> Result<(), BuildError> {
        for (path, reference) in &self.references {
            let target = follow(root, &reference.path, 0).map_err(|reason| {
                let text = format!("reference `{}` {reason}", reference.path);
                at(path, Error::configuration(text))
            })?;
            reference.resolve(target);
        }
        Ok(())
    }
}

fn at(path: &[String], error: Error) -> BuildError {
    BuildError {
        path: path.to_vec(),
        config_path: None,
        error,
    }
}

/// References that may be followed from one reference to the next.
const MAX_HOPS: usize = 64;

fn follow(root: &NodeRef, path: &str, hops: usize) -> Result<NodeRef, String> {
    if hops > MAX_HOPS {
        return Err("leads in a circle".into());
    }
    let mut node = Arc::clone(root);
    for name in path.split('.') {
        let Some(child) = node.children().iter().find(|child| child.name == name) else {
            let names: Vec<_> = node
                .children()
                .iter()
                .map(|child| child.name.as_str())
                .collect();
            return Err(format!(
                "leads to a driver that does not exist: there is no `{name}` among {}",
                if names.is_empty() {
                    "no children".into()
                } else {
                    names.join(", ")
                }
            ));
        };
        node = match &child.link {
            Link::Owned(node) => Arc::clone(node),
            Link::Reference(next) => follow(root, &next.path, hops + 1)?,
        };
    }
    Ok(node)
}

/// Lists `node` and what is below it. `above` holds the nodes on the way down, to refuse a
/// reference to one of them.
fn list(
    node: &NodeRef,
    parent: Option<Uuid>,
    name: Option<&str>,
    above: &mut Vec<(Uuid, String)>,
    reports: &mut Vec<Report>,
) -> Result<(), BuildError> {
    let info = node.info();
    if above.iter().any(|(uuid, _)| *uuid == info.uuid) {
        let mut path: Vec<_> = above.iter().map(|(_, name)| name.clone()).skip(1).collect();
        path.extend(name.map(str::to_owned));
        return Err(at(
            &path,
            Error::configuration("the reference leads to a driver that contains it"),
        ));
    }
    reports.push(report(info, parent, name));
    above.push((info.uuid, name.unwrap_or_default().to_owned()));
    for child in node.children() {
        if let Some(target) = child.link.node() {
            list(target, Some(info.uuid), Some(&child.name), above, reports)?;
        }
    }
    above.pop();
    Ok(())
}

fn report(info: &NodeInfo, parent: Option<Uuid>, name: Option<&str>) -> Report {
    let mut labels = info.labels.clone();
    labels.insert("jumpstarter.dev/client".into(), info.client.clone());
    match name {
        Some(name) => labels.insert("jumpstarter.dev/name".into(), name.to_owned()),
        None => labels.remove("jumpstarter.dev/name"),
    };
    Report {
        uuid: info.uuid,
        parent,
        labels,
        description: info.description.clone(),
        methods_description: info.methods_description.clone(),
    }
}
