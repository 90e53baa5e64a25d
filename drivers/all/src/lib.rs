//! The built-in drivers: one list.

use jmp_driver::Registry;

/// All built-in drivers. The order is the one of `jmp driver list`.
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    driver_composite::register(&mut registry);
    driver_power::register(&mut registry);
    registry
}
