//! SDK for driver authors.
//!
//! A driver interface is a trait made with [`macro@interface`]; a driver implements [`Driver`]
//! and one or more interfaces; a [`Registry`] lists the drivers an exporter knows. Start reading
//! at [`driver`], then [`node`], which is what the rest of the system sees of a driver.
//!
//! ```
//! use jmp_driver::{Driver, Interface, OpenContext, Result, interface};
//!
//! /// Control of a lamp.
//! #[interface(client = "example.client.LampClient")]
//! pub trait Lamp: Send + Sync + 'static {
//!     /// Set the brightness in percent.
//!     async fn set(&self, percent: u8) -> Result<()>;
//! }
//!
//! /// What `config` holds.
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! pub struct BulbConfig {
//!     /// Where the lamp hangs.
//!     socket: String,
//! }
//!
//! pub struct Bulb;
//!
//! impl Lamp for Bulb {
//!     async fn set(&self, percent: u8) -> Result<()> {
//!         println!("{percent} %");
//!         Ok(())
//!     }
//! }
//!
//! impl Driver for Bulb {
//!     const TYPES: &'static [&'static str] = &["example.driver.Bulb"];
//!     const SUMMARY: &'static str = "A light bulb";
//!     type Config = BulbConfig;
//!
//!     async fn open(config: BulbConfig, context: OpenContext) -> Result<Self> {
//!         context.log.info(format!("bulb in {}", config.socket));
//!         Ok(Self)
//!     }
//!
//!     fn interfaces() -> Vec<Interface<Self>> {
//!         vec![lamp_interface()]
//!     }
//! }
//! ```

// Lets the macro's output name this crate from inside it, too.
extern crate self as jmp_driver;

pub mod clock;
pub mod command;
pub mod config;
pub mod console;
pub mod context;
pub mod driver;
pub mod error;
pub mod handle;
pub mod interface;
pub mod log;
pub mod node;
pub mod registry;
pub mod resource;
pub mod tree;

pub use context::{CallContext, Origin};
pub use driver::{Driver, OpenContext, UnknownKeys};
pub use error::{Error, ErrorKind, Result};
pub use handle::DriverHandle;
pub use interface::{Interface, InterfaceDescriptor, MethodKind, ValueStream};
pub use jmp_driver_macros::interface;
pub use jmp_wire::compression::{self, Encoding};
pub use jmp_wire::resource::ResourceHandle;
pub use jmp_wire::stream::{ByteReader, ByteStream, ByteWriter};
pub use log::{LogHub, Logger, Severity};
pub use node::{Node, NodeRef};
pub use registry::Registry;
pub use resource::Resource;
pub use tree::{NodeSpec, Services, Tree};

/// What generated code needs; not for people.
#[doc(hidden)]
pub mod generated {
    pub use crate::interface::{Arguments, decode, encode};
    pub use async_stream::{stream, try_stream};
    pub use futures::{Stream, StreamExt};
    pub use prost_types::Value;
}
