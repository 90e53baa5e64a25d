//! Storage: OpenDAL services, and storage multiplexers and flashers without hardware
//! (facts: drivers 1.3).
//!
//! [`driver`] holds the OpenDAL driver, [`files`] the files that clients have open on it,
//! [`mocks`] the drivers that only keep files, [`commands`] what `j` offers. The interfaces are
//! in [`jmp_interfaces::opendal`], [`jmp_interfaces::flasher`] and [`jmp_interfaces::storage_mux`].

pub mod commands;
pub mod created;
pub mod driver;
pub mod files;
pub mod mocks;
pub mod service;
pub mod transfer;

use jmp_driver::Registry;
use jmp_driver::command::ClientRegistry;

/// Adds the drivers of this crate.
pub fn register(registry: &mut Registry) {
    registry
        .add::<driver::OpendalDriver>()
        .add::<mocks::MockFlasher>()
        .add::<mocks::MockStorageMux>()
        .add::<mocks::MockStorageMuxFlasher>();
}

/// Adds the client types of this crate.
pub fn register_clients(registry: &mut ClientRegistry) {
    registry
        .add(commands::files::OPENDAL)
        .add(commands::images::FLASHER)
        .add(commands::images::STORAGE_MUX)
        .add(commands::images::STORAGE_MUX_FLASHER);
}
