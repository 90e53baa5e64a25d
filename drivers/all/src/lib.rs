//! The built-in drivers: one list.

/// The simulated board, whose image format `jmp demo` writes.
pub use driver_virtual_board as virtual_board;
use jmp_driver::Registry;
use jmp_driver::command::ClientRegistry;

/// All built-in drivers. The order is the one of `jmp driver list`.
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    driver_composite::register(&mut registry);
    driver_power::register(&mut registry);
    driver_network::register(&mut registry);
    driver_opendal::register(&mut registry);
    driver_serial::register(&mut registry);
    driver_shell::register(&mut registry);
    driver_virtual_board::register(&mut registry);
    registry
}

/// All built-in client types.
pub fn clients() -> ClientRegistry {
    let mut registry = ClientRegistry::new();
    driver_composite::register_clients(&mut registry);
    driver_power::register_clients(&mut registry);
    driver_network::register_clients(&mut registry);
    driver_opendal::register_clients(&mut registry);
    driver_serial::register_clients(&mut registry);
    driver_shell::register_clients(&mut registry);
    registry
}
