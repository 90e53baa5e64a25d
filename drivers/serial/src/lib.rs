//! Serial ports (facts: drivers 1.4).
//!
//! [`driver`] is what an exporter sees: the port behind a console hub. [`commands`] is `j serial …`, [`pipe`] its core.
//!
//! The hardware side starts at [`device`]: it opens what a pyserial [`url`] names as one [`port::Port`].
//! [`pace`] slows a writer down to a number of characters per second.

pub mod commands;
pub mod device;
pub mod driver;
pub mod hardware;
pub mod loopback;
pub mod pace;
pub mod pipe;
pub mod port;
pub mod rfc2217;
mod spy;
mod tty;
pub mod url;

use jmp_driver::Registry;
use jmp_driver::command::ClientRegistry;

/// Adds the drivers of this crate.
pub fn register(registry: &mut Registry) {
    registry.add::<driver::PySerial>();
}

/// Adds the client types of this crate.
pub fn register_clients(registry: &mut ClientRegistry) {
    registry.add(commands::SERIAL);
}
