//! What the interface macro produces: descriptors and dispatch tables.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jmp_wire::stream::ByteStream;
use prost_types::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::CallContext;
use crate::error::{Error, Result};
use crate::resource::Resource;

/// How a method is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MethodKind {
    /// One answer (`DriverCall`).
    Unary,
    /// A sequence of answers (`StreamingDriverCall`).
    Streaming,
    /// Raw bytes in both directions (`RouterService.Stream`).
    ByteStream,
}

/// An argument of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgumentDescriptor {
    /// Its name in the interface.
    pub name: &'static str,
    /// A word for its type: `string`, `integer`, `number`, `boolean`, `list`, `mapping`,
    /// `resource` or a Rust type name.
    pub type_name: &'static str,
    /// May be left out.
    pub optional: bool,
    /// Takes all remaining arguments.
    pub variadic: bool,
}

/// A method of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodDescriptor {
    /// Its name on the wire.
    pub name: &'static str,
    /// How it is called.
    pub kind: MethodKind,
    /// Its documentation, from the doc comment.
    pub documentation: &'static str,
    /// Its arguments in order.
    pub arguments: &'static [ArgumentDescriptor],
}

/// A driver interface, written once as a Rust trait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceDescriptor {
    /// Name of the trait.
    pub name: &'static str,
    /// Dotted path of the client class that shipped Python clients load.
    pub client: &'static str,
    /// Its documentation, from the doc comment.
    pub documentation: &'static str,
    /// Its methods in order.
    pub methods: &'static [MethodDescriptor],
}

/// The answers of a streaming call.
pub type ValueStream = BoxStream<'static, Result<Value>>;

/// A call that is on its way.
pub type Pending<R> = BoxFuture<'static, Result<R>>;

/// Runs one method of a driver of type `T`.
pub enum Handler<T> {
    /// See [`MethodKind::Unary`].
    Unary(fn(Arc<T>, CallContext, Vec<Value>) -> Pending<Value>),
    /// See [`MethodKind::Streaming`].
    Streaming(fn(Arc<T>, CallContext, Vec<Value>) -> ValueStream),
    /// See [`MethodKind::ByteStream`].
    ByteStream(fn(Arc<T>, CallContext) -> Pending<ByteStream>),
}

/// An interface as implemented by the driver type `T`. The macro makes a function that returns
/// it for each interface.
pub struct Interface<T> {
    /// The interface.
    pub descriptor: &'static InterfaceDescriptor,
    /// One handler for each method of the descriptor, in its order.
    pub handlers: Vec<Handler<T>>,
}

/// Something that can stand in the argument list of a method: everything serde can read, and
/// [`crate::Resource`].
pub trait FromArgument: Sized {
    /// Takes the argument from its wire value.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT if the value does not fit.
    fn from_argument(value: Value, context: &CallContext) -> Result<Self>;
}

impl<T: DeserializeOwned> FromArgument for T {
    fn from_argument(value: Value, _: &CallContext) -> Result<Self> {
        jmp_wire::value::from_value(value)
            .map_err(|error| Error::invalid_argument(error.to_string()))
    }
}

/// Positional arguments being taken apart; used by generated code.
#[doc(hidden)]
pub struct Arguments {
    values: std::vec::IntoIter<Value>,
    context: CallContext,
}

impl Arguments {
    pub fn new(values: Vec<Value>, context: &CallContext) -> Self {
        Self {
            values: values.into_iter(),
            context: context.clone(),
        }
    }

    pub fn required<T: FromArgument>(&mut self, name: &str) -> Result<T> {
        let value = self
            .values
            .next()
            .ok_or_else(|| Error::invalid_argument(format!("argument `{name}` is missing")))?;
        self.convert(name, value)
    }

    pub fn optional<T: FromArgument>(
        &mut self,
        name: &str,
        default: impl FnOnce() -> T,
    ) -> Result<T> {
        match self.values.next() {
            Some(value) => self.convert(name, value),
            None => Ok(default()),
        }
    }

    /// `Option<Resource>` cannot be an [`FromArgument`] of its own beside all of serde.
    pub fn optional_resource(&mut self, name: &str) -> Result<Option<Resource>> {
        use prost_types::value::Kind;
        match self.values.next() {
            None => Ok(None),
            Some(value) if matches!(value.kind, None | Some(Kind::NullValue(_))) => Ok(None),
            Some(value) => self.convert(name, value).map(Some),
        }
    }

    pub fn rest<T: FromArgument>(&mut self, name: &str) -> Result<Vec<T>> {
        let rest: Vec<_> = self.values.by_ref().collect();
        rest.into_iter()
            .map(|value| self.convert(name, value))
            .collect()
    }

    pub fn finish(self) -> Result<()> {
        match self.values.len() {
            0 => Ok(()),
            1 => Err(Error::invalid_argument("one argument too many")),
            count => Err(Error::invalid_argument(format!(
                "{count} arguments too many"
            ))),
        }
    }

    fn convert<T: FromArgument>(&self, name: &str, value: Value) -> Result<T> {
        T::from_argument(value, &self.context)
            .map_err(|error| error.context(format_args!("argument `{name}`")))
    }
}

/// Encodes a result or an argument; used by generated code.
#[doc(hidden)]
pub fn encode<T: Serialize>(value: &T) -> Result<Value> {
    jmp_wire::value::to_value(value).map_err(|error| Error::invalid_argument(error.to_string()))
}

/// Decodes a result; used by generated code.
#[doc(hidden)]
pub fn decode<T: DeserializeOwned>(value: Value) -> Result<T> {
    jmp_wire::value::from_value(value)
        .map_err(|error| Error::other(format!("the answer does not fit the interface: {error}")))
}
