//! A driver for lamps, written outside of the drivers' folder: the example of the
//! driver-author guide.
//!
//! Start reading at [`interface`]; [`device`] is the only module that touches hardware.

pub mod behaviour;
pub mod commands;
pub mod config;
pub mod device;
pub mod driver;
pub mod interface;

use jmp_driver::Registry;
use jmp_driver::command::ClientRegistry;

pub use driver::{Led, MockLamp};

/// Adds the drivers of this crate.
pub fn register(registry: &mut Registry) {
    registry.add::<Led>().add::<MockLamp>();
}

/// Adds the client types of this crate.
pub fn register_clients(registry: &mut ClientRegistry) {
    registry.add(commands::LAMP);
}
