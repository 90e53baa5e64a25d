//! A small simulated board: boot ROM, U-Boot, Linux console, storage, power.
//!
//! [`board`] is the board itself, a pure state machine. Around it, [`driver`] gives it a clock
//! and the interfaces of a device: one task (`actor.rs`) owns the board, everybody else sends it
//! work.

mod actor;
pub mod board;
pub mod driver;
pub mod storage;

use jmp_driver::Registry;

/// Adds the drivers of this crate.
pub fn register(registry: &mut Registry) {
    registry.add::<driver::VirtualBoard>();
}
