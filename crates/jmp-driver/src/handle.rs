//! One way to reach a driver, wherever it is: in this process, behind a socket, behind a router.

use std::sync::Arc;

use async_trait::async_trait;
use jmp_wire::resource::ResourceHandle;
use jmp_wire::stream::ByteStream;
use prost_types::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::CallContext;
use crate::error::{Error, Result};
use crate::interface::{ValueStream, decode, encode};
use crate::node::{Link, NodeRef};

/// Something that takes calls for one driver instance.
#[async_trait]
pub trait Target: Send + Sync + 'static {
    /// Calls a unary method.
    async fn call(&self, method: &str, arguments: Vec<Value>) -> Result<Value>;

    /// Calls a streaming method.
    async fn streaming_call(&self, method: &str, arguments: Vec<Value>) -> Result<ValueStream>;

    /// Opens a byte stream.
    async fn open_stream(&self, method: &str) -> Result<ByteStream>;

    /// Opens a resource; the stream is the caller's end.
    async fn open_resource(&self, encoding: Option<&str>) -> Result<(ResourceHandle, ByteStream)>;
}

/// A driver instance that can be called. Typed clients wrap it. Cheap to clone.
#[derive(Clone)]
pub struct DriverHandle(Arc<dyn Target>);

impl std::fmt::Debug for DriverHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DriverHandle")
            .finish_non_exhaustive()
    }
}

// === impl DriverHandle ===

impl DriverHandle {
    /// Wraps a target.
    pub fn new(target: impl Target) -> Self {
        Self(Arc::new(target))
    }

    /// A handle for a node of this process. Calls run in the context of the call that makes
    /// them.
    pub fn local(link: Link) -> Self {
        Self::new(LocalTarget(link))
    }

    /// Calls a unary method with wire values.
    ///
    /// # Errors
    ///
    /// Those of the method, and of the way to it.
    pub async fn call_raw(&self, method: &str, arguments: Vec<Value>) -> Result<Value> {
        self.0.call(method, arguments).await
    }

    /// Calls a unary method; a tuple serves as the list of arguments.
    ///
    /// ```
    /// # async fn example(handle: jmp_driver::DriverHandle) -> jmp_driver::Result<()> {
    /// let sum: f64 = handle.call("add", (1, 2.5)).await?;
    /// let nothing: () = handle.call("on", ()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the method, and of the way to it; OTHER if the answer is no `R`.
    pub async fn call<R: DeserializeOwned>(
        &self,
        method: &str,
        arguments: impl Serialize,
    ) -> Result<R> {
        decode(self.0.call(method, argument_list(&arguments)?).await?)
    }

    /// Calls a streaming method with wire values.
    ///
    /// # Errors
    ///
    /// Those of the method, and of the way to it.
    pub async fn streaming_call(&self, method: &str, arguments: Vec<Value>) -> Result<ValueStream> {
        self.0.streaming_call(method, arguments).await
    }

    /// Opens a byte stream; the conventional method is `connect`.
    ///
    /// # Errors
    ///
    /// Those of the method, and of the way to it.
    pub async fn open_stream(&self, method: &str) -> Result<ByteStream> {
        self.0.open_stream(method).await
    }

    /// Opens a resource on the driver. Pass the handle to a call and serve the stream meanwhile.
    ///
    /// # Errors
    ///
    /// If the driver instance is gone or too many resources are open.
    pub async fn open_resource(
        &self,
        encoding: Option<&str>,
    ) -> Result<(ResourceHandle, ByteStream)> {
        self.0.open_resource(encoding).await
    }
}

/// Encodes a tuple, array or unit as a list of arguments.
///
/// # Errors
///
/// INVALID_ARGUMENT if it is something else or cannot be encoded.
pub fn argument_list(arguments: &impl Serialize) -> Result<Vec<Value>> {
    use prost_types::value::Kind;
    match encode(arguments)?.kind {
        Some(Kind::ListValue(list)) => Ok(list.values),
        None | Some(Kind::NullValue(_)) => Ok(Vec::new()),
        Some(_) => Err(Error::invalid_argument(
            "arguments must be a tuple, an array or ()",
        )),
    }
}

struct LocalTarget(Link);

impl LocalTarget {
    fn node(&self) -> Result<&NodeRef> {
        self.0.node().ok_or_else(|| {
            Error::configuration("a reference was used before the device tree was complete")
        })
    }
}

#[async_trait]
impl Target for LocalTarget {
    async fn call(&self, method: &str, arguments: Vec<Value>) -> Result<Value> {
        let node = self.node()?;
        node.call(CallContext::current(), method, arguments).await
    }

    async fn streaming_call(&self, method: &str, arguments: Vec<Value>) -> Result<ValueStream> {
        let node = self.node()?;
        node.streaming_call(CallContext::current(), method, arguments)
            .await
    }

    async fn open_stream(&self, method: &str) -> Result<ByteStream> {
        self.node()?
            .open_stream(CallContext::current(), method)
            .await
    }

    async fn open_resource(&self, encoding: Option<&str>) -> Result<(ResourceHandle, ByteStream)> {
        let (near, far) = ByteStream::pair(4);
        let encoding = encoding.map(str::to_owned);
        let opened = self
            .node()?
            .open_resource(CallContext::current(), encoding, far)
            .await?;
        Ok((opened.handle, near.guarded(opened.guard)))
    }
}
