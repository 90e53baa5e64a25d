//! The erased driver: what a session, a parent driver and a driver host see of any driver.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use jmp_wire::resource::ResourceHandle;
use jmp_wire::stream::ByteStream;
use prost_types::Value;
use uuid::Uuid;

use crate::context::CallContext;
use crate::driver::Driver;
use crate::error::{Error, ErrorKind, Result};
use crate::interface::{Handler, Interface, MethodKind, ValueStream};
use crate::resource::ResourceGuard;

/// A shared driver instance.
pub type NodeRef = Arc<dyn Node>;

/// What the report says about a driver instance.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// Identifies the instance; new for each session.
    pub uuid: Uuid,
    /// Dotted type, as in a configuration file.
    pub type_name: String,
    /// Dotted path of the client class.
    pub client: String,
    /// Labels of the configuration and of the driver; without `jumpstarter.dev/client` and
    /// `jumpstarter.dev/name`, which the listing adds.
    pub labels: BTreeMap<String, String>,
    /// Text for people, if configured.
    pub description: Option<String>,
    /// Help for single methods.
    pub methods_description: BTreeMap<String, String>,
}

/// A method as `Describe` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodInfo {
    /// Its name on the wire.
    pub name: String,
    /// How it is called.
    pub kind: MethodKind,
    /// Its documentation.
    pub documentation: String,
    /// Its arguments in order.
    pub arguments: Vec<ArgumentInfo>,
}

/// An argument as `Describe` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgumentInfo {
    /// Its name.
    pub name: String,
    /// A word for its type.
    pub type_name: String,
    /// May be left out.
    pub optional: bool,
    /// Takes all remaining arguments.
    pub variadic: bool,
}

/// A child of a node.
#[derive(Debug, Clone)]
pub struct Child {
    /// Its name under the parent.
    pub name: String,
    /// The child itself or a reference to a node elsewhere in the tree.
    pub link: Link,
}

/// How a child hangs on its parent.
#[derive(Clone)]
pub enum Link {
    /// The parent's own child.
    Owned(NodeRef),
    /// Another name for a node elsewhere in the tree (facts: drivers 1.6, Proxy).
    Reference(Arc<Reference>),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Owned(node) => write!(formatter, "Owned({})", node.info().type_name),
            Self::Reference(reference) => write!(formatter, "Reference({})", reference.path),
        }
    }
}

/// A reference, resolved once the whole tree stands.
pub struct Reference {
    /// Dot-separated child names from the root.
    pub path: String,
    target: OnceLock<NodeRef>,
}

// === impl Reference ===

impl Reference {
    /// A reference that is not resolved yet.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            target: OnceLock::new(),
        }
    }

    /// Sets the target; the first one stays.
    pub(crate) fn resolve(&self, target: NodeRef) {
        let _ = self.target.set(target);
    }
}

// === impl Link ===

impl Link {
    /// The node behind the link; `None` for a reference before the tree is complete.
    pub fn node(&self) -> Option<&NodeRef> {
        match self {
            Self::Owned(node) => Some(node),
            Self::Reference(reference) => reference.target.get(),
        }
    }
}

/// A resource that a client opened on a node.
pub struct OpenedResource {
    /// What the client passes as an argument.
    pub handle: ResourceHandle,
    /// Must live as long as the client's stream.
    pub guard: Option<ResourceGuard>,
}

/// A driver instance with all types erased: wire values, byte streams, status pass-through.
///
/// `reset` and `close` concern this node alone; the tree calls each once for every distinct
/// node.
#[async_trait]
pub trait Node: Send + Sync + 'static {
    /// What the report says.
    fn info(&self) -> &NodeInfo;

    /// The children in the order of the configuration.
    fn children(&self) -> &[Child];

    /// What can be called.
    fn methods(&self) -> Vec<MethodInfo>;

    /// Calls a unary method.
    async fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: Vec<Value>,
    ) -> Result<Value>;

    /// Calls a streaming method.
    async fn streaming_call(
        &self,
        context: CallContext,
        method: &str,
        arguments: Vec<Value>,
    ) -> Result<ValueStream>;

    /// Opens a byte stream.
    async fn open_stream(&self, context: CallContext, method: &str) -> Result<ByteStream>;

    /// Takes over the exporter's end of a resource.
    async fn open_resource(
        &self,
        context: CallContext,
        encoding: Option<String>,
        stream: ByteStream,
    ) -> Result<OpenedResource>;

    /// Brings the device into its first state; at the start of a session.
    async fn reset(&self) -> Result<()>;

    /// Lets go of the device; at the end of a session.
    async fn close(&self);
}

/// A driver of type `T` as a node.
pub struct DriverNode<T: Driver> {
    driver: Arc<T>,
    info: NodeInfo,
    children: Vec<Child>,
    interfaces: Vec<Interface<T>>,
}

// === impl DriverNode ===

impl<T: Driver> DriverNode<T> {
    /// Wraps a driver. Client class, labels and method help are asked from it and completed by
    /// `info`.
    pub fn new(driver: T, mut info: NodeInfo, children: Vec<Child>) -> Self {
        if info.uuid.is_nil() {
            info.uuid = Uuid::new_v4();
        }
        info.type_name = T::TYPES.first().copied().unwrap_or_default().to_owned();
        info.client = driver.client();
        for (name, value) in driver.labels() {
            info.labels.insert(name, value);
        }
        for (name, text) in driver.methods_description() {
            info.methods_description.entry(name).or_insert(text);
        }
        Self {
            driver: Arc::new(driver),
            info,
            children,
            interfaces: T::interfaces(),
        }
    }

    /// The handler of a method of the given kind, or why there is none, in the words that
    /// shipped exporters use (facts: protocol 2.3).
    fn find(&self, method: &str, kind: MethodKind) -> Result<&Handler<T>> {
        let mut other_kind = false;
        for interface in &self.interfaces {
            let methods = interface.descriptor.methods.iter();
            for (descriptor, handler) in methods.zip(&interface.handlers) {
                if descriptor.name == method {
                    if descriptor.kind == kind {
                        return Ok(handler);
                    }
                    other_kind = true;
                }
            }
        }
        Err(missing(method, other_kind.then_some(kind)))
    }
}

/// `wanted` is the kind that was asked for if the method exists with another one.
fn missing(method: &str, wanted: Option<MethodKind>) -> Error {
    let text = match wanted {
        None => format!("method {method} not found on driver"),
        Some(kind) => {
            let marker = match kind {
                MethodKind::Unary => "marker_drivercall",
                MethodKind::Streaming => "marker_streamingdrivercall",
                MethodKind::ByteStream => "marker_streamcall",
            };
            format!("method {method} missing marker {marker}")
        }
    };
    Error::new(ErrorKind::MethodNotFound, text)
}

#[async_trait]
impl<T: Driver> Node for DriverNode<T> {
    fn info(&self) -> &NodeInfo {
        &self.info
    }

    fn children(&self) -> &[Child] {
        &self.children
    }

    fn methods(&self) -> Vec<MethodInfo> {
        let mut methods: Vec<MethodInfo> = Vec::new();
        for interface in &self.interfaces {
            for descriptor in interface.descriptor.methods {
                let known = |info: &MethodInfo| {
                    info.name == descriptor.name && info.kind == descriptor.kind
                };
                if !methods.iter().any(known) {
                    methods.push(descriptor.into());
                }
            }
        }
        methods.extend(self.driver.dynamic_methods());
        methods
    }

    async fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: Vec<Value>,
    ) -> Result<Value> {
        let context = context.for_driver(self.info.uuid);
        match self.find(method, MethodKind::Unary) {
            Ok(Handler::Unary(run)) => {
                let call = run(Arc::clone(&self.driver), context.clone(), arguments);
                context.scope(call).await
            }
            Ok(_) => Err(missing(method, Some(MethodKind::Unary))),
            Err(error) => {
                let call = self.driver.call_dynamic(method, arguments);
                context.scope(call).await.unwrap_or(Err(error))
            }
        }
    }

    async fn streaming_call(
        &self,
        context: CallContext,
        method: &str,
        arguments: Vec<Value>,
    ) -> Result<ValueStream> {
        let context = context.for_driver(self.info.uuid);
        match self.find(method, MethodKind::Streaming)? {
            Handler::Streaming(run) => {
                let stream = run(Arc::clone(&self.driver), context.clone(), arguments);
                Ok(in_context(context, stream))
            }
            _ => Err(missing(method, Some(MethodKind::Streaming))),
        }
    }

    async fn open_stream(&self, context: CallContext, method: &str) -> Result<ByteStream> {
        let context = context.for_driver(self.info.uuid);
        match self.find(method, MethodKind::ByteStream)? {
            Handler::ByteStream(run) => {
                let open = run(Arc::clone(&self.driver), context.clone());
                context.scope(open).await
            }
            _ => Err(missing(method, Some(MethodKind::ByteStream))),
        }
    }

    async fn open_resource(
        &self,
        context: CallContext,
        encoding: Option<String>,
        stream: ByteStream,
    ) -> Result<OpenedResource> {
        let (uuid, guard) = context.resources().insert(self.info.uuid, stream)?;
        Ok(OpenedResource {
            handle: ResourceHandle::ClientStream {
                uuid,
                x_jmp_content_encoding: encoding,
            },
            guard: Some(guard),
        })
    }

    async fn reset(&self) -> Result<()> {
        self.driver.reset().await
    }

    async fn close(&self) {
        self.driver.close().await;
    }
}

/// Polls a stream with its call context in reach.
fn in_context(context: CallContext, mut stream: ValueStream) -> ValueStream {
    Box::pin(futures::stream::poll_fn(move |task| {
        context.sync_scope(|| stream.as_mut().poll_next(task))
    }))
}

impl From<&crate::interface::MethodDescriptor> for MethodInfo {
    fn from(descriptor: &crate::interface::MethodDescriptor) -> Self {
        Self {
            name: descriptor.name.to_owned(),
            kind: descriptor.kind,
            documentation: descriptor.documentation.to_owned(),
            arguments: descriptor
                .arguments
                .iter()
                .map(|argument| ArgumentInfo {
                    name: argument.name.to_owned(),
                    type_name: argument.type_name.to_owned(),
                    optional: argument.optional,
                    variadic: argument.variadic,
                })
                .collect(),
        }
    }
}
