//! Groups of drivers (facts: drivers 1.6).
//!
//! A group has no methods; its client finds the children by name. References (upstream's
//! `Proxy`) are not drivers here: the device tree resolves them, see [`jmp_driver::tree`].

pub mod commands;

use jmp_driver::command::ClientRegistry;
use jmp_driver::{Driver, Interface, OpenContext, Registry, Result, UnknownKeys};
use jmp_interfaces::composite::{Composite as CompositeInterface, composite_interface};
use schemars::JsonSchema;
use serde::Deserialize;

/// Adds the drivers of this crate.
pub fn register(registry: &mut Registry) {
    registry.add::<Composite>();
}

/// Adds the client types of this crate.
pub fn register_clients(registry: &mut ClientRegistry) {
    registry.add(commands::COMPOSITE);
}

/// Nothing to configure.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct CompositeConfig {}

/// A group of drivers.
#[derive(Debug)]
pub struct Composite;

// === impl Composite ===

impl CompositeInterface for Composite {}

impl Driver for Composite {
    const TYPES: &'static [&'static str] = &[jmp_driver::tree::COMPOSITE_TYPE];
    const SUMMARY: &'static str = "A group of drivers";
    const UNKNOWN_KEYS: UnknownKeys = UnknownKeys::Warn;
    type Config = CompositeConfig;

    async fn open(_: CompositeConfig, _: OpenContext) -> Result<Self> {
        Ok(Self)
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![composite_interface()]
    }
}
