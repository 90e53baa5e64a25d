//! Groups of drivers.

use jmp_driver::interface;

/// A driver whose only purpose is its children.
#[interface(client = "jumpstarter_driver_composite.client.CompositeClient")]
pub trait Composite: Send + Sync + 'static {}
